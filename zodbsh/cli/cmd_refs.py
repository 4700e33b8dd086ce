"""``zodbsh refs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.cli.reading import limit_option, reading_options
from zodbsh.errors import ExitCode
from zodbsh.render.output import emit

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.cli.reading import Bound, Reading
    from zodbsh.render.output import Output

LIMIT = 100


@options.command(
    examples=(
        "zodbsh refs mydata.fs \"root.accounts['account-1']\"",
        "zodbsh refs mydata.fs 0x2a --in",
        "zodbsh refs mydata.fs /accounts --out --depth 2",
        "zodbsh refs mydata.fs 0x2a --in --format csv --all",
    )
)
@options.database_argument
@options.target_argument(required=True)
@reading_options()
@click.option("--in", "into", is_flag=True, help="Only what refers to it.")
@click.option("--out", is_flag=True, help="Only what it refers to.")
@click.option("--depth", type=click.IntRange(1, 50), default=1, help="So many levels of references.")
@limit_option(LIMIT, "references a direction")
@options.output_options
def command(
    database: Database,
    target: str,
    reading: Reading,
    into: bool,
    out: bool,
    depth: int,
    bound: Bound,
    output: Output,
) -> ExitCode:
    """Show what an object refers to, and what refers to it.

    Each reference is shown with the attribute or key that holds it. A missing
    object's oid works, too: who still refers to it is the answer. Weak references
    and those into other databases are marked. Each object is opened once.
    """
    from zodbsh.ops.refs import refs
    from zodbsh.render.refs import RefsView

    both = into == out
    with reading.snapshot(database) as snapshot:
        found = refs(
            snapshot, target, out=out or both, into=into or both, depth=depth, limit=bound.limit(output),
            progress=output.progress(),
        )  # fmt: skip
        emit(RefsView(found), output)
    if not found.exists:
        output.warn(f"{target} does not exist at this time")
    if found.trouble is not None:
        output.warn(found.trouble.message)
    elif found.undecodable:
        output.warn(f"{found.undecodable:,} of the objects cannot be decoded; what they refer to is not known")
    return ExitCode.OK if found.trouble is None else ExitCode.FINDINGS
