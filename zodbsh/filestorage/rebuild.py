"""Writing what was chosen of a damaged file into a new one.

Previous pointers are made anew, back-pointers are led to their record's new
place. A record whose back-pointer leads to what is lost is lost with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from zodbsh.engine.columns import Newest
from zodbsh.errors import StorageIOError
from zodbsh.filestorage.salvage.chain import contradicted_oids
from zodbsh.filestorage.salvage.map import Pointers
from zodbsh.filestorage.salvage.order import Piece, by_tid
from zodbsh.filestorage.salvage.parts import Contradiction, Forward, Fragment, Reader, Stretch
from zodbsh.filestorage.salvage.plan import Plan
from zodbsh.filestorage.salvage.records import Damaged, LostRevision, Records, header_texts, positions_of, transactions
from zodbsh.filestorage.structs import (
    DATA_HEADER,
    NUMBER,
    PACKED,
    PREVIOUS_OFFSET,
    DataHeader,
)
from zodbsh.filestorage.writer import DataWriter
from zodbsh.progress import SILENT, Progress

if TYPE_CHECKING:
    from zodbsh.filestorage.datafile import DataFile
    from zodbsh.filestorage.index import Index
    from zodbsh.filestorage.salvage.salvage import Survey

LOST_HEADER = b"recovered by zodbsh: the header of this transaction was lost"

_RECORD = DATA_HEADER.size
_PAIR = Struct(">QQ")
_PIECE = 4 << 20
# A transaction up to this size is patched in memory.
_PATCHED = 32 << 20


class Rebuilt(NamedTuple):
    """What was written, and what is known to be lost.

    ``ranges`` is what was taken of gaps and of transactions that were not copied whole. ``more`` counts the records
    that point to another object's, beyond those among the contradictions.
    """

    transactions: int
    records: int
    damaged: tuple[Damaged, ...]
    lost: tuple[LostRevision, ...]
    ranges: list[tuple[int, int]]
    pointers: Pointers
    contradictions: tuple[Contradiction, ...]
    more: int


def rebuild(
    file: DataFile,
    found: Survey,
    plan: Plan,
    output: BinaryIO,
    magic: bytes,
    progress: Progress = SILENT,
    *,
    index: Index | None = None,
) -> Rebuilt:
    """Write what was chosen into ``output``, an empty file. Raises StorageIOError, OSError.

    ``index`` is one that was saved for the file as it was once.
    """
    progress = Forward(progress)
    progress.start("writing", file.limit, "bytes")
    rebuilt = _Rebuild(file, found, plan, output, magic, progress, index).run()
    progress.finish()
    return rebuilt


class _Rebuild:
    """One new file."""

    def __init__(
        self,
        file: DataFile,
        found: Survey,
        plan: Plan,
        output: BinaryIO,
        magic: bytes,
        progress: Progress,
        index: Index | None,
    ) -> None:
        self.file, self.found, self.plan, self.progress = file, found, plan, progress
        self.reader = Reader(file)
        self.pointers = Pointers(file, plan.parts)
        self.transactions = self.records = 0
        self.damaged: list[Damaged] = []
        self.lost: list[LostRevision] = []
        self.kept: list[tuple[int, int]] = []
        self._oldest_lost = self.pointers.lost[0][0]
        self.skipped = 0
        oids, self.contradictions, self.more = contradicted_oids(file, found, plan, self.pointers, index)
        self.pointers.correct(oids)
        self.oids = oids
        self.writer = self._begin(output, magic)
        self.records_in = Records(self.reader, self.pointers, self.writer)

    def run(self) -> Rebuilt:
        if self.plan.mixed:
            self._mixed()
        else:
            for number, part in enumerate(self.plan.parts):
                if number < self.skipped:
                    continue
                if isinstance(part, Fragment):
                    self._fragment(part)
                    continue
                for tid, start, end in transactions(self.reader, part):
                    self._sound(number, part.shift, tid, start, end)
                    self.progress.advance(start)
        self.writer.flush()
        return Rebuilt(
            self.transactions, self.records, tuple(self.damaged), tuple(self.lost), self.kept, self.pointers,
            tuple(sorted({*self.plan.undecided, *self.contradictions})), self.more,
        )  # fmt: skip

    def _begin(self, output: BinaryIO, magic: bytes) -> DataWriter:
        """Copy what is sound from the beginning as it is: everything in it stays where it is."""
        columns, parts = self.found.columns, self.plan.parts
        first = parts[0] if parts else None
        whole = self.found.stretches[:1]
        if columns is None or self.plan.mixed or not whole or first != whole[0] or not isinstance(first, Stretch):
            return DataWriter(output, magic)
        if any(first.start <= at < first.end for at in self.oids):
            return DataWriter(output, magic)
        position = 0
        while position < first.end:
            piece = self.file.read(position, min(_PIECE, first.end - position))
            output.write(piece)
            position += len(piece)
            self.progress.advance(position)
        self.pointers.copied(0, first.start, first.end, first.start)
        self.transactions, self.records, self.skipped = first.transactions, first.records, 1
        return DataWriter(output, magic, position=first.end, last_tid=first.last_tid, earlier=Newest(columns))

    def _mixed(self) -> None:
        """Write in the order of the tids; what stands in two transactions of one tid goes into one."""
        for pieces in by_tid(self.file, self.plan.parts):
            tid, number, start, end = pieces[0]
            part = self.plan.parts[number]
            if len(pieces) > 1:
                self._together(tid, pieces)
            elif isinstance(part, Fragment):
                self._fragment(part)
            else:
                self._sound(number, part.shift, tid, start, end)

    def _together(self, tid: int, pieces: list[Piece]) -> None:
        """Write what several transactions of one tid hold as one."""
        head: int | None = None
        positions: list[int] = []
        for _, number, start, end in pieces:
            part = self.plan.parts[number]
            if isinstance(part, Fragment):
                positions += part.records
                head = part.header if head is None else head
            else:
                positions += list(positions_of(self.reader, start, end))
                head = start if head is None else head
                self.kept.append((start, end))
        self._by_record(tid, head, sorted(positions), damaged=True)

    def _sound(self, number: int, shift: int, tid: int, start: int, end: int) -> None:
        """Write a sound transaction, in one piece if no record of it is lost."""
        header = self.reader.header(start)
        assert header is not None
        self.transactions += 1
        if end - start > _PATCHED:
            self._by_record(tid, start, list(positions_of(self.reader, start, end)))
            return
        raw = bytearray(self.reader.read(start, end - start))
        new, at, stop = self.writer.position, header.header_length, end - start - NUMBER.size
        unpack, pack, previous_of = DATA_HEADER.unpack_from, _PAIR.pack_into, self.writer.previous
        oldest_lost, count = self._oldest_lost, 0
        fresh: dict[int, int] = {}
        while at < stop:
            oid, _, previous, transaction, _, length = unpack(raw, at)
            if start + at in self.oids:
                oid = self.oids[start + at]
                NUMBER.pack_into(raw, at, oid)
            if header.status != PACKED and (oid in fresh or (not previous and previous_of(oid))):
                twin = start + fresh[oid] - new if oid in fresh else start + at
                if twin == start + at or not self.reader.alike(twin, start + at):
                    self._note(self.records_in.misplaced(start + at, twin))
            if oldest_lost <= previous < transaction and self.pointers.is_lost(previous):
                self._check_previous(oid, tid, previous)
            if not length:
                pointer = NUMBER.unpack_from(raw, at + _RECORD)[0]
                back = self._back(oid, pointer, tid) if pointer else 0
                if back is None:
                    # Data in its place, or nothing: another length, so record by record.
                    self._by_record(tid, start, list(positions_of(self.reader, start, end)))
                    self.kept.append((start, end))
                    return
                NUMBER.pack_into(raw, at + _RECORD, back)
            pack(raw, at + PREVIOUS_OFFSET, previous_of(oid), new)
            fresh[oid] = new + at
            at += _RECORD + (length or NUMBER.size)
            count += 1
        self.records += count
        self.pointers.copied(number, start, end, new)
        self.writer.whole(tid, raw, fresh)

    def _check_previous(self, oid: int, tid: int, previous: int) -> None:
        """Note a lost revision that a later one of its object tells of."""
        if self.pointers.find(oid, previous, tid) is None:
            self.lost.append(LostRevision(oid, None, previous, "a later revision points to it"))

    def _note(self, contradiction: Contradiction | None) -> None:
        if contradiction is not None:
            self.contradictions.append(contradiction)

    def _back(self, oid: int, pointer: int, tid: int) -> int | None:
        """Return where in the new file the record is that a back-pointer leads to, None where it is not there."""
        found = self.pointers.find(oid, pointer, tid)
        return None if found is None else self.pointers.place(found, pointer)

    def _fragment(self, fragment: Fragment) -> None:
        """Write what is left of a damaged transaction."""
        self.transactions += 1
        records = self.records
        known = self._by_record(fragment.tid, fragment.header, fragment.records, ends=fragment.ends, damaged=True)
        place = fragment.records[0] if fragment.header is None else fragment.header
        self.damaged.append(Damaged(fragment.tid, place, self.records - records, known))

    def _by_record(
        self, tid: int, head: int | None, positions: Sequence[int], *, ends: bool = False, damaged: bool = False
    ) -> bool:
        """Write a transaction record by record; tell whether its header is the one it had."""
        texts = header_texts(self.reader, head, positions)
        if head is None or texts is None:
            self.writer.begin(tid, description=LOST_HEADER)
        else:
            status, user, description, extension, length = texts
            self.writer.begin(tid, status=status, user=user, description=description, extension=extension)
            self.kept.append((head, head + length))
        done, packed = 0, texts is not None and texts.status == PACKED
        written: dict[int, int] = {}
        for position in self.records_in.ordered(head, positions):
            record = self.records_in.read(position)
            if record is None:
                continue
            twin = written.setdefault(record.oid, position)
            if twin != position and self.reader.alike(twin, position):
                continue
            if record.previous < record.transaction and self.pointers.is_lost(record.previous):
                self._check_previous(record.oid, tid, record.previous)
            if not packed:
                self._note(self.records_in.misplaced(position, twin, damaged=damaged))
            if self._record(tid, position, record):
                done += 1
                self.records += 1
                self.kept.append((position, position + record.record_length))
        if ends and positions:
            last = self.records_in.read(positions[-1])
            end = positions[-1] + (last.record_length if last else 0)
            self.kept.append((end, end + NUMBER.size))
        if done or texts is not None:
            self.writer.finish()
        else:
            self.transactions -= 1
            self.writer.cancel()
        return texts is not None

    def _record(self, tid: int, position: int, record: DataHeader) -> bool:
        """Write one record; False where what it points back to is lost."""
        oid = record.oid
        if record.length:
            new = self.writer.stream(oid, record.length, self._pieces(position + _RECORD, record.length))
            self.pointers.written(position, new)
            return True
        pointer = self.reader.number(position + _RECORD) or 0
        back = self._back(oid, pointer, tid) if pointer else 0
        if back is not None:
            self.pointers.written(position, self.writer.pointer(oid, back))
            return True
        found = self.pointers.find(oid, pointer, tid)
        place = None if found is None else self.pointers.data(oid, found, tid)
        if place == (0, 0):
            self.pointers.written(position, self.writer.pointer(oid, 0))
            return True
        if place is None:
            self.pointers.dropped(position)
            self.lost.append(LostRevision(oid, tid, position, "what it points back to is lost"))
            return False
        new = self.writer.stream(oid, place[1], self._pieces(*place))
        self.pointers.written(position, new)
        return True

    def _pieces(self, position: int, length: int) -> Iterator[bytes]:
        while length:
            piece = self.file.read(position, min(length, _PIECE))
            if not piece:
                raise StorageIOError(f"{self.file.path} became shorter while it was read")
            yield piece
            position, length = position + len(piece), length - len(piece)
