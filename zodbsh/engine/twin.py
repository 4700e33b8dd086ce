"""The engine in Python: the same answers as the native one, for where there is no compiler, and to test it against."""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable
from struct import Struct
from typing import TYPE_CHECKING

from zodbsh.engine.classes import ClassTable
from zodbsh.engine.columns import (
    DELETED,
    MAX_DANGLING,
    MISSING,
    NONE,
    POINTS_BACK,
    WEAK,
    Columns,
    Dangled,
    Entry,
    OddPrevious,
    Options,
    Reached,
    Reference,
    Scanned,
    ToolRow,
    Totals,
    TransactionRow,
    Undecodable,
)
from zodbsh.ids import MAX_ID
from zodbsh.progress import SILENT, Progress
from zodbsh.record.classpart import class_part
from zodbsh.record.decode import RecordError, class_text, decode_record

if TYPE_CHECKING:
    from zodbsh.record.values import Ref

CHUNK = 8 << 20
_TRANSACTION = Struct(">QQcHHH")
_DATA = Struct(">QQQQHQ")
_NUMBER = Struct(">Q")
_MAGIC_SIZE = 4
_HEADER, _RECORD, _ENDING = _TRANSACTION.size, _DATA.size, _NUMBER.size


def scan_record(data: bytes) -> Scanned:
    """Return class and references of one record; never raises for what it holds."""
    try:
        record = decode_record(data)
    except RecordError as exc:
        return Scanned(class_part(data)[0], (), (exc.offset, exc.reason))
    return Scanned(class_text(record.class_), tuple(map(_reference, record.references)))


def _reference(ref: Ref) -> Reference:
    return Reference(ref.oid, ref.offset, ref.weak, ref.database is not None)


class Pass:
    """A pass in Python (implements ``columns.Pass``)."""

    def __init__(self, options: Options = Options()) -> None:  # noqa: B008 - immutable
        self._options = options
        self._numbers: dict[int, int] = {}
        self._oids, self._where, self._sizes = array("Q"), array("Q"), array("Q")
        self._classes, self._counts = array("I"), array("I")
        self._starts, self._targets = array("Q"), array("I")
        self._live = 0
        self._table = ClassTable(class_part)
        self._class_records: list[int] = []
        self._class_bytes: list[int] = []
        self._first_classes: dict[int, int] = {}
        self._tool: dict[int, list[int]] = {}
        self._transactions = self._records = self._data_bytes = self._references = 0
        self._first_tid: int | None = None
        self._last_tid: int | None = None
        self._undecodable: list[Undecodable] = []
        self._dangled: list[Dangled] = []
        self._dangled_more = 0
        # Whether all transactions so far were packed.
        self._packed = True
        self._odd_previous: list[OddPrevious] = []

    def read(
        self,
        fd: int,
        start: int,
        limit: int,
        *,
        last_tid: int = 0,
        until: int = MAX_ID,
        progress: Progress = SILENT,
        on_transactions: Callable[[list[TransactionRow]], None] | None = None,
        chunk: int = CHUNK,
    ) -> Reached:
        """Take the sound transactions of a Data.fs from ``start`` on. Raises OSError."""
        file = File(fd, limit, chunk)
        position = start
        while position < limit:
            offset = file.at(position, _HEADER)
            if offset < 0:
                return Reached(position, last_tid, False)
            tid, length, status, *texts = _TRANSACTION.unpack_from(file.data, offset)
            header = _HEADER + sum(texts)
            if status not in (b" ", b"p", b"u") or tid <= last_tid or length < header:
                return Reached(position, last_tid, False)
            if position + length + _ENDING > limit:
                return Reached(position, last_tid, False)
            if tid > until:
                return Reached(position, last_tid, True)
            entries = [] if status == b"u" else _entries(file, position, tid, position + header, position + length)
            offset = file.at(position + length, _ENDING)
            if entries is None or offset < 0 or _NUMBER.unpack_from(file.data, offset)[0] != length:
                return Reached(position, last_tid, False)
            if tid >= self._options.since:
                counted = self._data_bytes
                self.add(tid, entries, packed=status == b"p")
                if on_transactions is not None:
                    user = os.pread(fd, texts[0], position + _HEADER)
                    row = TransactionRow(
                        tid, position, length + _ENDING, len(entries), self._data_bytes - counted, user
                    )
                    on_transactions([row])
            last_tid, position = tid, position + length + _ENDING
            progress.advance(position)
        return Reached(position, last_tid, True)

    def add(self, tid: int, entries: Iterable[Entry], *, packed: bool = False) -> None:
        """Take one transaction."""
        if self._packed and not packed:
            self._check_packed()
        self._transactions += 1
        self._first_tid = tid if self._first_tid is None else self._first_tid
        self._last_tid = tid
        waiting: list[tuple[int, int, int]] = []
        for entry in entries:
            self._records += 1
            number = self._number(entry.oid)
            odd = entry.previous != self._where[number] & ~POINTS_BACK and (entry.previous or not packed)
            if odd and self._options.previous:
                self._odd_previous.append(OddPrevious(entry.oid, tid, entry.where, entry.previous))
            self._live -= self._counts[number]
            self._starts[number], self._counts[number] = len(self._targets), 0
            pointing = entry.points_back or entry.data is None
            self._where[number] = entry.where | (POINTS_BACK if pointing else 0)
            if entry.data is None:
                self._classes[number] = DELETED
                continue
            class_ = self._take_class(number, entry.data, own=not entry.points_back)
            self._sizes[number], self._classes[number] = len(entry.data), class_
            if self._options.references:
                self._take_references(tid, number, entry)
                if self._options.history and not self._packed:
                    waiting.append((number, entry.where, entry.oid))
        for number, where, oid in waiting:
            self._check(tid, number, where, oid)
        self._compact()

    def finish(self) -> Columns:
        """Return the columns."""
        if self._packed:
            self._check_packed()
        names = self._table.names
        more = [0] * (len(names) - len(self._class_records))
        return Columns(
            oids=self._oids, where=self._where, sizes=self._sizes, classes=self._classes,
            starts=self._starts, counts=self._counts, targets=self._targets,
            find=lambda oid: self._numbers.get(oid, NONE),
            class_names=names, class_records=self._class_records + more, class_bytes=self._class_bytes + more,
            tool_rows=[ToolRow(names[class_], *figures) for class_, figures in self._tool.items()],
            totals=Totals(
                self._transactions, self._records, self._data_bytes, self._references, self._first_tid, self._last_tid
            ),
            undecodable=self._undecodable, dangled=self._dangled, dangled_more=self._dangled_more,
            odd_previous=self._odd_previous,
        )  # fmt: skip

    def _number(self, oid: int) -> int:
        number = self._numbers.setdefault(oid, len(self._oids))
        if number == len(self._oids):
            self._oids.append(oid)
            self._where.append(0)
            self._sizes.append(0)
            self._classes.append(MISSING)
            self._starts.append(0)
            self._counts.append(0)
        return number

    def _take_class(self, number: int, data: bytes, *, own: bool) -> int:
        class_ = self._table.number(data)[0]
        while len(self._class_records) <= class_:
            self._class_records.append(0)
            self._class_bytes.append(0)
        self._class_records[class_] += 1
        if own:
            self._class_bytes[class_] += len(data)
            self._data_bytes += len(data)
        if self._options.tool_rows:
            first = self._first_classes.setdefault(number, class_)
            row = self._tool.setdefault(first, [0] * 5)
            row[0] += 1
            row[1] += len(data)
            if self._sizes[number] == 0:
                row[2] += 1
            else:
                row[3] += 1
                row[4] += self._sizes[number]
        return class_

    def _take_references(self, tid: int, number: int, entry: Entry) -> None:
        assert entry.data is not None
        scanned = scan_record(entry.data)
        if scanned.trouble is not None and not entry.points_back:
            self._undecodable.append(Undecodable(entry.oid, tid, entry.where, *scanned.trouble))
        for ref in scanned.references:
            if not ref.foreign:
                self._targets.append(self._number(ref.oid) | (WEAK if ref.weak else 0))
                self._references += not ref.weak and not entry.points_back
        self._counts[number] = len(self._targets) - self._starts[number]
        self._live += self._counts[number]

    def _check_packed(self) -> None:
        """Check the references of what a pack has left, all at once: it has forgotten what was there when."""
        self._packed = False
        if self._options.history and self._last_tid is not None:
            for number, oid in enumerate(self._oids):
                if self._classes[number] < DELETED:
                    self._check(self._last_tid, number, self._where[number] & ~POINTS_BACK, oid)

    def _check(self, tid: int, number: int, where: int, oid: int) -> None:
        start = self._starts[number]
        for target in self._targets[start : start + self._counts[number]]:
            if target < WEAK and self._classes[target] >= DELETED:
                if len(self._dangled) < MAX_DANGLING:
                    self._dangled.append(Dangled(oid, tid, where, self._oids[target]))
                else:
                    self._dangled_more += 1

    def _compact(self) -> None:
        """Drop the references of superseded records once they are more than the others."""
        if len(self._targets) <= 2 * self._live + (1 << 16):
            return
        targets = array("I")
        for number in sorted(range(len(self._oids)), key=self._starts.__getitem__):
            start = self._starts[number]
            self._starts[number] = len(targets)
            targets.extend(self._targets[start : start + self._counts[number]])
        self._targets = targets


class File:
    """A file that is read forward in chunks; a record may be larger than a chunk."""

    def __init__(self, fd: int, limit: int, chunk: int) -> None:
        self.fd, self.limit, self.chunk = fd, limit, chunk
        self.base, self.data = 0, b""
        self.followed: dict[int, int] = {}

    def at(self, position: int, size: int) -> int:
        """Return where in ``data`` the ``size`` bytes at ``position`` start, -1 where the file ends before."""
        offset = position - self.base
        if offset >= 0 and offset + size <= len(self.data):
            return offset
        if position + size > self.limit:
            return -1
        self.data = read_whole(self.fd, position, min(max(self.chunk, size), self.limit - position))
        self.base = position
        return 0 if size <= len(self.data) else -1


def _entries(file: File, start: int, tid: int, position: int, end: int) -> list[Entry] | None:
    """Return a transaction's records, None where one is not sound."""
    found = []
    while position < end:
        if position + _RECORD + 1 > end:
            return None
        offset = file.at(position, _RECORD + _ENDING)
        if offset < 0:
            return None
        oid, record_tid, previous, transaction, version, length = _DATA.unpack_from(file.data, offset)
        following = position + _RECORD + (length or _ENDING)
        if record_tid != tid or transaction != start or version or previous >= position or following > end:
            return None
        if length:
            offset = file.at(position + _RECORD, length)
            if offset < 0:
                return None
            found.append(Entry(oid, position, file.data[offset : offset + length], previous=previous))
        else:
            back = _NUMBER.unpack_from(file.data, offset + _RECORD)[0]
            sound, data = data_behind(file, oid, position, back)
            if not sound:
                return None
            found.append(Entry(oid, position, data, points_back=True, previous=previous))
        position = following
    return found


def data_behind(file: File, oid: int, position: int, back: int) -> tuple[bool, bytes | None]:
    """Follow a back-pointer: whether it leads where it may, and the data (None: the object is deleted)."""
    below = position
    while back:
        if not _MAGIC_SIZE < back < below:
            return False, None
        if back in file.followed:
            # A record passed before leads to data, or to none; never to another pointer.
            back = file.followed[back]
            if not back:
                break
        raw = read_whole(file.fd, back, _RECORD + _ENDING)
        if len(raw) < _RECORD + _ENDING:
            return False, None
        other, _, _, transaction, version, length = _DATA.unpack_from(raw)
        if other != oid or version or transaction >= back:
            return False, None
        if length:
            if back + _RECORD + length > below:
                return False, None
            file.followed[position] = back
            return True, read_whole(file.fd, back + _RECORD, length)
        below, (back,) = back, _NUMBER.unpack_from(raw, _RECORD)
    file.followed[position] = 0
    return True, None


def read_whole(fd: int, position: int, size: int) -> bytes:
    """Return ``size`` bytes, fewer only at the file's end."""
    # A signal or the system's own limit may cut one read short.
    data = os.pread(fd, size, position)
    while len(data) < size and (more := os.pread(fd, size - len(data), position + len(data))):
        data += more
    return data
