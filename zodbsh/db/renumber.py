"""Giving staged objects other oids: eight bytes a reference, patched in place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zodbsh.db.changes import Entry
from zodbsh.errors import ExitCode, ZodbshError
from zodbsh.ids import oid_text, to_bytes
from zodbsh.record.decode import references


class CannotRenumber(ZodbshError):
    """A reference to a new object does not stand in its record as eight bytes."""

    code, exit_code = "cannot-renumber", ExitCode.UNSUPPORTED


def renumber(entries: Iterable[Entry], numbers: Mapping[int, int]) -> tuple[Entry, ...]:
    """Return entries whose own oids and whose references follow ``numbers``; others stay.

    References into other databases stay. Raises CannotRenumber, RecordError.
    """
    return tuple(
        entry._replace(oid=numbers.get(entry.oid, entry.oid), data=renumber_record(entry.data, numbers, entry.oid))
        for entry in entries
    )


def renumber_record(data: bytes, numbers: Mapping[int, int], oid: int) -> bytes:
    """Return one record (of ``oid``, for messages) with its references renumbered."""
    if not numbers:
        return data
    patched: bytearray | None = None
    for reference in references(data):
        if reference.database is not None or reference.oid not in numbers:
            continue
        if reference.offset is None:
            raise CannotRenumber(f"object {oid_text(oid)} refers to a new object in a form that cannot be patched")
        patched = bytearray(data) if patched is None else patched
        patched[reference.offset : reference.offset + 8] = to_bytes(numbers[reference.oid])
    return data if patched is None else bytes(patched)
