"""``diff``: what changes, attribute by attribute; of the stage, of a session, or between two transactions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

from zodbsh.analysis.compare import ABSENT, UNKNOWN, AttributeChange, Side, compare_nodes, compare_records
from zodbsh.analysis.paths import Place, places_of
from zodbsh.analysis.target import Traced, parse_target, resolve, trace
from zodbsh.analysis.treediff import Loader, NodePair, tree_changes
from zodbsh.analysis.within import changes_within
from zodbsh.db.changes import Changes, Entry
from zodbsh.errors import ObjectNotFound, UsageError, ZodbshError
from zodbsh.ids import ROOT_OID, oid_text, tid_text
from zodbsh.ops.places import places_in_session, places_of_changes
from zodbsh.record.btrees import record_tree
from zodbsh.record.classpart import BLOB_CLASS
from zodbsh.record.decode import class_text, decode_record
from zodbsh.record.values import Record
from zodbsh.source.base import Revision, Source
from zodbsh.source.snapshot import Snapshot
from zodbsh.stage.overlay import OverlaySource

Change = Literal["changed", "new", "deleted"]


if TYPE_CHECKING:
    from zodbsh.db.session import Session


class ObjectDiff(NamedTuple):
    """One object's change.

    ``path`` is the oid's text where no path is known. A BTree is one object
    here (``tree``), whatever buckets its keys are in; ``records`` counts the
    records that changed. ``attributes`` is empty where only a tree's inner
    structure did, or where an object was stored again as it was. ``partial``
    tells that some buckets of trees that were cleared are not looked at: there
    are too many.
    """

    path: str
    oid: int
    class_: str
    change: Change
    attributes: tuple[AttributeChange, ...]
    records: int = 1
    tree: bool = False
    partial: bool = False


class DiffResult(NamedTuple):
    """What changes from one state to another.

    ``old_tid`` is the earlier state; ``new_tid`` the later one, None for what is
    staged or uncommitted.
    """

    database: str
    old_tid: int
    new_tid: int | None
    objects: tuple[ObjectDiff, ...]


class _Pair(NamedTuple):
    """One record before and after; None where the object does not exist."""

    oid: int
    old: Record | None
    new: Record | None
    extra: tuple[AttributeChange, ...] = ()


def diff_changes(source: Source, changes: Changes | None, *, target: str | None = None) -> DiffResult:
    """Compare uncommitted changes with the revisions they were made to.

    ``target`` restricts the result to one object, or to a value within one;
    raises TargetNotFound. No class is imported.
    """
    if changes is None:
        return DiffResult(
            source.info().name, source.last_tid, None, _objects(Snapshot(source), {}, Snapshot(source), [], target)
        )
    return _diff(source, changes, places_of_changes(source, changes), target)


def diff_session(session: Session, *, target: str | None = None) -> DiffResult:
    """Compare what is uncommitted in a session with what is stored. Raises TargetNotFound, CannotSave."""
    pending = session.pending()
    places = places_in_session(session, pending, [entry.oid for entry in pending.entries])
    return _diff(session.source(), pending, places, target)


def diff_undo(source: Source, changes: Changes, deleted: Iterable[int], places: dict[int, Place]) -> DiffResult:
    """Compare what an undo would bring back, and take away, with what is there now; ``places`` are those of now."""
    now, after = Snapshot(source), Snapshot(OverlaySource(source, changes, deleted=deleted))
    pairs = [_entry_pair(source, entry) for entry in changes.entries]
    pairs += [_Pair(oid, now.record(oid), None) for oid in deleted]
    again = [entry.oid for entry in changes.entries if entry.new]
    places = places | places_of(after, again) if again else places
    return DiffResult(source.info().name, changes.base_tid, None, _objects(after, places, now, pairs, None))


def _diff(source: Source, changes: Changes, places: dict[int, Place], target: str | None) -> DiffResult:
    snapshot = Snapshot(OverlaySource(source, changes))
    pairs = [_entry_pair(source, entry) for entry in changes.entries]
    earlier = Snapshot(source, changes.base_tid)
    return DiffResult(source.info().name, changes.base_tid, None, _objects(snapshot, places, earlier, pairs, target))


def diff_range(source: Source, *, first: int | None, last: int | None, target: str | None = None) -> DiffResult:
    """Compare the states after two transactions: what the transactions after ``first`` up to ``last`` changed.

    ``last`` is the latest where it is None; ``first`` the one before ``last``.
    Raises UsageError, TargetNotFound.
    """
    last = source.last_tid if last is None else min(last, source.last_tid)
    first = _before(source, last) if first is None else first
    if first > last:
        raise UsageError(f"--from {tid_text(first)} is after --to {tid_text(last)}")
    after, before = Snapshot(source, last), Snapshot(source, first)
    oids: dict[int, None] = {}
    for transaction in source.transactions(first + 1, last):
        oids.update(dict.fromkeys(revision.oid for revision in source.records(transaction)))
    pairs = [pair for oid in oids if (pair := _state_pair(before, after, oid)) is not None]
    places = places_of(after, [pair.oid for pair in pairs if pair.new is not None])
    places.update(places_of(before, [pair.oid for pair in pairs if pair.new is None]))
    return DiffResult(source.info().name, first, last, _objects(after, places, before, pairs, target))


def _before(source: Source, tid: int) -> int:
    earlier = next(iter(source.transactions(0, tid - 1, reverse=True)), None) if tid else None
    return 0 if earlier is None else earlier.tid


def _entry_pair(source: Source, entry: Entry) -> _Pair:
    old, old_blob = None, None
    if entry.serial is not None:
        try:
            revision = source.load(entry.oid, entry.serial)
            old = decode_record(revision.data or b"")
            old_blob = source.blob_path(entry.oid, revision.data_tid or revision.tid)
        except ObjectNotFound:
            # A pack has removed the revision; what the stage holds is all there is to show.
            old = None
    extra: tuple[AttributeChange, ...] = ()
    if entry.blob is not None:
        before = ABSENT if entry.serial is None else _size(old_blob)
        extra = (AttributeChange("(blob bytes)", before, os.path.getsize(entry.blob)),)
    return _Pair(entry.oid, old, decode_record(entry.data), extra)


def _size(path: str | None) -> Side:
    # A pack beside us may have removed it just now.
    with suppress(FileNotFoundError):
        return UNKNOWN if path is None else os.path.getsize(path)
    return UNKNOWN


def _state_pair(before: Snapshot, after: Snapshot, oid: int) -> _Pair | None:
    old, new = _revision(before, oid), _revision(after, oid)
    old_data, new_data = (None if side is None else side.data for side in (old, new))
    pair = _Pair(oid, _decoded(old_data), _decoded(new_data))
    record = pair.new or pair.old
    is_blob = record is not None and class_text(record.class_) == BLOB_CLASS
    # A blob's record says nothing of its content; the same transaction's data is the same content.
    if is_blob and _content_tid(old) != _content_tid(new):
        sizes = AttributeChange("(blob bytes)", _blob_size(after.source, old), _blob_size(after.source, new))
        return pair._replace(extra=(sizes,))
    return None if old_data == new_data else pair


def _content_tid(revision: Revision | None) -> int | None:
    return None if revision is None else revision.data_tid or revision.tid


def _blob_size(source: Source, revision: Revision | None) -> Side:
    tid = _content_tid(revision)
    return ABSENT if revision is None or tid is None else _size(source.blob_path(revision.oid, tid))


def _decoded(data: bytes | None) -> Record | None:
    return None if data is None else decode_record(data)


def _revision(snapshot: Snapshot, oid: int) -> Revision | None:
    try:
        return snapshot.load(oid)
    except ObjectNotFound:
        return None


def _objects(
    snapshot: Snapshot, places: dict[int, Place], earlier: Snapshot, pairs: list[_Pair], target: str | None
) -> tuple[ObjectDiff, ...]:
    wanted = None if target is None else _wanted(snapshot, earlier, target)
    found = []
    for group in _grouped(snapshot, earlier, pairs, places):
        diff = _described(snapshot, group, places)
        if wanted is None:
            found.append(diff)
        elif restricted := _restricted(diff, group, wanted):
            found.append(restricted)
    return tuple(found)


def _wanted(snapshot: Snapshot, earlier: Snapshot, target: str) -> Traced:
    parsed = parse_target(target)
    try:
        return trace(snapshot, parsed)
    except ObjectNotFound as exc:
        try:
            return trace(earlier, parsed)
        except ObjectNotFound:
            raise exc from None


def _restricted(diff: ObjectDiff, group: _Group, wanted: Traced) -> ObjectDiff | None:
    """Return what of a change concerns a target: an object, or a value within one; None where nothing does."""
    if not wanted.inside:
        return diff if wanted.oid in {diff.oid, *(pair.oid for pair in group.pairs)} else None
    if diff.oid != wanted.owner:
        return None
    attributes = changes_within(diff.attributes, wanted.inside)
    return diff._replace(attributes=tuple(attributes)) if attributes else None


class _Group(NamedTuple):
    """The records that belong together: of a BTree its nodes and buckets, else one; the object itself first.

    ``records`` counts those that were written; ``partial`` tells that not all nodes of the tree could be looked at.
    """

    pairs: list[_Pair]
    tree: bool = False
    records: int = 1
    partial: bool = False


def _grouped(
    snapshot: Snapshot, earlier: Snapshot, pairs: Iterable[_Pair], places: dict[int, Place]
) -> Iterator[_Group]:
    """Yield the changes of each object, in the order in which they were met."""
    pairs = list(pairs)
    nodes = {pair.oid: NodePair(pair.oid, pair.old, pair.new) for pair in pairs if _is_tree(pair)}
    trees, partial = tree_changes(nodes, _loader(earlier), _loader(snapshot))
    groups: dict[object, list[_Pair]] = {}
    for top, members in trees.items():
        # Several buckets may have changed, and no node above them: their path is that of the tree.
        shared: object = places[top].path if top in places else top
        groups.setdefault(shared, []).extend(_Pair(*member) for member in members)
    records = {key: sum(pair.oid in nodes for pair in group) for key, group in groups.items()}
    of_node = {pair.oid: key for key, group in groups.items() for pair in group}
    done: set[object] = set()
    for pair in pairs:
        if pair.oid not in nodes:
            yield _Group([pair])
        elif (key := of_node[pair.oid]) not in done:
            done.add(key)
            yield _Group(groups[key], True, records[key], partial)


def _is_tree(pair: _Pair) -> bool:
    return any(record is not None and record_tree(record) is not None for record in (pair.old, pair.new))


def _loader(snapshot: Snapshot) -> Loader:
    def load(oid: int) -> Record | None:
        try:
            return snapshot.record(oid)
        except ObjectNotFound:
            return None

    return load


def _described(snapshot: Snapshot, group: _Group, places: dict[int, Place]) -> ObjectDiff:
    pairs = group.pairs
    head = next((pair for pair in pairs if pair.oid in places and not places[pair.oid].internal), pairs[0])
    record = head.new or head.old
    assert record is not None
    oid, class_, path = head.oid, class_text(record.class_), _path(head.oid, places)
    change: Change = "changed" if head.old and head.new else "new" if head.new else "deleted"
    place = places.get(head.oid)
    if place is not None and place.internal:
        # Only buckets changed: what a user knows is the tree.
        change = "changed"
        try:
            oid = resolve(snapshot, place.path).oid
            class_ = snapshot.class_of(oid) or class_
        except ZodbshError:
            pass
    if group.tree:
        attributes = compare_nodes((pair.old, pair.new) for pair in pairs)
    else:
        attributes = compare_records(head.old, head.new)
    return ObjectDiff(path, oid, class_, change, (*attributes, *head.extra), group.records, group.tree, group.partial)


def _path(oid: int, places: dict[int, Place]) -> str:
    if oid in places:
        return places[oid].path
    return "root" if oid == ROOT_OID else oid_text(oid)
