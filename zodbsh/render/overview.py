"""What ``inspect DATABASE`` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text, tid_text
from zodbsh.render.output import Rows
from zodbsh.render.sizes import count_text, size_text
from zodbsh.render.values import value_text
from zodbsh.times import iso_text, time_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zodbsh.ops.overview import Overview, RootEntry
    from zodbsh.render.page import Page

CLASSES_SHOWN = 10


class OverviewView(NamedTuple):
    """An overview; ``all_classes`` for more than the ten largest."""

    result: Overview
    all_classes: bool = False

    def json(self) -> object:
        """Return the shape that docs/json.md gives for ``inspect DATABASE``."""
        result, info, census = self.result, self.result.info, self.result.census
        return {
            "format": info.format,
            "meaning": info.meaning,
            "bytes": info.bytes,
            "tail_bytes": info.tail,
            "damage": info.damage,
            "transactions": census.transactions,
            "records": census.records,
            "objects": census.objects,
            "current_bytes": census.current_bytes,
            "old_bytes": census.old_bytes,
            "first_tid": _tid(census.first_tid),
            "first_time": _time(census.first_tid),
            "last_tid": _tid(census.last_tid),
            "last_time": _time(census.last_tid),
            "root": [_root_json(entry) for entry in result.root],
            "root_more": result.root_more,
            "root_trouble": result.root_trouble,
            "classes": [
                {"class": name, "objects": objects, "bytes": size} for name, objects, size in census.classes
            ],
        }  # fmt: skip

    def rows(self) -> Rows:
        """Return the classes, largest first."""
        return Rows(("class", "objects", "bytes"), self.result.census.classes)

    def text(self, page: Page) -> None:
        """Write the facts, the root's entries, the largest classes."""
        page.heading(self.result.info.name)
        page.facts(_facts(self.result), indent="  ")
        self._root(page)
        self._classes(page)

    def _root(self, page: Page) -> None:
        result = self.result
        page.gap()
        page.heading("root")
        if result.root_trouble is not None:
            page.line("  (it cannot be shown: ", result.root_trouble, ")")
            return
        if not result.root:
            page.line("  (empty)")
            return
        page.table(Rows(("key", "class", "oid", "size"), map(_root_row, result.root)), right=("size",), indent="  ")
        if result.root_more:
            page.line(f"  (... and {result.root_more:,} more: --all)")

    def _classes(self, page: Page) -> None:
        classes = self.result.census.classes
        if not classes:
            return
        page.gap()
        page.heading("classes" if self.all_classes or len(classes) <= CLASSES_SHOWN else "largest classes")
        shown = classes if self.all_classes else classes[:CLASSES_SHOWN]
        rows = ((name, objects, size_text(size)) for name, objects, size in shown)
        page.table(Rows(("class", "objects", "size"), rows), right=("objects", "size"), indent="  ")
        if len(classes) > len(shown):
            page.line(f"  (... and {count_text(len(classes) - len(shown), 'more class', 'more classes')}: --all)")


def _facts(result: Overview) -> Iterator[tuple[str, str]]:
    info, census = result.info, result.census
    yield "format", f"{info.format}: {info.meaning}"
    if info.bytes is not None:
        yield "size", f"{size_text(info.bytes)} ({info.bytes:,} bytes)" if info.bytes >= 1000 else size_text(info.bytes)
    yield "transactions", f"{census.transactions:,}"
    yield "objects", f"{census.objects:,}"
    yield "records", f"{census.records:,}"
    yield "current", size_text(census.current_bytes)
    yield "old", f"{size_text(census.old_bytes)} in {census.records - census.objects:,} old records"
    if census.first_tid is not None and census.last_tid is not None:
        yield "first", f"{time_text(census.first_tid)} ({tid_text(census.first_tid)})"
        yield "last", f"{time_text(census.last_tid)} ({tid_text(census.last_tid)})"
    if result.past:
        yield "as of", f"{time_text(result.tid)} ({tid_text(result.tid)}): later transactions are not counted"
    if info.damage is not None:
        yield "damage", f"{info.damage}; what follows is not shown"
    elif info.tail:
        yield "unfinished", f"{count_text(info.tail, 'byte')} after the last whole transaction are ignored"


def _root_json(entry: RootEntry) -> dict[str, object]:
    from zodbsh.render.jsontext import value_json

    return {
        "key": value_json(entry.key),
        "class": entry.class_,
        "oid": None if entry.oid is None else oid_text(entry.oid),
        "bytes": entry.bytes,
    }


def _root_row(entry: RootEntry) -> tuple[object, ...]:
    key = entry.key if isinstance(entry.key, str) else value_text(entry.key)
    if entry.oid is None:
        return key, entry.class_, "embedded", None
    size = None if entry.bytes is None else size_text(entry.bytes)
    return key, entry.class_ or "(missing)", oid_text(entry.oid), size


def _tid(tid: int | None) -> str | None:
    return None if tid is None else tid_text(tid)


def _time(tid: int | None) -> str | None:
    return None if tid is None else iso_text(tid)
