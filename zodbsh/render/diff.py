"""What ``diff`` found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from zodbsh.ids import oid_text, tid_text
from zodbsh.ops.diff import DiffResult, ObjectDiff
from zodbsh.render.attributes import attribute_json, show_changes, side_text
from zodbsh.render.output import Rows
from zodbsh.render.page import Page, Span
from zodbsh.render.sizes import count_text
from zodbsh.times import time_text

_STYLES = {"new": "green", "deleted": "red", "changed": "yellow"}
# So many changes of one object are shown; JSON and CSV have all.
_SHOWN = 300


class DiffView(NamedTuple):
    """A DiffResult, ready to be shown."""

    result: DiffResult

    def json(self) -> object:
        """Return the objects with their attributes."""
        return [
            {
                "path": item.path,
                "oid": oid_text(item.oid),
                "class": item.class_,
                "change": item.change,
                "attributes": [attribute_json(change) for change in item.attributes],
                **({"partial": True} if item.partial else {}),
            }
            for item in self.result.objects
        ]

    def rows(self) -> Rows:
        """Return one row an attribute."""
        return Rows(("path", "oid", "class", "change", "name", "old", "new"), self._rows())

    def text(self, page: Page) -> None:
        """Write each object with what changes in it."""
        result = self.result
        if not result.objects:
            page.line("nothing changes")
            return
        if result.new_tid is not None:
            page.line(_between(result.old_tid, result.new_tid))
            page.gap()
        for number, item in enumerate(result.objects):
            if number:
                page.gap()
            self._show(page, item)

    def _show(self, page: Page, item: ObjectDiff) -> None:
        page.line(
            Span(item.path, "bold"), "  ", item.class_, " ", oid_text(item.oid), "  ",
            Span(item.change, _STYLES[item.change]),
        )  # fmt: skip
        if not item.attributes:
            what = "only its inner structure" if item.tree and item.change == "changed" else _nothing(item.change)
            page.line("  ", Span(f"({what})", "dim"))
        show_changes(page, item.attributes[:_SHOWN], indent="  ", class_of=None)
        if len(item.attributes) > _SHOWN:
            page.line(f"  (... and {len(item.attributes) - _SHOWN:,} more: --format json)")
        if item.records > 1:
            page.line("  ", Span(f"(in {count_text(item.records, 'record')})", "dim"))
        if item.partial:
            page.line("  (not all that was removed is listed: there is too much)")

    def _rows(self) -> Iterator[tuple[object, ...]]:
        for item in self.result.objects:
            start = (item.path, oid_text(item.oid), item.class_, item.change)
            for change in item.attributes:
                yield (*start, change.name, side_text(change.old), side_text(change.new))
            if not item.attributes:
                yield (*start, "", "", "")


def _nothing(change: str) -> str:
    return "stored again, nothing different" if change == "changed" else "nothing in it"


def _between(first: int, last: int) -> str:
    start = "the beginning" if first == 0 else f"{tid_text(first)} ({time_text(first)})"
    return f"from {start} to {tid_text(last)} ({time_text(last)})"
