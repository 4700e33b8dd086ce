"""``zodbsh status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.cli import options
from zodbsh.render.output import emit

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.render.output import Output


@options.command(examples=("zodbsh status mydata.fs", "zodbsh status mydata.fs --format json"))
@options.database_argument
@options.output_options
def command(database: Database, output: Output) -> None:
    """Show what is staged.

    Each object with its path, and whether another transaction has changed it since. In the shell
    also what ZODB itself would miss: objects changed in place, values that two records share,
    classes that cannot be imported elsewhere.
    """
    from zodbsh.ops.status import status
    from zodbsh.render.status import StatusView

    if database.session is not None:
        from zodbsh.ops.status import session_status

        emit(StatusView(session_status(database.session)), output)
        return
    from zodbsh.db.spec import parse_spec
    from zodbsh.stage import store

    stage = store.load(parse_spec(database.text))
    with database.source() as source:
        emit(StatusView(status(source, stage)), output)
