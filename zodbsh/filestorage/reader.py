"""Reading a FileStorage as of the moment it was opened: beside a live writer, through a live pack.

One descriptor, its end fixed at opening, positional reads. Nothing is locked,
nothing is written, nothing appears beside the file. What a writer is still
writing is the tail; what a pack replaces stays readable through the descriptor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.filestorage.damage import Damage, FramingDamage
from zodbsh.filestorage.datafile import DataFile, read_magic
from zodbsh.filestorage.framing import Window, examine, follow, walk
from zodbsh.filestorage.lookup import Lookup
from zodbsh.filestorage.structs import (
    DATA_HEADER,
    LENGTH_OFFSET,
    MAGIC_SIZE,
    NUMBER,
    PREVIOUS_OFFSET,
    TRANSACTION_HEADER,
    UNDONE,
    WHOLE,
    DataHeader,
    TransactionHeader,
)
from zodbsh.ids import MAX_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zodbsh.filestorage.framing import Examined

# One read covers a header and most records.
_GULP = 4096
_RECORD = DATA_HEADER.size


class StoredTransaction(NamedTuple):
    """One transaction's header and metadata as the file has them."""

    position: int
    header: TransactionHeader
    user: bytes
    description: bytes
    extension: bytes


class StoredRecord(NamedTuple):
    """One data record: where it is, its header, its own data (None where it points back or deletes)."""

    position: int
    header: DataHeader
    data: bytes | None
    back: int


class FileStorageReader:
    """Reads the FileStorage at ``path``.

    Opening raises DatabaseNotFound, EmptyFile, NotFileStorage or
    StorageIOError. Where damage ends the file early, everything that needs to
    know the end raises FramingDamage, unless ``ignore_damage`` is set: then the
    snapshot ends at the last sound transaction before the damage. ``lookup``
    knows the snapshot's end and the newest records.
    """

    def __init__(self, path: str, *, ignore_damage: bool = False) -> None:
        self.path = path
        self.file = DataFile(path)
        try:
            self.format, self.meaning = read_magic(self.file)
        except BaseException:
            self.file.close()
            raise
        self.size = self.file.limit
        self.lookup = Lookup(self.file, ignore_damage=ignore_damage)
        self._followed: dict[int, int] = {}

    def close(self) -> None:
        """Release the descriptor; may be called twice."""
        self.file.close()

    def exists(self, oid: int, position: int) -> bool:
        """Tell whether the record at ``position`` holds or shares data, and does not delete the object."""
        if self.lookup.holds_data(oid, position):
            return True
        record = self.record(position, oid)
        return record.data is not None or self.target(record)[1] > 0

    def record(self, position: int, oid: int | None = None) -> StoredRecord:
        """Read the record at ``position``. Raises FramingDamage where there is none, or none of ``oid``."""
        end = self.lookup.bounds.end
        raw = self.file.read(position, min(_GULP, end - position)) if MAGIC_SIZE < position < end else b""
        if len(raw) < _RECORD + NUMBER.size:
            raise self._damaged(Damage(position, "record", "no record can be here", oid))
        header = DataHeader._make(DATA_HEADER.unpack_from(raw))
        if header.version or not MAGIC_SIZE <= header.transaction < position or oid not in (None, header.oid):
            raise self._damaged(Damage(position, "record", "there is no record of this object", oid))
        if position + header.record_length + NUMBER.size > end:
            reason = f"{header.length} bytes reach beyond the last transaction"
            raise self._damaged(Damage(position + LENGTH_OFFSET, "data length", reason, oid, header.tid))
        if not header.length:
            return StoredRecord(position, header, None, NUMBER.unpack_from(raw, _RECORD)[0])
        data = raw[_RECORD : _RECORD + header.length]
        if len(data) < header.length:
            data += self.file.read(position + _RECORD + len(data), header.length - len(data))
            if len(data) < header.length:
                raise self._damaged(Damage(position, "record", "the file ends before it does", oid, header.tid))
        return StoredRecord(position, header, data, 0)

    def target(self, record: StoredRecord) -> tuple[int, int]:
        """Return position and length of the data a record points back to, zeros where it deletes the object."""
        found = follow(self.file, record.header.oid, record.position, record.back, self._followed)
        if isinstance(found, Damage):
            raise self._damaged(found._replace(tid=record.header.tid))
        return found

    def data(self, record: StoredRecord) -> bytes | None:
        """Return a record's data, its own or what it points back to; None where it deletes the object."""
        if record.data is not None:
            return record.data
        position, length = self.target(record)
        return self.record(position, record.header.oid).data if length else None

    def data_tid(self, record: StoredRecord) -> int | None:
        """Return the tid of the record this one points back to, one step back, as ZODB's iterator says it."""
        return self.record(record.back, record.header.oid).header.tid if record.back else None

    def revisions(self, oid: int, at: int = MAX_ID) -> Iterator[StoredRecord]:
        """Yield the object's records not after tid ``at``, newest first."""
        position = self.lookup.position_of(oid)
        while position:
            record = self.record(position, oid)
            if record.header.tid <= at:
                yield record
            if record.header.previous >= position:
                reason = f"points to {record.header.previous}, which is not before its own record"
                raise self._damaged(
                    Damage(position + PREVIOUS_OFFSET, "previous record", reason, oid, record.header.tid)
                )
            position = record.header.previous

    def transactions(self, first: int = 0, last: int = MAX_ID) -> Iterator[StoredTransaction]:
        """Yield the transactions with first <= tid <= last, oldest first."""
        position, end = MAGIC_SIZE, self.lookup.bounds.end
        if first:
            # Walking back touches only the headers of what is asked for, mostly the recent past.
            position = end
            for transaction in self.transactions_back(first):
                position = transaction.position
        while position < end:
            transaction = self.transaction(position)
            if transaction.header.tid > last:
                return
            yield transaction
            position += transaction.header.length + NUMBER.size

    def transactions_back(self, first: int = 0, last: int = MAX_ID) -> Iterator[StoredTransaction]:
        """Yield the transactions with first <= tid <= last, newest first, by their repeated lengths."""
        position = self.lookup.bounds.end
        while position > MAGIC_SIZE:
            length = self._number(position - NUMBER.size)
            start = position - NUMBER.size - length
            if start < MAGIC_SIZE:
                reason = f"{length} bytes reach before the file's beginning"
                raise self._damaged(Damage(position - NUMBER.size, "repeated length", reason))
            transaction = self.transaction(start)
            if transaction.header.length != length:
                reason = f"{length}, but the header at {start} says {transaction.header.length}"
                raise self._damaged(Damage(position - NUMBER.size, "repeated length", reason))
            if transaction.header.tid < first:
                return
            if transaction.header.tid <= last:
                yield transaction
            position = start

    def transaction(self, position: int) -> StoredTransaction:
        """Read the transaction header at ``position``. Raises FramingDamage."""
        end = self.lookup.bounds.end
        raw = self.file.read(position, min(512, end - position)) if MAGIC_SIZE <= position < end else b""
        if len(raw) < TRANSACTION_HEADER.size:
            raise self._damaged(Damage(position, "header", "no transaction can be here"))
        header = TransactionHeader._make(TRANSACTION_HEADER.unpack_from(raw))
        following = position + header.length + NUMBER.size
        sound = header.status in WHOLE and header.header_length <= header.length and following <= end
        if not sound or self._number(following - NUMBER.size) != header.length:
            step = examine(self.file, position, 0)
            reason = Damage(position, "header", "there is no transaction here", tid=header.tid)
            raise self._damaged(step.damages[0] if step.damages else reason)
        if header.header_length > len(raw):
            raw = self.file.read(position, header.header_length)
        user = TRANSACTION_HEADER.size + header.user_length
        description = user + header.description_length
        return StoredTransaction(
            position, header,
            raw[TRANSACTION_HEADER.size : user], raw[user:description], raw[description : header.header_length],
        )  # fmt: skip

    def records(self, position: int) -> Iterator[StoredRecord]:
        """Yield the records of the transaction at ``position``; an undone one ('u') has none. Raises FramingDamage."""
        header = self.transaction(position).header
        if header.status == UNDONE:
            return
        end = position + header.length
        window = Window(self.file, min(header.length, 1 << 20))
        place = position + header.header_length
        while place < end:
            offset = window.at(place, _RECORD + NUMBER.size)
            fields = DataHeader._make(DATA_HEADER.unpack_from(window.data, offset)) if offset >= 0 else None
            if fields is None or not _belongs(fields, header.tid, position, end - place):
                step = examine(self.file, position, 0)
                reason = Damage(place, "record", "it does not belong to its transaction", tid=header.tid)
                raise self._damaged(step.damages[0] if step.damages else reason)
            if fields.length:
                start = offset + _RECORD
                data = window.data[start : start + fields.length]
                if len(data) < fields.length:
                    data = self.record(place).data or b""
                yield StoredRecord(place, fields, data, 0)
            else:
                yield StoredRecord(place, fields, None, NUMBER.unpack_from(window.data, offset + _RECORD)[0])
            place += fields.record_length

    def walk(self, on_damage: Callable[[Damage], None]) -> Iterator[Examined]:
        """Yield every transaction of the file, damaged ones too; the damage goes to ``on_damage``, the walk goes on."""
        return walk(self.file, on_damage)

    def _number(self, position: int) -> int:
        raw = self.file.read(position, NUMBER.size)
        if len(raw) < NUMBER.size:
            raise self._damaged(Damage(position, "length", "the file ends before it"))
        return int(NUMBER.unpack(raw)[0])

    def _damaged(self, damage: Damage) -> FramingDamage:
        return FramingDamage(self.path, damage)


def _belongs(record: DataHeader, tid: int, transaction: int, room: int) -> bool:
    """Tell whether a record can be one of its transaction, which has ``room`` bytes left."""
    same = record.tid == tid and record.transaction == transaction
    return same and not record.version and record.record_length <= room
