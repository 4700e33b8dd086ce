"""What a recovery could not keep: by bytes, and by object as far as anything tells of it."""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.paths import PathFinder
from zodbsh.errors import ZodbshError
from zodbsh.filestorage.index import Index, read_index
from zodbsh.filestorage.salvage.map import Pointers
from zodbsh.filestorage.salvage.parts import Stretch
from zodbsh.filestorage.salvage.records import LostRevision
from zodbsh.filestorage.structs import NUMBER, TRANSACTION_HEADER, UNDONE, TransactionHeader
from zodbsh.ids import MAX_ID
from zodbsh.record.decode import RecordError, class_text
from zodbsh.record.shape import INTERNAL, edges
from zodbsh.source.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from zodbsh.filestorage.datafile import DataFile
    from zodbsh.filestorage.rebuild import Rebuilt
    from zodbsh.filestorage.salvage.plan import Plan
    from zodbsh.filestorage.salvage.salvage import Survey
    from zodbsh.source.base import Source

_PIECE = 4 << 20
_SAMPLED = 1_000


class LostRange(NamedTuple):
    """Bytes that were not taken; ``kind`` is ``zeros``, ``unreadable``, or ``misfit`` (sound, but no part of this
    file: a second copy, or another database's), or ``undone`` (marked so, as no ZODB of this century does)."""

    start: int
    end: int
    kind: str


class Shifted(NamedTuple):
    """At ``position``, so many ``bytes`` are missing (negative) or were put in."""

    position: int
    bytes: int


class LostObject(NamedTuple):
    """An object of which a revision is lost.

    ``tid`` is the lost revision's where it is known; ``offset`` where it was, as the damaged file's pointers count;
    ``state`` is ``older`` (the object shows an older state now, that of
    ``now``), ``gone`` (nothing of it is left), ``history`` (only an earlier
    revision is lost) or None where it is not known.
    """

    oid: int
    tid: int | None
    offset: int | None
    reason: str
    state: str | None
    now: int | None
    class_: str | None
    path: str | None


def lost_ranges(file: DataFile, found: Survey, plan: Plan, rebuilt: Rebuilt) -> tuple[LostRange, ...]:
    """Return the parts of the file that were not taken, by position. Raises StorageIOError."""
    misfits = [(one.start, one.end) for one in plan.rejected if isinstance(one, Stretch)]
    taken = sorted([*rebuilt.ranges, *misfits])
    lost = [
        LostRange(start, end, _kind(file, start, end))
        for gap in found.gaps
        for start, end in _between(taken, gap.start, gap.end)
    ]
    lost += [LostRange(start, end, "misfit") for start, end in misfits]
    return tuple(sorted(lost))


def shifted(plan: Plan) -> tuple[Shifted, ...]:
    """Return where bytes are missing or were put in."""
    found: list[Shifted] = []
    shift = 0
    for part in plan.parts:
        if isinstance(part, Stretch):
            if part.shift != shift:
                found.append(Shifted(part.start, part.shift - shift))
            shift = part.shift
    return tuple(found)


def lost_objects(
    path: str, found: Survey, rebuilt: Rebuilt, source: Source | None, missing: Sequence[int]
) -> tuple[LostObject, ...]:
    """Return the objects that are known to have lost a revision, with what the new file says of them.

    ``path`` is the damaged file's, ``source`` the new one, None where there is none to be asked; ``missing`` are the
    objects that others refer to there and that do not exist: lost now, or before.
    """
    revisions = {(one.oid, one.position): one for one in _from_index(path, rebuilt)}
    for doubtful in found.doubtful:
        one = LostRevision(doubtful.oid, doubtful.tid, doubtful.position, doubtful.reason)
        revisions[one.oid, one.position] = one
    for one in rebuilt.lost:
        if (one.oid, one.position) not in revisions or one.tid is not None:
            revisions[one.oid, one.position] = one
    ordered = sorted(revisions.values(), key=lambda one: (one.position, one.oid))
    if source is None:
        return tuple(LostObject(one.oid, one.tid, one.position, one.reason, *([None] * 4)) for one in ordered)
    known = {one.oid for one in ordered}
    missing = sorted(set(missing) - known) if found.gaps else []
    named = Names(source, known.union(missing))
    described = [_described(one, source, named) for one in ordered]
    described += [
        LostObject(oid, None, None, "it is referred to, and not there", "gone", None, *named.of(oid)) for oid in missing
    ]
    return tuple(described)


def fitting_index(path: str, file: DataFile, plan: Plan) -> Index | None:
    """Return the index that was saved for a file, None without one that fits it."""
    index = read_index(f"{path}.index")
    if not isinstance(index, Index):
        return None
    return index if _fits(index, Pointers(file, plan.parts)) else None


def _fits(index: Index, pointers: Pointers) -> bool:
    """Tell whether an index is not that of before a pack, or of another file."""
    step = max(1, len(index) // _SAMPLED)
    sample = [(oid, at) for oid, at in islice(index.items(), 0, None, step) if not pointers.is_lost(at)]
    return 2 * sum(pointers.find(oid, at, MAX_ID) is not None for oid, at in sample) >= len(sample)


def _from_index(path: str, rebuilt: Rebuilt) -> Iterator[LostRevision]:
    """Yield newest revisions that the saved index knows and the new file has not."""
    index, pointers = read_index(f"{path}.index"), rebuilt.pointers
    if not isinstance(index, Index) or not _fits(index, pointers):
        return
    for oid, position in index.items():
        if pointers.is_lost(position) and pointers.find(oid, position, MAX_ID) is None:
            yield LostRevision(oid, None, position, INDEXED)


INDEXED = "the saved index names it as the newest"


def _described(one: LostRevision, source: Source, named: Names) -> LostObject:
    newest = next(source.history(one.oid), None)
    # An index names the newest; what a later revision points to is never the newest.
    later = one.reason != INDEXED if one.tid is None else newest is not None and newest.tid > one.tid
    if newest is None:
        state = "gone"
    elif later:
        state = "history"
    else:
        state = "gone" if newest.data is None else "older"
    class_, path = named.of(one.oid)
    now = None if newest is None else newest.tid
    return LostObject(one.oid, one.tid, one.position, one.reason, state, now, class_, path)


class Names:
    """Classes and paths of objects, by what the new file holds: the object itself, or who refers to it."""

    def __init__(self, source: Source, oids: Iterable[int]) -> None:
        self._snapshot = Snapshot(source)
        self._finder = PathFinder(self._snapshot)
        self._places = self._finder.places(oids)

    def of(self, oid: int) -> tuple[str | None, str | None]:
        """Return class and path, None for what is not known."""
        class_, path = None, None
        if oid in self._places:
            path = self._places[oid].path
        try:
            class_ = self._snapshot.class_of(oid)
            parent = self._finder.parent_of(oid)
            if class_ is None and parent is not None and parent != oid:
                return self._by_reference(oid, parent)
        except (ZodbshError, RecordError):
            pass
        return class_, path

    def _by_reference(self, oid: int, parent: int) -> tuple[str | None, str | None]:
        place = self._finder.place(parent)
        for step, ref in edges(self._snapshot.record(parent)):
            if ref.oid == oid and ref.database is None:
                path = None if place is None else place.path + ("" if step == INTERNAL else step)
                return None if ref.class_ is None else class_text(ref.class_), path
        return None, None


def _between(kept: list[tuple[int, int]], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield what of ``start`` to ``end`` is not kept; a repeated length by itself is no loss."""
    at = max(0, bisect_left(kept, (start, 0)) - 1)
    after_kept = False
    for kept_start, kept_end in kept[at:]:
        if kept_start >= end:
            break
        if kept_end <= start:
            continue
        if kept_start > start and not (after_kept and kept_start - start == NUMBER.size):
            yield start, kept_start
        start, after_kept = max(start, kept_end), True
    if start < end and not (after_kept and end - start == NUMBER.size):
        yield start, end


def _kind(file: DataFile, start: int, end: int) -> str:
    raw = file.read(start, TRANSACTION_HEADER.size)
    if len(raw) == TRANSACTION_HEADER.size:
        header = TransactionHeader._make(TRANSACTION_HEADER.unpack(raw))
        if header.status == UNDONE and header.length == end - start - NUMBER.size:
            return "undone"
    while start < end:
        piece = file.read(start, min(_PIECE, end - start))
        if piece.strip(b"\0") or not piece:
            return "unreadable"
        start += len(piece)
    return "zeros"
