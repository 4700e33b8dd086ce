"""What speaks for a record, and against it, in the part of a file that is damaged."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

from zodbsh.filestorage.salvage.parts import Reader
from zodbsh.filestorage.structs import (
    DATA_HEADER,
    FORMATS,
    IN_FLIGHT,
    MAGIC_SIZE,
    NUMBER,
    TRANSACTION_HEADER,
    WHOLE,
    DataHeader,
    TransactionHeader,
)
from zodbsh.ids import to_bytes

if TYPE_CHECKING:
    from zodbsh.filestorage.salvage.parts import Known, Marks

STATUSES = (*WHOLE, IN_FLIGHT)

_RECORD = DATA_HEADER.size
_ENDING = NUMBER.size
_MOST_HEADER = TRANSACTION_HEADER.size + 3 * 0xFFFF
_TRIES = 16
_COPIES = 8
_PIECE = 4 << 20
# Every pickle that ZODB writes now begins so, and every pickle ends so.
_PICKLE, _STOP = b"\x80", b"."


class Evidence:
    """What stands around records, where one of ``shifts`` may hold; looks behind ``start`` only.

    ``known`` is what is known to be sound, ``peek`` reads here and there.
    """

    def __init__(
        self, reader: Reader, peek: Reader, marks: Marks, start: int, shifts: tuple[int, ...], known: Known
    ) -> None:
        self._reader, self._peek, self._marks = reader, peek, marks
        self._start, self._shifts, self._known = start, shifts, known
        # The last places that a header was looked for.
        self._tried: deque[int] = deque(maxlen=_TRIES)

    def exact_header(
        self, position: int, record: DataHeader, floor: int, tried: deque[int] | None = None
    ) -> int | None:
        """Return where the header is, not before ``floor``, whose first record is at ``position``.

        ``tried`` holds the last places of the same search, which must ascend.
        """
        tid, tried = record.tid, self._tried if tried is None else tried
        for shift in self._shifts:
            guess = record.transaction + shift
            header = self._peek.header(guess) if floor <= guess < position else None
            if header is not None and _is_header(header, tid) and guess + header.header_length == position:
                return guess
        # So that each byte is looked at a fixed number of times.
        tried.append(position)
        low = max(floor, position - _MOST_HEADER, tried[0] if len(tried) == _TRIES else 0)
        raw, key = self._reader.file.read(low, position - low), to_bytes(tid)
        at = raw.rfind(key)
        while at >= 0:
            if at + TRANSACTION_HEADER.size <= len(raw):
                header = TransactionHeader._make(TRANSACTION_HEADER.unpack_from(raw, at))
                if _is_header(header, tid) and low + at + header.header_length == position:
                    return low + at
            at = raw.rfind(key, 0, at + _ENDING - 1)
        return None

    def begins_file(self, shift: int) -> bool:
        """Tell whether a file begins where a shift says: a whole Data.fs in the data of a damaged record."""
        within = shift >= self._start > MAGIC_SIZE
        return within and self._reader.file.read(shift, MAGIC_SIZE) in FORMATS

    def ends(self, end: int, origin: int) -> bool:
        """Tell whether at ``end`` there is the length of a transaction with this origin."""
        length = self._peek.number(end)
        return length is not None and any(length == end - origin - shift for shift in self._shifts)

    def is_followed(self, position: int, record: DataHeader) -> bool:
        """Tell whether another record of its transaction follows a record, or the transaction's length."""
        end, origin = position + record.record_length, record.transaction
        length = self._peek.number(end)
        # A header stands before the record, within what is searched; or it did before bytes were lost.
        if self.ends(end, origin):
            return True
        if length is not None and record.record_length + TRANSACTION_HEADER.size <= length <= end - self._start:
            return True
        following = self._peek.record(end)
        return following is not None and (following.tid, following.transaction) == (record.tid, origin)

    def either_tid(self, position: int, record: DataHeader, other: int) -> int:
        """Return which tid is right, a record's or its header's."""
        tid = record.tid
        # One of the two is damaged: the next record tells. Without one the record is believed, unless it cannot be.
        following = self._peek.record(position + record.record_length)
        if following is not None and following.transaction == record.transaction and not following.version:
            return following.tid if following.tid in (tid, other) else tid
        origin, admits = record.transaction, self._known.admits
        return tid if admits(origin, tid) or not admits(origin, other) else other

    def either_origin(self, position: int, record: DataHeader, head: int) -> int:
        """Return where a transaction's header stood: what its first records and the shifts say mostly."""
        said = Counter({record.transaction: 1})
        following: DataHeader | None = record
        for _ in range(2):
            position += following.record_length if following else 0
            following = self._peek.record(position)
            if following is None or following.tid != record.tid or following.version:
                break
            said[following.transaction] += 1
        return max(said, key=lambda origin: said[origin] + (head - origin in self._shifts))

    def contradiction(self, start: int, end: int, tid: int, origin: int) -> int | None:
        """Return where in a record's data there is what cannot be within it: a record of its own or a later time."""
        position = start
        copies, tried = _Copies(self._peek, start), deque[int](maxlen=_TRIES)
        # The header of what contradicts may reach beyond the end.
        last = min(end + _RECORD, self._reader.limit)
        while (found := self._marks.following(position, last)) is not None:
            position, record = found
            if position + _ENDING > end and self._reader.file.read(end - 1, 1) == _STOP:
                # The data is whole: it is the other record that has lost the beginning of its oid.
                return None
            if position + record.record_length <= self._reader.limit:
                timely = self._known.admits(record.transaction, record.tid)
                # What was stored cannot know the tid that it was going to have.
                if record.tid == tid and (timely or record.transaction == origin):
                    return position
                if timely and self._is_supported(position, record, start, tried) and not copies.holds(position, record):
                    return position
            position += 1
        return None

    def ends_well(self, position: int, length: int) -> bool:
        """Tell whether data may be what was stored: if it begins as a pickle it ends as one."""
        if not length or self._reader.file.read(position, 1) != _PICKLE:
            return True
        return self._reader.file.read(position + length - 1, 1) == _STOP

    def _is_supported(self, position: int, record: DataHeader, floor: int, tried: deque[int]) -> bool:
        """Tell whether something else says that a record is here: what follows it, or a header before it."""
        if self.is_followed(position, record):
            return True
        return self.exact_header(position, record, floor, tried) is not None


class _Copies:
    """Whole Data.fs files within the data of a record that begins at ``start``: what they hold says nothing of it."""

    def __init__(self, reader: Reader, start: int) -> None:
        self._reader = reader
        self._searched = start
        self._beginnings: list[int] = []

    def holds(self, position: int, record: DataHeader) -> bool:
        """Tell whether the record at ``position`` is one of such a copy; positions must ascend."""
        while position > self._searched + MAGIC_SIZE:
            raw = self._reader.file.read(self._searched, min(_PIECE, position - self._searched))
            for magic in FORMATS:
                at = raw.rfind(magic)
                if at >= 0:
                    self._beginnings.append(self._searched + at)
            # What begins at the end of this piece is found in the next.
            self._searched += max(len(raw) - MAGIC_SIZE + 1, 1)
        for beginning in self._beginnings[-_COPIES:]:
            head = beginning + record.transaction
            header = self._reader.header(head) if head < position else None
            if header is not None and header.tid == record.tid:
                return True
        return False


def _is_header(header: TransactionHeader, tid: int) -> bool:
    return header.tid == tid and header.status in STATUSES
