"""What ``commit`` and ``abort`` did, and the conflicts that stopped a commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text, tid_text
from zodbsh.render.attributes import side_json, side_text
from zodbsh.render.output import Rows
from zodbsh.render.page import Page, Span
from zodbsh.render.sizes import count_text
from zodbsh.times import iso_text, time_text

if TYPE_CHECKING:
    from zodbsh.ops.abort import AbortResult
    from zodbsh.ops.commit import CommitResult
    from zodbsh.ops.conflict import ConflictResult

_SIDE_WIDTH = 60


class CommitView(NamedTuple):
    """A CommitResult, ready to be shown; ``paths`` holds those of the resolved objects that are known, by oid."""

    result: CommitResult
    paths: Mapping[int, str] = MappingProxyType({})

    def json(self) -> object:
        """Return tid and objects."""
        tid = self.result.tid
        return {
            "tid": None if tid is None else tid_text(tid),
            "time": None if tid is None else iso_text(tid),
            "objects": self.result.objects,
            "resolved": [oid_text(oid) for oid in self.result.resolved],
        }

    def rows(self) -> Rows:
        """Return one row."""
        tid = self.result.tid
        return Rows(("tid", "objects"), [("" if tid is None else tid_text(tid), self.result.objects)])

    def text(self, page: Page) -> None:
        """Say what was committed."""
        result = self.result
        if result.tid is None:
            page.line("nothing to commit")
            return
        already = "was committed already: " if result.before else "committed: "
        page.line(already, f"{tid_text(result.tid)}  {time_text(result.tid)}  {count_text(result.objects, 'object')}")
        if result.resolved:
            which = ", ".join(map(self._named, result.resolved[:10]))
            page.line(f"conflicts resolved by their classes: {which}{', ...' if len(result.resolved) > 10 else ''}")

    def _named(self, oid: int) -> str:
        return f"{self.paths[oid]} ({oid_text(oid)})" if oid in self.paths else oid_text(oid)


class AbortView(NamedTuple):
    """An AbortResult, ready to be shown."""

    result: AbortResult

    def json(self) -> object:
        """Return whether anything was dropped, and how much."""
        return {"dropped": self.result.dropped, "objects": self.result.objects}

    def rows(self) -> Rows:
        """Return one row."""
        return Rows(("dropped", "objects"), [("yes" if self.result.dropped else "no", self.result.objects)])

    def text(self, page: Page) -> None:
        """Say what was dropped."""
        if not self.result.dropped:
            page.line("nothing to drop")
        elif self.result.objects is None:
            page.line("dropped a damaged stage")
        elif self.result.objects or not self.result.undone:
            page.line(f"dropped: {count_text(self.result.objects, 'object')}")
        for tid in self.result.undone:
            page.line(f"dropped: the undo of transaction {tid_text(tid)} ({time_text(tid)})")
        if self.result.others is not None:
            count = count_text(self.result.others, "object")
            page.line(f"kept: a stage of {count}, which another process made and this session has no part in")


class ConflictView(NamedTuple):
    """A ConflictResult, ready to be shown: base, theirs and ours of each attribute."""

    result: ConflictResult

    def json(self) -> object:
        """Return the three sides of each attribute in conflict."""
        return {
            "conflicts": [
                {
                    "path": item.path,
                    "oid": oid_text(item.oid),
                    "class": item.class_,
                    "base_tid": tid_text(item.base_tid),
                    "base_known": item.base_known,
                    "their_tid": None if item.their_tid is None else tid_text(item.their_tid),
                    "attributes": [
                        {
                            "name": side.name,
                            "base": side_json(side.base),
                            "theirs": side_json(side.theirs),
                            "ours": side_json(side.ours),
                        }
                        for side in item.attributes
                    ],
                }
                for item in self.result.objects
            ]
        }

    def rows(self) -> Rows:
        """Return one row an attribute."""
        return Rows(("path", "oid", "class", "name", "base", "theirs", "ours"), self._rows())

    def text(self, page: Page) -> None:
        """Write the three sides next to each other."""
        for number, item in enumerate(self.result.objects):
            if number:
                page.gap()
            theirs = "deleted since" if item.their_tid is None else f"changed by {tid_text(item.their_tid)} since"
            page.line(Span(item.path, "bold"), f"  {item.class_} {oid_text(item.oid)}  {theirs}")
            if not item.base_known:
                page.line("  ", Span("(the revision it was staged on has been packed away)", "dim"))
            rows = [
                (side.name, *(side_text(value, width=_SIDE_WIDTH) for value in (side.base, side.theirs, side.ours)))
                for side in item.attributes
            ]
            page.table(Rows(("", "base", "theirs", "ours"), rows), indent="  ")

    def _rows(self) -> Iterator[tuple[object, ...]]:
        for item in self.result.objects:
            for side in item.attributes:
                values = (side_text(value) for value in (side.base, side.theirs, side.ours))
                yield (item.path, oid_text(item.oid), item.class_, side.name, *values)
