"""``zodbsh log``: the transactions of a database, or the revisions of one object, newest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.compare import AttributeChange, compare_nodes, compare_records
from zodbsh.analysis.history import History, RevisionStep
from zodbsh.analysis.records import decode_revision
from zodbsh.analysis.target import trace
from zodbsh.analysis.treediff import NodePair, node_state, tree_changes
from zodbsh.analysis.within import changes_within
from zodbsh.errors import ObjectNotFound, ZodbshError
from zodbsh.ids import oid_text
from zodbsh.record.decode import class_text
from zodbsh.times import TidRange

if TYPE_CHECKING:
    from zodbsh.record.values import Record
    from zodbsh.source.base import Revision, Source, Transaction
    from zodbsh.source.snapshot import Snapshot

EVERYTHING = TidRange()


class LogEntry(NamedTuple):
    """One transaction: how many objects it wrote, and how many bytes of data they have by it.

    What an undo brings back counts as any other, though the file only points to it.
    """

    transaction: Transaction
    objects: int
    bytes: int


class RevisionEntry(NamedTuple):
    """One transaction in which an object (or a bucket of a BTree) changed.

    ``change`` is ``new``, ``changed``, ``deleted`` (its creation was undone) or ``undone`` (it is again what it was in
    ``restored_tid``). ``objects`` and ``bytes`` count its own records, of a BTree those of its nodes. ``trouble`` says
    why the attributes cannot be compared. ``transaction`` is None where the source knows the transaction no more.
    ``partial`` tells that the BTree has or had more nodes than are looked at: some changes may be missing.
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
    partial: bool = False


class ObjectLog(NamedTuple):
    """The revisions of one object.

    ``followed`` counts the nodes of a BTree, as it is now, that are looked at besides. Where the target is a value in
    the object, ``path`` leads to the value, ``owner_path`` to the object, and only changes of the value are given.
    """

    oid: int
    path: str
    followed: int
    revisions: Iterator[RevisionEntry]
    owner_path: str | None = None


def log(source: Source, *, within: TidRange = EVERYTHING, limit: int | None = None) -> Iterator[LogEntry]:
    """Yield the transactions within a range, newest first, at most ``limit``; nothing beyond them is read."""
    for transaction in islice(source.transactions(within.first, within.last, reverse=True), limit):
        # An undo by ZODB itself may have written an object more than once: the last record holds.
        sizes = {revision.oid: len(revision.data or b"") for revision in source.records(transaction)}
        yield LogEntry(transaction, len(sizes), sum(sizes.values()))


def log_object(
    snapshot: Snapshot, target: str, *, within: TidRange = EVERYTHING, limit: int | None = None
) -> ObjectLog:
    """Return the revisions of the object that a target is, or lies in, each with what changed.

    An object given by its oid need not exist any more. Changes in the buckets that a BTree has or had count as its own;
    of a value that lies in an object, only its own changes count. Raises ObjectNotFound for an object that never
    existed, and what ``trace`` raises.
    """
    found = trace(snapshot, target)
    oid = found.owner
    if next(snapshot.source.history(oid, snapshot.tid), None) is None:
        name = snapshot.source.info().name
        raise ObjectNotFound(f"{name}: there never was an object {oid_text(oid)}, or it was packed away")
    history = History(snapshot.source, oid, min(within.last, snapshot.tid))
    entries: Iterator[RevisionEntry] = (
        _entry(snapshot.source, oid, steps, partial=history.partial) for steps in history
    )
    if found.inside:
        entries = _restricted(entries, found.inside)
    wanted = _until(entries, within.first)
    owner_path = found.owner_path if found.inside else None
    return ObjectLog(oid, found.path, history.followed, islice(wanted, limit), owner_path)


def _restricted(entries: Iterable[RevisionEntry], inside: tuple[str, ...]) -> Iterator[RevisionEntry]:
    for entry in entries:
        changes = tuple(changes_within(entry.changes, inside))
        if changes or entry.trouble is not None:
            yield entry._replace(changes=changes)


def _until(entries: Iterable[RevisionEntry], first: int) -> Iterator[RevisionEntry]:
    for entry in entries:
        if entry.tid < first:
            return
        yield entry


def _entry(source: Source, oid: int, steps: list[RevisionStep], *, partial: bool) -> RevisionEntry:
    """Return what happened to an object in one transaction; ``steps`` are of itself and of its nodes."""
    own = next((step for step in steps if step.new.oid == oid), None)
    shown = own or steps[0]
    tid = shown.new.tid
    class_, changes, trouble = None, [], None
    try:
        pairs = {
            step.new.oid: NodePair(step.new.oid, decode_revision(step.old), decode_revision(step.new))
            for step in steps
        }  # fmt: skip
        record = pairs[oid].new if own is not None else _record(source, oid, tid)
        class_ = None if record is None else class_text(record.class_)
        if own is None or any(node_state(side) is not None for side in (pairs[oid].old, pairs[oid].new)):
            found = tree_changes(
                pairs, lambda node: _record(source, node, tid - 1), lambda node: _record(source, node, tid)
            )
            partial = partial or found.partial
            changes = compare_nodes((pair.old, pair.new) for members in found.pairs.values() for pair in members)
        else:
            changes = compare_records(pairs[oid].old, pairs[oid].new)
    except ZodbshError as exc:
        trouble = exc.message
    change = change_of(own.new, own.old) if own is not None else "changed"
    return RevisionEntry(
        tid, source.transaction_of(shown.new), change, class_, len(steps),
        sum(len(step.new.data or b"") for step in steps), tuple(changes),
        own.new.data_tid if own is not None else None, trouble, partial,
    )  # fmt: skip


def _record(source: Source, oid: int, at: int) -> Record | None:
    try:
        return decode_revision(source.load(oid, at))
    except ObjectNotFound:
        return None


def change_of(new: Revision, old: Revision | None) -> str:
    """Return what a revision does to the object, given the one before it: new, changed, deleted or undone."""
    if new.data is None:
        return "deleted"
    if new.data_tid is not None:
        return "undone"
    return "new" if old is None or old.data is None else "changed"
