"""``zodbsh pack``."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.errors import ExitCode, Unsupported
from zodbsh.render.output import emit, report

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.db.spec import Spec
    from zodbsh.render.output import Output

_MISSES_BLOBS = "{} has blobs: files of removed ones stay, unless --blobs DIR says where they are"


@options.command(
    examples=(
        "zodbsh pack mydata.fs",
        "zodbsh pack mydata.fs --days 7 -y",
        "zodbsh pack mydata.fs --to 2026-05-17T14:30:00Z --dry-run",
    )
)
@options.database_argument
@click.option("--days", type=click.IntRange(min=0), metavar="N", help="Keep the history of the last N days.")
@click.option("--to", type=options.TIME, help="Keep the history after this time.")
@click.option("--no-gc", is_flag=True, help="Only old revisions; keep what the root does not reach.")
@click.option("--no-old", is_flag=True, help="Do not keep the file as it was before.")
@click.option("--dry-run", is_flag=True, help="Say what would go, by class; write nothing.")
@click.option("--blobs", metavar="DIR", type=options.BLOBS, help="The folder of the database's blobs.")
@options.yes_option
@options.output_options
def command(
    database: Database,
    days: int | None,
    to: int | None,
    no_gc: bool,
    no_old: bool,
    dry_run: bool,
    blobs: str | None,
    yes: bool,
    output: Output,
) -> ExitCode:
    """Remove old revisions and unreachable objects.

    A file is packed under its lock, after a scan of its framing and of the free
    space: a copy is written beside it, compared with it record by record, and
    takes its place in one step; the file as it was before stays as `.old`. Any
    other storage packs itself. The blob files of what is removed go only where
    their folder is known.

    Records that cannot be read do not tell what they refer to: then nothing is
    collected, unless --no-gc says that nothing is to be. Exit status 1: references
    lead nowhere, or something failed once the packed file was in its place.
    """
    from zodbsh.ops.packing import pack
    from zodbsh.render.pack import PackView

    tid = pack.pack_time(days=days, to=to)
    with ExitStack() as hold:
        if dry_run:
            with database.source(blob_dir=blobs) as source:
                result = pack.preview(source, tid=tid, collect=not no_gc, progress=output.progress())
        else:
            spec = _spec(database, blobs)
            if not yes and pack.misses_blobs(spec, progress=output.progress()):
                output.warn(_MISSES_BLOBS.format(database.text))
            if not options.confirm(f"Remove old revisions from {database.text}?", yes=yes, output=output):
                output.note("nothing was changed")
                return ExitCode.OK
            result = pack.pack(
                spec, tid=tid, collect=not no_gc, keep_old=not no_old, hold=hold, progress=output.progress()
            )
            if yes and result.blobs_stay:
                output.warn(_MISSES_BLOBS.format(database.text))
        (emit if dry_run else report)(PackView(result), output)
    return ExitCode.OK if result.clean else ExitCode.FINDINGS


def _spec(database: Database, blobs: str | None) -> Spec:
    from zodbsh.db.spec import parse_spec

    if database.session is not None:
        raise Unsupported(
            "a database is not packed from the shell that has it open",
            hint=f"Leave the shell, then `zodbsh pack {database.text}`; `.pack --dry-run` works here.",
        )
    spec = parse_spec(database.text)
    return spec if blobs is None else replace(spec, blob_dir=blobs)
