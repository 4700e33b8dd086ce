"""``diff``: what changes, attribute by attribute; of the stage, of a session, or between two transactions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from zodbsh.analysis.compare import ABSENT, AttributeChange, compare_records
from zodbsh.analysis.identity import Identities
from zodbsh.analysis.paths import Place, places_of
from zodbsh.analysis.target import resolve
from zodbsh.db.changes import Changes, Entry
from zodbsh.errors import ObjectNotFound, UsageError, ZodbshError
from zodbsh.ids import ROOT_OID, oid_text, tid_text
from zodbsh.ops.places import places_in_session, places_of_changes
from zodbsh.record.btrees import record_tree
from zodbsh.record.decode import class_text, decode_record
from zodbsh.record.values import Record
from zodbsh.source.base import Source
from zodbsh.source.snapshot import Snapshot
from zodbsh.stage.overlay import OverlaySource

Change = Literal["changed", "new", "deleted"]

# How a BTree holds its nodes together is no content.
_STRUCTURE = ("__children__", "__keys__")

if TYPE_CHECKING:
    from zodbsh.db.session import Session


class ObjectDiff(NamedTuple):
    """One object's change.

    ``path`` is the oid's text where no path is known. A BTree is one object
    here, whatever buckets its keys are in; ``records`` counts the records that
    changed. ``attributes`` is empty where only a tree's inner structure did.
    """

    path: str
    oid: int
    class_: str
    change: Change
    attributes: tuple[AttributeChange, ...]
    records: int = 1


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

    ``target`` restricts the result to one object; raises TargetNotFound. No
    class is imported.
    """
    if changes is None:
        return DiffResult(source.info().name, source.last_tid, None, _objects(Snapshot(source), {}, None, [], target))
    return _diff(source, changes, places_of_changes(source, changes), target)


def diff_session(session: Session, *, target: str | None = None) -> DiffResult:
    """Compare what is uncommitted in a session with what is stored. Raises TargetNotFound, CannotSave."""
    pending = session.pending()
    places = places_in_session(session, pending, [entry.oid for entry in pending.entries])
    return _diff(session.source(), pending, places, target)


def _diff(source: Source, changes: Changes, places: dict[int, Place], target: str | None) -> DiffResult:
    snapshot = Snapshot(OverlaySource(source, changes))
    pairs = [_entry_pair(source, entry) for entry in changes.entries]
    return DiffResult(source.info().name, changes.base_tid, None, _objects(snapshot, places, None, pairs, target))


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
            old, old_blob = decode_record(revision.data or b""), source.blob_path(entry.oid, revision.tid)
        except ObjectNotFound:
            # A pack has removed the revision; what the stage holds is all there is to show.
            old = None
    extra: tuple[AttributeChange, ...] = ()
    if entry.blob is not None:
        extra = (AttributeChange("(blob bytes)", _size(old_blob), os.path.getsize(entry.blob)),)
    return _Pair(entry.oid, old, decode_record(entry.data), extra)


def _size(path: str | None) -> int | None:
    return None if path is None or not os.path.exists(path) else os.path.getsize(path)


def _state_pair(before: Snapshot, after: Snapshot, oid: int) -> _Pair | None:
    old, new = _data(before, oid), _data(after, oid)
    if old == new:
        return None
    return _Pair(oid, _decoded(old), _decoded(new))


def _decoded(data: bytes | None) -> Record | None:
    return None if data is None else decode_record(data)


def _data(snapshot: Snapshot, oid: int) -> bytes | None:
    try:
        return snapshot.load(oid).data
    except ObjectNotFound:
        return None


def _objects(
    snapshot: Snapshot, places: dict[int, Place], earlier: Snapshot | None, pairs: list[_Pair], target: str | None
) -> tuple[ObjectDiff, ...]:
    wanted = None if target is None else _resolved(snapshot, earlier, target)
    found = []
    for group in _grouped(pairs, places):
        diff = _described(snapshot, group, places)
        if wanted is None or wanted & {diff.oid, *(pair.oid for pair in group)}:
            found.append(diff)
    return tuple(found)


def _resolved(snapshot: Snapshot, earlier: Snapshot | None, target: str) -> set[int]:
    try:
        found = resolve(snapshot, target)
    except ObjectNotFound:
        if earlier is None:
            raise
        found = resolve(earlier, target)
    return {found.oid, found.owner}


def _grouped(pairs: Iterable[_Pair], places: dict[int, Place]) -> Iterator[list[_Pair]]:
    """Yield the records that belong together: a BTree's nodes and buckets, any other object alone."""
    groups: dict[object, list[_Pair]] = {}
    for pair in pairs:
        record = pair.new or pair.old
        place = places.get(pair.oid)
        in_tree = place is not None and record is not None and record_tree(record) is not None
        groups.setdefault(place.path if in_tree and place is not None else pair.oid, []).append(pair)
    yield from groups.values()


def _described(snapshot: Snapshot, group: list[_Pair], places: dict[int, Place]) -> ObjectDiff:
    head = next((pair for pair in group if pair.oid in places and not places[pair.oid].internal), group[0])
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
    attributes = _merged(group) if record_tree(record) is not None else compare_records(head.old, head.new)
    return ObjectDiff(path, oid, class_, change, (*attributes, *head.extra), len(group))


def _path(oid: int, places: dict[int, Place]) -> str:
    if oid in places:
        return places[oid].path
    return "root" if oid == ROOT_OID else oid_text(oid)


def _merged(group: list[_Pair]) -> list[AttributeChange]:
    """Return a BTree's changes by key: what left one bucket and came into another did not change."""
    merged: dict[str, AttributeChange] = {}
    for pair in group:
        for change in compare_records(pair.old, pair.new):
            if change.name in _STRUCTURE:
                continue
            other = merged.get(change.name)
            if other is not None:
                old = other.old if change.old is ABSENT else change.old
                new = other.new if change.new is ABSENT else change.new
                merged[change.name] = AttributeChange(change.name, old, new, change.parts or other.parts)
            else:
                merged[change.name] = change
    identities = Identities()
    return [
        change
        for change in merged.values()
        if change.old is ABSENT or change.new is ABSENT or not identities.same(change.old, change.new)  # type: ignore[arg-type]
    ]
