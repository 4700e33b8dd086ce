"""``zodbsh recover``."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.errors import ExitCode, Unsupported
from zodbsh.render.output import report

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.render.output import Output


@options.command(
    examples=(
        "zodbsh recover Data.fs recovered.fs",
        "zodbsh recover Data.fs recovered.fs --dry-run",
        "zodbsh recover Data.fs recovered.fs --blobs /srv/blobs --all",
    )
)
@options.database_argument
@click.argument("out", metavar="OUT", type=click.Path())
@click.option("--dry-run", is_flag=True, help="Say what would be kept and lost; write nothing.")
@click.option("--all", "everything", is_flag=True, help="Show every loss, not the first few.")
@click.option("--blobs", metavar="DIR", type=options.BLOBS, help="Where the blob files are.")
@click.option("--no-blobs", is_flag=True, help="Leave the blob files alone.")
@options.output_options
def command(
    database: Database, out: str, dry_run: bool, everything: bool, blobs: str | None, no_blobs: bool, output: Output
) -> ExitCode:
    """Save what is sound in a damaged file into a new one.

    DATABASE is only read, and may be in use. Every undamaged record is kept,
    also those of damaged transactions and those behind missing or inserted
    bytes. OUT appears when it is complete and checked, with an index, and with
    the blob files of what was kept in OUT.blobs.

    Exit status 0 (nothing was lost or repaired, the new file is sound), 1 (losses,
    repairs or findings, as listed), 6 (there is nothing to recover: no OUT).
    """
    from zodbsh.db.spec import parse_spec
    from zodbsh.ops.recovery.recover import recover
    from zodbsh.render.recover import RecoverView

    if database.session is not None:
        raise Unsupported("recover is not for the database of a shell", hint="Use it outside of the shell.")
    spec = parse_spec(database.text)
    if spec.kind != "file":
        raise Unsupported(f"{database.text} is no file; recover reads a FileStorage")
    if blobs is not None:
        spec = replace(spec, blob_dir=blobs)
    with ExitStack() as hold:
        result = recover(spec, out, blobs=not no_blobs, dry_run=dry_run, hold=hold, progress=output.progress())
        report(RecoverView(result, everything), output)
    return ExitCode.OK if result.clean else ExitCode.FINDINGS
