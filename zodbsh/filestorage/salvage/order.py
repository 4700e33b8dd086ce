"""Which parts of a damaged file belong together by their tids, and in which order they are to be written."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from heapq import merge
from itertools import groupby, pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.filestorage.salvage.parts import Fragment, Reader, Stretch
from zodbsh.filestorage.salvage.records import transactions

if TYPE_CHECKING:
    from zodbsh.filestorage.datafile import DataFile


class Piece(NamedTuple):
    """A transaction of a stretch, from ``start`` to ``end``, or a fragment; ``number`` is its part's."""

    tid: int
    number: int
    start: int
    end: int


def fitting(parts: list[Stretch | Fragment]) -> tuple[list[Stretch | Fragment], list[Stretch | Fragment]]:
    """Split parts into those that belong together, by place, and the rest."""
    chosen, others = _ascending(parts)
    odd = [other for other in others if _stands_right(other, chosen)]
    if odd:
        chosen = sorted(chosen + odd, key=origin)
        others = [other for other in others if other not in odd]
    return chosen, others


def ascend(parts: list[Stretch | Fragment]) -> bool:
    """Tell whether tids ascend from part to part."""
    return all(last_tid(one) < first_tid(two) for one, two in pairwise(parts))


def by_tid(file: DataFile, parts: list[Stretch | Fragment]) -> Iterator[list[Piece]]:
    """Yield all that the parts hold in the order of the tids; what has one tid, together."""

    def pieces(number: int, part: Stretch | Fragment) -> Iterator[Piece]:
        if isinstance(part, Fragment):
            return iter([Piece(part.tid, number, 0, 0)])
        return (Piece(tid, number, start, end) for tid, start, end in transactions(Reader(file), part))

    streams = [pieces(number, part) for number, part in enumerate(parts)]
    for _, group in groupby(merge(*streams, key=itemgetter(0)), key=itemgetter(0)):
        yield list(group)


def origin(part: Stretch | Fragment) -> int:
    """Return where a part stood when it was written."""
    return part.origin


def _stands_right(part: Stretch | Fragment, chosen: list[Stretch | Fragment]) -> bool:
    """Tell whether a stretch has the shift of one of its neighbours, so that it is where it belongs."""
    if not isinstance(part, Stretch):
        return False
    at = bisect_left(chosen, part.origin, key=origin)
    around = chosen[max(0, at - 1) : at + 1]
    return any(isinstance(other, Stretch) and other.shift == part.shift for other in around)


def _ascending(parts: list[Stretch | Fragment]) -> tuple[list[Stretch | Fragment], list[Stretch | Fragment]]:
    """Split parts into the heaviest sequence in which tids ascend, and the rest."""
    if ascend(parts):
        return parts, []
    tids = sorted({last_tid(part) for part in parts})
    shifts = Counter(part.shift for part in parts if isinstance(part, Stretch))
    # Of the sequences that end at each tid or below, the heaviest: a tree of maxima (Fenwick, 1994).
    best: list[tuple[int, int]] = [(0, -1)] * (len(tids) + 1)
    before: list[int] = []
    for number, part in enumerate(parts):
        heaviest = _heaviest(best, bisect_left(tids, first_tid(part)))
        before.append(heaviest[1])
        # Of two alike, the one that is not alone with its shift.
        shared = isinstance(part, Stretch) and shifts[part.shift] > 1
        entry = heaviest[0] + 2 * _weight(part) + shared, number
        at = bisect_left(tids, last_tid(part)) + 1
        while at < len(best):
            best[at] = max(best[at], entry)
            at += at & -at
    kept = [False] * len(parts)
    number = _heaviest(best, len(tids))[1]
    while number >= 0:
        kept[number] = True
        number = before[number]
    return (
        [part for part, keep in zip(parts, kept, strict=True) if keep],
        [part for part, keep in zip(parts, kept, strict=True) if not keep],
    )


def _heaviest(best: list[tuple[int, int]], at: int) -> tuple[int, int]:
    heaviest = (0, -1)
    while at > 0:
        heaviest = max(heaviest, best[at])
        at -= at & -at
    return heaviest


def first_tid(part: Stretch | Fragment) -> int:
    """Return the tid that a part begins with."""
    return part.first_tid if isinstance(part, Stretch) else part.tid


def last_tid(part: Stretch | Fragment) -> int:
    """Return the tid that a part ends with."""
    return part.last_tid if isinstance(part, Stretch) else part.tid


def _weight(part: Stretch | Fragment) -> int:
    """Return roughly how many bytes a part holds; a fragment without a header may be anything."""
    if isinstance(part, Stretch):
        return part.end - part.start
    return len(part.records) * (40 if part.header is not None else 10)
