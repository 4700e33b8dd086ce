"""Leaving with uncommitted changes: committed, staged or dropped, as the user says; never lost without a word."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from zodbsh.errors import ExitCode, ZodbshError
from zodbsh.ops.places import keep_with_places
from zodbsh.shell.commit import commit
from zodbsh.shell.dot import run_table
from zodbsh.shell.interpreter import EOF
from zodbsh.shell.stage import is_staged

if TYPE_CHECKING:
    from zodbsh.db.changes import Dirty
    from zodbsh.shell.interpreter import Shell


def may_leave(shell: Shell) -> bool:
    """Ask what becomes of uncommitted changes; True where the shell may end.

    Changes that are all on disk already, as a stage, are nothing to ask about.
    A terminal that is gone cannot answer: then they are staged.
    """
    if shell.session is not shell.home:
        if not _settled(shell):
            return False
        shell.return_home()
    return _settled(shell)


def _settled(shell: Shell) -> bool:
    """Settle what is uncommitted in the session that is looked at."""
    session = shell.session
    dirty = None
    try:
        dirty = shell.dirty()
        if not dirty and not session.undoing:
            return True
        if not dirty.silent and not session.undoing and is_staged(session):
            shell.say("the stage is kept: `zodbsh diff` shows it, `zodbsh commit` and `zodbsh abort` decide about it")
            return True
        shell.show_review(dirty)
    except ZodbshError as exc:
        # What cannot be saved can still be dropped.
        shell.commands.show(exc, shell.output)
    return _decide(shell, dirty)


def rescue(shell: Shell) -> None:
    """Stage what is uncommitted, when the program is being ended from outside."""
    if shell.session.dirty_count():
        # The storage's work at commit time cannot be kept; the changes can.
        shell.session.undoing.clear()
        with suppress(ZodbshError, OSError):
            keep_with_places(shell.session)


def _decide(shell: Shell, dirty: Dirty | None) -> bool:
    if shell.ask is None:
        return True
    choices = {"c": "[c]ommit", "s": "[s]tage", "a": "[a]bort"}
    session = shell.session
    if not session.writable:
        del choices["c"]
    if session.spec.kind == "memory" or session.python2 or session.undoing:
        # It ends with the process, nothing can ever be committed to it, or it is the storage's work.
        del choices["s"]
    what = "an undo that is not committed (it cannot be staged)" if session.undoing else "uncommitted changes"
    answer = shell.ask(f"Leave with {what}: {', '.join(choices.values())}, or stay [Enter]? ", "".join(choices))
    if answer == "a":
        return run_table(shell, ["abort", "--yes"]) == ExitCode.OK
    if answer in ("c", "s") and dirty is not None and not shell.settle(dirty, commit=answer == "c"):
        return False
    if answer == "c":
        return commit(shell) == ExitCode.OK
    if answer in ("s", EOF):
        return shell.stage() == ExitCode.OK
    return False
