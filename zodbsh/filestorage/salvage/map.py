"""From a pointer of the damaged file to the record it meant, and to that record's place in the new file."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from zodbsh.filestorage.salvage.parts import Fragment, Reader, Stretch
from zodbsh.filestorage.structs import DATA_HEADER, MAGIC_SIZE, NUMBER, DataHeader

if TYPE_CHECKING:
    from zodbsh.filestorage.datafile import DataFile

_MOST_STEPS = 1_000_000
_KEPT = 64


class Pointers:
    """Resolves pointers, which are positions in the file as it was once (see `zodbsh.filestorage.salvage.salvage`)."""

    def __init__(self, file: DataFile, parts: list[Stretch | Fragment]) -> None:
        self._reader = Reader(file)
        self._file = file
        self._parts = parts
        self._origins = [part.origin for part in parts]
        # What was copied in one piece: where it was, where it ended, where it is; by its part.
        self._pieces: dict[int, list[tuple[int, int, int]]] = {}
        self._records: dict[int, int] = {}
        self._dropped: set[int] = set()
        self.lost = _lost_ranges(parts)
        # The right oids of records whose own are wrong.
        self.oids: dict[int, int] = {}
        # The records of the fragments asked for last.
        self._kept: dict[int, dict[int, int]] = {}

    def copied(self, part: int, start: int, end: int, new: int) -> None:
        """Note that a piece of a stretch was copied."""
        pieces = self._pieces.setdefault(part, [])
        if pieces and pieces[-1][1] == start and new - pieces[-1][2] == start - pieces[-1][0]:
            pieces[-1] = (pieces[-1][0], end, pieces[-1][2])
        else:
            pieces.append((start, end, new))

    def written(self, position: int, new: int) -> None:
        """Note that the record at ``position`` was written by itself."""
        self._records[position] = new

    def dropped(self, position: int) -> None:
        """Note that the record at ``position`` could not be kept."""
        self._dropped.add(position)

    def is_lost(self, pointer: int) -> bool:
        """Tell whether a pointer leads to what no stretch holds."""
        at = bisect_right(self.lost, (pointer, 1 << 64)) - 1
        return at >= 0 and pointer < self.lost[at][1]

    def correct(self, oids: dict[int, int]) -> None:
        """Learn the right oids of records, by position, whose own are wrong."""
        self.oids = oids
        self._kept.clear()

    def at(self, pointer: int, tid: int) -> tuple[int, DataHeader] | None:
        """Return the record, of whatever object, to which a pointer of ``tid`` leads exactly, and where it is."""
        at = bisect_right(self._origins, pointer) - 1
        part = self._parts[at] if at >= 0 else None
        if part is None:
            return None
        position = pointer + part.shift
        if isinstance(part, Fragment):
            record = self._reader_record(position) if part.holds(position) else None
            return None if record is None or part.tid >= tid else (position, record)
        if position >= part.end:
            return None
        record = self._reader_record(position)
        if record is None or record.tid >= tid or record.version:
            return None
        # A record knows where its transaction is, which no payload does.
        head = record.transaction + part.shift
        header = self._header_tid(head) if part.start <= head < position else None
        return (position, record) if header == record.tid or part.transactions == 1 else None

    def find(self, oid: int, pointer: int, tid: int) -> int | None:
        """Return where the kept record of ``oid`` is, in the damaged file, that a pointer of ``tid`` meant."""
        at = bisect_right(self._origins, pointer) - 1
        if at < 0:
            return None
        found, part = self.at(pointer, tid), self._parts[at]
        if found is not None and found[1].oid == oid and found[0] not in self._dropped:
            return found[0]
        if isinstance(part, Stretch):
            return None
        # Where within its gap a record stood cannot be told, but a transaction has one record of an object.
        place = self._oids(at, part).get(oid)
        return place if part.tid < tid and place not in self._dropped else None

    def _oids(self, number: int, part: Fragment) -> dict[int, int]:
        """Return the positions of a fragment's records by oid."""
        if number not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            records = ((self._reader_record(position), position) for position in reversed(part.records))
            self._kept[number] = {record.oid: position for record, position in records if record is not None}
        return self._kept[number]

    def place(self, position: int, pointer: int) -> int | None:
        """Return where in the new file the record at ``position`` is, None where it is not written yet."""
        found = self._records.get(position)
        if found is not None:
            return found
        pieces = self._pieces.get(bisect_right(self._origins, pointer) - 1, [])
        at = bisect_right(pieces, position, key=lambda piece: piece[0]) - 1
        if at < 0 or position >= pieces[at][1]:
            return None
        return pieces[at][2] + position - pieces[at][0]

    def data(self, oid: int, position: int, tid: int) -> tuple[int, int] | None:
        """Return where the data of the record at ``position`` is and how long, following pointers; None if lost.

        Ends, because each step must lead to an earlier transaction.
        """
        for _ in range(_MOST_STEPS):
            record = self._reader_record(position)
            if record is None:
                return None
            if record.length:
                return position + DATA_HEADER.size, record.length
            pointer = self._reader.number(position + DATA_HEADER.size) or 0
            if not pointer:
                return 0, 0
            found = self.find(oid, pointer, tid)
            if found is None:
                return None
            position, tid = found, record.tid
        return None

    def _reader_record(self, position: int) -> DataHeader | None:
        if not 0 <= position < self._file.limit:
            return None
        raw = self._file.read(position, DATA_HEADER.size)
        if len(raw) < DATA_HEADER.size:
            return None
        record = DataHeader._make(DATA_HEADER.unpack(raw))
        return record._replace(oid=self.oids[position]) if position in self.oids else record

    def _header_tid(self, position: int) -> int | None:
        raw = self._file.read(position, NUMBER.size)
        return int(NUMBER.unpack(raw)[0]) if len(raw) == NUMBER.size else None


def _lost_ranges(parts: list[Stretch | Fragment]) -> list[tuple[int, int]]:
    """Return what of the file as it was once no stretch holds: up to the last of them, and all that follows."""
    lost = []
    at = MAGIC_SIZE
    for part in parts:
        if isinstance(part, Stretch):
            if part.origin > at:
                lost.append((at, part.origin))
            at = part.end - part.shift
    return [*lost, (at, 1 << 64)]
