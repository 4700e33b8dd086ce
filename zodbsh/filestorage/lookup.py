"""Where a snapshot of a FileStorage ends, and where each object's newest record is in it.

A small file is scanned. A large one shows its end by its last transaction, and
its objects by its saved index where that holds against every check; on any
doubt it is scanned too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.filestorage.damage import Damage, FramingDamage
from zodbsh.filestorage.framing import FramingScan, Verdict, examine, scan_file, walk
from zodbsh.filestorage.index import Index, IndexDoubt, check_index, read_index
from zodbsh.filestorage.structs import (
    DATA_HEADER,
    IN_FLIGHT,
    MAGIC_SIZE,
    NUMBER,
    TRANSACTION_HEADER,
    WHOLE,
    DataHeader,
    TransactionHeader,
)
from zodbsh.ids import MAX_ID
from zodbsh.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zodbsh.filestorage.datafile import DataFile

# A file up to this size is scanned in a moment, so its saved index is never even opened.
SCANNED_SIZE = 32 << 20


class Bounds(NamedTuple):
    """Where the snapshot ends.

    ``end`` is the position after its last transaction, ``last_tid`` that
    transaction's tid (0: none), ``tail`` the bytes in flight after it, ``damage``
    what cut the snapshot short, if anything did.
    """

    end: int
    last_tid: int
    tail: int = 0
    damage: Damage | None = None


class Lookup:
    """Bounds and positions of the snapshot that ``file`` was opened on.

    Everything here raises FramingDamage where damage ends the snapshot early
    and ``ignore_damage`` is not set, and StorageIOError.
    """

    def __init__(self, file: DataFile, *, ignore_damage: bool = False) -> None:
        self._file = file
        self._size = file.limit
        self._ignore_damage = ignore_damage
        self._bounds: Bounds | None = None
        # Newest positions; where there is an index, only of what follows its end.
        self._positions: dict[int, int] | None = None
        self._pointers: set[int] = set()
        self._index: Index | None = None
        self._index_tried = False

    @property
    def wants_scan(self) -> bool:
        """Tell whether this file is read whole at first use: a small one, or one whose damage is ignored."""
        # Only a scan tells what damage would be met on the way.
        return self._ignore_damage or self._size <= SCANNED_SIZE

    @property
    def bounds(self) -> Bounds:
        """Where the snapshot ends; fixed once it is known."""
        if self._bounds is None and not self.wants_scan:
            found = self._bounds_from_end()
            if found:
                self._fix(found)
        if self._bounds is None:
            self._load()
        return self._settled()

    def settle(self, end: int, last_tid: int, positions: dict[int, int], pointers: set[int]) -> bool:
        """Take over what a bulk pass found up to ``end``: newest positions, and oids whose newest record points back.

        Returns False where the pass stopped before a transaction with which
        nothing is wrong.
        """
        step = examine(self._file, end, last_tid)
        if step.verdict is Verdict.SOUND:
            return False
        if self._bounds is None or step.damages:
            tail = self._size - end if step.verdict is Verdict.TAIL else 0
            self._fix(Bounds(end, last_tid, tail, step.damages[0] if step.damages else None))
        self._positions, self._pointers, self._index = positions, pointers, None
        self._settled()
        return True

    def position_of(self, oid: int) -> int | None:
        """Return the position of the object's newest record, None for an unknown oid."""
        end = self.bounds.end
        if self._positions is None:
            self._load()
        assert self._positions is not None
        position = self._positions.get(oid)
        if position is not None or self._index is None:
            return position
        position = self._index.get(oid)
        if position is not None and self._is_record_of(oid, position, min(end, self._index.end)):
            return position
        # Unknown, or the index is wrong: only the file itself can tell.
        return self.positions().get(oid)

    def positions(self, at: int = MAX_ID, progress: Progress = SILENT) -> Mapping[int, int]:
        """Return the position of each object's newest record at tid ``at``, deletions included."""
        if at >= self.bounds.last_tid:
            if self._positions is None or self._index is not None:
                self._scan(progress)
            assert self._positions is not None
            return self._positions
        positions: dict[int, int] = {}
        for step in walk(self._file, self._raise):
            if step.header and step.header.tid > at:
                break
            positions.update((record.oid, record.position) for record in step.records)
        return positions

    def holds_data(self, oid: int, position: int) -> bool:
        """Tell whether the record at ``position`` is known to be the object's newest, with data of its own."""
        known = self._positions is not None and self._index is None and self._positions.get(oid) == position
        return known and oid not in self._pointers

    def _load(self) -> None:
        if not self.wants_scan and not self._index_tried:
            self._index_tried = True
            index = read_index(f"{self._file.path}.index")
            if isinstance(index, Index) and not isinstance(check_index(self._file, index), IndexDoubt):
                self._use_index(index)
                return
        self._scan(SILENT)

    def _use_index(self, index: Index) -> None:
        """Take the index for what it covers, and scan what follows its end."""
        border = self._border(index.end)
        found = scan_file(self._file, start=index.end, last_tid=border.tid if border else 0)
        self._settle_scan(found)
        self._positions, self._index = found.positions, index

    def _scan(self, progress: Progress) -> None:
        found = scan_file(self._file, progress)
        self._settle_scan(found)
        if found.damages:
            # The snapshot ends before the damage, so nothing stored after it counts.
            found = scan_file(self._file, progress)
        self._positions, self._pointers, self._index = found.positions, found.pointers, None

    def _settle_scan(self, found: FramingScan) -> None:
        if self._bounds is None or found.damages:
            self._fix(Bounds(found.end, found.last_tid, found.tail, found.damages[0] if found.damages else None))
        self._settled()

    def _fix(self, bounds: Bounds) -> None:
        self._bounds = bounds
        if not bounds.damage or self._ignore_damage:
            self._file.limit = bounds.end

    def _settled(self) -> Bounds:
        assert self._bounds is not None
        if self._bounds.damage and not self._ignore_damage:
            raise FramingDamage(self._file.path, self._bounds.damage)
        return self._bounds

    def _bounds_from_end(self) -> Bounds | None:
        """Return the bounds as the file's last bytes tell them, None where they do not."""
        end, tail = self._size, 0
        header = self._border(end)
        if header and header.status == IN_FLIGHT:
            tail = header.length + NUMBER.size
            end -= tail
            header = self._border(end)
        if header is None or header.status == IN_FLIGHT:
            return None
        return Bounds(end, header.tid, tail)

    def _border(self, end: int) -> TransactionHeader | None:
        """Return the header of the transaction that ends at ``end``, None unless one clearly does."""
        raw = self._file.read(end - NUMBER.size, NUMBER.size) if end > MAGIC_SIZE + NUMBER.size else b""
        start = end - NUMBER.size - NUMBER.unpack(raw)[0] if len(raw) == NUMBER.size else 0
        if start < MAGIC_SIZE:
            return None
        raw = self._file.read(start, TRANSACTION_HEADER.size)
        if len(raw) < TRANSACTION_HEADER.size:
            return None
        header = TransactionHeader._make(TRANSACTION_HEADER.unpack(raw))
        if start + header.length + NUMBER.size != end or header.status not in (*WHOLE, IN_FLIGHT):
            return None
        # A database inside a database looks the same but for its records, which know where they are.
        first = self._file.read(start + header.header_length, DATA_HEADER.size)
        if header.header_length >= header.length or len(first) < DATA_HEADER.size:
            return None
        record = DataHeader._make(DATA_HEADER.unpack(first))
        return header if (record.tid, record.transaction) == (header.tid, start) else None

    def _is_record_of(self, oid: int, position: int, end: int) -> bool:
        """Tell whether a record of ``oid`` is at ``position``, in a whole transaction before ``end``."""
        raw = self._file.read(position, DATA_HEADER.size) if MAGIC_SIZE < position < end else b""
        if len(raw) < DATA_HEADER.size:
            return False
        record = DataHeader._make(DATA_HEADER.unpack(raw))
        if record.oid != oid or record.version or not MAGIC_SIZE <= record.transaction < position:
            return False
        raw = self._file.read(record.transaction, TRANSACTION_HEADER.size)
        header = TransactionHeader._make(TRANSACTION_HEADER.unpack(raw))
        within = record.transaction + header.length
        return header.tid == record.tid and position + record.record_length <= within <= end - NUMBER.size

    def _raise(self, damage: Damage) -> None:
        raise FramingDamage(self._file.path, damage)
