"""``zodbsh log``: the transactions of a database, or the revisions of one object, newest first."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.compare import AttributeChange, compare_nodes, compare_records
from zodbsh.analysis.records import decode_revision
from zodbsh.analysis.target import locate, parse_target
from zodbsh.analysis.trees import Tree
from zodbsh.errors import ObjectNotFound, ZodbshError
from zodbsh.ids import oid_text
from zodbsh.record.decode import class_text
from zodbsh.times import TidRange

if TYPE_CHECKING:
    from zodbsh.source.base import Revision, Source, Transaction
    from zodbsh.source.snapshot import Snapshot

EVERYTHING = TidRange()

FOLLOWED_NODES = 1_000
"""How many nodes a BTree may have for the changes in its buckets to count as its own."""


class LogEntry(NamedTuple):
    """One transaction: how many objects it wrote, and how many bytes of data for them."""

    transaction: Transaction
    objects: int
    bytes: int


class RevisionEntry(NamedTuple):
    """One transaction in which an object (or a bucket of a BTree) changed.

    ``change`` is ``new``, ``changed``, ``deleted`` (its creation was undone) or ``undone`` (it is again what it was in
    ``restored_tid``). ``objects`` and ``bytes`` count its own records, of a BTree those of its nodes. ``trouble`` says
    why the attributes cannot be compared. ``transaction`` is None where the source knows the transaction no more.
    """

    tid: int
    transaction: Transaction | None
    change: str
    class_: str | None
    objects: int
    bytes: int
    changes: tuple[AttributeChange, ...]
    restored_tid: int | None = None
    trouble: str | None = None


class ObjectLog(NamedTuple):
    """The revisions of one object. ``followed`` counts the nodes of a BTree that are looked at besides."""

    oid: int
    path: str
    followed: int
    revisions: Iterator[RevisionEntry]


def log(source: Source, *, within: TidRange = EVERYTHING, limit: int | None = None) -> Iterator[LogEntry]:
    """Yield the transactions within a range, newest first, at most ``limit``; nothing beyond them is read."""
    for transaction in islice(source.transactions(within.first, within.last, reverse=True), limit):
        objects = size = 0
        for revision in source.records(transaction):
            objects += 1
            size += _own_bytes(revision)
        yield LogEntry(transaction, objects, size)


def log_object(
    snapshot: Snapshot, target: str, *, within: TidRange = EVERYTHING, limit: int | None = None
) -> ObjectLog:
    """Return the revisions of the object that a target is, or lies in, each with what changed.

    An object given by its oid need not exist any more. Changes in the buckets of a BTree, as it is now, count as its
    own. Raises ObjectNotFound for an object that never existed, and what ``locate`` raises.
    """
    oid, path = locate(snapshot, parse_target(target))
    if next(snapshot.source.history(oid, snapshot.tid), None) is None:
        raise ObjectNotFound(f"there never was an object {oid_text(oid)}, or it was packed away")
    nodes = _nodes(snapshot, oid)
    at = min(within.last, snapshot.tid)
    steps = heapq.merge(*(_steps(snapshot.source, node, at) for node in nodes), key=_newest_first)
    entries = (_entry(snapshot.source, oid, list(group)) for _, group in groupby(steps, key=lambda step: step.new.tid))
    wanted = _until(entries, within.first)
    return ObjectLog(oid, path, len(nodes) - 1, islice(wanted, limit))


class _Step(NamedTuple):
    """A revision, and the one before it."""

    new: Revision
    old: Revision | None


def _nodes(snapshot: Snapshot, oid: int) -> list[int]:
    """Return the object, and if it is a BTree that is not too large, its nodes and buckets."""
    try:
        tree = Tree.of(snapshot, oid, snapshot.record(oid))
        if tree is None or tree.is_part:
            return [oid]
        nodes = [node for node, _ in islice(tree.nodes(), FOLLOWED_NODES + 1)]
    except ZodbshError:
        return [oid]
    return nodes if len(nodes) <= FOLLOWED_NODES else [oid]


def _steps(source: Source, oid: int, at: int) -> Iterator[_Step]:
    newer: Revision | None = None
    for revision in source.history(oid, at):
        if newer is not None:
            yield _Step(newer, revision)
        newer = revision
    if newer is not None:
        yield _Step(newer, None)


def _newest_first(step: _Step) -> int:
    return -step.new.tid


def _until(entries: Iterable[RevisionEntry], first: int) -> Iterator[RevisionEntry]:
    for entry in entries:
        if entry.tid < first:
            return
        yield entry


def _entry(source: Source, oid: int, steps: list[_Step]) -> RevisionEntry:
    """Return what happened to an object in one transaction; ``steps`` are of itself and of its nodes."""
    own = next((step for step in steps if step.new.oid == oid), None)
    shown = own or steps[0]
    class_, changes, trouble = None, [], None
    try:
        pairs = [(decode_revision(step.old), decode_revision(step.new)) for step in steps]
        changes = compare_nodes(pairs) if len(steps) > 1 or own is None else compare_records(*pairs[0])
        record = pairs[steps.index(shown)][1]
        class_ = None if record is None else class_text(record.class_)
    except ZodbshError as exc:
        trouble = exc.message
    change = change_of(own.new, own.old) if own is not None else "changed"
    return RevisionEntry(
        shown.new.tid, source.transaction_of(shown.new), change, class_, len(steps),
        sum(_own_bytes(step.new) for step in steps), tuple(changes),
        own.new.data_tid if own is not None else None, trouble,
    )  # fmt: skip


def change_of(new: Revision, old: Revision | None) -> str:
    """Return what a revision does to the object, given the one before it: new, changed, deleted or undone."""
    if new.data is None:
        return "deleted"
    if new.data_tid is not None:
        return "undone"
    return "new" if old is None or old.data is None else "changed"


def _own_bytes(revision: Revision) -> int:
    return len(revision.data or b"") if revision.data_tid is None else 0
