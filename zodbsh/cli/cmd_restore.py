"""``zodbsh restore``."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from shlex import quote
from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.errors import ExitCode, UsageError
from zodbsh.ids import MAX_ID
from zodbsh.render.output import is_terminal, report

if TYPE_CHECKING:
    from zodbsh.render.output import Output


@options.command(
    examples=(
        "zodbsh restore /backups/mydata restored.fs",
        "zodbsh restore /backups/mydata mydata.fs --force --at '2 hours ago'",
        "zodbsh restore /backups/mydata --to-stdout | zstd > mydata.fs.zst",
    )
)
@click.argument("folder", metavar="DIR", type=click.Path(readable=False))
@click.argument("out", metavar="OUT", type=click.Path(readable=False), required=False)
@click.option("--at", type=options.TIME, help="The newest state at or before this time.")
@click.option("--force", is_flag=True, help="Replace OUT; it stays as `.old`.")
@click.option("--to-stdout", is_flag=True, help="Write the file to stdout, without blobs.")
@click.option("--blobs", metavar="DIR", type=click.Path(), help="Where blobs go [default: OUT.blobs].")
@click.option("--no-blobs", is_flag=True, help="Only the file.")
@click.option("--copy-blobs", is_flag=True, help="Copy blobs that could be hard-linked.")
@options.output_options
def command(
    folder: str,
    out: str | None,
    at: int | None,
    force: bool,
    to_stdout: bool,
    blobs: str | None,
    no_blobs: bool,
    copy_blobs: bool,
    output: Output,
) -> ExitCode:
    """Restore a database from its backups.

    DIR is what `zodbsh backup` or repozo wrote. The file gets its name when it is
    complete and was checked; nothing is overwritten without --force. With --at the
    database ends with the last transaction that is not later.

    Exit status 1: the backup lacks files of blobs, or nothing tells whether a step of
    it is what was written; 6: it is damaged, nothing was written.
    """
    tid = MAX_ID if at is None else at
    if to_stdout:
        if out is not None or force or blobs is not None:
            raise UsageError("--to-stdout goes without OUT, --force and --blobs")
        return _to_stdout(folder, tid, output)
    if out is None:
        raise UsageError("where to?", hint=f"`zodbsh restore {quote(folder)} OUT`, or --to-stdout.")
    if out == "-":
        raise UsageError(
            "`-` is no name for a database", hint="`--to-stdout` writes to stdout; a file of that name is `./-`."
        )
    if no_blobs and blobs is not None:
        raise UsageError("--blobs and --no-blobs exclude each other")
    from zodbsh.ops.backups.restore import restore
    from zodbsh.render.backup import warn_quietly
    from zodbsh.render.restore import RestoreView

    with ExitStack() as hold:
        result = restore(
            folder, out, at=tid, force=force, blobs=blobs, with_blobs=not no_blobs, copy_blobs=copy_blobs, hold=hold,
            progress=output.progress(),
        )  # fmt: skip
        report(RestoreView(result), output)
        warn_quietly(result.findings, output)
    return ExitCode.FINDINGS if result.findings else ExitCode.OK


def _to_stdout(folder: str, tid: int, output: Output) -> ExitCode:
    stream = getattr(output.out, "buffer", None)
    if stream is None or is_terminal(output.out):
        raise UsageError("a database is nothing for a terminal", hint="Redirect stdout to a file or a pipe.")
    from zodbsh.ops.backups.restore import stream as restore_stream

    result = restore_stream(folder, stream, at=tid, progress=output.progress())
    if result.blobs:
        output.note(f"without {result.blobs:,} blobs: `zodbsh restore {quote(folder)} OUT` restores them, too")
    for finding in result.findings:
        output.warn(f"{finding.kind}: {finding.message}")
    sys.stdout.flush()
    return ExitCode.FINDINGS if result.findings else ExitCode.OK
