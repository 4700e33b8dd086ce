"""``zodbsh usage``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.cli.reading import reading_options
from zodbsh.errors import UsageError
from zodbsh.render.output import emit
from zodbsh.times import TidRange

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.cli.reading import Reading
    from zodbsh.render.output import Output, View
    from zodbsh.source.base import Source
    from zodbsh.source.snapshot import Snapshot

TOP = 20
DEPTH = 2
GROUPS = ("class", "path", "transaction", "month", "user")


@options.command(
    examples=(
        "zodbsh usage mydata.fs",
        "zodbsh usage mydata.fs --by path --depth 3",
        "zodbsh usage mydata.fs --by month",
        "zodbsh usage mydata.fs 2026-05-01..2026-06-01 --by transaction --top 10",
        "zodbsh usage mydata.fs --format csv > classes.csv",
    )
)
@options.database_argument
@click.argument("within", type=options.RANGE, required=False, metavar="[RANGE]")
@click.option("--by", type=click.Choice(GROUPS), default="class", help="What is told apart [default: class].")
@click.option("--depth", type=click.IntRange(1, 50), metavar="N", help=f"Levels of --by path [default: {DEPTH}].")
@click.option(
    "--top", type=click.IntRange(min=1), metavar="N",
    help=f"At most so many, by path at each place [default: {TOP}; as JSON or CSV all classes and users; all months].",
)  # fmt: skip
@reading_options()
@options.output_options
def command(
    database: Database,
    within: TidRange | None,
    by: str,
    depth: int | None,
    top: int | None,
    reading: Reading,
    output: Output,
) -> None:
    """Show what takes the space.

    By class: current objects and old records, largest first, and what a pack would
    free; as CSV in the columns of zodbtools' analyze. By path: what would be freed
    if nothing referred to an object any more, blob files included; what several
    objects share counts where their ways from the root join. By transaction, month
    or user: what was written. Sizes are those of the data, without headers. With
    RANGE (min..max) only those transactions count.
    """
    if depth is not None and by != "path":
        raise UsageError("--depth is about --by path")
    if within is not None and within.first and by == "path":
        raise UsageError("what an object retains is known of a point in time only", hint="Use --at instead of a range.")
    first, last = within or TidRange()
    with reading._replace(at=min(reading.at, last)).snapshot(database) as snapshot:
        if by == "class":
            view = _by_class(snapshot, first, top, output)
        elif by == "path":
            from zodbsh.ops.usage import usage_by_path
            from zodbsh.render.usage import PathUsageView

            found = usage_by_path(snapshot, depth=depth or DEPTH, top=top or TOP, progress=output.progress())
            view = PathUsageView(found)
        else:
            view = _growth(by, snapshot.source, TidRange(first, snapshot.tid), top, output)
        emit(view, output)


def _by_class(snapshot: Snapshot, first: int, top: int | None, output: Output) -> View:
    from zodbsh.ops.usage import tool_usage, usage_by_class
    from zodbsh.render.usage import ClassUsageView, ToolUsageView

    if output.format == "csv":
        rows = tool_usage(snapshot.source, since=first, at=snapshot.tid, progress=output.progress())
        return ToolUsageView(rows, top)
    # Only people are shown the garbage; without it the references need not be read.
    garbage = output.format == "table"
    found = usage_by_class(snapshot, since=first, garbage=garbage, progress=output.progress())
    return ClassUsageView(found, _shown(top, output))


def _growth(by: str, source: Source, within: TidRange, top: int | None, output: Output) -> View:
    from zodbsh.ops.growth import growth_by_month, growth_by_user, largest_transactions
    from zodbsh.render.growth import LargestTransactionsView, MonthsView, UsersView

    if by == "transaction":
        return LargestTransactionsView(largest_transactions(source, within, top=top or TOP, progress=output.progress()))
    if by == "month":
        return MonthsView(growth_by_month(source, within, progress=output.progress()), top)
    return UsersView(growth_by_user(source, within, progress=output.progress()), _shown(top, output))


def _shown(top: int | None, output: Output) -> int | None:
    return top or (TOP if output.format == "table" else None)
