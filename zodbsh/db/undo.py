"""ZODB's undo of a transaction, from a session: a commit makes it last, an abort forgets it."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any

from zodbsh.db.changes import Entry
from zodbsh.errors import ExitCode, Unsupported, ZodbshError
from zodbsh.ids import tid_text, to_bytes

if TYPE_CHECKING:
    from zodbsh.db.session import Session

_BATCH = 100
_SEARCHED = 100_000


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


def prepare_undo(session: Session, tid: int) -> None:
    """Have the session's next commit undo a transaction.

    Raises NothingToUndo, Unsupported, and ``session.mode_error``.
    """
    if session.mode_error is not None:
        raise session.mode_error
    if not session.db.supportsUndo():
        raise Unsupported("this storage keeps no history that could be undone")
    _undo_id(session.db, tid)
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
    current.note(note or f"undo of {', '.join(map(tid_text, tids))}")
    if user:
        current.user = user
    session.db.undoMultiple([_undo_id(session.db, tid) for tid in tids], current)
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


def _undo_id(db: Any, tid: int) -> Any:
    for first in range(0, _SEARCHED, _BATCH):
        # A negative last entry asks for so many of them.
        entries = db.undoInfo(first, -_BATCH)
        for entry in entries:
            if _tid(entry["id"]) == to_bytes(tid):
                return entry["id"]
        if not entries:
            break
    raise NothingToUndo(f"no transaction {tid_text(tid)} that can be undone")


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
