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
    shell.return_home()
    dirty = None
    try:
        dirty = shell.dirty()
        if not dirty and not shell.home.undoing:
            return True
        if not dirty.silent and not shell.home.undoing and is_staged(shell.home):
            shell.say("the stage is kept: `zodbsh diff` shows it, `zodbsh commit` and `zodbsh abort` decide about it")
            return True
        shell.show_review(dirty)
    except ZodbshError as exc:
        # What cannot be saved can still be dropped.
        shell.commands.show(exc, shell.output)
    return _decide(shell, dirty)


def rescue(shell: Shell) -> None:
    """Stage what is uncommitted, when the program is being ended from outside."""
    if shell.home.dirty_count():
        with suppress(ZodbshError, OSError):
            keep_with_places(shell.home)


def _decide(shell: Shell, dirty: Dirty | None) -> bool:
    if shell.ask is None:
        return True
    choices = {"c": "[c]ommit", "s": "[s]tage", "a": "[a]bort"}
    if not shell.home.writable:
        del choices["c"]
    if shell.home.spec.kind == "memory" or shell.home.python2:
        # It ends with the process, or nothing can ever be committed to it.
        del choices["s"]
    answer = shell.ask(
        f"Leave with uncommitted changes: {', '.join(choices.values())}, or stay [Enter]? ", "".join(choices)
    )
    if answer == "a":
        return run_table(shell, ["abort", "--yes"]) == ExitCode.OK
    if answer in ("c", "s") and dirty is not None and not shell.settle(dirty, commit=answer == "c"):
        return False
    if answer == "c":
        return commit(shell) == ExitCode.OK
    if answer in ("s", EOF):
        return shell.stage() == ExitCode.OK
    return False
