"""Finding what is sound in a damaged Data.fs; what of it belongs together is for `zodbsh.filestorage.salvage.plan`.

`survey` goes through the file once. A *stretch* is a run of sound transactions.
Where it ends a *gap* begins, which is searched for records: each carries its
transaction's tid and the position of its transaction's header (its *origin*),
so it is told from other bytes, and from other transactions' records, without
any header. The search ends at the next sound transaction, found by its records
and what stands before them. The *shift* is how far a thing stands behind the
place that its own pointers give it: bytes cut out before it make the shift
lower, bytes put in make it higher.

That it ends: each step of the walk takes a whole transaction, and each step of
the search begins after the one before it; a record that is taken is not
searched, and the payload of one that is in doubt is searched up to where it
turns out to be wrong, and once more for what it was no payload of; a gap as a
whole is searched again a fixed number of times at most. To look back for a header, no byte is read that
lies before the end of the last record taken. So each byte is looked at a
fixed number of times, by searches that run in C.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.engine.chosen import Pass
from zodbsh.engine.columns import Columns, Options, TransactionRow
from zodbsh.filestorage.datafile import read_error
from zodbsh.filestorage.framing import leads_to_record
from zodbsh.filestorage.salvage.gap import GapSearch
from zodbsh.filestorage.salvage.parts import Doubtful, Forward, Fragment, Gap, Known, Marks, Reader, Stretch
from zodbsh.filestorage.structs import FORMATS, IN_FLIGHT, MAGIC_SIZE, NUMBER, STATUS_OFFSET, UNDONE
from zodbsh.progress import SILENT, Progress

if TYPE_CHECKING:
    from zodbsh.filestorage.datafile import DataFile

_ENDING = NUMBER.size
# Below this the engine's start costs more than it saves.
_ENGINE_WORTH = 8 << 20
# A shift that one transaction alone has may be damage to its pointers: so many are held to be possible.
_SHIFTS = 3


class Survey(NamedTuple):
    """What a file holds. ``columns`` are those of its first stretch, where that can be copied as it is.

    ``tail`` counts the bytes of a transaction that was never finished.
    """

    stretches: list[Stretch]
    fragments: list[Fragment]
    gaps: list[Gap]
    doubtful: list[Doubtful]
    columns: Columns | None
    tail: int


def survey(file: DataFile, progress: Progress = SILENT) -> Survey:
    """Go through the file from its beginning to its limit. Raises StorageIOError."""
    progress = Forward(progress)
    progress.start("searching", file.limit, "bytes")
    found = _Search(file, progress).run()
    progress.finish()
    return found


class _Search:
    """One walk through a file."""

    def __init__(self, file: DataFile, progress: Progress) -> None:
        self.file = file
        self.limit = file.limit
        self.progress = progress
        self.reader = Reader(file)
        self.marks = Marks(file)
        self.stretches: list[Stretch] = []
        self.fragments: list[Fragment] = []
        self.gaps: list[Gap] = []
        self.doubtful: list[Doubtful] = []
        self.columns: Columns | None = None
        self.known = Known()
        self.tail = 0
        # How many bytes to walk without the engine after it has stopped; doubled each time.
        self.patience = _ENGINE_WORTH

    def run(self) -> Survey:
        position, shift = MAGIC_SIZE, 0
        if self.file.read(0, MAGIC_SIZE) in FORMATS:
            position = self._first()
        elif self.reader.sound(position, 0) is None:
            position = 0
        while position < self.limit:
            reached = self._stretch(position, shift)
            if reached == position:
                reached, shift = self._gap(position, shift)
            position = reached
        return Survey(self.stretches, self.fragments, self.gaps, self.doubtful, self.columns, self.tail)

    def _first(self) -> int:
        """Take what is sound from the beginning; return where it ends."""
        taking = Pass(Options(references=False, previous=True))
        end, last_tid = self._engine(taking, MAGIC_SIZE, 0)
        header = self.reader.header(MAGIC_SIZE)
        if end == MAGIC_SIZE or header is None:
            return MAGIC_SIZE
        columns = taking.finish()
        totals = columns.totals
        self._add(Stretch(MAGIC_SIZE, end, 0, header.tid, last_tid, totals.transactions, totals.records))
        if all(leads_to_record(self.file, oid, previous) for oid, _, _, previous in columns.odd_previous):
            self.columns = columns
        return end

    def _add(self, stretch: Stretch) -> None:
        self.stretches.append(stretch)
        self.known.add(stretch)

    def _engine(self, taking: Pass, position: int, last_tid: int) -> tuple[int, int]:
        """Have the engine take what is sound; return where that ends and its last tid.

        Nothing is taken where there are undone transactions, which are not sound here.
        """
        undone = False

        def look(rows: list[TransactionRow]) -> None:
            nonlocal undone
            # The engine takes no record of them.
            for row in rows:
                if not row.records and not undone:
                    status = self.file.read(row.position + STATUS_OFFSET, 1)
                    undone = status == UNDONE

        try:
            reached = taking.read(
                self.file.fd, position, self.limit,
                last_tid=last_tid, progress=self.progress, on_transactions=look,
            )  # fmt: skip
        except OSError as exc:
            raise read_error(self.file.path, exc) from exc
        if undone:
            self.patience = self.limit
            return position, last_tid
        return reached.end, reached.last_tid

    def _stretch(self, position: int, shift: int) -> int:
        """Take sound transactions with this shift from ``position`` on; return where they end."""
        start, sound = position, self.reader.sound
        first = last = transactions = records = 0
        by_hand = position + self.patience
        while (found := sound(position, shift)) is not None and found.tid > last:
            first, last = first or found.tid, found.tid
            transactions, records, position = transactions + 1, records + found.records, found.next
            if not shift and position > by_hand and self.limit - position > _ENGINE_WORTH:
                taking = Pass(Options(references=False))
                reached, last = self._engine(taking, position, last)
                if reached > position:
                    totals = taking.finish().totals
                    transactions, records = transactions + totals.transactions, records + totals.records
                position = reached
                self.patience *= 2
                by_hand = position + self.patience
        if transactions:
            self._add(Stretch(start, position, shift, first, last, transactions, records))
        self.progress.advance(position)
        return position

    def _gap(self, start: int, shift: int) -> tuple[int, int]:
        """Search for records from ``start`` to the next sound transaction; return where that begins, and its shift."""
        gap = GapSearch(
            self.reader, self.marks, start, shift, self.known, len(self.gaps), self.progress,
            others=[*(stretch.shift for stretch in self.stretches[-_SHIFTS:]), 0],
        )  # fmt: skip
        end, after = gap.run()
        fragments = gap.fragments()
        if end == self.limit and (tail := _unfinished(self.reader, start, shift, self.limit, fragments)):
            self.tail = tail
            return end, after
        self.gaps.append(Gap(start, end, shift, after))
        self.fragments += fragments
        self.doubtful += gap.doubtful
        return end, after


def _unfinished(reader: Reader, start: int, shift: int, limit: int, fragments: list[Fragment]) -> int:
    """Return how many bytes at the file's end are a transaction that nobody finished."""
    header = reader.header(start)
    if header is None:
        raw = reader.file.read(start, limit - start)
        status = raw[STATUS_OFFSET : STATUS_OFFSET + 1]
        return limit - start if status in (b"", IN_FLIGHT) else 0
    others = any(fragment.origin != start - shift for fragment in fragments)
    if header.status != IN_FLIGHT or others or start + header.length + _ENDING < limit:
        return 0
    return limit - start
