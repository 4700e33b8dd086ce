"""``zodbsh verify``."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.errors import ExitCode
from zodbsh.render.output import emit

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.render.output import Output

LEVELS = ("framing", "records", "references", "all")


@options.command(
    examples=(
        "zodbsh verify mydata.fs",
        "zodbsh verify mydata.fs --level references",
        "zodbsh verify mydata.fs --write-manifest mydata.manifest",
        "zodbsh verify mydata.fs --manifest mydata.manifest",
    )
)
@options.database_argument
@click.option("--level", type=click.Choice(LEVELS), default="all", help="How deep to look [default: all].")
@click.option("--all", "everything", is_flag=True, help="Show every finding, not the first of each kind.")
@click.option("--manifest", metavar="FILE", type=click.Path(), help="Compare every record with this manifest.")
@click.option("--write-manifest", "write", metavar="FILE", type=click.Path(), help="Record a digest of every record.")
@click.option("--blobs", "blob_dir", metavar="DIR", type=options.BLOBS, help="Where the blob files are.")
@options.at_option
@options.output_options
def command(
    database: Database,
    level: str,
    everything: bool,
    manifest: str | None,
    write: str | None,
    blob_dir: str | None,
    at: int,
    output: Output,
) -> ExitCode:
    """Check whether a database is sound.

    Framing: every header, length and pointer, and the saved index. Records: each decodes.
    References: each leads to an object, in every record at its time and now; what nothing
    leads to is counted as garbage. All: the structure of BTrees, and blob files. Nothing
    is imported, nothing is written, and damage does not end the check.

    What a record holds has no checksum in the file: --write-manifest records digests
    that a later --manifest compares. Exit status 0 (sound), 1 (findings), 6 (damaged).
    """
    from zodbsh.ops.verify import verify
    from zodbsh.render.verify import VerifyView

    with database.source(blob_dir=blob_dir, unchecked=True) as source:
        result = verify(source, at=at, level=level, manifest=manifest, write=write, progress=output.progress())
        if write is not None and result.manifest is None:
            output.warn(f"no manifest was written to {write}: the file is damaged")
        # A reader that has seen enough does not change what was found.
        with suppress(BrokenPipeError):
            emit(VerifyView(result, everything), output)
    if result.damaged:
        return ExitCode.DAMAGED
    return ExitCode.OK if result.ok else ExitCode.FINDINGS
