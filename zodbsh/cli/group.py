"""The command table, and the group that imports a command when it is called.

One line a command: its module is ``zodbsh.cli.cmd_<verb>`` and holds
``command``. The help line stands here so that ``zodbsh --help`` imports none of
them; a test compares it with the command's own.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, NamedTuple

import click

from zodbsh import __version__


class Entry(NamedTuple):
    """A command as the table knows it: its heading in the help, and its help line."""

    group: str
    help: str


COMMANDS: dict[str, Entry] = {
    "init": Entry("work", "Create a database."),
    "shell": Entry("work", "Explore and change a database with Python."),
    "run": Entry("work", "Run a script in one transaction."),
    "status": Entry("transaction", "Show what is staged."),
    "diff": Entry("transaction", "Show what changes, attribute by attribute."),
    "commit": Entry("transaction", "Apply what is staged, as one transaction."),
    "abort": Entry("transaction", "Drop what is staged."),
    "undo": Entry("transaction", "Undo transactions, after a look at what that changes."),
    "inspect": Entry("look", "Show what a database is, or what an object is."),
    "find": Entry("look", "Find objects by class, size, reference or the values they hold."),
    "log": Entry("look", "List the transactions, or the revisions of an object, newest first."),
    "show": Entry("look", "Show one transaction and every object in it."),
    "usage": Entry("space", "Show what takes the space."),
    "pack": Entry("space", "Remove old revisions and unreachable objects."),
    "refs": Entry("references", "Show what an object refers to, and what refers to it."),
    "why": Entry("references", "Show the path from the root by which an object lives."),
    "verify": Entry("health", "Check whether a database is sound."),
    "recover": Entry("health", "Save what is sound in a damaged file into a new one."),
    "backup": Entry("safety copies", "Back a database up, or look at its backups."),
    "restore": Entry("safety copies", "Restore a database from its backups."),
}

GROUPS = ("work", "transaction", "look", "space", "references", "health", "safety copies", "move", "pictures")


class LazyGroup(click.Group):
    """A click group over COMMANDS."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in the order of the help."""
        return [verb for group in GROUPS for verb, entry in COMMANDS.items() if entry.group == group]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, None for an unknown verb."""
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"zodbsh.cli.cmd_{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve like click, but suggest verbs without importing them all."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            from zodbsh.near import near_names

            near = near_names(name, COMMANDS, limit=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"no command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings."""
        width = max(map(len, COMMANDS))
        for group in GROUPS:
            rows = [(verb.ljust(width), entry.help) for verb, entry in COMMANDS.items() if entry.group == group]
            if rows:
                with formatter.section(group.capitalize()):
                    formatter.write_dl(rows)


def _show_version(ctx: click.Context, _parameter: click.Parameter, value: Any) -> None:
    if value and not ctx.resilient_parsing:
        from zodbsh.engine import engine_name

        click.echo(f"zodbsh {__version__} ({engine_name()} engine)")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    name="zodbsh",
    subcommand_metavar="COMMAND DATABASE [TARGET] [OPTIONS]",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`zodbsh COMMAND --help` shows a command's options and examples.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version, and which engine runs.",
)
def group() -> None:
    """A shell, a staging area and a health tool for ZODB databases.

    DATABASE is a path to a Data.fs, an address (zeo://, postgres://, memory://, ...),
    a ZConfig file, or a name from the configuration. TARGET is an object: its oid (0x2a),
    or its path from the root (root.accounts['account-1'], /accounts/account-1).
    """
