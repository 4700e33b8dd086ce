"""The one error boundary: from a line of arguments to an exit status.

The program calls it once, the shell once for each dot command. Nothing passes
but signals: every error is written here, in the form that the command's result
would have had.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from zodbsh.cli.context import AppContext
from zodbsh.cli.group import group
from zodbsh.errors import ExitCode, UsageError, ZodbshError, os_error_kind, os_hint
from zodbsh.render.errors import show_error
from zodbsh.render.output import Output, output_errors

# Error codes of what is no ZodbshError (docs/exit-codes.md lists them with the others).
OTHER_CODES = {
    "aborted": (ExitCode.INTERRUPT, "A question was answered with Ctrl-C or Ctrl-D."),
    "out-of-memory": (ExitCode.IO, "There was not enough memory."),
    "bug": (ExitCode.BUG, "Something zodbsh did not foresee; `--debug` shows where."),
}


def dispatch(arguments: Sequence[str], app: AppContext) -> int:
    """Run one command line and return its exit status; errors are shown, not raised.

    In the shell (``app.session``) the first word is the dot command's name
    without its dot. No words at all ask for the help. Raises KeyboardInterrupt and other BaseExceptions only.
    """
    app.output = None
    # Every release of click ends a bare group in a way of its own.
    arguments = list(arguments) or ["--help"]
    try:
        status = _invoke(list(arguments), app)
        with output_errors():
            _output(arguments, app).out.flush()
        return status
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        return ExitCode.OK
    except Exception as error:  # noqa: BLE001 - the boundary
        output = _output(arguments, app)
        if output.debug:
            import traceback

            traceback.print_exc(file=output.err)
        return show(error, output)


def show(error: BaseException, output: Output) -> ExitCode:
    """Write an exception the way a user should see it, and return its exit status."""
    code, exit_code, message, hint = describe(error)
    # The traceback of the user's own code (ZodbshError has none, its subclasses for user code do).
    own = getattr(error, "traceback", "")
    if own and not output.machine:
        output.say(own.rstrip())
    show_error(code, message, hint, output, context=getattr(error, "context", ""))
    return exit_code


def describe(error: BaseException) -> tuple[str, ExitCode, str, str]:
    """Return an exception's code, exit status, message and hint."""
    if isinstance(error, ZodbshError):
        return error.code, error.exit_code, error.message, error.hint
    if isinstance(error, click.ClickException):
        ctx = getattr(error, "ctx", None)
        hint = f"`{ctx.command_path} --help` shows what it takes." if ctx is not None else ""
        # click lists what may be chosen one to a line.
        return UsageError.code, ExitCode.USAGE, " ".join(map(str.strip, error.format_message().splitlines())), hint
    if isinstance(error, click.Abort):
        return "aborted", ExitCode.INTERRUPT, "stopped; nothing was changed", ""
    if isinstance(error, OSError):
        return os_error_kind(error).code, ExitCode.IO, _os_message(error), os_hint(error)
    if isinstance(error, MemoryError):
        return "out-of-memory", ExitCode.IO, "not enough memory", "Nothing was changed."
    kind = type(error).__name__
    return "bug", ExitCode.BUG, f"a bug in zodbsh: {kind}: {error}", _BUG_HINT


_BUG_HINT = (
    "Nothing of yours is to blame. Run it again with --debug and report what it prints, "
    "together with `zodbsh --version`."
)


def _invoke(arguments: list[str], app: AppContext) -> int:
    command: click.Command = group
    name = "zodbsh"
    if app.in_shell and arguments:
        with group.make_context("", [], obj=app, resilient_parsing=True) as outer:
            _, found, arguments = group.resolve_command(outer, arguments)
        assert found is not None
        command, name = found, f".{found.name}"
    with command.make_context(name, arguments, obj=app) as ctx:
        result = command.invoke(ctx)
    return int(result) if isinstance(result, int) else ExitCode.OK


def _output(arguments: Sequence[str], app: AppContext) -> Output:
    """Return the command's output options; where parsing ended early, what the words say of them."""
    if app.output is not None:
        return app.output
    output = app.defaults
    words = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    for word, following in zip(words, [*words, ""][1:], strict=True):
        value = following if word == "--format" else word.removeprefix("--format=") if "=" in word else ""
        if value in ("json", "ndjson"):
            output = output._replace(format=value)  # type: ignore[arg-type]
        if word == "--debug":
            output = output._replace(debug=True)
    return output


def _os_message(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason
