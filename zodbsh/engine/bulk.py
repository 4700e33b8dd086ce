"""The bulk pass: one walk over a Data.fs that finds what every overview needs.

This is the Python twin of a native pass: it takes a descriptor and numbers,
returns flat results, and knows the layout by itself (docs/formats.md). It
checks framing as it goes and stops before the first transaction that is not
whole and sound, without saying why: `filestorage.framing` examines that one.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.engine.census import DELETED, LENGTH_BITS, Totals, summarize
from zodbsh.engine.classes import ClassTable
from zodbsh.ids import MAX_ID
from zodbsh.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from zodbsh.engine.census import Census

_TRANSACTION = Struct(">QQcHHH")
_DATA = Struct(">QQQQHQ")
_NUMBER = Struct(">Q")
_MAGIC_SIZE = 4
_CHUNK = 8 << 20
# A record longer than the buffer is known by as much of its data.
_HEAD = 1 << 16


class BulkPass(NamedTuple):
    """What one pass found, up to ``end``: the position after the last sound transaction it took.

    ``reached`` tells that nothing stopped it: it met its limit, or a tid above
    ``until``. ``positions`` maps each oid to its newest record. ``pointers``
    holds the oids whose newest record points back or deletes. ``states`` maps
    each oid to its state as `summarize` takes it.
    """

    end: int
    reached: bool
    totals: Totals
    positions: dict[int, int]
    pointers: set[int]
    states: dict[int, int]
    classes: list[str]

    def census(self) -> Census:
        """Return the overview's figures."""
        return summarize(self.totals, self.states.values(), self.classes)


def bulk_pass(
    fd: int,
    limit: int,
    class_of: Callable[[bytes], tuple[str, int]],
    *,
    until: int = MAX_ID,
    progress: Progress = SILENT,
    chunk: int = _CHUNK,
) -> BulkPass:
    """Walk the transactions of the file behind ``fd`` that end at or before ``limit``, up to tid ``until``.

    ``class_of`` names the class of a record (see `ClassTable`). Raises OSError.
    """
    progress.start("reading", limit, "bytes")
    result, clean = _walk(fd, limit, ClassTable(class_of), until, progress, chunk)
    if not clean:
        # Records of an unsound transaction are in: end before it. What comes before is known to be sound.
        result, _ = _walk(fd, result.end, ClassTable(class_of), until, SILENT, chunk)
        result = result._replace(reached=False)
    progress.finish()
    return result


def _walk(  # noqa: C901 - one loop with everything in locals: a call for each record would double its time
    fd: int, limit: int, table: ClassTable, until: int, progress: Progress, chunk: int
) -> tuple[BulkPass, bool]:
    """Return the pass, and whether it holds records of whole and sound transactions only."""
    unpack_transaction, unpack_data, unpack_number = _TRANSACTION.unpack_from, _DATA.unpack_from, _NUMBER.unpack_from
    positions: dict[int, int] = {}
    states: dict[int, int] = {}
    pointers: set[int] = set()
    shared = _Pointers(fd, table)
    known: dict[bytes, int] = {}
    known_get = known.get
    transactions = records = data_bytes = 0
    first_tid: int | None = None
    last_tid = 0
    clean, reached = True, False

    def fill(position: int, wanted: int) -> bytes:
        progress.advance(position)
        return _read(fd, position, min(wanted, limit - position))

    start = base = _MAGIC_SIZE
    buffer, size = b"", 0
    find = buffer.find
    while True:
        if start >= limit:
            reached = start == limit
            break
        offset = start - base
        if offset + _TRANSACTION.size > size:
            buffer, base, offset = fill(start, chunk), start, 0
            size, find = len(buffer), buffer.find
            if size < _TRANSACTION.size:
                break
        tid, length, status, user, description, extension = unpack_transaction(buffer, offset)
        header = _TRANSACTION.size + user + description + extension
        if status not in (b" ", b"p", b"u") or tid <= last_tid or length < header or start + length + 8 > limit:
            break
        if tid > until:
            reached = True
            break

        end = start + length - base
        offset = end if status == b"u" else offset + header
        while offset < end:
            if offset + 50 > size:
                base, end, offset = base + offset, end - offset, 0
                buffer = fill(base, chunk)
                size, find = len(buffer), buffer.find
                if size < 50:
                    break
            oid, record_tid, previous, transaction, version, plen = unpack_data(buffer, offset)
            position = base + offset
            if record_tid != tid or transaction != start or version or previous >= position:
                break
            offset += 42
            if plen:
                data_end = offset + plen
                if data_end > end:
                    break
                if data_end > size:
                    # The record goes beyond the buffer: begin a new one with its data.
                    base, end, data_end, offset = base + offset, end - offset, plen, 0
                    buffer = fill(base, max(chunk, _HEAD))
                    size, find = len(buffer), buffer.find
                # A class by name is two lines; equal bytes up to the STOP after them are the same class.
                key = buffer[offset : find(b"\n", find(b"\n", offset, data_end) + 1 or data_end, data_end) + 4]
                state = known_get(key)
                if state is None:
                    number, part = table.number(buffer[offset:data_end])
                    state = number << LENGTH_BITS
                    if part == len(key):
                        known[key] = state
                positions[oid] = position
                states[oid] = state | plen
                if pointers:
                    pointers.discard(oid)
                data_bytes += plen
                offset = data_end
            else:
                if offset + 8 > end:
                    break
                found = shared.state(oid, position, unpack_number(buffer, offset)[0])
                if found is None:
                    break
                positions[oid] = position
                states[oid] = found
                pointers.add(oid)
                offset += 8
            records += 1
        else:
            if offset == end:
                if end + 8 > size:
                    base, end = base + end, 0
                    buffer = fill(base, chunk)
                    size, find = len(buffer), buffer.find
                if end + 8 <= size and unpack_number(buffer, end)[0] == length:
                    last_tid = tid
                    if first_tid is None:
                        first_tid = tid
                    transactions += 1
                    start += length + 8
                    continue
        clean = False
        break

    totals = Totals(transactions, records, data_bytes, first_tid, last_tid if transactions else None)
    result = BulkPass(start, reached, totals, positions, pointers, states, table.names)
    return result, clean


class _Pointers:
    """Follows back-pointers to the data they share; each pointing record is followed once."""

    def __init__(self, fd: int, table: ClassTable) -> None:
        self._fd = fd
        self._table = table
        self._followed: dict[int, tuple[int, int]] = {}

    def state(self, oid: int, position: int, back: int) -> int | None:
        """Return the state behind the pointer ``back`` of the record at ``position``, None where it points wrong."""
        below = position
        while back:
            if not _MAGIC_SIZE < back < below:
                return None
            if back in self._followed:
                other, state = self._followed[back]
                if other != oid:
                    return None
                break
            raw = _read(self._fd, back, 4096)
            if len(raw) < 50:
                return None
            other, _, _, transaction, version, length = _DATA.unpack_from(raw)
            if other != oid or version or transaction >= back:
                return None
            if length:
                if back + 42 + length > below:
                    return None
                if 42 + length > len(raw):
                    raw = _read(self._fd, back, 42 + length)
                state = self._table.number(raw[42 : 42 + length])[0] << LENGTH_BITS | length
                break
            below, (back,) = back, _NUMBER.unpack_from(raw, 42)
        else:
            state = DELETED
        self._followed[position] = oid, state
        return state


def _read(fd: int, position: int, size: int) -> bytes:
    data = os.pread(fd, size, position)
    if len(data) == size or not data:
        return data
    # A signal or the system's own limit on one read may cut it short.
    while len(data) < size and (more := os.pread(fd, size - len(data), position + len(data))):
        data += more
    return data
