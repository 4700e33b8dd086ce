"""``zodbsh usage --by transaction|month|user``: what made a database grow, and when."""

from __future__ import annotations

from heapq import heappush, heapreplace
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.engine.columns import Options, TransactionRow
from zodbsh.progress import SILENT, Progress
from zodbsh.times import TidRange

if TYPE_CHECKING:
    from collections.abc import Callable

    from zodbsh.source.base import Source

_MINUTES_OF_A_MONTH = 31 * 24 * 60


class TransactionGrowth(NamedTuple):
    """One transaction: its records, and the bytes of the data that it wrote. ``user`` is raw."""

    tid: int
    user: bytes
    records: int
    bytes: int


class LargestTransactions(NamedTuple):
    """The largest transactions first; ``more`` are left out, with ``more_bytes``."""

    largest: tuple[TransactionGrowth, ...]
    more: int
    more_bytes: int


class MonthGrowth(NamedTuple):
    """One month (UTC) in which there were transactions; ``total_bytes`` is all that was written up to its end."""

    year: int
    month: int
    transactions: int
    records: int
    bytes: int
    total_bytes: int


class UserGrowth(NamedTuple):
    """One user, by the raw name that the transactions carry; ``last_tid`` is the newest of them."""

    user: bytes
    transactions: int
    records: int
    bytes: int
    last_tid: int


def largest_transactions(
    source: Source, within: TidRange, *, top: int, progress: Progress = SILENT
) -> LargestTransactions:
    """Return the ``top`` transactions that wrote most; of equal ones the older comes first."""
    heap: list[tuple[int, int, TransactionRow]] = []
    count = size = 0

    def take(rows: list[TransactionRow]) -> None:
        nonlocal count, size
        for row in rows:
            count += 1
            size += row.data_bytes
            if len(heap) < top:
                heappush(heap, (row.data_bytes, -row.tid, row))
            elif row.data_bytes > heap[0][0]:
                heapreplace(heap, (row.data_bytes, -row.tid, row))

    _walk(source, within, take, progress)
    rows = [row for _, _, row in sorted(heap, reverse=True)]
    largest = tuple(TransactionGrowth(row.tid, row.user, row.records, row.data_bytes) for row in rows)
    return LargestTransactions(largest, count - len(rows), size - sum(row.bytes for row in largest))


def growth_by_month(source: Source, within: TidRange, *, progress: Progress = SILENT) -> tuple[MonthGrowth, ...]:
    """Return the months in order; a range begins to sum up at its start."""
    months: dict[int, list[int]] = {}

    def take(rows: list[TransactionRow]) -> None:
        for row in rows:
            month = (row.tid >> 32) // _MINUTES_OF_A_MONTH
            tally = months.get(month)
            if tally is None:
                tally = months[month] = [0, 0, 0]
            tally[0] += 1
            tally[1] += row.records
            tally[2] += row.data_bytes

    _walk(source, within, take, progress)
    found = []
    total = 0
    for month, (transactions, records, size) in sorted(months.items()):
        total += size
        found.append(MonthGrowth(1900 + month // 12, month % 12 + 1, transactions, records, size, total))
    return tuple(found)


def growth_by_user(source: Source, within: TidRange, *, progress: Progress = SILENT) -> tuple[UserGrowth, ...]:
    """Return the users, who wrote most first."""
    users: dict[bytes, list[int]] = {}

    def take(rows: list[TransactionRow]) -> None:
        for row in rows:
            tally = users.get(row.user)
            if tally is None:
                tally = users[row.user] = [0, 0, 0, 0]
            tally[0] += 1
            tally[1] += row.records
            tally[2] += row.data_bytes
            tally[3] = row.tid

    _walk(source, within, take, progress)
    found = [UserGrowth(user, *tally) for user, tally in users.items()]
    return tuple(sorted(found, key=lambda row: (-row.bytes, row.user)))


def _walk(source: Source, within: TidRange, take: Callable[[list[TransactionRow]], None], progress: Progress) -> None:
    options = Options(references=False, since=within.first)
    source.columns(within.last, options=options, progress=progress, on_transactions=take)
