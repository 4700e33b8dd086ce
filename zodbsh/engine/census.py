"""The figures of an overview: what one pass over a database counts."""

from __future__ import annotations

from typing import NamedTuple

from zodbsh.engine.chosen import sums
from zodbsh.engine.columns import Columns


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


def take_census(columns: Columns) -> Census:
    """Return the census of a whole database's columns."""
    counted = sums(columns.classes, columns.sizes, None, len(columns.class_names))
    by_class = [
        ClassCensus(name, counted.objects[number], counted.bytes[number])
        for number, name in enumerate(columns.class_names)
        if counted.objects[number]
    ]
    by_class.sort(key=lambda row: (-row.bytes, row.class_))
    current = sum(row.bytes for row in by_class)
    totals = columns.totals
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
