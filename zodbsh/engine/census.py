"""The figures of an overview: what one pass over a database counts."""

from __future__ import annotations

from typing import NamedTuple


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
