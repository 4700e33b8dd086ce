"""``zodbsh inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.cli.reading import limit_option, reading_options
from zodbsh.errors import UsageError
from zodbsh.render.output import emit

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.cli.reading import Bound, Reading
    from zodbsh.render.output import Output

LIMIT = 20


@options.command(
    examples=(
        "zodbsh inspect mydata.fs",
        "zodbsh inspect mydata.fs \"root.accounts['account-1']\"",
        "zodbsh inspect mydata.fs /accounts/account-1 --depth 2",
        "zodbsh inspect mydata.fs 0x2a --at '2 hours ago'",
        "zodbsh inspect mydata.fs 0x2a --raw > record.pickle",
    )
)
@options.database_argument
@options.target_argument()
@reading_options()
@limit_option(LIMIT, "items")
@click.option("--depth", type=click.IntRange(1, 50), default=1, help="Open what is in it, so many levels deep.")
@click.option("--raw", is_flag=True, help="The record's bytes; on a terminal as a hex dump.")
@click.option("--disassemble", is_flag=True, help="The record's instructions.")
@options.output_options
def command(
    database: Database,
    target: str | None,
    reading: Reading,
    bound: Bound,
    depth: int,
    raw: bool,
    disassemble: bool,
    output: Output,
) -> None:
    """Show what a database is, or what an object is.

    Without TARGET: format, size, counts, the root's entries, the largest classes.
    With TARGET: the object's class, transaction, record, attributes or items,
    and references. BTrees are shown as one mapping; a long text whole with --all.
    No code of the objects runs.
    """
    if target is None and (raw or disassemble or depth > 1):
        raise UsageError("--raw, --disassemble and --depth are about one object", hint="Name a TARGET.")
    if raw and output.format != "table":
        raise UsageError("--raw writes the record's bytes as they are", hint="Leave out --format.")
    with reading.snapshot(database) as snapshot:
        if target is None:
            from zodbsh.ops.overview import overview
            from zodbsh.render.overview import OverviewView

            found = overview(snapshot, limit=bound.limit(output), progress=output.progress())
            emit(OverviewView(found, all_classes=bound.everything), output)
        elif raw or disassemble:
            from zodbsh.ops.inspect import raw_record
            from zodbsh.render.raw import InstructionsView, write_raw

            record = raw_record(snapshot, target)
            if raw:
                write_raw(record, output)
            else:
                emit(InstructionsView(record), output)
        else:
            from zodbsh.ops.inspect import inspect
            from zodbsh.render.inspect import InspectView

            shown = inspect(snapshot, target, limit=bound.limit(output), depth=depth)
            emit(InspectView(shown, snapshot.class_of, opened=depth > 1, whole=bound.everything), output)
