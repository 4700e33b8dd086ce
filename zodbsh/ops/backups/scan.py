"""Reading a database through before it is backed up: is it sound, and where does each transaction end?"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.engine import chosen
from zodbsh.engine.columns import Options
from zodbsh.errors import DamagedDatabase
from zodbsh.filestorage.damage import Damage
from zodbsh.filestorage.index import index_file
from zodbsh.filestorage.structs import MAGIC_SIZE, PACKED, TRANSACTION_HEADER, TransactionHeader
from zodbsh.ids import MAX_ID
from zodbsh.progress import SILENT, Progress
from zodbsh.source.columns import check_histories, file_columns

if TYPE_CHECKING:
    from zodbsh.engine.columns import Columns, TransactionRow
    from zodbsh.filestorage.datafile import DataFile


class SourceDamaged(DamagedDatabase):
    """The database is damaged: no backup was made of it, and none was removed."""

    code = "backup-source-damaged"

    def __init__(self, path: str, damage: Damage) -> None:
        super().__init__(
            f"{path} is damaged at {damage}; no backup was made, and those there are stay as they are",
            hint=f"`zodbsh recover {quote(path)} {quote(f'{path}.recovered')}` saves what is sound in it; "
            "`zodbsh restore` takes a backup back.",
        )
        self.damage = damage


class Scan(NamedTuple):
    """A sound file: its whole transactions end at ``end``; ``ends`` has where each does.

    ``packed_tid`` is the last transaction that a pack went over, 0 where there is none. ``tail`` counts the bytes of a
    transaction in flight.
    """

    columns: Columns
    end: int
    first_tid: int
    last_tid: int
    packed_tid: int
    ends: array[int]
    tail: int = 0

    def transactions_after(self, position: int) -> int:
        """Return how many transactions begin at a position or later."""
        return len(self.ends) - bisect_right(self.ends, position)

    def ends_at(self, position: int) -> bool:
        """Tell whether a transaction ends at a position, or the first one begins there."""
        place = bisect_left(self.ends, position)
        return position == MAGIC_SIZE or (place < len(self.ends) and self.ends[place] == position)

    def tid_before(self, file: DataFile, position: int) -> int:
        """Return the tid of the transaction that ends at a position, 0 where none does."""
        place = bisect_left(self.ends, position)
        if position <= MAGIC_SIZE or place == len(self.ends):
            return 0
        start = self.ends[place - 1] if place else MAGIC_SIZE
        return TransactionHeader._make(TRANSACTION_HEADER.unpack(file.read(start, TRANSACTION_HEADER.size))).tid

    def holds(self, file: DataFile, tid: int) -> bool:
        """Tell whether a transaction is there."""
        place = bisect_left(range(len(self.ends)), tid, key=lambda number: self._tid(file, number))
        return place < len(self.ends) and self._tid(file, place) == tid

    def _tid(self, file: DataFile, number: int) -> int:
        return _header(file, self.ends, number).tid

    def index_file(self) -> Iterator[bytes]:
        """Yield the parts of an index file."""
        return index_file(self.end, chosen.index_parts(self.columns))


def scan_source(file: DataFile, *, name: str = "", until: int = MAX_ID, progress: Progress = SILENT) -> Scan:
    """Read a file to its end, or up to the last transaction not after ``until``.

    A transaction in flight is left out, and the file's limit is set to what is taken.

    Raises SourceDamaged (of the file called ``name``), StorageIOError.
    """
    ends = array("Q")

    def note(rows: list[TransactionRow]) -> None:
        ends.extend(row.position + row.length for row in rows)

    def refuse(damage: Damage) -> None:
        raise SourceDamaged(name or file.path, damage)

    found = file_columns(
        file, refuse,
        options=Options(references=False, previous=True), until=until, progress=progress, on_transactions=note,
    )  # fmt: skip
    check_histories(file, found.columns.odd_previous, refuse)
    file.limit = found.end
    first_tid = found.columns.totals.first_tid or 0
    return Scan(found.columns, found.end, first_tid, found.last_tid, _packed_tid(file, ends), ends, found.tail)


def _packed_tid(file: DataFile, ends: array[int]) -> int:
    """Return the last transaction that a pack went over; they are the first ones of a file."""
    packed = bisect_left(range(len(ends)), True, key=lambda number: _header(file, ends, number).status != PACKED)
    return _header(file, ends, packed - 1).tid if packed else 0


def _header(file: DataFile, ends: array[int], number: int) -> TransactionHeader:
    position = ends[number - 1] if number else MAGIC_SIZE
    return TransactionHeader._make(TRANSACTION_HEADER.unpack(file.read(position, TRANSACTION_HEADER.size)))
