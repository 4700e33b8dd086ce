"""Choosing what belongs together of what a survey found.

Every stretch and every fragment claims a part of the file as it was once: its
place less its shift. Claims that overlap are two copies of the same, or
something that was never part of this file: the one holds that has its shift in
common with the larger part of the file. In what is left the tids must ascend
with the places; of what contradicts, the smaller part goes. Not so where a thing
stands right where it says it stands: then its tid is simply odd, and the output
is put in order.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.filestorage.salvage.gap import GapSearch
from zodbsh.filestorage.salvage.order import ascend, first_tid, fitting, last_tid, origin
from zodbsh.filestorage.salvage.parts import Contradiction, Doubtful, Fragment, Gap, Known, Marks, Reader, Stretch
from zodbsh.filestorage.salvage.records import transactions
from zodbsh.filestorage.structs import MAGIC_SIZE, UNDONE, TransactionHeader
from zodbsh.ids import MAX_ID
from zodbsh.progress import SILENT

if TYPE_CHECKING:
    from zodbsh.filestorage.datafile import DataFile
    from zodbsh.filestorage.salvage.salvage import Survey

_PEEK = 4096


class Plan(NamedTuple):
    """What is to be kept: ``parts`` in the order of their first positions, once, in the file.

    ``mixed`` tells that their tids do not ascend throughout. ``rejected`` holds what is sound and does not fit,
    ``undecided`` transactions of which nothing tells which of two tids they have.
    """

    parts: list[Stretch | Fragment]
    mixed: bool
    rejected: list[Stretch | Fragment]
    undecided: list[Contradiction]


def choose(file: DataFile, found: Survey, *, undone: bool = False) -> tuple[Survey, Plan]:
    """Choose what is to be kept; return the survey as it is then, and the plan. Raises StorageIOError.

    With ``undone`` transactions of that status are no damage, and left out.
    """
    reader = Reader(file)
    rejected: list[Stretch | Fragment] = []
    claims = _disjoint(reader, _in_place(found.stretches), rejected)
    stretches, others = fitting(list(claims))
    rejected += others
    if stretches:
        found = _search_again(file, found, stretches)
    known = Known(one for one in stretches if isinstance(one, Stretch))
    fragments = _fragments(Reader(file, _PEEK), found.fragments, found.gaps, known, rejected, undone=undone)
    ordered = sorted([*stretches, *fragments], key=origin)
    for number, part in enumerate(ordered):
        if isinstance(part, Fragment):
            ordered[number] = part._replace(tid=_dates(reader, ordered, number, known)[0])
    parts, others = fitting(ordered)
    rejected += others
    undecided = [
        _undecided(part, dates[1])
        for number, part in enumerate(parts)
        if isinstance(part, Fragment) and len(dates := _dates(reader, parts, number, known)) > 1
    ]
    return found, Plan(parts, not ascend(parts), rejected, undecided)


def _search_again(file: DataFile, found: Survey, stretches: list[Stretch | Fragment]) -> Survey:
    """Search what lies between the stretches again, now that it is known what stands before and behind it."""
    ordered = sorted((one for one in stretches if isinstance(one, Stretch)), key=lambda one: one.start)
    reader, marks, known = Reader(file), Marks(file), Known(ordered)
    gaps: list[Gap] = []
    fragments: list[Fragment] = []
    doubtful: list[Doubtful] = []
    start, end = found.gaps[0].start if found.gaps else MAGIC_SIZE, file.limit - found.tail
    start = min(start, MAGIC_SIZE)
    borders = [Stretch(start, start, 0, 0, 0, 0, 0), *ordered, Stretch(end, end, ordered[-1].shift, 0, 0, 0, 0)]
    for before, after in pairwise(borders):
        if before.end >= after.start:
            continue
        search = GapSearch(
            reader, marks, before.end, before.shift, known, len(gaps), SILENT,
            others=(after.shift, 0), end=after.start,
        )  # fmt: skip
        search.run()
        gaps.append(Gap(before.end, after.start, before.shift, after.shift))
        fragments += search.fragments()
        doubtful += search.doubtful
    return found._replace(gaps=gaps, fragments=fragments, doubtful=doubtful)


def _in_place(stretches: list[Stretch]) -> list[Stretch]:
    """Give a transaction whose shift nothing else has that of what it follows or precedes: its pointers are damaged."""
    placed = [Stretch(0, MAGIC_SIZE, 0, 0, 0, 0, 0), *stretches]
    for number in range(1, len(placed)):
        before, stretch = placed[number - 1], placed[number]
        after = placed[number + 1] if number + 1 < len(placed) else None
        if stretch.transactions != 1 or (after is not None and after.shift == stretch.shift):
            continue
        if stretch.start == before.end and before.last_tid < stretch.first_tid:
            placed[number] = stretch._replace(shift=before.shift)
            continue
        # It may have been moved otherwise than those around it, if it can stand between them.
        room = before.end - before.shift, MAX_ID if after is None else after.origin
        fits = room[0] <= stretch.origin <= stretch.end - stretch.shift <= room[1]
        if after is not None and not fits and stretch.end == after.start and stretch.last_tid < after.first_tid:
            placed[number] = stretch._replace(shift=after.shift)
    return placed[1:]


def _disjoint(reader: Reader, stretches: list[Stretch], rejected: list[Stretch | Fragment]) -> list[Stretch]:
    """Return stretches whose claims do not overlap, by place; those whose shift the most of the file has go first."""
    starts: list[int] = []
    taken: list[Stretch] = []
    sharing: Counter[int] = Counter()
    for stretch in stretches:
        sharing[stretch.shift] += stretch.end - stretch.start
    for stretch in sorted(
        stretches, key=lambda one: (-sharing[one.shift], one.start - one.end, abs(one.shift), one.origin)
    ):
        pieces = [stretch]
        if _overlaps(starts, taken, stretch.origin, stretch.end - stretch.shift):
            pieces = _pieces(reader, stretch, starts, taken, rejected)
        for piece in pieces:
            at = bisect_left(starts, piece.origin)
            starts.insert(at, piece.origin)
            taken.insert(at, piece)
    return taken


def _overlaps(starts: list[int], taken: list[Stretch], start: int, end: int) -> bool:
    at = bisect_left(starts, end)
    return at > 0 and taken[at - 1].end - taken[at - 1].shift > start


def _pieces(
    reader: Reader, stretch: Stretch, starts: list[int], taken: list[Stretch], rejected: list[Stretch | Fragment]
) -> list[Stretch]:
    """Return what is free of a stretch that overlaps others."""
    pieces: list[Stretch] = []
    refused: list[Stretch] = []
    for tid, start, end in transactions(reader, stretch):
        free = not _overlaps(starts, taken, start - stretch.shift, end - stretch.shift)
        into = pieces if free else refused
        if into and into[-1].end == start:
            into[-1] = into[-1]._replace(end=end, last_tid=tid, transactions=into[-1].transactions + 1)
        else:
            into.append(Stretch(start, end, stretch.shift, tid, tid, 1, 0))
    rejected += refused
    return pieces


def _fragments(
    reader: Reader,
    fragments: list[Fragment],
    gaps: list[Gap],
    known: Known,
    rejected: list[Stretch | Fragment],
    *,
    undone: bool,
) -> list[Fragment]:
    """Return the fragments that can have stood where they say, those of one transaction merged."""
    merged: dict[int, Fragment] = {}
    for found in fragments:
        header = None if found.header is None else reader.header(found.header)
        fragment = _dated(reader, found, header, known)
        if not known.admits(fragment.origin, fragment.tid) or (undone and header and header.status == UNDONE):
            rejected.append(fragment)
            continue
        other = merged.get(fragment.tid)
        merged[fragment.tid] = fragment if other is None else _merge(reader, other, fragment, gaps)
    placed: dict[int, Fragment] = {}
    for fragment in merged.values():
        other = placed.setdefault(fragment.origin, fragment)
        if other is not fragment:
            smaller, larger = sorted((other, fragment), key=lambda one: len(one.records))
            rejected.append(smaller)
            placed[fragment.origin] = larger
    return list(placed.values())


def _merge(reader: Reader, one: Fragment, other: Fragment, gaps: list[Gap]) -> Fragment:
    """Make two fragments of one transaction one: what stands where it belongs goes before a copy of it elsewhere."""
    first, second = sorted((one, other), key=lambda part: (not _is_in_place(part, gaps), -len(part.records)))
    places = {record.oid: position for position in first.records if (record := reader.record(position)) is not None}
    more = (
        position
        for position in second.records
        if (record := reader.record(position)) is not None
        and not (record.oid in places and reader.alike(places[record.oid], position))
    )
    return first._replace(
        header=_better_header(first, second),
        records=array("Q", sorted((*first.records, *more))),
        gaps=(*first.gaps, *second.gaps),
        ends=False,
    )


def _is_in_place(fragment: Fragment, gaps: list[Gap]) -> bool:
    """Tell whether a fragment is in the gap where its transaction's header was."""
    return any(
        gaps[number].start <= fragment.origin + shift <= gaps[number].end
        for number in fragment.gaps
        for shift in (gaps[number].before, gaps[number].after)
    )


def _dated(reader: Reader, fragment: Fragment, header: TransactionHeader | None, known: Known) -> Fragment:
    """Give a fragment the tid that most of its records and its header have, of those that can be; else a record's."""
    records, votes = _votes(reader, fragment, header, known)
    key = fragment.tid
    return fragment._replace(tid=max(votes, key=lambda tid: (votes[tid], records[tid], tid == key), default=key))


def _votes(
    reader: Reader, fragment: Fragment, header: TransactionHeader | None, known: Known
) -> tuple[Counter[int], Counter[int]]:
    """Count the tids of a fragment's records, and those of them and of its header that are possible."""
    records = Counter(record.tid for position in fragment.records if (record := reader.record(position)) is not None)
    votes = records + Counter(() if header is None else (header.tid,))
    return records, Counter({tid: count for tid, count in votes.items() if known.admits(fragment.origin, tid)})


def _dates(reader: Reader, parts: list[Stretch | Fragment], number: int, known: Known) -> list[int]:
    """Return the tids that a fragment may have, by what it says and what stands around it: its own first, if it may."""
    part = parts[number]
    if not isinstance(part, Fragment) or part.header is None:
        return [first_tid(part)]
    _, votes = _votes(reader, part, reader.header(part.header), known)
    most = [tid for tid in votes if votes[tid] >= votes[part.tid]]
    low = last_tid(parts[number - 1]) if number else 0
    high = first_tid(parts[number + 1]) if number + 1 < len(parts) else MAX_ID
    return sorted((tid for tid in most if low < tid < high), key=lambda tid: tid != part.tid) or [part.tid]


def _undecided(fragment: Fragment, other: int) -> Contradiction:
    """Tell of a transaction for whose tid no more speaks than for another."""
    assert fragment.header is not None
    message = f"it may as well be {other:016x}: its header and its record do not agree, and nothing else tells"
    return Contradiction(fragment.header, "tid", None, fragment.tid, False, message)


def _better_header(one: Fragment, other: Fragment) -> int | None:
    if one.header is None or other.header is None:
        return other.header if one.header is None else one.header
    return max(one, other, key=lambda fragment: (fragment.ends, len(fragment.records))).header
