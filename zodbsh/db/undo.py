"""ZODB's undo of transactions: at once on a storage, or from a session, whose commit makes it last."""

from __future__ import annotations

import binascii
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from shlex import quote
from typing import TYPE_CHECKING, Any

from zodbsh.db.changes import Entry
from zodbsh.db.open import translated
from zodbsh.db.undorecords import merged_records
from zodbsh.errors import ExitCode, Unsupported, ZodbshError
from zodbsh.ids import from_bytes, tid_text, to_bytes
from zodbsh.publish import uninterrupted
from zodbsh.record.decode import class_text, record_class
from zodbsh.record.values import Global

if TYPE_CHECKING:
    from zodbsh.db.session import Session

_BATCH = 100
_SEARCHED = 100_000
_NAMED = 1_000


class NothingToUndo(ZodbshError):
    """There is no such transaction that the storage would undo."""

    code, exit_code = "nothing-to-undo", ExitCode.NOT_FOUND
    hint = "`zodbsh log` lists the transactions; what a pack has passed over cannot be undone."


class UndoStandsAlone(ZodbshError):
    """An undo and other changes cannot be one transaction: ZODB would wait for itself for ever."""

    code, exit_code = "undo-stands-alone", ExitCode.USAGE
    hint = "Nothing was written. In the shell, `.stage` or `.abort` the changes, then undo again."


class UndoNotStaged(ZodbshError):
    """An undo is the storage's own work at commit time: it cannot be kept as a stage."""

    code, exit_code = "undo-not-staged", ExitCode.USAGE
    hint = "Nothing was staged. `.commit` carries the undo out, `.abort` forgets it."


def write_undo(
    storage: Any,
    tids: Iterable[int],
    *,
    name: str,
    note: str = "",
    user: str = "",
    hold: ExitStack,
    check: Callable[[int, bytes], None] | None = None,
) -> int:
    """Undo transactions in one new transaction of a storage open for writing; return its tid.

    From the moment it is made final in a file, signals wait until ``hold`` is left. A class is imported only where it
    has to merge an object's states; ``check`` gets each object of a file and the record that came of that, and raises
    where that must not be written. Raises NothingToUndo, Unsupported, Conflict, StorageIOError (nothing was written
    then), and CommitUnknown.
    """
    from ZODB.Connection import TransactionMetaData
    from ZODB.interfaces import IMVCCStorage

    from zodbsh.db.filestore import SoundFileStorage

    tids = sorted(tids, reverse=True)
    if IMVCCStorage.providedBy(storage):
        storage = storage.new_instance()
        storage.poll_invalidations()
    if not (hasattr(storage, "supportsUndo") and storage.supportsUndo()):
        raise Unsupported(f"{name}: this storage keeps no history that could be undone")
    meta = TransactionMetaData(user, note or undo_note(tids), {})
    with translated(name):
        ids = [_undo_id(storage, tid, name) for tid in tids]
        storage.tpc_begin(meta)
        try:
            for id_ in ids:
                storage.undo(id_, meta)
            if check is not None and isinstance(storage, SoundFileStorage):
                for oid, data in merged_records(storage):
                    check(oid, data)
            storage.tpc_vote(meta)
        except BaseException:
            storage.tpc_abort(meta)
            raise
        return _finish(storage, meta, name, hold)


def undo_note(tids: Iterable[int]) -> str:
    """Return the description that an undo's transaction gets where the user gives none."""
    names = [tid_text(tid) for tid in tids]
    # A description has 65,535 bytes at most.
    return f"undo of {', '.join(names)}" if len(names) <= _NAMED else f"undo of {len(names):,} transactions"


def merge_trouble(record: bytes) -> str:
    """Say why a record's class did not merge a conflict; imports it, as ZODB has done."""
    from ZODB.ConflictResolution import BadClass, find_global

    class_ = record_class(record)
    if not isinstance(class_, Global):
        return "its class is an object of the database"
    name = class_text(class_)
    found = find_global(class_.module, class_.name)
    if isinstance(found, BadClass):
        return f"its class {name}, which might merge that, cannot be imported (-p DIR names a folder to import from)"
    if not hasattr(found, "_p_resolveConflict"):
        return f"its class {name} has no _p_resolveConflict that would merge that"
    return f"the _p_resolveConflict of its class {name} does not merge that"


def _finish(storage: Any, meta: Any, name: str, hold: ExitStack) -> int:
    from zodbsh.db.filestore import CommitUnknown, SoundFileStorage

    try:
        if isinstance(storage, SoundFileStorage):
            # An interrupt between the status byte and its fsync would leave the outcome open for nothing.
            hold.enter_context(uninterrupted())
        return from_bytes(storage.tpc_finish(meta))
    except CommitUnknown as exc:
        exc.hint = _settles(name, exc.tid)
        raise
    except Exception as exc:
        raise CommitUnknown(
            f"{name}: an error while the undo was made final: {exc}", hint=_settles(name, None)
        ) from exc


def _settles(name: str, tid: int | None) -> str:
    if tid is None:
        return f"`zodbsh log {quote(name)} -n 1` tells whether the undo is the last transaction."
    return f"`zodbsh show {quote(name)} {tid_text(tid)}` tells whether it is there."


def prepare_undo(session: Session, tid: int) -> None:
    """Have the session's next commit undo a transaction.

    Raises NothingToUndo, Unsupported, and ``session.mode_error``.
    """
    if session.mode_error is not None:
        raise session.mode_error
    if not session.db.supportsUndo():
        raise Unsupported(f"{session.spec.text}: this storage keeps no history that could be undone")
    _undo_id(session.db.storage, tid, session.spec.text)
    session.undoing[tid] = _count(session, tid)


def commit_undo(session: Session, *, note: str, user: str) -> None:
    """Undo what ``session.undoing`` names, in one transaction of its own.

    Raises UndoStandsAlone where the session has changes, Conflict where later
    transactions changed the same objects, NothingToUndo.
    """
    if session.own_changes().entries:
        raise UndoStandsAlone("an undo is a transaction of its own, and this session has uncommitted changes")
    tids = sorted(session.undoing, reverse=True)
    # A connection that has joined the transaction, with changes or without, would take the storage's lock twice.
    session.transaction.abort()
    current = session.transaction.get()
    current.note(note or undo_note(tids))
    if user:
        current.user = user
    session.db.undoMultiple([_undo_id(session.db.storage, tid, session.spec.text) for tid in tids], current)
    try:
        current.commit()
    except BaseException:
        session.transaction.abort()
        raise
    finally:
        session.undoing.clear()


def undone_entries(session: Session) -> tuple[Entry, ...]:
    """Return what the undo would bring back: each object's state before, on top of the revision that is undone.

    An object that a transaction created has none: what the undo leaves of it is nothing.
    """
    source = session.source()
    entries: dict[int, Entry] = {}
    for tid in sorted(session.undoing, reverse=True):
        for transaction in source.transactions(tid, tid):
            for revision in source.records(transaction):
                before = next(iter(source.history(revision.oid, tid - 1)), None)
                if before is None or before.data is None:
                    entries.pop(revision.oid, None)
                    continue
                later = entries.get(revision.oid)
                serial = later.serial if later is not None else None if revision.data is None else tid
                entries[revision.oid] = Entry(revision.oid, serial, before.data)
    return tuple(entries.values())


def _count(session: Session, tid: int) -> int:
    source = session.source()
    return sum(1 for transaction in source.transactions(tid, tid) for _ in source.records(transaction))


def _undo_id(storage: Any, tid: int, name: str) -> Any:
    """Return a storage's own id of a transaction for ``undo``. Raises NothingToUndo."""
    from ZODB.FileStorage import FileStorage

    if isinstance(storage, FileStorage):
        # Its list of what can be undone loads each transaction's extension, which may run anything.
        return _id_in_file(storage, tid, name)
    for first in range(0, _SEARCHED, _BATCH):
        # A negative last entry asks for so many of them.
        entries = storage.undoInfo(first, -_BATCH)
        for entry in entries:
            if _tid(entry["id"]) == to_bytes(tid):
                return entry["id"]
        if not entries:
            break
    raise _nothing(tid, name)


def _nothing(tid: int, name: str) -> NothingToUndo:
    return NothingToUndo(f"{name}: no transaction {tid_text(tid)} that can be undone")


def _id_in_file(storage: Any, tid: int, name: str) -> bytes:
    from ZODB.POSException import UndoError

    with storage._lock:
        try:
            header = storage._read_txn_header(storage._txn_find(to_bytes(tid), stop_at_pack=1))
        except UndoError as exc:
            raise _nothing(tid, name) from exc
    if header.status not in (" ", b" "):
        raise _nothing(tid, name)
    return binascii.b2a_base64(to_bytes(tid)).rstrip()


def _tid(id_: Any) -> bytes | None:
    """Return the tid within an undo id: storages give it as it is, or in base 64."""
    if not isinstance(id_, bytes):
        return None
    if len(id_) == 8:
        return id_
    try:
        return binascii.a2b_base64(id_ + b"\n")
    except binascii.Error:
        return None
