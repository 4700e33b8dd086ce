"""``zodbsh diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.render.output import emit

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.render.output import Output


@options.command(
    examples=(
        "zodbsh diff mydata.fs",
        "zodbsh diff mydata.fs \"root.accounts['account-1']\"",
        "zodbsh diff mydata.fs --from '2 days ago'",
        "zodbsh diff mydata.fs --from 03d1f2a3b4c5d6e7 --to 03d1f2a3b4c5d6f0",
    )
)
@options.database_argument
@options.target_argument()
@click.option("--from", "first", type=options.TIME, help="The earlier state: after this transaction, at this time.")
@click.option("--to", "last", type=options.TIME, help="The later state [default: the latest].")
@click.option("--blobs", "blob_dir", metavar="DIR", type=options.BLOBS, help="Where the blob files are.")
@options.output_options
def command(
    database: Database,
    target: str | None,
    first: int | None,
    last: int | None,
    blob_dir: str | None,
    output: Output,
) -> None:
    """Show what changes, attribute by attribute.

    Of what is staged (in the shell, of what is uncommitted); with --from or --to, between two states
    of the database: --to alone means the one transaction. A BTree is shown by key, text by line.
    TARGET restricts it to one object, or to a value within one.
    """
    from zodbsh.ops.diff import diff_changes, diff_range, diff_session
    from zodbsh.render.diff import DiffView

    if first is not None or last is not None:
        with database.source(blob_dir=blob_dir) as source:
            emit(DiffView(diff_range(source, first=first, last=last, target=target)), output)
        return
    if database.session is not None:
        emit(DiffView(diff_session(database.session, target=target)), output)
        return
    from zodbsh.db.spec import parse_spec
    from zodbsh.stage import store

    stage = store.load(parse_spec(database.text))
    with database.source(blob_dir=blob_dir) as source:
        emit(DiffView(diff_changes(source, stage, target=target)), output)
