"""``zodbsh abort``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.cli import options
from zodbsh.render.output import report
from zodbsh.render.sizes import count_text

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.render.output import Output


@options.command(examples=("zodbsh abort mydata.fs", "zodbsh abort mydata.fs -y"))
@options.database_argument
@options.yes_option
@options.output_options
def command(database: Database, yes: bool, output: Output) -> None:
    """Drop what is staged.

    The database is not touched. A damaged stage is dropped too. In the shell also what is
    uncommitted is dropped, objects changed in place included.
    """
    from zodbsh.ops.abort import abort_session, abort_stage, staged_objects
    from zodbsh.render.commit import AbortView

    if database.session is not None:
        count = len(database.session.pending().entries)
        if not (count or database.session.undoing) or options.confirm(
            _question(count, "uncommitted"), yes=yes, output=output
        ):
            report(AbortView(abort_session(database.session)), output)
        return
    from zodbsh.db.spec import parse_spec

    spec = parse_spec(database.text)
    found = staged_objects(spec)
    if found.dropped and not options.confirm(_question(found.objects, "staged"), yes=yes, output=output):
        output.note("nothing was dropped")
        return
    report(AbortView(abort_stage(spec, found)), output)


def _question(objects: int | None, what: str) -> str:
    count = "" if objects is None else f" ({count_text(objects, 'object')})"
    return f"Drop what is {what}{count}?"
