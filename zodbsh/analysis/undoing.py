"""What an undo of transactions would do, worked out by ZODB's own rules before anything is written.

The rules are those of ``FileStorage._transactionalUndoRecord``. Newest first, each record of a transaction gives way
to the record before it, where the object is still, or again, as the transaction left it. Anything else is a clash: ZODB
then asks the object's class to merge the states, and gives up where that does not, or where a state does not exist.
There is one rule more: a blob's record says nothing of its content, so ZODB would take back later content without a
word; here that is a clash.
"""

from __future__ import annotations

import filecmp
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.graph import ObjectGraph
from zodbsh.db.changes import Entry
from zodbsh.errors import ObjectNotFound
from zodbsh.record.btrees import tree_kind
from zodbsh.record.classpart import BLOB_CLASS
from zodbsh.record.decode import RecordError, class_text, record_class, strong_references
from zodbsh.source.snapshot import Snapshot

if TYPE_CHECKING:
    from zodbsh.record.values import Value
    from zodbsh.source.base import Revision, Source, Transaction


class Clash(NamedTuple):
    """An object that is not as the undone transaction ``tid`` left it.

    The records are those before that transaction, after it, and now (the undo of later transactions included); None
    where the object does not exist. ``now_tid`` is the object's newest transaction. ``blob`` tells that it is the
    content of a blob that differs. ``older`` has the records before and after each older transaction undone, too.
    """

    oid: int
    tid: int
    now_tid: int | None
    before: bytes | None
    undone: bytes | None
    now: bytes | None
    blob: bool = False
    older: tuple[tuple[bytes | None, bytes | None], ...] = ()

    @property
    def mergeable(self) -> bool:
        """Whether ZODB would ask the object's class to merge the states."""
        return not self.blob and None not in (self.before, self.undone, self.now)


class Undoing(NamedTuple):
    """What an undo would do.

    ``entries`` are the objects that would differ from now, each with the record, and the file of the blob, that it
    would have; ``deleted`` those that would cease to exist. ``clashes`` stand in the way. ``restored`` tells that
    every object is already as it was before the transactions. ``blobs`` are the blobs that get an earlier content, the
    same as now or not; of those in ``lost_blobs`` a file is missing that tells what the undo would do.
    """

    entries: tuple[Entry, ...]
    deleted: tuple[int, ...]
    clashes: tuple[Clash, ...]
    restored: bool
    blobs: tuple[int, ...] = ()
    lost_blobs: tuple[int, ...] = ()


class _State(NamedTuple):
    """An object's state: its record, and the transactions whose blob file would hold its content, best first."""

    data: bytes | None
    tids: tuple[int, ...] = ()


def work_out(source: Source, transactions: Iterable[Transaction]) -> Undoing:
    """Work out the undo of transactions, which go newest first. Raises FramingDamage."""
    now: dict[int, _State] = {}
    states: dict[int, _State] = {}
    clashes: dict[int, Clash] = {}
    earliest: dict[int, _State] = {}
    unknown: list[int] = []
    for transaction in sorted(transactions, key=lambda found: -found.tid):
        for revision in _last_of_each(source.records(transaction)):
            oid = revision.oid
            if oid not in now:
                now[oid] = _state(_load(source, oid))
            current = now[oid]
            state = states.get(oid, current)
            before = earliest[oid] = _state(_load(source, oid, revision.tid - 1))
            if oid in clashes:
                clash = clashes[oid]
                clashes[oid] = clash._replace(older=(*clash.older, (before.data, revision.data)))
                continue
            if state.tids[:1] == (revision.tid,) or _same(source, oid, state, _state(revision)):
                states[oid] = before
                continue
            blob = state.data is not None and state.data == revision.data
            if blob and None in (_blob(source, oid, state), _blob(source, oid, _state(revision))):
                unknown.append(oid)
            now_tid = current.tids[0] if current.tids else None
            clashes[oid] = Clash(oid, revision.tid, now_tid, before.data, revision.data, state.data, blob)
    restored = all(_same(source, oid, now[oid], before) for oid, before in earliest.items())
    entries, deleted = [], []
    blobs: dict[int, str | None] = {}
    for oid, state in states.items():
        current = now[oid]
        if oid in clashes:
            continue
        if is_blob(state.data):
            blobs[oid] = _blob(source, oid, state)
        if _same(source, oid, state, current):
            continue
        if state.data is None:
            deleted.append(oid)
        else:
            entries.append(Entry(oid, current.tids[0] if current.tids else None, state.data, blobs.get(oid)))
    lost = (*unknown, *(oid for oid, path in blobs.items() if path is None))
    return Undoing(tuple(entries), tuple(deleted), tuple(clashes.values()), restored, tuple(blobs), lost)


class Dangling(NamedTuple):
    """A reference that would lead nowhere after an undo; not ``certain`` where that is for a class's merge to say."""

    oid: int
    target: int
    certain: bool


def left_dangling(source: Source, undoing: Undoing, graph: ObjectGraph | None) -> list[Dangling]:
    """Return each reference that would lead nowhere after the undo and does not today.

    Where objects would cease to exist, ``graph`` is the graph of now; without one it is read.
    """
    found = [
        Dangling(entry.oid, target, True)
        for entry in undoing.entries
        for target in newly_dangling(source, undoing, entry.oid, _references(entry.data))
    ]
    merged = [clash for clash in undoing.clashes if clash.mergeable]
    for clash in merged:
        references = merged_references(clash)
        certain = references is not None
        if references is None:
            references = _references(clash.before) | _references(clash.now)
        missing = newly_dangling(source, undoing, clash.oid, references)
        found += [Dangling(clash.oid, target, certain) for target in missing]
    gone, seen = set(undoing.deleted), {entry.oid for entry in undoing.entries} | {clash.oid for clash in merged}
    if gone:
        graph = graph or ObjectGraph.read(Snapshot(source))
        columns = graph.columns
        for target in undoing.deleted:
            number = columns.find(target)
            for referrer, weak in [] if number is None else graph.referrers(number):
                oid = columns.oids[referrer]
                if not weak and columns.exists(referrer) and oid not in gone and oid not in seen:
                    found.append(Dangling(oid, target, True))
    return sorted(found)


def newly_dangling(source: Source, undoing: Undoing, oid: int, references: Iterable[int]) -> set[int]:
    """Return those of an object's references after the undo that lead nowhere, and do not do so today."""
    current = _load(source, oid)
    dangled = {target for target in _references(current and current.data) if _load(source, target) is None}
    targets = set(references) - dangled - {entry.oid for entry in undoing.entries}
    gone = set(undoing.deleted)
    return {target for target in targets if target in gone or _load(source, target) is None}


def merged_references(clash: Clash) -> set[int] | None:
    """Return what an object refers to once its class has merged the states; None where only the class can tell.

    BTrees and their buckets merge key by key, and no key that both sides changed: what the undone transaction added
    goes, what it took away comes back, and the rest is as it is now.
    """
    if tree_kind(_class(clash.now)) is None:
        return None
    counts = Counter(_each_reference(clash.now))
    for before, undone in ((clash.before, clash.undone), *clash.older):
        counts.update(_each_reference(before))
        counts.subtract(_each_reference(undone))
    return {oid for oid, count in counts.items() if count > 0}


def _references(data: bytes | None) -> set[int]:
    return set(_each_reference(data))


def _each_reference(data: bytes | None) -> list[int]:
    """Return what a record refers to; nothing where it does not decode."""
    try:
        return list(strong_references(data)) if data is not None else []
    except RecordError:
        return []


def _class(data: bytes | None) -> Value:
    try:
        return None if data is None else record_class(data)
    except RecordError:
        return None


def later_in_the_way(source: Source, clash: Clash, undone: set[int]) -> list[int]:
    """Return the transactions that have to be undone, too, for the object to be as the undone one left it.

    Newest first; those in ``undone`` are not given again.
    """
    found: list[int] = []
    for revision in source.history(clash.oid):
        if revision.tid <= clash.tid:
            break
        found.append(revision.tid)
        before = _load(source, clash.oid, revision.tid - 1)
        if before is not None and before.data == clash.undone and not clash.blob:
            break
    return [tid for tid in found if tid not in undone]


def is_blob(data: bytes | None) -> bool:
    """Tell whether a record is a blob's."""
    if data is None:
        return False
    try:
        return class_text(record_class(data)) == BLOB_CLASS
    except RecordError:
        return False


def _last_of_each(revisions: Iterable[Revision]) -> Iterator[Revision]:
    """Yield each object's last record of a transaction."""
    yield from {revision.oid: revision for revision in revisions}.values()


def _load(source: Source, oid: int, at: int | None = None) -> Revision | None:
    if at is not None and at < 0:
        return None
    try:
        return source.load(oid) if at is None else source.load(oid, at)
    except ObjectNotFound:
        return None


def _state(revision: Revision | None) -> _State:
    if revision is None:
        return _State(None)
    tids = (revision.tid,) if revision.data_tid is None else (revision.tid, revision.data_tid)
    return _State(revision.data, tids)


def _same(source: Source, oid: int, one: _State, other: _State) -> bool:
    """Tell whether two states of an object are equal, a blob's content included, as far as that is known."""
    if one.data != other.data:
        return False
    if one.tids[:1] == other.tids[:1] or not is_blob(one.data):
        return True
    first, second = _blob(source, oid, one), _blob(source, oid, other)
    if first is None or second is None:
        return False
    return os.path.samefile(first, second) or filecmp.cmp(first, second, shallow=False)


def _blob(source: Source, oid: int, state: _State) -> str | None:
    return next((path for tid in state.tids if (path := source.blob_path(oid, tid)) is not None), None)
