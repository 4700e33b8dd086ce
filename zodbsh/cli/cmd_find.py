"""``zodbsh find``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from zodbsh.cli import options
from zodbsh.cli.reading import limit_option, reading_options
from zodbsh.errors import UsageError
from zodbsh.render.output import emit

if TYPE_CHECKING:
    from zodbsh.analysis.expression import Shown
    from zodbsh.cli.context import Database
    from zodbsh.cli.reading import Bound, Reading
    from zodbsh.ops.find import FindResult
    from zodbsh.render.output import Output

LIMIT = 200


# click.ParamType is generic in the newest click only.
class SizeType(click.ParamType):  # type: ignore[type-arg]
    """SIZE: a number of bytes, with a unit or without."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes."""
        from zodbsh.render.sizes import parse_size

        try:
            return value if isinstance(value, int) else parse_size(value)
        except UsageError as error:
            self.fail(f"{error.message}. {error.hint}", param, ctx)


@options.command(
    examples=(
        "zodbsh find mydata.fs --class Account --where 'balance > 10' --show balance,owner.name",
        "zodbsh find mydata.fs --class 'BTrees.*' --larger 64kb",
        "zodbsh find mydata.fs --refers-to \"root.accounts['account-1']\"",
        "zodbsh find mydata.fs --where \"title ~ '(?i)draft' and modified < '2020-01-01'\" --format ndjson",
    )
)
@options.database_argument
@click.option("--class", "classes", multiple=True, metavar="PATTERN", help="Of such a class (repeatable).")
@click.option("--refers-to", metavar="TARGET", help="With a reference to this object, which need not exist.")
@click.option("--larger", type=SizeType(), help="With a record of more than so many bytes: 2000, 64kb, 1.5mb.")
@click.option("--where", metavar="EXPR", help="For which this is true: \"balance > 10 and name ~ '^A'\".")
@click.option("--show", multiple=True, metavar="EXPR,...", help="Show these values too (repeatable).")
@click.option("--no-path", is_flag=True, help="Work out no paths: much faster where thousands of objects are found.")
@reading_options()
@limit_option(LIMIT, "objects", programs=None)
@options.output_options
def command(
    database: Database,
    classes: tuple[str, ...],
    refers_to: str | None,
    larger: int | None,
    where: str | None,
    show: tuple[str, ...],
    no_path: bool,
    reading: Reading,
    bound: Bound,
    output: Output,
) -> None:
    """Find objects by class, size, reference or the values they hold.

    An object has to meet all that is asked. PATTERN is a class as it is shown, with * and ?, or its last part:
    'shop.Item', 'BTrees.*', Account. EXPR compares attributes with values
    (owner.name == 'Ada', len(items) > 3, tags['k'] in [1, 2], x is missing);
    it is never run as Python. docs/find.md describes it.
    """
    from zodbsh.analysis.expression import parse_expression
    from zodbsh.ops.find import Criteria, Troubles, find
    from zodbsh.render.find import FindView
    from zodbsh.render.sizes import count_text

    condition = None if where is None else parse_expression(where, option="--where")
    shown = _shown(show)
    limit = bound.limit(output)
    # One more tells whether there are more.
    taken = None if limit is None else limit + (output.format == "table")
    troubles = Troubles()
    with reading.snapshot(database) as snapshot:
        result = find(
            snapshot, Criteria(classes, refers_to, larger, condition), show=shown, limit=taken,
            paths=not no_path, progress=output.progress(), on_trouble=troubles.add,
        )  # fmt: skip
        _note_patterns(result, output)
        emit(FindView(result, snapshot.class_of, limit, output.out.flush), output)
    if troubles.first is not None:
        objects = count_text(troubles.count, "object")
        output.warn(f"left out, because it cannot be looked at: {objects}. The first: {troubles.first.reason}")


def _shown(texts: tuple[str, ...]) -> list[Shown]:
    from zodbsh.analysis.expression import parse_shown
    from zodbsh.render.find import COLUMNS

    found = {shown.name: shown for text in texts for shown in parse_shown(text, option="--show")}
    for name in COLUMNS:
        if name in found:
            raise UsageError(
                f"--show {name}: there is a column {name} already", hint=f"The attribute is self.{name} here."
            )
    return list(found.values())


def _note_patterns(result: FindResult, output: Output) -> None:
    for pattern, near in result.near:
        meant = f"; did you mean {' or '.join(near)}?" if near else ""
        output.note(f"no class matches {pattern!r}{meant}")
