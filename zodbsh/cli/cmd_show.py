"""``zodbsh show``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.cli.reading import limit_option, reading_options
from zodbsh.render.output import emit

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.cli.reading import Bound, Reading
    from zodbsh.render.output import Output

LIMIT = 200


@options.command(
    examples=(
        "zodbsh show mydata.fs 03f8a1b2c3d4e5f6",
        "zodbsh show mydata.fs '1 hour ago'",
        "zodbsh show mydata.fs 03f8a1b2c3d4e5f6 --format csv --all",
    )
)
@options.database_argument
@click.argument("tid", metavar="TID")
@reading_options(at=False)
@limit_option(LIMIT, "objects")
@options.output_options
def command(database: Database, tid: str, reading: Reading, bound: Bound, output: Output) -> None:
    """Show one transaction and every object in it.

    TID is a transaction's id, or a time: the last transaction not after it. Each
    object is shown with its path at that moment, class, size, and what happened
    to it. Long texts are whole with --all.
    """
    from zodbsh.ops.show import show
    from zodbsh.render.show import ShowView

    with reading.source(database) as source:
        emit(ShowView(show(source, tid, limit=bound.limit(output)), whole=bound.everything), output)
