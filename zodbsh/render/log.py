"""What ``log`` shows: a line a transaction, written as it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.compare import ABSENT
from zodbsh.ids import oid_text, tid_text
from zodbsh.render.attributes import attribute_json, show_changes, side_text
from zodbsh.render.gate import text_of
from zodbsh.render.output import Rows
from zodbsh.render.page import Span
from zodbsh.render.sizes import count_text, size_text
from zodbsh.times import iso_text, time_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zodbsh.ops.log import LogEntry, ObjectLog, RevisionEntry
    from zodbsh.render.page import Page
    from zodbsh.render.values import ClassOf
    from zodbsh.source.base import Transaction

# So many changes of one revision are shown; JSON and CSV have all.
_SHOWN = 30
_TEXT = 200
_STATUS = {"p": "packed", "u": "undone", "c": "unfinished"}


class LogView(NamedTuple):
    """The transactions of a database."""

    entries: Iterator[LogEntry]

    def json(self) -> object:
        """Return the list that docs/json.md gives for ``log``."""
        return map(_entry_json, self.entries)

    def rows(self) -> Rows:
        """Return the same as columns."""
        return Rows(
            ("tid", "time", "user", "description", "status", "objects", "bytes"),
            (
                (*_transaction_cells(entry.transaction), entry.objects, entry.bytes)
                for entry in self.entries
            ),
        )  # fmt: skip

    def text(self, page: Page) -> None:
        """Write one line a transaction."""
        for transaction, objects, size in self.entries:
            what = f"  {count_text(objects, 'object'):>14} {size_text(size):>10}"
            page.line(*_head(transaction), what, *_words(transaction))


class ObjectLogView(NamedTuple):
    """The revisions of one object."""

    result: ObjectLog
    class_of: ClassOf

    def json(self) -> object:
        """Return the list that docs/json.md gives for ``log`` of a TARGET."""
        return map(self._entry_json, self.result.revisions)

    def rows(self) -> Rows:
        """Return a line for each attribute that changed, and for each revision in which none did."""
        return Rows(("tid", "time", "user", "description", "status", "change", "attribute", "old", "new"), self._rows())

    def text(self, page: Page) -> None:
        """Write a line a revision, and below it what changed."""
        result = self.result
        name = result.path if result.path == oid_text(result.oid) else f"{result.path}  {oid_text(result.oid)}"
        if result.owner_path is not None:
            owner, oid = result.owner_path, oid_text(result.oid)
            name = f"{result.path}  a value in {owner if owner == oid else f'{owner} {oid}'}"
        page.heading(name)
        if result.followed:
            page.line(f"  a BTree, with {count_text(result.followed, 'node')} and buckets of its own")
        for entry in result.revisions:
            page.gap()
            words = () if entry.transaction is None else _words(entry.transaction)
            page.line(Span(tid_text(entry.tid), "yellow"), f"  {time_text(entry.tid)}  ", _change_text(entry), *words)
            show_changes(page, entry.changes[:_SHOWN], indent="    ", class_of=self.class_of)
            if len(entry.changes) > _SHOWN:
                page.line(f"    (... and {len(entry.changes) - _SHOWN:,} more)")
            if entry.partial:
                page.line("    (the BTree has or had more buckets than are looked at: changes may be missing)")
            if entry.trouble is not None:
                page.line("    ", Span(f"it cannot be compared: {entry.trouble}", "red"))

    def _rows(self) -> Iterator[tuple[object, ...]]:
        for entry in self.result.revisions:
            cells = (*_cells(entry.tid, entry.transaction), entry.change)
            for change in entry.changes:
                old, new = (
                    None if side is ABSENT else side_text(side, self.class_of, width=1000)
                    for side in (change.old, change.new)
                )
                yield (*cells, change.name, old, new)
            if not entry.changes:
                yield (*cells, None, None, None)

    def _entry_json(self, entry: RevisionEntry) -> dict[str, object]:
        head = _head_json(entry.tid, entry.transaction)
        return head | {
            "objects": entry.objects,
            "bytes": entry.bytes,
            "oid": oid_text(self.result.oid),
            "path": self.result.path,
            "class": entry.class_,
            "change": entry.change,
            "restored_tid": None if entry.restored_tid is None else tid_text(entry.restored_tid),
            "attributes": map(attribute_json, entry.changes),
            "trouble": entry.trouble,
            **({"partial": True} if entry.partial else {}),
        }


def _entry_json(entry: LogEntry) -> dict[str, object]:
    return _head_json(entry.transaction.tid, entry.transaction) | {"objects": entry.objects, "bytes": entry.bytes}


def _head_json(tid: int, transaction: Transaction | None) -> dict[str, object]:
    cells = _cells(tid, transaction)
    return dict(zip(("tid", "time", "user", "description", "status"), cells, strict=True))


def _transaction_cells(transaction: Transaction) -> tuple[object, ...]:
    return _cells(transaction.tid, transaction)


def _cells(tid: int, transaction: Transaction | None) -> tuple[object, ...]:
    if transaction is None:
        return tid_text(tid), iso_text(tid), None, None, None
    user, description = text_of(transaction.user), text_of(transaction.description)
    return tid_text(tid), iso_text(tid), user, description, transaction.status


def _head(transaction: Transaction) -> tuple[str | Span, ...]:
    return Span(tid_text(transaction.tid), "yellow"), f"  {time_text(transaction.tid):27}"


def _words(transaction: Transaction) -> tuple[str | Span, ...]:
    status = _STATUS.get(transaction.status)
    words: list[str | Span] = [Span(f"  ({status})", "dim")] if status is not None else []
    if transaction.user:
        words += ["  ", Span(_short(transaction.user), "cyan")]
    if transaction.description:
        words += ["  ", _short(transaction.description)]
    return tuple(words)


def _short(raw: bytes) -> str:
    """Return a text that leaves a transaction on one line; ``show --all`` and programs get it whole."""
    text = text_of(raw)
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}... ({len(text):,} characters)"


def _change_text(entry: RevisionEntry) -> str:
    if entry.change == "undone" and entry.restored_tid is not None:
        return f"undone: as in {tid_text(entry.restored_tid)}"
    return entry.change
