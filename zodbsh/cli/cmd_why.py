"""``zodbsh why``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.cli.reading import reading_options
from zodbsh.render.output import emit

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.cli.reading import Reading
    from zodbsh.render.output import Output


@options.command(
    examples=(
        "zodbsh why mydata.fs 0x2a",
        "zodbsh why mydata.fs 0x2a --all 10",
        "zodbsh why mydata.fs /accounts/account-1/owner --at yesterday",
    )
)
@options.database_argument
@options.target_argument(required=True)
@reading_options()
@click.option("--all", "count", type=click.IntRange(1, 10_000), metavar="N", help="N distinct ways, shortest first.")
@options.output_options
def command(database: Database, target: str, reading: Reading, count: int | None, output: Output) -> None:
    """Show the path from the root by which an object lives.

    Paths are written as Python would, and can be pasted as a TARGET. Weak references
    keep nothing alive. For garbage the top of its island is shown: what nothing else
    refers to, and the way from there.
    """
    from zodbsh.ops.why import why
    from zodbsh.render.why import WhyView

    with reading.snapshot(database) as snapshot:
        emit(WhyView(why(snapshot, target, count=count or 1, progress=output.progress())), output)
