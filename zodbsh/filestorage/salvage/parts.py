"""What a damaged Data.fs is taken apart into, and the looks at its bytes that tell."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.errors import StorageIOError
from zodbsh.filestorage.framing import Window
from zodbsh.filestorage.structs import (
    COMMITTED,
    DATA_HEADER,
    NUMBER,
    PACKED,
    TRANSACTION_HEADER,
    DataHeader,
    TransactionHeader,
)

if TYPE_CHECKING:
    from zodbsh.filestorage.datafile import DataFile
    from zodbsh.progress import Progress

_HEADER = TRANSACTION_HEADER.size
_RECORD = DATA_HEADER.size
_ENDING = NUMBER.size
_CHUNK = 4 << 20
_SMALL = 1 << 20
# How far from others a tid may be (2**32 to the minute), and from the year 1900 where there are no others.
_AGES, _FIRST_TID = 1 << 57, 1 << 58

# Where a record's version length is: 0, before it a previous position and an origin below 2**48, after it a length
# below 2**40.
_VERSION_AT = 32
_MARK = re.compile(rb"\0(?=\0{4})(?<=\0\0.{6}\0\0.{6}\0)", re.DOTALL)
_NON_ZERO = re.compile(rb"[^\0]")
_ZEROS = bytes(_RECORD)


class Stretch(NamedTuple):
    """Sound transactions from ``start`` to ``end``, tids ascending."""

    start: int
    end: int
    shift: int
    first_tid: int
    last_tid: int
    transactions: int
    records: int

    @property
    def origin(self) -> int:
        """Where it stood when it was written."""
        return self.start - self.shift


class Fragment(NamedTuple):
    """Sound records of one transaction that is not sound, by place.

    ``origin`` is where its header stood. ``header`` is where a header of it was
    found, None where none was. ``gaps`` are the numbers of the gaps it was found in;
    ``ends`` says that its last record is where its length ends it.
    """

    tid: int
    origin: int
    header: int | None
    records: array[int]
    gaps: tuple[int, ...]
    ends: bool

    def holds(self, position: int) -> bool:
        """Tell whether a record of it is there."""
        at = bisect_left(self.records, position)
        return at < len(self.records) and self.records[at] == position

    @property
    def shift(self) -> int:
        """How far its header was moved, 0 where that is not known."""
        return 0 if self.header is None else self.header - self.origin


class Gap(NamedTuple):
    """A part of the file that holds no sound transaction, and the shifts before and after it."""

    start: int
    end: int
    before: int
    after: int


class Doubtful(NamedTuple):
    """A record whose header can be read and which was not taken: ``position``, ``oid``, ``tid``, and why."""

    position: int
    oid: int
    tid: int
    reason: str


class Contradiction(NamedTuple):
    """A number of the damaged file that others contradict: ``position`` and ``field`` say which; ``repaired`` whether
    the others decide."""

    position: int
    field: str
    oid: int | None
    tid: int
    repaired: bool
    message: str


class Forward:
    """Progress that never goes back, for work that does."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done = progress, 0

    def start(self, title: str, total: int | None, unit: str) -> None:
        """A phase begins."""
        self._done = 0
        self._progress.start(title, total, unit)

    def advance(self, done: int) -> None:
        """So much is done, at most."""
        if done > self._done:
            self._done = done
            self._progress.advance(done)

    def finish(self) -> None:
        """The phase is over."""
        self._progress.finish()


class Known:
    """Stretches by the places they claim, to tell whether a transaction can have stood where it says."""

    def __init__(self, stretches: Iterable[Stretch] = ()) -> None:
        self._stretches = sorted(stretches, key=_origin)

    def add(self, stretch: Stretch) -> None:
        """Learn of one more."""
        insort(self._stretches, stretch, key=_origin)

    def admits(self, origin: int, tid: int) -> bool:
        """Tell whether a transaction's place is free, and its tid between those before and behind it."""
        at = bisect_right(self._stretches, origin, key=_origin)
        before = self._stretches[at - 1] if at else None
        after = self._stretches[at] if at < len(self._stretches) else None
        low = before.last_tid if before else 0
        if before and origin < before.end - before.shift:
            return False
        if after:
            return max(low, after.first_tid - _AGES) < tid < after.first_tid
        return max(low, 0 if low else _FIRST_TID - _AGES) < tid < (low or _FIRST_TID) + _AGES


def _origin(stretch: Stretch) -> int:
    return stretch.origin


class Sound(NamedTuple):
    """A sound transaction: its tid, where the next one begins, how many records it has."""

    tid: int
    next: int
    records: int


class Reader:
    """Looks at single transactions and records of a file, forward mostly; with a small ``chunk``, here and there."""

    def __init__(self, file: DataFile, chunk: int = _CHUNK) -> None:
        self.file = file
        self.limit = file.limit
        self._window = Window(file, chunk)

    def header(self, position: int) -> TransactionHeader | None:
        """Return what stands where a transaction's header would."""
        offset = self._window.at(position, _HEADER)
        return (
            None if offset < 0 else TransactionHeader._make(TRANSACTION_HEADER.unpack_from(self._window.data, offset))
        )

    def record(self, position: int) -> DataHeader | None:
        """Return what stands where a record's header would, None where the file ends before the record does."""
        offset = self._window.at(position, _RECORD)
        if offset < 0:
            return None
        found = DataHeader._make(DATA_HEADER.unpack_from(self._window.data, offset))
        return found if position + found.record_length <= self.limit else None

    def read(self, position: int, size: int) -> bytes:
        """Return bytes of the file. Raises StorageIOError where it has become shorter."""
        window = self._window
        offset = window.at(position, size) if size <= min(_SMALL, window.chunk) else -1
        if offset >= 0:
            return window.data[offset : offset + size]
        raw = self.file.read(position, size)
        if len(raw) < size:
            raise StorageIOError(f"{self.file.path} became shorter while it was read")
        return raw

    def number(self, position: int) -> int | None:
        """Return the number at a position."""
        window = self._window
        offset = position - window.base
        if 0 <= offset <= len(window.data) - _ENDING:
            return int(NUMBER.unpack_from(window.data, offset)[0])
        raw = self.file.read(position, _ENDING) if 0 <= position <= self.limit - _ENDING else b""
        return NUMBER.unpack(raw)[0] if len(raw) == _ENDING else None

    def alike(self, one: int, other: int) -> bool:
        """Tell whether two records hold the same, whatever their pointers to others say."""
        first, second = self.record(one), self.record(other)
        if first is None or second is None or first.length != second.length:
            return False
        at, end = _RECORD, first.record_length
        while at < end:
            size = min(end - at, _CHUNK)
            if self.read(one + at, size) != self.read(other + at, size):
                return False
            at += size
        return True

    def sound(self, position: int, shift: int) -> Sound | None:
        """Return the transaction at ``position`` if all of it agrees with itself and with the shift."""
        header = self.header(position)
        # ZODB's iterator stops at an undone transaction, which no ZODB of this century writes.
        if header is None or header.status not in (COMMITTED, PACKED) or not header.tid:
            return None
        tid, end = header.tid, position + header.length
        if header.length < header.header_length or end + _ENDING > self.limit or self.number(end) != header.length:
            return None
        window, unpack, origin = self._window, DATA_HEADER.unpack_from, position - shift
        at, count = position + header.header_length, 0
        while at < end:
            offset = window.at(at, _RECORD)
            if offset < 0:
                return None
            _, record_tid, _, transaction, version, length = unpack(window.data, offset)
            at += _RECORD + (length or _ENDING)
            if record_tid != tid or transaction != origin or version or at > end:
                return None
            count += 1
        return Sound(tid, end + _ENDING, count)


class Marks:
    """Finds places that may be a record's header: by the zeros that every one has."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._data, self._base = b"", 0

    def following(self, position: int, end: int) -> tuple[int, DataHeader] | None:
        """Return the first place from ``position`` on at which a record's header may be, and what is there."""
        while position + _RECORD + 1 <= end:
            if not self._holds(position):
                return None
            data, base = self._data, self._base
            match = _MARK.search(data, position - base + _VERSION_AT)
            if match is None:
                # The last bytes of this piece are the next one's first.
                position = max(position + 1, base + len(data) - _RECORD)
                continue
            at = match.start() - _VERSION_AT
            if base + at + _RECORD >= end:
                return None
            if at + _RECORD > len(data):
                position = base + at
                continue
            if data[at : at + _RECORD] == _ZEROS:
                # Comparing is ten times as fast as searching, and there may be gigabytes of them.
                other = None if data[at:] == bytes(len(data) - at) else _NON_ZERO.search(data, at)
                # A record may begin with an oid of zeros, and a tid with seven.
                position = base + (len(data) - _RECORD if other is None else other.start() - 15)
                position = max(position, base + at + 1)
                continue
            return base + at, DataHeader._make(DATA_HEADER.unpack_from(data, at))
        return None

    def _holds(self, position: int) -> bool:
        offset = position - self._base
        if not 0 <= offset <= len(self._data) - 2 * _RECORD:
            self._data, self._base = self._file.read(position, min(_CHUNK, self._file.limit - position)), position
        return len(self._data) - (position - self._base) > _RECORD
