"""What commands share: the command decorator, arguments, options.

docs/internals.md shows how they go together ("Adding a command").
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zodbsh.cli.context import AppContext, Database
from zodbsh.errors import BlobFolderNotFound, UsageError, ZodbshError
from zodbsh.render.output import Output
from zodbsh.times import TidRange, parse_range, parse_time

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_F = TypeVar("_F", bound=Callable[..., Any])

FORMATS = ("table", "json", "ndjson", "csv")
COLORS = ("auto", "always", "never")


def command(*, examples: Sequence[str] = (), **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Make a function a zodbsh command; its docstring is the help, ``examples`` follow it.

    The function returns None (exit status 0) or an ExitCode.
    """
    if examples:
        settings["epilog"] = "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)
    context_settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    context_settings.update(settings.pop("context_settings", {}))

    def decorate(function: Callable[..., Any]) -> click.Command:
        verb = function.__module__.rpartition(".cmd_")[2]
        make: Callable[[Callable[..., Any]], click.Command]
        make = click.command(verb, context_settings=context_settings, **settings)
        return make(function)

    return decorate


class DatabaseArgument(click.Argument):
    """DATABASE; in the shell it takes no word from the line, and is the session's database."""

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        """Take part in parsing, except in the shell."""
        if _session(ctx) is None:
            super().add_to_parser(parser, ctx)

    def get_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Name the argument, except in the shell."""
        return super().get_usage_pieces(ctx) if _session(ctx) is None else []

    def process_value(self, ctx: click.Context, value: Any) -> Any:
        """Return a Database."""
        session = _session(ctx)
        if session is not None:
            return Database(session.spec.text, session)
        text = super().process_value(ctx, value)
        # Where it is left out, newer releases of click say so with a value of their own.
        return Database(text) if isinstance(text, str) else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete file names."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


class TargetArgument(click.Argument):
    """TARGET, completed from the database's snapshot."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete paths; whatever is wrong with the database, completion stays silent."""
        from click.shell_completion import CompletionItem

        database = ctx.params.get("database")
        if not isinstance(database, Database):
            return []
        try:
            from zodbsh.analysis.target import complete_target
            from zodbsh.source.snapshot import Snapshot

            with database.source() as source:
                return [CompletionItem(text) for text in complete_target(Snapshot(source), incomplete)]
        except Exception:  # noqa: BLE001 - a traceback in the middle of the user's command line helps nobody
            return []


# click.ParamType is generic in the newest click only.
class TimeType(click.ParamType):  # type: ignore[type-arg]
    """TIME: a tid, RFC 3339 or relative, as the tid it names."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the largest tid that is not after the time."""
        if isinstance(value, int):
            return value
        try:
            return parse_time(value)
        except UsageError as error:
            self.fail(_message(error), param, ctx)


class RangeType(click.ParamType):  # type: ignore[type-arg]
    """A range of transactions, ``min..max`` or one tid."""

    name = "RANGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> TidRange:
        """Return the range, both ends included."""
        if isinstance(value, TidRange):
            return value
        try:
            return parse_range(value)
        except UsageError as error:
            self.fail(_message(error), param, ctx)


class BlobFolderType(click.ParamType):  # type: ignore[type-arg]
    """The folder of a database's blobs, which is there."""

    name = "DIR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the folder. Raises BlobFolderNotFound: to go on without blobs is not what was asked for."""
        if not os.path.isdir(value):
            raise BlobFolderNotFound(f"there is no folder {value}")
        return str(value)


TIME = TimeType()
BLOBS = BlobFolderType()
RANGE = RangeType()


def database_argument(function: _F) -> _F:
    """Pass ``database: Database``. Applied first (topmost) of the arguments."""
    return click.argument("database", cls=DatabaseArgument, metavar="DATABASE")(function)


def target_argument(*, required: bool = False) -> Callable[[_F], _F]:
    """Pass ``target: str | None``; ``zodbsh.analysis.target`` reads it."""
    metavar = "TARGET" if required else "[TARGET]"
    return click.argument("target", cls=TargetArgument, required=required, metavar=metavar)


def yes_option(function: _F) -> _F:
    """Pass ``yes: bool``: go on without asking."""
    return click.option("-y", "--yes", is_flag=True, help="Do not ask (only a terminal is asked).")(function)


def at_option(function: _F) -> _F:
    """Pass ``at: int``: the tid to look at, MAX_ID for the present."""
    from zodbsh.ids import MAX_ID

    return click.option("--at", type=TIME, default=MAX_ID, show_default=False, help="As it was at this time.")(function)


def path_option(function: _F) -> _F:
    """Pass ``import_paths: tuple[str, ...]``: folders to import from."""
    return click.option(
        "-p", "--path", "import_paths", multiple=True, metavar="DIR", type=click.Path(),
        help="Import modules from this folder too (repeatable).",
    )(function)  # fmt: skip


def common_options(function: _F) -> _F:
    """Pass ``output: Output``, without ``--format``: for a command that yields no data."""
    return _with_output(function)


def output_options(function: _F) -> _F:
    """Pass ``output: Output``, with ``--format``."""
    return click.option("--format", "format_", type=click.Choice(FORMATS), help="Form of the result [default: table].")(
        _with_output(function)
    )


def confirm(question: str, *, yes: bool, output: Output) -> bool:
    """Ask on a terminal, unless ``yes``; where nobody can answer, go on.

    The question is written to stderr: stdout belongs to the result.
    """
    import sys

    from zodbsh.render.gate import escape
    from zodbsh.render.output import is_terminal

    if yes or not is_terminal(sys.stdin):
        return True
    print(f"{escape(question)} [y/N] ", end="", file=output.err, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _with_output(function: _F) -> _F:
    @click.option("-q", "--quiet", is_flag=True, help="Only the result and errors.")
    @click.option("--color", type=click.Choice(COLORS), help="Colours [default: auto, on a terminal].")
    @click.option("--debug", is_flag=True, help="Show tracebacks of zodbsh itself.")
    @click.pass_context
    @functools.wraps(function)
    def wrapper(
        ctx: click.Context, /, *args: Any, quiet: bool, color: Any, debug: bool, format_: Any = None, **kwargs: Any
    ) -> Any:
        app = ctx.ensure_object(AppContext)
        defaults = app.defaults
        output = defaults._replace(
            format=format_ or defaults.format,
            quiet=quiet or defaults.quiet,
            color=color or defaults.color,
            debug=debug or defaults.debug,
        )
        app.output = output
        _note_database(kwargs.get("database"), output)
        return function(*args, output=output, **kwargs)

    return wrapper  # type: ignore[return-value]


def _note_database(database: Database | None, output: Output) -> None:
    """Say which of a configuration's databases it is, where the user has not picked one, and what may take a while."""
    if database is None or database.session is not None or output.quiet:
        return
    from zodbsh.db.spec import parse_spec
    from zodbsh.render.output import is_terminal

    try:
        spec = parse_spec(database.text)
    except (ZodbshError, OSError):
        # The command says what is wrong with it, if it comes to that.
        return
    if spec.uri.lower().startswith("zeo://") and is_terminal(output.err):
        output.note(f"connecting to {spec.text}")
    if spec.others:
        which = repr(spec.name) if spec.name else "the first one"
        others = ", ".join(f"{spec.text}#{name}" for name in spec.others)
        output.note(f"{spec.text} has several databases; this is {which}. For another: {others}")


def _session(ctx: click.Context) -> Any:
    app = ctx.find_object(AppContext)
    return None if app is None else app.session


def _message(error: UsageError) -> str:
    return f"{error.message}. {error.hint}".rstrip()
