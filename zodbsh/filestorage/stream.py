"""Checking the framing of transactions that come by once, in pieces, with nothing to look back at.

Headers, lengths and what belongs together are looked at; where back-pointers
and pointers to earlier records lead is not (`framing` does that for files).
"""

from __future__ import annotations

from collections.abc import Callable

from zodbsh.filestorage.damage import Damage
from zodbsh.filestorage.structs import (
    DATA_HEADER,
    FORMATS,
    LENGTH_OFFSET,
    MAGIC_SIZE,
    NUMBER,
    PACKED,
    PREVIOUS_OFFSET,
    STATUS_OFFSET,
    TID_OFFSET,
    TRANSACTION_HEADER,
    TRANSACTION_OFFSET,
    UNDONE,
    VERSION_OFFSET,
    WHOLE,
    TransactionHeader,
)
from zodbsh.ids import MAX_ID, tid_text

_HEADER, _RECORD, _ENDING = TRANSACTION_HEADER.size, DATA_HEADER.size, NUMBER.size


class TransactionStream:
    """Feed it the bytes of a database from ``start`` on, before which ``last_tid`` is the last transaction.

    ``end`` is the position after the last whole transaction and ``last_tid`` its
    tid; ``first_tid`` is the first one, ``packed_tid`` the last one that a pack went over. ``damage`` is what
    is wrong, None so far; nothing is looked at behind it. A transaction later
    than ``until`` ends the look, too: ``stopped``. ``on_transaction`` is told the tid of each whole one.
    """

    def __init__(
        self,
        start: int = 0,
        last_tid: int = 0,
        *,
        until: int = MAX_ID,
        on_transaction: Callable[[int], object] | None = None,
    ) -> None:
        self.end, self.transactions = start, 0
        self.first_tid, self.last_tid, self.packed_tid = last_tid, last_tid, 0
        self.damage: Damage | None = None
        self.stopped = False
        self._until, self._on_transaction = until, on_transaction
        self._base, self._data = start, b""
        self._next = start
        self._header: TransactionHeader | None = None
        self._start = start

    @property
    def fed(self) -> int:
        """The position up to which bytes came in."""
        return self._base + len(self._data)

    @property
    def ready(self) -> int:
        """The position up to which bytes came in that belong to transactions not later than ``until``."""
        return self.end if self._header is None or self.stopped else self.fed

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if self.damage is not None or self.stopped:
            return
        skipped = min(max(self._next - self._base, 0), len(self._data))
        self._data = self._data[skipped:] + data if skipped < len(self._data) else data
        self._base += skipped
        while self._step():
            pass

    def close(self) -> None:
        """Note that nothing follows."""
        if self.damage is None and not self.stopped and self.fed != self.end:
            tid = None if self._header is None else self._header.tid
            self._damaged(self.fed, "length", "the content ends within a transaction", tid)

    def _step(self) -> bool:
        """Look at what comes next; False where its bytes are not there yet."""
        if self._next < MAGIC_SIZE:
            return self._magic()
        if self._header is None:
            return self._transaction()
        end = self._start + self._header.length
        if self._next < end and self._header.status != UNDONE:
            return self._records(end)
        self._next = end
        raw = self._take(_ENDING)
        if raw is None:
            return False
        (length,) = NUMBER.unpack(raw)
        if length != self._header.length:
            self._damaged(end, "repeated length", f"{length}, but the header says {self._header.length}")
            return False
        if self._header.status == PACKED:
            self.packed_tid = self._header.tid
        self._next = self.end = end + _ENDING
        self.last_tid = self._header.tid
        self.first_tid = self.first_tid or self.last_tid
        self.transactions += 1
        self._header = None
        if self._on_transaction is not None:
            self._on_transaction(self.last_tid)
        return True

    def _magic(self) -> bool:
        raw = self._take(MAGIC_SIZE)
        if raw is None:
            return False
        if raw not in FORMATS:
            self._damaged(self._next, "magic", f"{raw!r} is no FileStorage's")
            return False
        self._next = self.end = MAGIC_SIZE
        return True

    def _transaction(self) -> bool:
        raw = self._take(_HEADER)
        if raw is None:
            return False
        header, start = TransactionHeader._make(TRANSACTION_HEADER.unpack(raw)), self._next
        self._start = start
        if header.status not in WHOLE:
            self._damaged(start + STATUS_OFFSET, "status", f"no whole transaction has {header.status!r}", header.tid)
        elif header.tid <= self.last_tid:
            self._damaged(start, "tid", f"not after the one before it, {tid_text(self.last_tid)}", header.tid)
        elif header.length < header.header_length:
            self._damaged(start + TID_OFFSET, "length", "less than its own header", header.tid)
        elif header.tid > self._until:
            self.stopped = True
        else:
            self._header = header
            self._next = start + header.header_length
            return True
        return False

    def _records(self, end: int) -> bool:
        """Look at the records before ``end`` whose headers are there; False where more bytes are needed."""
        assert self._header is not None
        tid, start = self._header.tid, self._start
        base, data, unpack = self._base, self._data, DATA_HEADER.unpack_from
        position, available = self._next, self._base + len(self._data)
        while position < end:
            if end - position < _RECORD + 1:
                self._damaged(position, "record", f"{end - position} bytes are too few for a record", tid)
                return False
            if position + _RECORD > available:
                self._next = position
                return False
            _, record_tid, previous, transaction, version, length = unpack(data, position - base)
            following = position + _RECORD + (length or _ENDING)
            if record_tid != tid or transaction != start or version or previous >= position or following > end:
                self._odd_record(position, end)
                return False
            position = following
        self._next = position
        return True

    def _odd_record(self, position: int, end: int) -> None:
        assert self._header is not None
        oid, tid, previous, transaction, version, length = DATA_HEADER.unpack_from(self._data, position - self._base)
        if tid != self._header.tid:
            at, field, reason = TID_OFFSET, "record's tid", f"{tid_text(tid)}, not its transaction's"
        elif transaction != self._start:
            at, field, reason = TRANSACTION_OFFSET, "record's transaction", f"{transaction}, not {self._start}"
        elif version:
            at, field, reason = VERSION_OFFSET, "version length", f"{version}, where only 0 is in use"
        elif previous >= position:
            at, field, reason = PREVIOUS_OFFSET, "previous record", f"{previous} is not before its own record"
        else:
            over = position + _RECORD + (length or _ENDING) - end
            at, field, reason = LENGTH_OFFSET, "data length", f"{length} bytes reach {over} beyond its transaction"
        self.damage = Damage(position + at, field, reason, oid, self._header.tid)

    def _take(self, size: int) -> bytes | None:
        offset = self._next - self._base
        return self._data[offset : offset + size] if offset + size <= len(self._data) else None

    def _damaged(self, position: int, field: str, reason: str, tid: int | None = None) -> None:
        self.damage = Damage(
            position, field, reason, tid=tid if tid is not None or self._header is None else self._header.tid
        )
