"""Where a command's result goes, and in which form.

A view wraps one result and knows three forms of it; ``emit`` picks one. Results
go to stdout, everything else (notes, warnings, progress, errors) to stderr.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TextIO

from zodbsh.errors import ExitCode, ZodbshError
from zodbsh.render.gate import escape, escape_lines

if TYPE_CHECKING:
    from zodbsh.progress import Progress
    from zodbsh.render.page import Page

Format = Literal["table", "json", "ndjson", "csv"]
Color = Literal["auto", "always", "never"]


class OutputFailed(ZodbshError):
    """The result could not be written to stdout."""

    code = "output-failed"
    exit_code = ExitCode.IO
    hint = "What the command had to do is done; only its report is lost."


class Rows(NamedTuple):
    """A result as a table: names of the columns, and cells (str, int, float, None)."""

    headers: Sequence[str]
    rows: Iterable[Sequence[object]]


class View(Protocol):
    """One result, ready to be shown."""

    def json(self) -> object:
        """Return what ``--format json`` prints; iterables stream, ``value_json`` wraps decoded values."""

    def rows(self) -> Rows:
        """Return what ``--format csv`` prints."""

    def text(self, page: Page) -> None:
        """Write what a person reads."""


class Output(NamedTuple):
    """The options of output that travel together, and the streams they are for.

    None for a stream means the process's own at the time of writing.
    """

    format: Format = "table"
    quiet: bool = False
    color: Color = "auto"
    debug: bool = False
    stdout: TextIO | None = None
    stderr: TextIO | None = None

    @property
    def out(self) -> TextIO:
        """Where results go."""
        return self.stdout if self.stdout is not None else sys.stdout

    @property
    def err(self) -> TextIO:
        """Where everything else goes."""
        return self.stderr if self.stderr is not None else sys.stderr

    @property
    def machine(self) -> bool:
        """Whether a program reads the result (so errors are JSON too)."""
        return self.format in ("json", "ndjson")

    def uses_color(self, stream: TextIO) -> bool:
        """Tell whether ``stream`` gets colours: the option first, then NO_COLOR, FORCE_COLOR, the terminal."""
        if self.color != "auto":
            return self.color == "always"
        if os.environ.get("NO_COLOR"):
            return False
        if os.environ.get("FORCE_COLOR"):
            return True
        return is_terminal(stream) and os.environ.get("TERM") != "dumb"

    def note(self, text: str) -> None:
        """Say something beside the result; not with ``--quiet``."""
        if not self.quiet:
            self.say(escape(text))

    def warn(self, text: str) -> None:
        """Say what the user must know, even with ``--quiet``."""
        self.say(f"warning: {escape(text)}")

    def progress(self) -> Progress:
        """Return a progress bar on stderr where someone watches, and nothing elsewhere."""
        if self.quiet or not is_terminal(self.err):
            from zodbsh.progress import SILENT

            return SILENT
        from zodbsh.render.progress import Bar

        return Bar(self.err)

    def say(self, text: str) -> None:
        """Write lines to stderr, through the gate."""
        print(escape_lines(text), file=self.err, flush=True)


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a person looks at the stream."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def emit(view: View, output: Output) -> None:
    """Write a view to stdout in the form that was asked for; raises OutputFailed where it has no room."""
    with output_errors():
        _write(view, output)
        output.out.flush()


@contextmanager
def output_errors() -> Iterator[None]:
    """Tell a full disk under stdout from one under the database."""
    try:
        yield
    except OSError as exc:
        if exc.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OutputFailed(f"cannot write the output: {exc.strerror}") from exc


def report(view: View, output: Output) -> None:
    """Emit what a command did (rather than what it was asked to show): silent with ``--quiet`` as a table."""
    if output.format != "table" or not output.quiet:
        emit(view, output)


def _write(view: View, output: Output) -> None:
    match output.format:
        case "json" | "ndjson":
            from zodbsh.render.jsontext import write_json, write_ndjson

            (write_json if output.format == "json" else write_ndjson)(view.json(), output.out)
        case "csv":
            from zodbsh.render.csvtext import write_csv

            write_csv(view.rows(), output.out)
        case _:
            from zodbsh.render.page import Page

            view.text(Page(output))
