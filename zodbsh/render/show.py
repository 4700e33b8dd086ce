"""What ``show`` shows: one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text, tid_text
from zodbsh.render.gate import text_of
from zodbsh.render.jsontext import value_json
from zodbsh.render.output import Rows
from zodbsh.render.sizes import count_text, size_text
from zodbsh.render.values import value_text
from zodbsh.times import iso_text, time_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zodbsh.ops.show import ShownObject, ShownTransaction
    from zodbsh.render.page import Page

_TEXT = 400
_WHOLE = 1 << 40
_STATUS = {" ": "committed", "p": "committed, packed since", "u": "undone", "c": "unfinished"}


class ShowView(NamedTuple):
    """One transaction and its objects; ``whole`` asks for all of a long text."""

    result: ShownTransaction
    whole: bool = False

    def json(self) -> object:
        """Return the shape that docs/json.md gives for ``show``."""
        result, transaction = self.result, self.result.transaction
        return {
            "tid": tid_text(transaction.tid),
            "time": iso_text(transaction.tid),
            "status": transaction.status,
            "user": text_of(transaction.user),
            "description": text_of(transaction.description),
            "extension": value_json(result.extension),
            "extension_trouble": result.extension_trouble,
            "position": transaction.position,
            "length": transaction.length,
            "bytes": result.bytes,
            "objects": map(_object_json, result.shown),
            "objects_more": result.objects - len(result.shown),
        }

    def rows(self) -> Rows:
        """Return the objects."""
        return Rows(
            ("oid", "path", "class", "change", "bytes", "old_bytes"),
            ((oid_text(o.oid), o.path, o.class_, o.change, o.bytes, o.old_bytes) for o in self.result.shown),
        )

    def text(self, page: Page) -> None:
        """Write the metadata and a table of the objects."""
        result = self.result
        page.heading(tid_text(result.transaction.tid))
        page.facts(_facts(result, whole=self.whole), indent="  ")
        page.gap()
        page.table(
            Rows(("object", "class", "oid", "change", "size"), map(_row, result.shown)), right=("size",), indent="  "
        )
        more = result.objects - len(result.shown)
        if more:
            page.line(f"  (... and {more:,} more: --all)")


def _facts(result: ShownTransaction, *, whole: bool) -> Iterator[tuple[str, str]]:
    transaction = result.transaction
    yield "time", time_text(transaction.tid)
    yield "status", _STATUS.get(transaction.status, transaction.status)
    if transaction.user:
        yield "user", _text(transaction.user, whole=whole)
    if transaction.description:
        yield "description", _text(transaction.description, whole=whole)
    if result.extension_trouble is not None:
        size = count_text(len(transaction.extension), "byte")
        yield "extension", f"{size} that cannot be decoded: {result.extension_trouble}"
    elif transaction.extension:
        yield "extension", value_text(result.extension, width=_WHOLE if whole else 100)
    place = "" if transaction.position is None else f" at {transaction.position:,}"
    length = "" if transaction.length is None else f", {size_text(transaction.length)} in the file{place}"
    yield "objects", f"{count_text(result.objects, 'object')}, {size_text(result.bytes)}{length}"


def _text(raw: bytes, *, whole: bool) -> str:
    text = text_of(raw)
    return text if whole or len(text) <= _TEXT else f"{text[:_TEXT]}... ({len(text):,} characters: --all)"


def _row(shown: ShownObject) -> tuple[object, ...]:
    path = f"{shown.path} (a part of it)" if shown.part_of else shown.path
    change = shown.change
    if shown.restored_tid is not None:
        change = f"undone: as in {tid_text(shown.restored_tid)}"
    size = size_text(shown.bytes)
    if shown.old_bytes is not None and shown.old_bytes != shown.bytes:
        size = f"{size} (was {size_text(shown.old_bytes)})"
    return path, shown.class_, oid_text(shown.oid), change, size


def _object_json(shown: ShownObject) -> dict[str, object]:
    return {
        "oid": oid_text(shown.oid),
        "path": shown.path,
        "part_of": shown.part_of,
        "class": shown.class_,
        "bytes": shown.bytes,
        "old_bytes": shown.old_bytes,
        "change": shown.change,
        "restored_tid": None if shown.restored_tid is None else tid_text(shown.restored_tid),
    }
