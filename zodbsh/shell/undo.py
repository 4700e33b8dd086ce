"""Undoing a transaction within the session: ZODB's own undo, joined to the current transaction."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING, Any

from zodbsh.errors import ExitCode, Unsupported, ZodbshError
from zodbsh.ids import tid_text, to_bytes
from zodbsh.times import time_text

if TYPE_CHECKING:
    from zodbsh.shell.interpreter import Shell

_BATCH = 100
_SEARCHED = 100_000


class NothingToUndo(ZodbshError):
    """There is no such transaction that ZODB would undo."""

    code, exit_code = "nothing-to-undo", ExitCode.NOT_FOUND
    hint = (
        "`.log` lists the transactions; what was packed away, or came by an undo of its own storage, cannot be undone."
    )


def prepare_undo(shell: Shell, tid: int | None) -> int:
    """Show a transaction and join its undo to the session's; nothing is written before a commit.

    None stands for the last transaction. Raises NothingToUndo, Unsupported.
    """
    session = shell.session
    if not session.writable:
        raise Unsupported(f"this session is read-only: {session.mode_reason}")
    if not session.db.supportsUndo():
        raise Unsupported("this storage cannot undo")
    wanted = session.base_tid if tid is None else tid
    entry = _find(session.db, wanted)
    shell.commands.dispatch(["show", tid_text(wanted)], shell.app)
    session.db.undo(entry["id"], session.transaction.get())
    shell.undoing.add(wanted)
    shell.say(f"{tid_text(wanted)} ({time_text(wanted)}) will be undone by .commit; .abort forgets it")
    return ExitCode.OK


def _find(db: Any, tid: int) -> Any:
    for first in range(0, _SEARCHED, _BATCH):
        # A negative `last` asks for so many entries.
        entries = db.undoInfo(first, -_BATCH)
        for entry in entries:
            if _entry_tid(entry["id"]) == to_bytes(tid):
                return entry
        if not entries:
            break
    raise NothingToUndo(f"no transaction {tid_text(tid)} that can be undone")


def _entry_tid(id_: Any) -> bytes | None:
    """Return the tid within an undo id: storages give it as such or in base 64."""
    if not isinstance(id_, bytes):
        return None
    if len(id_) == 8:
        return id_
    try:
        return binascii.a2b_base64(id_ + b"\n")
    except binascii.Error:
        return None
