"""Committing from the shell: not to be cut in two by Ctrl-C, and not to cost the changes when it fails."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from zodbsh.errors import ExitCode, ZodbshError
from zodbsh.shell.dot import run_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

    from zodbsh.db.changes import Pending
    from zodbsh.shell.interpreter import Shell


def commit(shell: Shell, arguments: Sequence[str] = ()) -> int:
    """Run the CLI's ``commit`` on the session; return its exit status, errors are shown.

    ZODB drops the changes of a commit that fails. They are put back, as
    uncommitted as they were, except where the outcome is not known.
    """
    session = shell.session
    stage_id = session.stage_id or ""
    pending = None
    with suppress(ZodbshError):
        pending = session.own_changes()
    with _interrupts_held(shell):
        status = run_table(shell, ["commit", *arguments])
    if status in (ExitCode.OK, ExitCode.UNKNOWN) or pending is None or session.dirty_count():
        return status
    session.transaction.abort()
    if pending.entries:
        _put_back(shell, pending, stage_id)
    return status


def _put_back(shell: Shell, pending: Pending, stage_id: str) -> None:
    try:
        shell.session.restore(pending, stage_id=stage_id)
    except (ZodbshError, OSError) as exc:
        shell.commands.show(exc, shell.output)
        shell.say("warning: the changes could not be kept")
    else:
        shell.say("the changes are still uncommitted; names you gave may hold objects that are not part of them")


@contextmanager
def _interrupts_held(shell: Shell) -> Iterator[None]:
    """Let the first Ctrl-C wait until the block is done; a second one breaks it off."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def wait(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, before)
        shell.say("the commit is being finished; Ctrl-C again breaks it off, and then its outcome may be unknown")

    before = signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
