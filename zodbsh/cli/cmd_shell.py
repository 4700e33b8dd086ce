"""``zodbsh shell``: parse, open the session, hand it to the prompt or to the script."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.cli.context import AppContext, Database
from zodbsh.ids import MAX_ID
from zodbsh.render.output import is_terminal

if TYPE_CHECKING:
    from zodbsh.render.output import Output
    from zodbsh.shell.interpreter import Shell

# They open a database of their own, or need the lock that a session holds; the shell has an undo of its own.
HIDDEN = frozenset({"init", "shell", "run", "pack", "undo"})


@options.command(
    examples=(
        "zodbsh shell mydata.fs",
        "zodbsh shell mydata.fs -p . -m account",
        "zodbsh shell mydata.fs --at '2 hours ago'",
        "zodbsh shell mydata.fs -c \"root.accounts['account-1'].balance\"",
        "zodbsh shell old.fs --no-import",
        "zodbsh shell mydata.fs < script.txt",
    )
)
@options.database_argument
@options.path_option
@click.option("-m", "--module", "modules", multiple=True, metavar="MODULE", help="Import MODULE first (repeatable).")
@click.option("-c", "--code", metavar="CODE", help="Run CODE, show its values, and end.")
@click.option("--read-only", is_flag=True, help="Do not write, take no lock.")
@options.at_option
@click.option("--no-import", is_flag=True, help="Import no class: show stand-ins built from the records.")
@click.option("--blobs", metavar="DIR", type=options.BLOBS, help="The folder of the database's blobs.")
@click.option("--vi", is_flag=True, help="Edit with vi's keys instead of emacs'.")
@click.option("--no-history", is_flag=True, help="Keep nothing of what is typed.")
@options.common_options
def command(
    database: Database,
    import_paths: tuple[str, ...],
    modules: tuple[str, ...],
    code: str | None,
    read_only: bool,
    at: int,
    no_import: bool,
    blobs: str | None,
    vi: bool,
    no_history: bool,
    output: Output,
) -> int:
    """Explore and change a database with Python.

    Names: root, db, connection, transaction, and the modules of -m. Commands of zodbsh follow a dot
    (.help lists them). Nothing is written before a commit; what is dirty is shown first. Where
    another process holds the database it opens read-only, and what is changed can be staged.

    With -c, or with a script on standard input, nothing is asked: values are shown, and what a run that
    succeeds leaves uncommitted is staged, as by `zodbsh run`.
    """
    from zodbsh.cli.dispatch import dispatch, show
    from zodbsh.cli.group import group
    from zodbsh.db.session import Session
    from zodbsh.db.spec import parse_spec
    from zodbsh.shell.interpreter import Commands, Shell

    spec = parse_spec(database.text)
    if blobs is not None:
        from dataclasses import replace

        spec = replace(spec, blob_dir=blobs)
    session = Session.open(
        spec,
        read_only=read_only,
        at=None if at == MAX_ID else at,
        import_paths=import_paths,
        modules=modules,
        no_import=no_import,
    )
    app = AppContext(session=session, defaults=output)
    commands = Commands(group, dispatch, show, HIDDEN)
    shell = Shell(session, app, commands, import_paths=import_paths, no_import=no_import)
    try:
        return _run(shell, code, vi=vi, history=not no_history)
    finally:
        shell.close()


def _run(shell: Shell, code: str | None, *, vi: bool, history: bool) -> int:
    from zodbsh.shell.banner import banner_lines
    from zodbsh.stage.live import continue_stage

    stage = continue_stage(shell.home)
    interactive = code is None and is_terminal(sys.stdin) and is_terminal(sys.stdout)
    if not shell.output.quiet:
        for line in banner_lines(shell.home, stage, interactive=interactive):
            shell.say(line)
    if interactive:
        from zodbsh.shell.history import open_history
        from zodbsh.shell.repl import interact

        keep = history and shell.home.spec.kind != "memory"
        return interact(shell, history=open_history(shell.home.spec.identity, keep=keep), vi=vi)
    from zodbsh.shell.script import run_code, run_script

    return run_script(shell, sys.stdin, name="<stdin>") if code is None else run_code(shell, code)
