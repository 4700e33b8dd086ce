"""``zodbsh log``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.cli.reading import reading_options
from zodbsh.ids import MAX_ID
from zodbsh.render.output import emit
from zodbsh.times import TidRange, parse_range

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.cli.reading import Reading
    from zodbsh.render.output import Output


@options.command(
    examples=(
        "zodbsh log mydata.fs -n 10",
        "zodbsh log mydata.fs --since '2 days ago'",
        "zodbsh log mydata.fs 03f8a1b2c3d4e5f6..",
        "zodbsh log mydata.fs \"root.accounts['account-1']\"",
    )
)
@options.database_argument
@options.target_argument()
@reading_options(at=False)
@click.option("-n", "--limit", type=click.IntRange(min=0), metavar="N", help="At most so many.")
@click.option("--since", type=options.TIME, default=0, show_default=False, help="Not before this time.")
@click.option("--until", type=options.TIME, default=MAX_ID, show_default=False, help="Not after this time.")
@click.option("--range", "tids", type=options.RANGE, help="Transactions min..max, either side may be empty.")
@options.output_options
def command(
    database: Database,
    target: str | None,
    reading: Reading,
    limit: int | None,
    since: int,
    until: int,
    tids: TidRange | None,
    output: Output,
) -> None:
    """List the transactions, or the revisions of an object, newest first.

    With TARGET: the transactions in which it changed, each with what changed;
    changes in the buckets of a BTree are changes of the BTree, and of a value
    within an object only its own changes count. An object given by its oid need
    not exist any more. Instead of TARGET, a range of transactions
    (min..max) may stand.
    """
    if target is not None and is_range(target):
        tids, target = parse_range(target), None
    within = TidRange(max(since, tids.first if tids else 0), min(until, tids.last if tids else MAX_ID))
    if target is None:
        from zodbsh.ops.log import log
        from zodbsh.render.log import LogView

        with reading.source(database) as source:
            emit(LogView(log(source, within=within, limit=limit)), output)
        return
    from zodbsh.ops.log import log_object
    from zodbsh.render.log import ObjectLogView

    with reading.snapshot(database) as snapshot:
        found = log_object(snapshot, target, within=within, limit=limit)
        emit(ObjectLogView(found, snapshot.class_of), output)


def is_range(text: str) -> bool:
    """Tell whether an argument is a range of transactions rather than a target."""
    return ".." in text and not text.lstrip().startswith(("root", "/", "0x"))
