"""Writing a new Data.fs: transactions and records with right headers, pointers and lengths."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import BinaryIO

from zodbsh.filestorage.structs import (
    COMMITTED,
    DATA_HEADER,
    FORMATS,
    NUMBER,
    TID_OFFSET,
    TRANSACTION_HEADER,
    WHOLE,
)

_BUFFER = 4 << 20
_MOST_TEXT = 0xFFFF


class DataWriter:
    """Appends transactions to an open file, oldest first.

    ``position`` is where the next byte goes, ``newest`` holds the position of
    each object's newest record. A file that was begun otherwise (copied, up to
    ``position``) is gone on with, where ``earlier`` knows its newest records and
    ``last_tid`` is its last transaction. Nothing is written to the disk before
    the buffer is full, or `flush`.
    """

    def __init__(
        self,
        file: BinaryIO,
        magic: bytes = b"FS30",
        *,
        position: int = 0,
        last_tid: int = 0,
        earlier: Mapping[int, int] | None = None,
    ) -> None:
        """Begin a file with its magic, or go on with one at ``position``."""
        assert magic in FORMATS
        self._file = file
        self._buffer = bytearray(b"" if position else magic)
        self._base = position
        self._earlier: Mapping[int, int] = earlier or {}
        self.newest: dict[int, int] = {}
        self.last_tid = last_tid
        # The open transaction: its place, its tid, and its records.
        self._start: int | None = None
        self._tid = 0
        self._fresh: dict[int, int] = {}

    @property
    def position(self) -> int:
        """Where the next byte goes."""
        return self._base + len(self._buffer)

    def previous(self, oid: int) -> int:
        """Return the position of the object's newest record in whole transactions, 0 without one."""
        found = self.newest.get(oid)
        return self._earlier.get(oid, 0) if found is None else found

    def begin(
        self,
        tid: int,
        *,
        status: bytes = COMMITTED,
        user: bytes = b"",
        description: bytes = b"",
        extension: bytes = b"",
    ) -> None:
        """Begin a transaction; its tid must be above all before it, and each text has at most 65,535 bytes."""
        assert self._start is None
        assert tid > self.last_tid
        assert status in WHOLE
        self._start, self._tid = self.position, tid
        lengths = [len(text) for text in (user, description, extension)]
        assert max(lengths) <= _MOST_TEXT
        self._buffer += TRANSACTION_HEADER.pack(tid, 0, status, *lengths) + user + description + extension

    def data(self, oid: int, data: bytes) -> int:
        """Write a record with data (not empty); return its position."""
        return self.stream(oid, len(data), (data,))

    def stream(self, oid: int, length: int, pieces: Iterable[bytes]) -> int:
        """Write a record whose ``length`` bytes of data come in pieces; return its position."""
        assert length
        position = self._record(oid, length)
        for piece in pieces:
            self._buffer += piece
            self._flush_full()
        assert self.position == position + DATA_HEADER.size + length
        return position

    def pointer(self, oid: int, back: int) -> int:
        """Write a record that shares the data of the one at ``back``; 0: the object ceases to exist."""
        position = self._record(oid, 0)
        assert back < position
        self._buffer += NUMBER.pack(back)
        return position

    def finish(self) -> None:
        """End the transaction."""
        assert self._start is not None
        length = self.position - self._start
        self._patch(self._start + TID_OFFSET, NUMBER.pack(length))
        self._buffer += NUMBER.pack(length)
        self.newest.update(self._fresh)
        self.last_tid, self._start, self._fresh = self._tid, None, {}
        self._flush_full()

    def cancel(self) -> None:
        """Drop the transaction, which has no record yet."""
        assert self._start is not None
        assert not self._fresh
        del self._buffer[self._start - self._base :]
        self._start = None

    def whole(self, tid: int, raw: bytes | bytearray, records: Mapping[int, int]) -> None:
        """Append a transaction that is complete and right for this place; ``records`` are its newest positions."""
        assert self._start is None
        assert tid > self.last_tid
        self._buffer += raw
        self.newest.update(records)
        self.last_tid = tid
        self._flush_full()

    def flush(self) -> None:
        """Hand what is buffered to the file."""
        self._file.seek(self._base)
        self._file.write(self._buffer)
        self._file.flush()
        self._base += len(self._buffer)
        self._buffer = bytearray()

    def _record(self, oid: int, length: int) -> int:
        assert self._start is not None
        position = self.position
        self._buffer += DATA_HEADER.pack(oid, self._tid, self.previous(oid), self._start, 0, length)
        self._fresh[oid] = position
        return position

    def _patch(self, position: int, raw: bytes) -> None:
        """Write over what was written before."""
        offset = position - self._base
        if offset >= 0:
            self._buffer[offset : offset + len(raw)] = raw
            return
        self.flush()
        self._file.seek(position)
        self._file.write(raw)

    def _flush_full(self) -> None:
        if len(self._buffer) >= _BUFFER:
            self.flush()
