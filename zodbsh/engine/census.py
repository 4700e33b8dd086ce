"""The figures of an overview: what one pass over a database counts."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# An object's state in one number: its class's number above so many bits of data length.
LENGTH_BITS = 44
DELETED = -1


class ClassCensus(NamedTuple):
    """Current objects of one class: how many, and their records' data bytes."""

    class_: str
    objects: int
    bytes: int


class Census(NamedTuple):
    """The whole database, counted once.

    ``records`` counts every record of every transaction, ``objects`` those that
    exist at the end. ``current_bytes`` and ``old_bytes`` are data bytes (no
    headers) of current and superseded records. ``classes`` is sorted by bytes,
    largest first, then by name.
    """

    transactions: int
    records: int
    objects: int
    first_tid: int | None
    last_tid: int | None
    current_bytes: int
    old_bytes: int
    classes: tuple[ClassCensus, ...]


class Totals(NamedTuple):
    """What a pass counts on its way: ``data_bytes`` are those of every record that has data of its own."""

    transactions: int = 0
    records: int = 0
    data_bytes: int = 0
    first_tid: int | None = None
    last_tid: int | None = None


def summarize(totals: Totals, states: Iterable[int], classes: Sequence[str]) -> Census:
    """Return the census of objects with these states (`LENGTH_BITS`, `DELETED`); ``classes`` names class numbers."""
    rows: dict[str, list[int]] = {}
    for state, count in Counter(states).items():
        if state != DELETED:
            row = rows.setdefault(classes[state >> LENGTH_BITS], [0, 0])
            row[0] += count
            row[1] += count * (state & ((1 << LENGTH_BITS) - 1))
    by_class = [ClassCensus(name, objects, size) for name, (objects, size) in rows.items()]
    by_class.sort(key=lambda row: (-row.bytes, row.class_))
    current = sum(row.bytes for row in by_class)
    return Census(
        transactions=totals.transactions,
        records=totals.records,
        objects=sum(row.objects for row in by_class),
        first_tid=totals.first_tid,
        last_tid=totals.last_tid,
        current_bytes=current,
        old_bytes=totals.data_bytes - current,
        classes=tuple(by_class),
    )
