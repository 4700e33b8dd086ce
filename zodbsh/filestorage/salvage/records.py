"""The transactions and records of a damaged file that are to be written: where they are, what they say."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.filestorage.salvage.parts import Contradiction, Fragment, Stretch
from zodbsh.filestorage.structs import COMMITTED, NUMBER, PACKED, TRANSACTION_HEADER, DataHeader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zodbsh.filestorage.salvage.map import Pointers
    from zodbsh.filestorage.salvage.parts import Reader
    from zodbsh.filestorage.writer import DataWriter


def transactions(reader: Reader, stretch: Stretch) -> Iterator[tuple[int, int, int]]:
    """Yield tid, position and end of each transaction of a stretch."""
    position = stretch.start
    while position < stretch.end:
        header = reader.header(position)
        assert header is not None
        end = position + header.length + NUMBER.size
        yield header.tid, position, end
        position = end


def record_places(reader: Reader, part: Stretch | Fragment) -> Iterator[int]:
    """Yield the positions of a part's records."""
    if isinstance(part, Fragment):
        yield from part.records
        return
    for _, start, end in transactions(reader, part):
        yield from positions_of(reader, start, end)


def positions_of(reader: Reader, start: int, end: int) -> Iterator[int]:
    """Yield the positions of a sound transaction's records."""
    header = reader.header(start)
    assert header is not None
    position = start + header.header_length
    while position < end - NUMBER.size and (record := reader.record(position)) is not None:
        yield position
        position += record.record_length


class LostRevision(NamedTuple):
    """A revision that is known to have been there: ``position`` in the damaged file (as its pointers count), ``tid``
    where it is known, and why it is lost."""

    oid: int
    tid: int | None
    position: int
    reason: str


class Damaged(NamedTuple):
    """A transaction that was not sound: what is kept of it, and whether its header is the one it had."""

    tid: int
    position: int
    records: int
    header: bool


class HeaderTexts(NamedTuple):
    """What a transaction's header says; ``length`` is that of the whole header."""

    status: bytes
    user: bytes
    description: bytes
    extension: bytes
    length: int


def header_texts(reader: Reader, head: int | None, positions: Sequence[int]) -> HeaderTexts | None:
    """Return status and texts of a transaction with records at ``positions``, None where its header is not sound."""
    header = None if head is None else reader.header(head)
    if head is None or header is None:
        return None
    after = bisect_right(positions, head)
    first = positions[after] if after < len(positions) else None
    end = head + header.header_length
    if first is not None and end > first:
        return None
    if end != first and reader.number(head + header.length) != header.length:
        return None
    raw = reader.read(head, header.header_length)
    user_end = TRANSACTION_HEADER.size + header.user_length
    description_end = user_end + header.description_length
    return HeaderTexts(
        header.status if header.status == PACKED else COMMITTED,
        raw[TRANSACTION_HEADER.size : user_end],
        raw[user_end:description_end],
        raw[description_end:],
        header.header_length,
    )


class Records:
    """The records of a transaction, with their right oids; ``writer`` has all earlier transactions."""

    def __init__(self, reader: Reader, pointers: Pointers, writer: DataWriter) -> None:
        self._reader, self._pointers, self._writer = reader, pointers, writer

    def read(self, position: int) -> DataHeader | None:
        """Return the record at ``position`` with its right oid."""
        record, oids = self._reader.record(position), self._pointers.oids
        return record._replace(oid=oids[position]) if record is not None and position in oids else record

    def ordered(self, head: int | None, positions: Sequence[int]) -> list[int]:
        """Return where records are, of several of one object the surest last: it is the one that is read.

        That is the one whose pointer to the revision before is right; else, and of two copies, the one that follows a
        sound record: what follows damage may have lost its oid to it, and a copy stands behind what it is a copy of.
        """
        header = None if head is None else self._reader.header(head)
        end = 0 if head is None or header is None else head + header.header_length
        ordered = list(positions)
        found: dict[int, list[tuple[int, bool, DataHeader]]] = {}
        headers: Counter[DataHeader] = Counter()
        for number, position in enumerate(positions):
            record = self.read(position)
            if record is not None:
                headers[record] += bool(record.length)
                found.setdefault(record.oid, []).append((number, position == end, record))
                end = position + record.record_length
        for places in found.values():
            if len(places) > 1:
                ranked = []
                for number, follows, record in places:
                    continues = self._continues(positions[number])
                    ranked.append((continues, (continues < 2 or headers[record] > 1) and follows, number))
                ranked.sort(key=itemgetter(0, 1))
                for (place, _, _), (_, _, number) in zip(places, ranked, strict=True):
                    ordered[place] = positions[number]
        return ordered

    def misplaced(self, position: int, twin: int, *, damaged: bool = False) -> Contradiction | None:
        """Tell of a record that says that it is its object's first, and is not; or that has a twin in its transaction.

        Two there may be where two transactions were undone in one: both continue what was before. In a ``damaged``
        transaction they may also be copies of one record. ``twin`` is where the other one is, or ``position``. What a
        pack has left may say so, and is not to be asked.
        """
        record = self.read(position)
        assert record is not None
        copied = damaged and self._copied(position, twin)
        if not record.previous and self._writer.previous(record.oid):
            message = "it points to no revision before it, and there is one: the oid, or the pointer, is wrong"
        elif twin == position or (self._continues(twin) == self._continues(position) == 2 and not copied):
            return None
        else:
            message = f"its transaction has another record of it, at {twin}: the oid of one is wrong"
            message += ", or one is a copy whose data is damaged" if copied else ""
        return Contradiction(position, "oid", record.oid, record.tid, False, message)

    def _copied(self, position: int, twin: int) -> bool:
        """Tell whether two records say the same of themselves, and have data of their own."""
        record = self.read(position)
        return position != twin and record is not None and record.length > 0 and record == self.read(twin)

    def _continues(self, position: int) -> int:
        """Tell whether a record points to the revision before it: 2 for yes, 1 for perhaps, 0 for no."""
        record = self.read(position)
        if record is None:
            return 0
        if not record.previous:
            return 0 if self._writer.previous(record.oid) else 1
        if self._pointers.find(record.oid, record.previous, record.tid) is not None:
            return 2
        return 1 if self._pointers.is_lost(record.previous) else 0
