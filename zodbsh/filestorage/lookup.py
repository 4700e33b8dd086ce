"""Where a snapshot of a FileStorage ends, and where each object's newest record is in it.

A small file is scanned. A large one shows its end by its last transaction, and
its objects by its saved index where that holds against every check; on any
doubt it is scanned too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.engine.chosen import Pass
from zodbsh.engine.columns import Columns, Newest, Options, Reached
from zodbsh.errors import DamagedDatabase
from zodbsh.filestorage.damage import Damage, FramingDamage
from zodbsh.filestorage.datafile import read_error
from zodbsh.filestorage.framing import Verdict, examine, scan_file
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
# A writer may finish a transaction just between seeing it in flight and looking closely.
_PASSES = 20


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
        # All newest positions; or an index, and those of what follows its end.
        self._newest: Newest | None = None
        self._index: Index | None = None
        self._recent: dict[int, int] = {}
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

    def scan(self, progress: Progress = SILENT) -> Columns:
        """Walk the whole file once: where it ends, classes, sizes and newest records of all objects.

        The columns hold no references, and are given as they are without being kept.
        """
        progress.start("reading", self._file.limit, "bytes")
        for _ in range(_PASSES):
            reached, columns = self._pass(MAX_ID, progress)
            if self._settle_pass(reached, columns):
                progress.finish()
                return columns
        # Each time a writer would have had to finish, in the same instant, what the pass saw in flight.
        raise DamagedDatabase(f"{self._file.path} changes in ways a database does not", hint="Try again.")

    def fix(self, end: int, last_tid: int, tail: int) -> None:
        """Take over the bounds of a snapshot that was read past all damage."""
        self._bounds = Bounds(end, last_tid, tail)

    def adopt(self, columns: Columns) -> None:
        """Take over the newest positions of a pass over the whole snapshot."""
        self._newest, self._index = Newest(columns), None

    def position_of(self, oid: int) -> int | None:
        """Return the position of the object's newest record, None for an unknown oid."""
        end = self.bounds.end
        if self._newest is None and self._index is None:
            self._load()
        if self._newest is not None:
            return self._newest.get(oid)
        assert self._index is not None
        position = self._recent.get(oid)
        if position is not None:
            return position
        position = self._index.get(oid)
        if position is not None and self._is_record_of(oid, position, min(end, self._index.end)):
            return position
        # Unknown, or the index is wrong: only the file itself can tell.
        return self.positions().get(oid)

    def positions(self, at: int = MAX_ID, progress: Progress = SILENT) -> Mapping[int, int]:
        """Return the position of each object's newest record at tid ``at``, deletions included."""
        if at >= self.bounds.last_tid:
            if self._newest is None:
                self.scan(progress)
            assert self._newest is not None
            return self._newest
        return Newest(self._pass(at, progress)[1])

    def holds_data(self, oid: int, position: int) -> bool:
        """Tell whether the record at ``position`` is known to be the object's newest, with data of its own."""
        newest = self._newest
        return newest is not None and newest.get(oid) == position and newest.holds_data(oid)

    def _load(self) -> None:
        if not self.wants_scan and not self._index_tried:
            self._index_tried = True
            index = read_index(f"{self._file.path}.index")
            if isinstance(index, Index) and not isinstance(check_index(self._file, index), IndexDoubt):
                self._use_index(index)
                return
        self.scan()

    def _use_index(self, index: Index) -> None:
        """Take the index for what it covers, and scan what follows its end."""
        border = self._border(index.end)
        found = scan_file(self._file, start=index.end, last_tid=border.tid if border else 0)
        if self._bounds is None or found.damages:
            self._fix(Bounds(found.end, found.last_tid, found.tail, found.damages[0] if found.damages else None))
        self._settled()
        self._recent, self._index = found.positions, index

    def _pass(self, until: int, progress: Progress) -> tuple[Reached, Columns]:
        taking = Pass(Options(references=False))
        try:
            reached = taking.read(self._file.fd, MAGIC_SIZE, self._file.limit, until=until, progress=progress)
        except OSError as exc:
            raise read_error(self._file.path, exc) from exc
        return reached, taking.finish()

    def _settle_pass(self, reached: Reached, columns: Columns) -> bool:
        """Fix the bounds where the pass stopped; False where it stopped before a transaction that is sound by now."""
        end, last_tid = reached.end, reached.last_tid
        step = examine(self._file, end, last_tid)
        if step.verdict is Verdict.SOUND:
            return False
        if self._bounds is None or step.damages:
            tail = self._size - end if step.verdict is Verdict.TAIL else 0
            self._fix(Bounds(end, last_tid, tail, step.damages[0] if step.damages else None))
        self.adopt(columns)
        self._settled()
        return True

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
