"""What ``.help`` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zodbsh.errors import UsageError
from zodbsh.shell.dot import find_command, shell_commands, table_names

if TYPE_CHECKING:
    from zodbsh.shell.interpreter import Shell

_KEYS = """\
Keys: Tab completes; Alt-Enter begins a line; Ctrl-D leaves; Ctrl-C clears the
line or stops what runs.
Names: root, db, connection, transaction, the modules of -m, and _ for the last
value. A line that begins with a space is not kept in the history."""

_WIDTH = 79


def overview(shell: Shell) -> str:
    """Return the list of dot commands, each with its first sentence."""
    names = table_names(shell)
    width = max(map(len, (*shell_commands(shell), *names))) + 2
    room = _WIDTH - width - 3
    own = {name: command.get_short_help_str(room) for name, command in shell_commands(shell).items()}
    group = shell.commands.group
    table = {}
    for name in names:
        command = group.get_command(click.Context(group), name)
        if command is not None:
            table[name] = command.get_short_help_str(room)
    lines = ["Anything else than a dot command is Python."]
    for heading, commands in (("Database:", table), ("Shell:", own)):
        lines += ["", heading, *(f"  {'.' + name:<{width}} {help_}" for name, help_ in commands.items())]
    return "\n".join([*lines, "", "`.help COMMAND` shows a command's options.", _KEYS])


def command_help(shell: Shell, name: str) -> str:
    """Return one dot command's help. Raises UsageError for an unknown one."""
    command = find_command(shell, name)
    if command is None:
        raise UsageError(f"no command .{name}", hint="`.help` lists the commands.")
    context = click.Context(command, info_name=f".{name}", obj=shell.app, max_content_width=100)
    return command.get_help(context)
