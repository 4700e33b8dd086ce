"""``zodbsh run``."""

from __future__ import annotations

import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.errors import UsageError
from zodbsh.render.output import emit

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.ops.run import Script
    from zodbsh.render.output import Output


@options.command(
    examples=(
        'zodbsh run mydata.fs -c "root.counter = 1"',
        "zodbsh run mydata.fs -p . -m account -c \"root.accounts['account-1'].deposit(10)\"",
        "zodbsh run mydata.fs migrate.py --dry-run",
        "zodbsh run mydata.fs report.py -- --year 2026",
        "zodbsh run mydata.fs - < script.py",
    ),
)
@options.database_argument
@click.argument("script", required=False, metavar="[SCRIPT]", type=click.Path())
@click.argument("args", nargs=-1, metavar="[ARGS]...")
@click.option("-c", "--code", metavar="CODE", help="Run CODE instead of a file.")
@options.path_option
@click.option("-m", "--module", "modules", multiple=True, metavar="MODULE", help="Import MODULE first (repeatable).")
@click.option("--commit", is_flag=True, help="Commit at the end, instead of staging.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and drop it.")
@click.option("--note", default="", metavar="TEXT", help="The transaction's description.")
@click.option("--user", default="", metavar="NAME", help="The transaction's user.")
@click.option("--blobs", metavar="DIR", type=options.BLOBS, help="The folder of the database's blobs.")
@options.output_options
def command(
    database: Database,
    script: str | None,
    args: tuple[str, ...],
    code: str | None,
    import_paths: tuple[str, ...],
    modules: tuple[str, ...],
    commit: bool,
    dry_run: bool,
    note: str,
    user: str,
    blobs: str | None,
    output: Output,
) -> int:
    """Run a script in one transaction.

    SCRIPT is a file, - for standard input (also meant where nothing is named and standard
    input is no terminal), or CODE. Names: root, db, connection, transaction, and the modules of -m.

    What the script commits itself is committed. What it leaves uncommitted is staged: kept beside
    the database, nothing locked, nothing written to it, until `zodbsh commit` or `zodbsh abort`. A
    script that fails stages nothing, and ends with 1.
    """
    from zodbsh.db.spec import parse_spec
    from zodbsh.ops.run import run
    from zodbsh.render.run import RunView, show_notes

    if commit and dry_run:
        raise UsageError("--commit and --dry-run exclude each other")
    text = _script(script, args, code)
    result = run(
        parse_spec(database.text), text, import_paths=import_paths, modules=modules, blobs=blobs,
        commit=commit, dry_run=dry_run, note=note, user=user,
    )  # fmt: skip
    if output.format != "table" or result.diff is not None:
        emit(RunView(result), output)
    show_notes(result, output)
    return result.exit_code


def _script(path: str | None, args: tuple[str, ...], code: str | None) -> Script:
    from zodbsh.ops.run import Script, read_script
    from zodbsh.render.output import is_terminal

    if code is not None:
        # Code that is written below the quote is indented like the command around it.
        return Script(dedent(code), "<code>", ("-c", *(() if path is None else (path,)), *args))
    if path is None and is_terminal(sys.stdin):
        raise UsageError("nothing to run", hint="Name a SCRIPT, or give the code with -c.")
    if path is None or path == "-":
        return Script(sys.stdin.read(), "<stdin>", ("-", *args))
    return Script(read_script(path), path, (path, *args))
