"""``zodbsh backup``."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.errors import ExitCode, UsageError
from zodbsh.render.output import emit, report

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.render.output import Output


@options.command(
    examples=(
        "zodbsh backup mydata.fs /backups/mydata",
        "zodbsh backup mydata.fs /backups/mydata --full --compress --keep 4",
        "zodbsh backup --list /backups/mydata",
        "zodbsh backup --verify /backups/mydata",
    )
)
@click.argument("database", cls=options.DatabaseArgument, metavar="DATABASE", required=False)
@click.argument("folder", metavar="DIR", type=click.Path(readable=False), required=False)
@click.option("--full", is_flag=True, help="A full backup, also where an increment would do.")
@click.option("--quick", is_flag=True, help="Do not read the last backup's files before going on.")
@click.option("--compress", is_flag=True, help="Compress with gzip.")
@click.option(
    "--keep", type=click.IntRange(min=1), metavar="N", help="Keep N full backups and their increments; remove older."
)
@click.option("--blobs", metavar="DIR", type=options.BLOBS, help="The folder of the database's blobs.")
@click.option("--copy-blobs", is_flag=True, help="Copy blobs that could be hard-linked.")
@click.option("--list", "listing", is_flag=True, help="List what is in DIR.")
@click.option("--verify", is_flag=True, help="Check what is in DIR.")
@options.output_options
def command(
    database: Database | None,
    folder: str | None,
    full: bool,
    quick: bool,
    compress: bool,
    keep: int | None,
    blobs: str | None,
    copy_blobs: bool,
    listing: bool,
    verify: bool,
    output: Output,
) -> ExitCode:
    """Back a database up, or look at its backups.

    What is new since the last backup goes into DIR as an increment; the whole database
    does where that is no continuation of it, as after a pack, or where files of the last
    backup are not what was written: they are read first, unless --quick says no. The
    database is only read, also beside a writer or a pack; a damaged one is refused. Blobs
    are hard-linked, or copied once. The backup counts when it was read back, and only then
    --keep removes older ones. The files are repozo's, so that `repozo -R` restores them, too.

    Exit status 1: the backup was made, but files of blobs are missing, or were in the
    backup; the last backup was damaged; bytes of the database have changed in place; or
    older backups could not be removed. With --verify: something was found.
    """
    if listing or verify:
        return _look(
            database, folder, full or quick or compress or keep or blobs or copy_blobs, listing, verify, output
        )
    if database is None or folder is None:
        raise UsageError("a backup needs a database and a folder", hint="zodbsh backup DATABASE DIR")
    from zodbsh.db.spec import parse_spec
    from zodbsh.ops.backups.backup import backup
    from zodbsh.render.backup import BackupView, warn_quietly

    spec = parse_spec(database.text)
    if blobs is not None:
        spec = replace(spec, blob_dir=blobs)
    result = backup(
        spec, folder, full=full, quick=quick, compress=compress, keep=keep, copy_blobs=copy_blobs,
        progress=output.progress(),
    )  # fmt: skip
    for note in filter(None, (*result.notes, result.pruned.note)):
        output.warn(note)
    report(BackupView(result), output)
    warn_quietly(result.findings, output)
    return ExitCode.FINDINGS if result.findings else ExitCode.OK


def _look(
    database: Database | None, folder: str | None, more: object, listing: bool, verify: bool, output: Output
) -> ExitCode:
    """Do ``--list`` or ``--verify``: of the two arguments there is only the folder, the first one."""
    if listing and verify:
        raise UsageError("--list and --verify exclude each other")
    if more:
        raise UsageError("the other options are for making a backup")
    # In the shell the database takes no word from the line.
    if database is not None and database.session is None:
        if folder is not None:
            raise UsageError("there is one folder to look at", hint=f"zodbsh backup --list {quote(folder)}")
        folder = database.text
    if folder is None:
        raise UsageError("which folder?", hint="zodbsh backup --list DIR")
    from zodbsh.render.backup import BackupCheckView, BackupListView

    if listing:
        from zodbsh.ops.backups.listing import list_backups

        emit(BackupListView(list_backups(folder)), output)
        return ExitCode.OK
    from zodbsh.ops.backups.check import check_backups

    result = check_backups(folder, progress=output.progress())
    with suppress(BrokenPipeError):
        # Where something was found, cron is to send it.
        (report if result.ok else emit)(BackupCheckView(result), output)
    return ExitCode.OK if result.ok else ExitCode.FINDINGS
