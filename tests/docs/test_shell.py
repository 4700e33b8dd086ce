"""docs/shell.md names every dot command that only the shell has, and every key."""

from __future__ import annotations

from pathlib import Path

from zodbsh.cli.context import AppContext
from zodbsh.cli.dispatch import dispatch, show
from zodbsh.cli.group import group
from zodbsh.db.session import Session
from zodbsh.shell.dot import shell_commands
from zodbsh.shell.interpreter import Commands, Shell

TEXT = (Path(__file__).parents[2] / "docs" / "shell.md").read_text()


def test_every_command_of_the_shell_is_documented():
    """The table of docs/shell.md has the shell's own commands, no more and no less, with their arguments."""
    with Session.open(":memory:") as session:
        shell = Shell(session, AppContext(session=session), Commands(group, dispatch, show))
        commands = shell_commands(shell)
        usage = {
            f".{name} {' '.join(param.metavar for param in command.params if param.metavar)}".rstrip()
            for name, command in commands.items()
        }
        shell.close()
    documented = {line.split("`")[1].replace("\\|", "|") for line in TEXT.splitlines() if line.startswith("| `.")}
    assert documented == usage
