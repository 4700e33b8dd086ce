"""What a pack keeps, in Python: the twin of the native functions of the same names.

A pack to a time goes over the file three times. `survey` looks at what follows
the pack time, which stays whole: what does it point back to, what does it refer
to. `copy_packed` writes what stays of the time before, `copy_later` what
follows. `compare` holds the copy against the file, record by record. The
meaning is that of ``ZODB/FileStorage/fspack.py``.

Up to the pack time an object's newest revision stays where its mark, by dense
number of the columns of that time, is not 0; and each revision whose position
is among ``targets``, ascending: what later records point back to.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from itertools import groupby
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.engine.columns import DELETED, MISSING, Column, Columns, OddPrevious, Undecodable
from zodbsh.engine.twin import File, data_behind, read_whole, scan_record
from zodbsh.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

_TRANSACTION = Struct(">QQcHHH")
_DATA = Struct(">QQQQHQ")
_NUMBER = Struct(">Q")
_START = 4
_HEADER, _RECORD, _ENDING = _TRANSACTION.size, _DATA.size, _NUMBER.size
_CHUNK = 4 << 20
_NOTHING = bytes(_ENDING)


class Pointer(NamedTuple):
    """A record that follows the pack time and points back to ``target``, a position before it."""

    oid: int
    tid: int
    where: int
    target: int


class Later(NamedTuple):
    """What follows the pack time.

    ``pointers`` lead to before it. By dense number, for objects of the pack time: ``referred`` has a 1 where a record
    refers to it, not weakly, ``stored`` where a record is its own. ``undecodable`` are records that do not tell what
    they refer to, ``odd`` those whose pointer to their object's record before leads to none.
    """

    pointers: Sequence[Pointer]
    referred: bytearray
    stored: bytearray
    undecodable: Sequence[Undecodable]
    odd: Sequence[OddPrevious] = ()


class Copied(NamedTuple):
    """What was written: up to which position, how many transactions and records.

    ``last`` (Q) has by dense number where an object's last record is in the copy, 0 for none; ``moved`` (Q), beside
    ``targets``, where each of them is there.
    """

    end: int
    transactions: int
    records: int
    last: Column
    moved: Column


class Changed(Exception):
    """The file is not what it was when it was checked."""


def survey(fd: int, start: int, end: int, columns: Columns, *, progress: Progress = SILENT) -> Later:
    """Look at the sound transactions from ``start``, the first after the pack time, to ``end``.

    ``columns`` are those of the pack time. Raises OSError, Changed.
    """
    pointers: list[Pointer] = []
    undecodable: list[Undecodable] = []
    odd: list[OddPrevious] = []
    referred, stored = bytearray(len(columns)), bytearray(len(columns))
    file = File(fd, end, _CHUNK)
    for transaction in _transactions(file, start, end):
        for record in transaction.records(file):
            if (number := columns.find(record.oid)) is not None:
                stored[number] = 1
            if record.previous and not _is_of(fd, record.previous, record.oid):
                odd.append(OddPrevious(record.oid, record.tid, record.position, record.previous))
            if not record.length:
                if _START < record.back < start:
                    pointers.append(Pointer(record.oid, record.tid, record.position, record.back))
                continue
            scanned = scan_record(record.data(file))
            if scanned.trouble is not None:
                undecodable.append(Undecodable(record.oid, record.tid, record.position, *scanned.trouble))
            for ref in scanned.references:
                if not (ref.weak or ref.foreign):
                    number = columns.find(ref.oid)
                    if number is not None and columns.classes[number] < DELETED:
                        referred[number] = 1
        progress.advance(transaction.end)
    return Later(pointers, referred, stored, undecodable, odd)


def copy_packed(
    fd: int, end: int, columns: Columns, marks: bytearray, targets: Column, out: int, *, progress: Progress = SILENT
) -> Copied:
    """Write what stays of the time up to the pack, which is at ``end`` in the file, to ``out`` from position 4 on.

    An ``out`` of -1 only counts. Raises OSError, Changed.
    """
    file, writer = File(fd, end, _CHUNK), _Writer(out, _START)
    last, moved = array("Q", [0]) * len(columns), array("Q", [0]) * len(targets)
    places = {position: place for place, position in enumerate(targets)}
    transactions = records = 0
    for transaction in _transactions(file, _START, end):
        kept = [record for record in transaction.records(file) if _stays(record, columns, marks, places)]
        progress.advance(transaction.end)
        if not kept:
            continue
        # A deletion is a pointer to nothing; everything else has data of its own from now on.
        contents = [_content(file, record) for record in kept]
        start = writer.position
        length = transaction.header + sum(_RECORD + len(content or _NOTHING) for content in contents)
        writer.put(transaction.head(file, status=b"p", length=length))
        for record, content in zip(kept, contents, strict=True):
            where = writer.position
            header = _DATA.pack(record.oid, record.tid, 0, start, 0, len(content or b""))
            writer.put(header + (content or _NOTHING))
            number = columns.find(record.oid)
            assert number is not None
            last[number] = where
            if record.position in places:
                moved[places[record.position]] = where
        writer.put(_NUMBER.pack(length))
        transactions += 1
        records += len(kept)
    writer.flush()
    return Copied(writer.position, transactions, records, last, moved)


def copy_later(
    fd: int, start: int, end: int, copied: Copied, columns: Columns, later: Columns, targets: Column, out: int,
    *, progress: Progress = SILENT,
) -> int:  # fmt: skip
    """Write what follows the pack time, from ``start`` to ``end``, after what `copy_packed` wrote; return the new end.

    ``later`` are the columns of just this part. Raises OSError, Changed.
    """
    file, writer = File(fd, end, _CHUNK), _Writer(out, copied.end)
    shift = start - copied.end
    last = array("Q", [0]) * len(later)
    places = {position: place for place, position in enumerate(targets)}
    for transaction in _transactions(file, start, end):
        writer.put(transaction.head(file))
        if transaction.undone:
            writer.put(_read(file, transaction.position + transaction.header, transaction.length - transaction.header))
        written: dict[int, int] = {}
        for record in transaction.records(file):
            number = later.find(record.oid)
            assert number is not None
            previous = last[number]
            if not previous and (before := columns.find(record.oid)) is not None:
                previous = copied.last[before]
            back = record.back
            if back >= start:
                back -= shift
            elif back:
                if back not in places:
                    raise Changed
                back = copied.moved[places[back]]
            written[number] = writer.position
            head = _DATA.pack(record.oid, record.tid, previous, transaction.position - shift, 0, record.length)
            writer.put(head + (record.data(file) if record.length else _NUMBER.pack(back)))
        for number, position in written.items():
            last[number] = position
        writer.put(_NUMBER.pack(transaction.length))
        progress.advance(transaction.end)
    writer.flush()
    return writer.position


def compare(
    fd: int, border: int, end: int, columns: Columns, marks: bytearray, targets: Column, copy: int, copy_end: int,
    *, progress: Progress = SILENT,
) -> str | None:  # fmt: skip
    """Return what is wrong with a copy, None where nothing is; ``border`` is where the pack time is in the file.

    Each record of the copy is one of the file's, in their order, with the same data; of what follows the pack time all
    are there, of the time before the revisions that should stay and no others. Raises OSError, Changed.
    """
    old, new = File(fd, end, _CHUNK), File(copy, copy_end, _CHUNK)
    stays = _Staying(columns, marks, targets)
    originals = _transactions(old, _START, end)
    for made in _transactions(new, _START, copy_end):
        for source in originals:
            if source.tid == made.tid:
                break
            if source.position >= border:
                return f"transaction {source.tid:016x} is missing"
        else:
            return f"transaction {made.tid:016x} is in the wrong place"
        packed = source.position < border
        if made.head(new) != source.head(old, status=b"p" if packed else None, length=made.length):
            return f"transaction {made.tid:016x} has another header"
        wrong = _compare_records(new, made, old, source, stays if packed else None)
        if wrong is not None:
            return wrong
        progress.advance(made.end)
    for source in originals:
        if source.position >= border:
            return f"transaction {source.tid:016x} is missing"
    missing = stays.currents + len(stays.pointed)
    return f"{missing} revisions are missing" if missing else None


class _Staying:
    """What should stay of the time before, and what of it was not yet met."""

    def __init__(self, columns: Columns, marks: bytearray, targets: Column) -> None:
        self.columns, self.marks, self.targets = columns, marks, set(targets)
        self.currents, self.pointed = len(marks) - marks.count(0), set(targets)

    def meet(self, record: _Record) -> bool:
        """Tell whether a record stays."""
        current = _is_current(record, self.columns, self.marks)
        self.currents -= current
        self.pointed.discard(record.position)
        return current or record.position in self.targets


def _compare_records(new: File, made: _Stretch, old: File, source: _Stretch, stays: _Staying | None) -> str | None:
    """Compare a transaction's records; ``stays`` is None for one after the pack time, which stays whole."""
    records = source.records(old)
    for record in made.records(new):
        where = f"offset {record.position}: the record of 0x{record.oid:02x}"
        for original in records:
            same = record.oid == original.oid and _content(new, record) == _content(old, original)
            # A transaction may hold two records of an object, with the same data: only the last one counts.
            if same and (stays is None or stays.meet(original)):
                break
            if stays is None:
                return f"{where} is not the original"
        else:
            return f"{where} is nowhere in what stays of the original"
    if stays is None and (next(records, None) is not None or made.length != source.length):
        return f"transaction {made.tid:016x} has lost records"
    return None


def index_parts(columns: Columns) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield the newest records' positions as a saved index has them, by the first 6 bytes of the oids.

    Each part is those 6 bytes, the last 2 of each oid, ascending, and 6 bytes of position for each.
    """
    found = sorted(
        (oid, columns.position(number))
        for number, oid in enumerate(columns.oids)
        if columns.classes[number] != MISSING
    )  # fmt: skip
    for prefix, group in groupby(found, key=lambda pair: pair[0] >> 16):
        oids, places = zip(*group, strict=True)
        yield (
            prefix.to_bytes(6, "big"),
            b"".join((oid & 0xFFFF).to_bytes(2, "big") for oid in oids),
            b"".join(place.to_bytes(6, "big") for place in places),
        )


class _Record(NamedTuple):
    """A record; ``back`` is 0 where it has data of its own, or deletes."""

    oid: int
    tid: int
    position: int
    length: int
    back: int
    previous: int

    def data(self, file: File) -> bytes:
        """Return the record's own data."""
        return _read(file, self.position + _RECORD, self.length)


class _Stretch(NamedTuple):
    """A transaction; ``header`` is the length of its header and texts."""

    position: int
    tid: int
    length: int
    header: int
    undone: bool

    @property
    def end(self) -> int:
        """Where the next one starts."""
        return self.position + self.length + _ENDING

    def head(self, file: File, *, status: bytes | None = None, length: int | None = None) -> bytes:
        """Return header and texts, with another status or length where they are given."""
        raw = _read(file, self.position, self.header)
        fields = _TRANSACTION.unpack_from(raw)
        head = fields[0], fields[1] if length is None else length, status or fields[2], *fields[3:]
        return _TRANSACTION.pack(*head) + raw[_HEADER:]

    def records(self, file: File) -> Iterator[_Record]:
        """Yield the records; those of an undone transaction do not count."""
        position, end = self.position + self.header, self.position + self.length
        while position < end and not self.undone:
            oid, tid, previous, transaction, _, length = _DATA.unpack(_read(file, position, _RECORD))
            following = position + _RECORD + (length or _ENDING)
            if transaction != self.position or following > end:
                raise Changed
            back = 0 if length else _NUMBER.unpack(_read(file, position + _RECORD, _ENDING))[0]
            yield _Record(oid, tid, position, length, back, previous)
            position = following


class _Writer:
    """Writes forward, in large pieces; -1 for the descriptor only counts."""

    def __init__(self, fd: int, position: int) -> None:
        self.position = position
        self._fd, self._waiting, self._size = fd, [b""], 0

    def put(self, data: bytes) -> None:
        self.position += len(data)
        if self._fd >= 0:
            self._waiting.append(data)
            self._size += len(data)
            if self._size > _CHUNK:
                self.flush()

    def flush(self) -> None:
        if self._size:
            data = memoryview(b"".join(self._waiting))
            place = self.position - self._size
            while data:
                done = os.pwrite(self._fd, data, place)
                data, place = data[done:], place + done
            self._waiting, self._size = [], 0


def _transactions(file: File, start: int, end: int) -> Iterator[_Stretch]:
    position = start
    while position < end:
        tid, length, status, *texts = _TRANSACTION.unpack(_read(file, position, _HEADER))
        header = _HEADER + sum(texts)
        if length < header or position + length + _ENDING > end:
            raise Changed
        yield _Stretch(position, tid, length, header, status == b"u")
        position += length + _ENDING


def _read(file: File, position: int, size: int) -> bytes:
    offset = file.at(position, size)
    if offset < 0:
        raise Changed
    return file.data[offset : offset + size]


def _is_of(fd: int, position: int, oid: int) -> bool:
    """Tell whether a record of an object is at a position, as far as its header tells."""
    raw = read_whole(fd, position, _RECORD) if _START <= position < 1 << 63 else b""
    if len(raw) < _RECORD:
        return False
    other, _, _, transaction, version, _ = _DATA.unpack(raw)
    return bool(other == oid and not version and transaction < position)


def _is_current(record: _Record, columns: Columns, marks: bytearray) -> bool:
    number = columns.find(record.oid)
    return number is not None and marks[number] != 0 and columns.position(number) == record.position


def _stays(record: _Record, columns: Columns, marks: bytearray, places: dict[int, int]) -> bool:
    return record.position in places or _is_current(record, columns, marks)


def _content(file: File, record: _Record) -> bytes | None:
    if record.length:
        return record.data(file)
    sound, data = data_behind(file, record.oid, record.position, record.back)
    if not sound:
        raise Changed
    return data


__all__ = [
    "Changed", "Copied", "Later", "Pointer", "compare", "copy_later", "copy_packed", "index_parts", "survey",
]  # fmt: skip
