"""``zodbsh status``."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from zodbsh.cli import options
from zodbsh.render.output import emit
from zodbsh.render.sizes import count_text

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

    Of a file also what an interrupted command left behind, as long as no process holds its lock.
    """
    from zodbsh.ops.leftovers import find_leftovers
    from zodbsh.ops.status import status
    from zodbsh.render.status import StatusView

    if database.session is not None:
        from zodbsh.ops.status import session_status

        emit(StatusView(session_status(database.session)), output)
        return
    from zodbsh.db.spec import parse_spec
    from zodbsh.ops.status import taken_off
    from zodbsh.source.file import FileSource
    from zodbsh.stage import store

    spec = parse_spec(database.text)
    stage = store.load(spec)
    with database.source() as source:
        leftovers = find_leftovers(spec, source, stage) if isinstance(source, FileSource) else ()
        emit(StatusView(status(source, stage)._replace(leftovers=leftovers)), output)
        count = taken_off(source, spec)
    if count:
        what = count_text(count, "transaction")
        output.note(f"`zodbsh undo {quote(spec.text)} --redo` puts back {what} that were taken off its end")
