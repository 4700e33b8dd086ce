"""``zodbsh show``: one transaction, its metadata and every object in it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.paths import DEFAULT_BUDGET, Place, places_of
from zodbsh.errors import ExitCode, ZodbshError
from zodbsh.ids import is_tid, oid_text, tid_text
from zodbsh.ops.log import change_of
from zodbsh.record.classpart import UNDECODABLE
from zodbsh.record.decode import RecordError, class_text, decode_pickle, record_class
from zodbsh.source.snapshot import Snapshot
from zodbsh.times import parse_time, time_text

if TYPE_CHECKING:
    from zodbsh.record.values import Value
    from zodbsh.source.base import Revision, Source, Transaction


class TransactionNotFound(ZodbshError):
    """No transaction has this tid, or none is as old as this."""

    code = "transaction-not-found"
    exit_code = ExitCode.NOT_FOUND


class ShownObject(NamedTuple):
    """One object of a transaction.

    ``path`` is the oid's text where no path is known; ``part_of`` marks a node or bucket of the BTree at ``path``.
    ``class_`` is None for a deletion. ``bytes`` is the size of the object's data, ``old_bytes`` that of its revision
    before; ``change`` is ``new``, ``changed``, ``deleted`` or ``undone`` (again as it was in ``restored_tid``).
    """

    oid: int
    path: str
    part_of: bool
    class_: str | None
    bytes: int
    old_bytes: int | None
    change: str
    restored_tid: int | None = None


class ShownTransaction(NamedTuple):
    """One transaction; ``objects`` counts all of them, ``shown`` holds the first.

    ``extension`` is the decoded extension, None where there is none; ``extension_trouble`` says why it does not decode.
    """

    transaction: Transaction
    extension: Value
    extension_trouble: str | None
    objects: int
    bytes: int
    shown: tuple[ShownObject, ...]


def show(source: Source, wanted: str, *, limit: int | None = None, budget: int = DEFAULT_BUDGET) -> ShownTransaction:
    """Return a transaction, with at most ``limit`` of its objects.

    ``wanted`` is a tid, or a time: the last transaction not after it. Paths are those at that moment (of what was
    deleted, those before it), as far as ``budget`` objects reach. Raises TransactionNotFound, UsageError.
    """
    transaction = find_transaction(source, wanted)
    # An undo by ZODB itself may have written an object more than once: the last record holds.
    sizes: dict[int, int] = {}
    last: dict[int, Revision] = {}
    for revision in source.records(transaction):
        sizes[revision.oid] = len(revision.data or b"")
        if limit is None or len(sizes) <= limit or revision.oid in last:
            last[revision.oid] = revision
    revisions = list(last.values())
    extension, trouble = _extension(transaction.extension)
    places = _places(source, transaction.tid, revisions, budget)
    shown = tuple(_object(source, revision, places.get(revision.oid)) for revision in revisions)
    return ShownTransaction(transaction, extension, trouble, len(sizes), sum(sizes.values()), shown)


def find_transaction(source: Source, wanted: str) -> Transaction:
    """Return the transaction with a tid, or the last one not after a time. Raises TransactionNotFound, UsageError."""
    tid = parse_time(wanted.removeprefix("0x") if is_tid(wanted.removeprefix("0x")) else wanted)
    before = next(source.transactions(0, tid, reverse=True), None)
    exact = is_tid(wanted.removeprefix("0x"))
    if before is not None and (before.tid == tid or not exact):
        return before
    after = next(source.transactions(tid), None)
    near = [f"{tid_text(found.tid)} ({time_text(found.tid)})" for found in (before, after) if found is not None]
    hint = f"The nearest: {' and '.join(near)}." if near else "The database holds no transaction."
    what = f"no transaction {tid_text(tid)}" if exact else f"no transaction at or before {time_text(tid)}"
    raise TransactionNotFound(f"{source.info().name}: {what}", hint=hint)


def _extension(raw: bytes) -> tuple[Value, str | None]:
    if not raw:
        return None, None
    try:
        return decode_pickle(raw)[0], None
    except RecordError as exc:
        return None, exc.reason


def _places(source: Source, tid: int, revisions: list[Revision], budget: int) -> dict[int, Place]:
    deleted = [revision.oid for revision in revisions if revision.data is None]
    present = [revision.oid for revision in revisions if revision.data is not None]
    places = places_of(Snapshot(source, tid), present, budget=budget) if present else {}
    if deleted and tid:
        places |= places_of(Snapshot(source, tid - 1), deleted, budget=budget)
    return places


def _object(source: Source, revision: Revision, place: Place | None) -> ShownObject:
    old = next(islice(source.history(revision.oid, revision.tid), 1, None), None)
    return ShownObject(
        oid=revision.oid,
        path=oid_text(revision.oid) if place is None else place.path,
        part_of=place is not None and place.internal,
        class_=_class(revision.data if revision.data is not None or old is None else old.data),
        bytes=len(revision.data or b""),
        old_bytes=None if old is None or old.data is None else len(old.data),
        change=change_of(revision, old),
        restored_tid=revision.data_tid,
    )


def _class(data: bytes | None) -> str | None:
    if data is None:
        return None
    try:
        return class_text(record_class(data))
    except RecordError:
        return UNDECODABLE
