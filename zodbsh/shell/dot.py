"""Dot commands: the CLI's own commands on the live session, and the few that only a shell can have."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

from zodbsh.errors import ExitCode, UsageError, ZodbshError
from zodbsh.shell.words import split_words

if TYPE_CHECKING:
    from zodbsh.shell.interpreter import Shell

# Commands after which a pager has nothing to show.
_ACTS = frozenset({"commit", "abort"})


def run_dot(shell: Shell, line: str) -> int:
    """Run one dot command and return its exit status; errors are shown, not raised.

    Raises Leave (``.quit``), KeyboardInterrupt, and the program's own signals.
    """
    try:
        name, *rest = split_words(line)
    except UsageError as exc:
        return shell.commands.show(exc, shell.output)
    name = name.removeprefix(".")
    own = shell_commands(shell).get(name)
    if own is not None:
        return _run_own(shell, own, rest)
    if name not in table_names(shell):
        return shell.commands.show(_unknown(shell, name), shell.output)
    if name == "commit" and not {"-h", "--help"} & set(rest):
        from zodbsh.shell.commit import commit

        return commit(shell, rest) if _may_commit(shell) else ExitCode.FINDINGS
    run = partial(run_table, shell, [name, *rest])
    if shell.pager and name not in _ACTS:
        from zodbsh.shell.pager import paged

        return paged(shell.app, run)
    return run()


def table_names(shell: Shell) -> list[str]:
    """Return the names of the CLI's commands that a session has."""
    group = shell.commands.group
    return [name for name in group.list_commands(click.Context(group)) if name not in shell.commands.hidden]


def find_command(shell: Shell, name: str) -> click.Command | None:
    """Return a dot command by its name without the dot, None for an unknown one."""
    own = shell_commands(shell).get(name)
    if own is not None:
        return own
    if name not in table_names(shell):
        return None
    return shell.commands.group.get_command(click.Context(shell.commands.group), name)


def shell_commands(shell: Shell) -> dict[str, click.Command]:
    """Return the commands that only a shell has, by name."""
    from zodbsh.shell import actions

    return actions.table(shell)


def run_table(shell: Shell, arguments: list[str]) -> int:
    """Run one of the CLI's commands on the session, without the shell's own questions."""
    # The command says itself what it committed.
    shell.watch.quiet = True
    try:
        return shell.commands.dispatch(arguments, shell.app)
    finally:
        shell.watch.quiet = False


def _run_own(shell: Shell, command: click.Command, rest: list[str]) -> int:
    try:
        with command.make_context(f".{command.name}", rest, obj=shell.app) as ctx:
            result = command.invoke(ctx)
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except (ZodbshError, click.ClickException, click.Abort, OSError) as exc:
        return shell.commands.show(exc, shell.output)
    return int(result) if isinstance(result, int) else ExitCode.OK


def _may_commit(shell: Shell) -> bool:
    try:
        return shell.review()
    except ZodbshError as exc:
        shell.commands.show(exc, shell.output)
        return False


def _unknown(shell: Shell, name: str) -> UsageError:
    from zodbsh.near import near_names

    names = [*shell_commands(shell), *table_names(shell)]
    near = near_names(name, names, limit=1)
    hint = f"Did you mean .{near[0]}?" if near else "`.help` lists the commands."
    return UsageError(f"no command .{name}", hint=hint)
