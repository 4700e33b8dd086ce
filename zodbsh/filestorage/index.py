"""The saved index ``Data.fs.index``: parsed strictly, never unpickled, checked against the file.

ZODB writes pickles in sequence (``ZODB/fsIndex.py``): the position the index
ends at, then pairs of the oids' upper six bytes and a bucket (their lower two
bytes, sorted, then six bytes of position for each), then None. ZODB loads them
as pickles, so a hostile index runs code there. Here a dozen opcodes are read,
and anything else is a doubt: whoever doubts scans the file.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from itertools import groupby
from operator import lt
from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.filestorage.structs import (
    DATA_HEADER,
    MAGIC_SIZE,
    NUMBER,
    TRANSACTION_HEADER,
    UNDONE,
    WHOLE,
    TransactionHeader,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from zodbsh.filestorage.datafile import DataFile

_CHECKED_TRANSACTIONS = 100
# One index entry takes 8 bytes, one record in the file at least 50.
_SLACK = 1 << 20
_PREFIX, _SUFFIX, _ENTRY = 6, 2, 8

_INTEGERS = {b"K": Struct("<B"), b"M": Struct("<H"), b"J": Struct("<i")}
_STRINGS = {b"U": Struct("<B"), b"C": Struct("<B"), b"T": Struct("<i"), b"B": Struct("<I")}
# What stores into the memo, and how many bytes follow; nothing here reads the memo.
_MEMO_STORES = {b"q": 1, b"r": 4}


class Index(NamedTuple):
    """A parsed index: newest positions of the objects stored before ``end``.

    ``buckets`` maps the upper six bytes of oids to their bucket as ZODB's
    ``fsBucket.fromString`` takes it. That it parses says nothing of its truth.
    """

    end: int
    buckets: dict[bytes, bytes]

    def get(self, oid: int) -> int | None:
        """Return the object's position, None where the index has none."""
        raw = oid.to_bytes(8, "big")
        bucket = self.buckets.get(raw[:_PREFIX])
        if bucket is None:
            return None
        suffix, count = raw[_PREFIX:], len(bucket) // _ENTRY
        place = bisect_left(range(count), suffix, key=lambda i: bucket[_SUFFIX * i : _SUFFIX * i + _SUFFIX])
        if bucket[_SUFFIX * place : _SUFFIX * place + _SUFFIX] != suffix or place == count:
            return None
        start = _SUFFIX * count + _PREFIX * place
        return int.from_bytes(bucket[start : start + _PREFIX], "big")

    def items(self) -> Iterator[tuple[int, int]]:
        """Yield each oid and its position, by oid."""
        for prefix, bucket in self.buckets.items():
            high, count = int.from_bytes(prefix, "big") << 16, len(bucket) // _ENTRY
            for place in range(count):
                start = _SUFFIX * count + _PREFIX * place
                low = int.from_bytes(bucket[_SUFFIX * place : _SUFFIX * place + _SUFFIX], "big")
                yield high | low, int.from_bytes(bucket[start : start + _PREFIX], "big")

    def parts(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Yield each bucket: the first 6 bytes of its oids, the last 2 of each, 6 bytes of each one's position."""
        for prefix, bucket in self.buckets.items():
            border = _SUFFIX * (len(bucket) // _ENTRY)
            yield prefix, bucket[:border], bucket[border:]

    def __len__(self) -> int:
        return sum(map(len, self.buckets.values())) // _ENTRY


class IndexDoubt(NamedTuple):
    """Why an index is not to be used."""

    reason: str


def read_index(path: str) -> Index | IndexDoubt:
    """Parse the index saved in the file ``path``. Never raises, never unpickles."""
    try:
        # Looking first keeps us from waiting for a FIFO's writer, or waking a device.
        if not stat.S_ISREG(os.stat(path).st_mode):
            return IndexDoubt("it is no regular file")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            limit = _largest(path)
            raw = b""
            while len(raw) <= limit and (more := os.read(fd, limit + 1 - len(raw))):
                raw += more
        finally:
            os.close(fd)
    except (OSError, ValueError) as exc:
        return IndexDoubt(f"it cannot be read: {exc}")
    if len(raw) > limit:
        return IndexDoubt(f"it is larger than an index of its file can be ({limit} bytes)")
    return parse_index(raw)


def parse_index(raw: bytes) -> Index | IndexDoubt:
    """Parse an index's bytes. Never raises, never unpickles."""
    reader = _Opcodes(raw)
    try:
        end = reader.integer()
        buckets: dict[bytes, bytes] = {}
        previous = b""
        while (pair := reader.pair_or_none()) is not None:
            prefix, bucket = pair
            if len(prefix) != _PREFIX or prefix <= previous:
                return IndexDoubt(f"a bucket's prefix is wrong near byte {reader.position}")
            if not bucket or len(bucket) % _ENTRY or not _increasing(bucket):
                return IndexDoubt(f"a bucket is wrong near byte {reader.position}")
            buckets[prefix] = bucket
            previous = prefix
    except _Unreadable as exc:
        return IndexDoubt(f"{exc} at byte {reader.position}")
    if reader.position != len(raw):
        return IndexDoubt(f"something follows its end at byte {reader.position}")
    if end < MAGIC_SIZE:
        return IndexDoubt("it ends before the file begins")
    return Index(end, buckets)


def check_index(file: DataFile, index: Index) -> IndexDoubt | None:
    """Check the index against its file: its end, and what the last transactions before it stored.

    Only a scan could check more. Whoever looks an oid up must still see that the
    record there carries it. Raises StorageIOError.
    """
    if index.end > file.limit:
        return IndexDoubt(f"it ends at {index.end}, beyond the file's end")
    seen: set[int] = set()
    position, last_tid = index.end, 1 << 64
    for _ in range(_CHECKED_TRANSACTIONS):
        if position == MAGIC_SIZE:
            # Every transaction was checked, so the index holds these objects and no others.
            return None if len(seen) == len(index) else IndexDoubt("it holds objects that are not in the file")
        found = _transaction_before(file, position)
        if found is None or found[1].tid >= last_tid:
            return IndexDoubt(f"no transaction ends at {position}")
        position, header = found
        last_tid = header.tid
        places = _places(file, position, header)
        if places is None:
            return IndexDoubt(f"the transaction at {position} does not hold together")
        for oid, place in places.items():
            if oid not in seen and index.get(oid) != place:
                return IndexDoubt(f"it misses the record at {place}")
        seen.update(places)
    return None


def index_bytes(end: int, positions: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    """Yield the parts of an index file, as ZODB writes it; ``positions`` are oids and positions by ascending oid."""
    return index_file(end, _parts(positions))


def index_file(end: int, parts: Iterable[tuple[bytes, bytes, bytes]]) -> Iterator[bytes]:
    """Yield the parts of an index file from what `Index.parts` gives, by ascending prefix."""
    yield b"\x80\x03" + _integer(end) + b"."
    for prefix, suffixes, places in parts:
        size = len(suffixes) + len(places)
        opcode = b"C" if size < 1 << 8 else b"B"
        yield b"\x80\x03C\x06" + prefix + opcode + _STRINGS[opcode].pack(size)
        yield suffixes
        yield places + b"\x86."
    yield b"\x80\x03N."


def _parts(positions: Iterable[tuple[int, int]]) -> Iterator[tuple[bytes, bytes, bytes]]:
    for prefix, group in groupby(positions, key=lambda pair: pair[0] >> 16):
        oids, places = zip(*group, strict=True)
        yield prefix.to_bytes(_PREFIX, "big"), _lowest(oids, _SUFFIX), _lowest(places, _PREFIX)


def _integer(number: int) -> bytes:
    for opcode, limit in ((b"K", 1 << 8), (b"M", 1 << 16), (b"J", 1 << 31)):
        if number < limit:
            return opcode + _INTEGERS[opcode].pack(number)
    size = number.bit_length() // 8 + 1
    return b"\x8a" + bytes((size,)) + number.to_bytes(size, "little")


def _lowest(numbers: Sequence[int], size: int) -> bytes:
    """Return the lowest ``size`` bytes of each number, big-endian, all together."""
    whole = Struct(f">{len(numbers)}Q").pack(*numbers)
    lowest = bytearray(size * len(numbers))
    for byte in range(size):
        lowest[byte::size] = whole[8 - size + byte :: 8]
    return bytes(lowest)


def ends_transaction(file: DataFile, position: int) -> bool:
    """Tell whether a whole transaction seems to end at a position, or none is before it. Raises StorageIOError."""
    return position == MAGIC_SIZE or _transaction_before(file, position) is not None


def _transaction_before(file: DataFile, end: int) -> tuple[int, TransactionHeader] | None:
    """Return the position and header of the transaction that ends at ``end``, None where there is none."""
    raw = file.read(end - NUMBER.size, NUMBER.size) if end > MAGIC_SIZE + NUMBER.size else b""
    if len(raw) < NUMBER.size:
        return None
    start = end - NUMBER.size - NUMBER.unpack(raw)[0]
    if start < MAGIC_SIZE or len(raw := file.read(start, TRANSACTION_HEADER.size)) < TRANSACTION_HEADER.size:
        return None
    header = TransactionHeader._make(TRANSACTION_HEADER.unpack(raw))
    if start + header.length + NUMBER.size != end or header.status not in WHOLE or header.header_length > header.length:
        return None
    return start, header


def _places(file: DataFile, start: int, header: TransactionHeader) -> dict[int, int] | None:
    """Return where a transaction stores each object last, None where its records do not add up."""
    places: dict[int, int] = {}
    if header.status == UNDONE:
        return places
    position, end = start + header.header_length, start + header.length
    while position < end:
        raw = file.read(position, DATA_HEADER.size)
        if len(raw) < DATA_HEADER.size:
            return None
        oid, tid, _, transaction, version, length = DATA_HEADER.unpack(raw)
        if tid != header.tid or transaction != start or version:
            return None
        places[oid] = position
        position += DATA_HEADER.size + (length or NUMBER.size)
    return places if position == end else None


def _largest(path: str) -> int:
    try:
        return os.stat(path.removesuffix(".index")).st_size + _SLACK
    except OSError:
        return _SLACK


def _increasing(bucket: bytes) -> bool:
    count = len(bucket) // _ENTRY
    if count > 1 << 16:
        return False
    suffixes = Struct(f">{count}H").unpack_from(bucket)
    return all(map(lt, suffixes, suffixes[1:]))


class _Unreadable(Exception):
    """These bytes are not what ZODB writes as an index."""


class _Opcodes:
    """Reads the few pickle opcodes an index is made of."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self.position = 0

    def integer(self) -> int:
        """Read one pickle that is a natural number."""
        self._protocol()
        opcode = self._take(1)
        if opcode in _INTEGERS:
            number = self._unpack(_INTEGERS[opcode])
        elif opcode == b"\x8a":
            number = int.from_bytes(self._take(min(self._take(1)[0], 16)), "little", signed=True)
        elif opcode in (b"I", b"L"):
            digits = self._line().removesuffix(b"L")
            if not digits.isdigit() or len(digits) > 20:
                raise _Unreadable("no end position")
            number = int(digits)
        else:
            raise _Unreadable("no end position")
        self._expect(b".")
        if number < 0:
            raise _Unreadable("a negative end position")
        return number

    def pair_or_none(self) -> tuple[bytes, bytes] | None:
        """Read one pickle that is a pair of byte strings, or None."""
        self._protocol()
        opcode = self._take(1)
        if opcode == b"N":
            self._expect(b".")
            return None
        marked = opcode == b"("
        if not marked:
            self.position -= 1
        pair = self._string(), self._string()
        self._expect(b"t" if marked else b"\x86")
        self._skip_memo()
        self._expect(b".")
        return pair

    def _string(self) -> bytes:
        opcode = self._take(1)
        if opcode not in _STRINGS:
            raise _Unreadable(f"opcode {opcode!r}, where a byte string should be")
        value = self._take(self._unpack(_STRINGS[opcode]))
        self._skip_memo()
        return value

    def _protocol(self) -> None:
        if self._raw[self.position : self.position + 1] == b"\x80":
            self._take(1)
            if self._take(1)[0] > 3:
                raise _Unreadable("a protocol ZODB does not write")

    def _skip_memo(self) -> None:
        opcode = self._raw[self.position : self.position + 1]
        if opcode in _MEMO_STORES:
            self._take(1 + _MEMO_STORES[opcode])
        elif opcode == b"p":
            self._take(1)
            self._line()

    def _line(self) -> bytes:
        end = self._raw.find(b"\n", self.position, self.position + 32)
        if end < 0:
            raise _Unreadable("a line without an end")
        line = self._raw[self.position : end]
        self.position = end + 1
        return line

    def _expect(self, opcode: bytes) -> None:
        if self._take(1) != opcode:
            raise _Unreadable(f"no {opcode!r}")

    def _unpack(self, layout: Struct) -> int:
        try:
            (number,) = layout.unpack(self._take(layout.size))
        except struct_error as exc:
            raise _Unreadable("its end") from exc
        return int(number)

    def _take(self, size: int) -> bytes:
        taken = self._raw[self.position : self.position + size] if size >= 0 else b""
        if len(taken) != size:
            raise _Unreadable("a length beyond its end")
        self.position += size
        return taken
