"""What ``usage`` shows by class and by path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text
from zodbsh.render.bars import stacked_bar
from zodbsh.render.output import Rows
from zodbsh.render.sizes import count_text, size_text

if TYPE_CHECKING:
    from zodbsh.engine.columns import ToolRow
    from zodbsh.ops.usage import ClassesUsage, ClassUsage, PathsUsage, PathUsage
    from zodbsh.render.page import Page

_BAR = 40
_CLASS_COLUMNS = ("class", "objects", "bytes", "old_records", "old_bytes")
_PATH_COLUMNS = ("path", "oid", "class", "bytes", "retained_bytes", "retained_objects")


class ClassUsageView(NamedTuple):
    """What each class takes; ``top`` is how many are shown, None for all."""

    result: ClassesUsage
    top: int | None = None

    def json(self) -> object:
        """Return the list that docs/json.md gives for ``usage``."""
        return [dict(zip(_CLASS_COLUMNS, row, strict=True)) for row in self.result.classes[: self.top]]

    def rows(self) -> Rows:
        """Return the same as columns."""
        return Rows(_CLASS_COLUMNS, self.result.classes[: self.top])

    def text(self, page: Page) -> None:
        """Write the classes, the totals, and what a pack would free."""
        classes = self.result.classes
        if not classes:
            page.line("no objects")
            return
        shown = classes[: self.top]
        rows = (
            (name, objects, size_text(size), old, size_text(old_size)) for name, objects, size, old, old_size in shown
        )
        headers = ("class", "objects", "size", "old records", "old size")
        page.table(Rows(headers, rows), right=headers[1:])
        if len(classes) > len(shown):
            left = classes[len(shown) :]
            page.line(
                f"(... and {count_text(len(left), 'more class', 'more classes')}, "
                f"{size_text(sum(row.bytes + row.old_bytes for row in left))}: --top {len(classes)})"
            )
        page.gap()
        self._totals(page, classes)

    def _totals(self, page: Page, classes: Sequence[ClassUsage]) -> None:
        objects, size = sum(row.objects for row in classes), sum(row.bytes for row in classes)
        old, old_size = sum(row.old_records for row in classes), sum(row.old_bytes for row in classes)
        page.line(
            f"{count_text(len(classes), 'class', 'classes')}: {count_text(objects, 'object')}, {size_text(size)}; "
            f"{count_text(old, 'old record')}, {size_text(old_size)}"
        )
        garbage = self.result.garbage
        if garbage is None:
            return
        whole = size + old_size
        free = old_size + garbage.bytes
        page.line(
            f"A pack {'then would have freed' if self.result.past else 'now would free'} {size_text(free)} of "
            f"{size_text(whole)} of data ({_share(free, whole):.0%}):"
        )
        page.line(stacked_bar(((_share(old_size, whole), "#"), (_share(garbage.bytes, whole), "=")), _BAR))
        page.line(f"  # old revisions  {size_text(old_size)} in {count_text(old, 'record')}")
        unreachable = count_text(garbage.objects, "unreachable object")
        page.line(f"  = garbage        {size_text(garbage.bytes)} in {unreachable}")
        if garbage.undecodable:
            page.line(_undecodable(garbage.undecodable))


class ToolUsageView(NamedTuple):
    """The classes as zodbtools' ``analyze --csv`` writes them, smallest first."""

    result: Sequence[ToolRow]
    top: int | None = None

    def json(self) -> object:
        """Return the rows by the names of the columns."""
        rows = self.rows()
        return [dict(zip(rows.headers, row, strict=True)) for row in rows.rows]

    def rows(self) -> Rows:
        """Return the columns of zodbtools, with its way of writing numbers."""
        headers = ("Class Name", "T.Count", "T.Bytes", "Pct", "AvgSize", "C.Count", "C.Bytes", "O.Count", "O.Bytes")
        whole = sum(row.total_bytes for row in self.result)
        shown = self.result[max(len(self.result) - self.top, 0) :] if self.top is not None else self.result
        return Rows(headers, (self._cells(row, whole) for row in shown))

    def text(self, page: Page) -> None:
        """Write the same as a table."""
        page.table(self.rows())

    @staticmethod
    def _cells(row: ToolRow, whole: int) -> tuple[object, ...]:
        return (
            row.class_, row.total, row.total_bytes,
            f"{row.total_bytes * 100.0 / whole if whole else 0.0:f}%", f"{row.total_bytes / row.total:f}",
            row.objects, row.total_bytes - row.old_bytes, row.old, row.old_bytes,
        )  # fmt: skip


class PathUsageView(NamedTuple):
    """What would go with each object."""

    result: PathsUsage

    def json(self) -> object:
        """Return the list that docs/json.md gives for ``usage --by path``."""
        return [dict(zip(_PATH_COLUMNS, _cells(entry), strict=True)) for entry in self.result.entries]

    def rows(self) -> Rows:
        """Return the same as columns."""
        return Rows(_PATH_COLUMNS, map(_cells, self.result.entries))

    def text(self, page: Page) -> None:
        """Write the tree, then what is left out and what is not known."""
        entries = self.result.entries
        if not entries:
            page.line("there is no root object")
        else:
            headers = ("retained", "objects", "own", "path", "class")
            page.table(Rows(headers, _tree_rows(entries)), right=headers[:3])
            page.gap()
            page.line("retained: what would be freed if nothing referred to the object any more")
        if self.result.blobs:
            page.line(f"with {count_text(self.result.blobs, 'blob file')}, {size_text(self.result.blob_bytes)}")
        if self.result.undecodable:
            page.line(_undecodable(self.result.undecodable))


def _tree_rows(entries: Sequence[PathUsage]) -> Iterator[tuple[object, ...]]:
    # What an entry leaves out stands below all that it shows.
    waiting: list[PathUsage] = []
    for entry in entries:
        while waiting and waiting[-1].depth >= entry.depth:
            yield from _more_row(waiting.pop())
        waiting.append(entry)
        path = "  " * entry.depth + entry.path + (" (a part of it)" if entry.internal else "")
        yield (
            size_text(entry.retained_bytes), entry.retained_objects, size_text(entry.bytes), path, entry.class_,
        )  # fmt: skip
    while waiting:
        yield from _more_row(waiting.pop())


def _more_row(entry: PathUsage) -> Iterator[tuple[object, ...]]:
    if entry.more:
        indent = "  " * (entry.depth + 1)
        yield size_text(entry.more_bytes), None, None, f"{indent}(... and {entry.more:,} more: --top)", None


def _cells(entry: PathUsage) -> tuple[object, ...]:
    return (
        entry.path, oid_text(entry.oid), entry.class_, entry.bytes, entry.retained_bytes, entry.retained_objects,
    )  # fmt: skip


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _undecodable(count: int) -> str:
    records = count_text(count, "record does", "records do")
    return f"{records} not decode: what they refer to is taken for unreachable unless something else leads there"
