"""The shell without a terminal: runs cells and dot commands on one session, and guards its changes.

The prompt (``repl``) and the script (``script``) both drive this. It writes to
the output it is given and asks through ``ask``; None there means that nobody
can answer.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol

from zodbsh.errors import ExitCode, ZodbshError
from zodbsh.ops.places import keep_with_places
from zodbsh.ops.status import session_status
from zodbsh.render.gate import escape_lines
from zodbsh.shell.column import ended_lines
from zodbsh.shell.display import display
from zodbsh.shell.dot import run_dot
from zodbsh.shell.evaluation import Evaluator, traceback_text
from zodbsh.shell.missing import MissingReport
from zodbsh.shell.review import review_lines, silent_line
from zodbsh.shell.stage import staged_text
from zodbsh.shell.watch import CommitWatch
from zodbsh.shell.words import is_dot_command
from zodbsh.stage.live import continue_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import click

    from zodbsh.db.changes import Dirty
    from zodbsh.db.session import Session
    from zodbsh.render.output import Output
    from zodbsh.shell.evaluation import Outcome

EOF = "\x04"
"""The answer of a terminal that has nothing more to say (Ctrl-D, or it is gone)."""


class App(Protocol):
    """The context that dot commands run in (the CLI's AppContext)."""

    session: Session | None
    defaults: Output


class Commands(NamedTuple):
    """The CLI's command table, handed over by ``zodbsh shell``.

    ``group`` lists and gives the click commands; ``dispatch`` runs one and
    returns its exit status; ``show`` writes an error as a command's would be
    written. ``hidden`` are commands that make no sense inside a session.
    """

    group: click.Group
    dispatch: Callable[[Sequence[str], Any], int]
    show: Callable[[BaseException, Output], int]
    hidden: frozenset[str] = frozenset()


class Leave(Exception):
    """The user asks to leave, with this exit status."""

    def __init__(self, status: int = 0) -> None:
        super().__init__(status)
        self.status = status


class Shell:
    """One session at work.

    ``home`` is the session the shell was opened with; ``session`` differs from
    it while the user looks at the past (``.at``).
    """

    def __init__(
        self,
        session: Session,
        app: App,
        commands: Commands,
        *,
        ask: Callable[[str, str], str | None] | None = None,
        import_paths: Sequence[str] = (),
        no_import: bool = False,
    ) -> None:
        self.home = session
        self.app = app
        self.commands = commands
        self.ask = ask
        self.import_paths = tuple(import_paths)
        self.no_import = no_import
        self.pager = False
        self.own_commands: dict[str, click.Command] | None = None
        self.evaluator = Evaluator({**session.namespace(), "exit": leave, "quit": leave})
        self.watch = CommitWatch(self)
        self._missing = MissingReport()

    @property
    def session(self) -> Session:
        """The session that names and dot commands refer to now."""
        assert self.app.session is not None
        return self.app.session

    @property
    def output(self) -> Output:
        """The streams and options that hold for everything the shell writes."""
        return self.app.defaults

    def look_at(self, session: Session) -> None:
        """Make the names of the prompt those of another session."""
        self.app.session = session
        self.evaluator.namespace.update(session.namespace())

    def execute(self, text: str) -> int:
        """Run a cell or a dot command, show what comes of it, and return its exit status.

        Raises Leave where the user asks to leave, KeyboardInterrupt never, and
        the program's own signals.
        """
        try:
            status = run_dot(self, text) if is_dot_command(text) else self.cell(text)
        except KeyboardInterrupt:
            self.say("interrupted")
            status = ExitCode.INTERRUPT
        self.after()
        return status

    def cell(self, source: str) -> int:
        """Run Python and show its value or its error."""
        if self.ask is None:
            return self.conclude(self.evaluator.run(source))
        with ended_lines():
            outcome = self.evaluator.run(source)
        return self.conclude(outcome)

    def conclude(self, outcome: Outcome) -> int:
        """Show what a cell came to; return its exit status. Raises as ``execute`` does."""
        error = outcome.error
        if error is None:
            if outcome.has_value:
                self.show(outcome.value)
            return ExitCode.OK
        if isinstance(error, SystemExit):
            raise Leave(_exit_status(error, self.output)) from None
        if isinstance(error, KeyboardInterrupt):
            self.say("interrupted")
            return ExitCode.INTERRUPT
        if isinstance(error, ZodbshError):
            self.commands.show(error, self.output)
            return ExitCode.FINDINGS
        if not isinstance(error, Exception) and type(error).__module__.startswith("zodbsh."):
            raise error  # a signal that ends the program
        print(traceback_text(error), file=self.output.err, flush=True)
        return ExitCode.FINDINGS

    def show(self, value: object) -> None:
        """Write a value to stdout, bounded, crossing no object's border."""
        width = shutil.get_terminal_size((100, 24)).columns
        text = display(value, width=width, connection=self.session.connection)
        if self.pager:
            from zodbsh.shell.pager import page

            page(text + "\n", self.output)
        else:
            print(text, file=self.output.out, flush=True)

    def say(self, text: str) -> None:
        """Write a line beside the results."""
        print(escape_lines(text), file=self.output.err, flush=True)

    def after(self) -> None:
        """Tell what the last line brought about that nobody asked for: commits by hand, missing classes."""
        self.watch.tell()
        for line in self._missing.news(self.session):
            self.say(line)

    def dirty(self) -> Dirty:
        """Return what is dirty, each object by its path. Raises CannotSave."""
        from zodbsh.ops.dirty import dirty

        return dirty(self.session)

    def review(self) -> bool:
        """Show what a commit would save and would miss, and settle what needs an answer; False: do not commit.

        Raises CannotSave.
        """
        dirty = self.dirty()
        self.show_review(dirty)
        return self.settle(dirty)

    def show_review(self, dirty: Dirty) -> None:
        """Show what is dirty."""
        undoing = self.session.undoing
        if dirty or dirty.shared or undoing:
            undone = session_status(self.session).staged if undoing else ()
            for line in review_lines(dirty, undoing=undoing, undone=[(item.path, item.class_) for item in undone]):
                self.say(line)

    def settle(self, dirty: Dirty, *, commit: bool = True) -> bool:
        """Ask what becomes of silent mutations, and of classes of this session alone; False: do not go on."""
        if self.ask is None:
            return True
        for entry in dirty.silent:
            answer = self.ask(f"{silent_line(entry)}: mark [c]hanged, [r]evert, [i]gnore? ", "cri")
            if answer in (None, EOF):
                return False
            if answer == "c":
                self.session.mark_changed(entry.oid)
            elif answer == "r":
                self.session.revert(entry.oid)
        if commit and dirty.main_classes:
            return self.ask("Commit objects of classes that only this session has? [y/N] ", "yn") == "y"
        return True

    def stage(self) -> int:
        """Keep the uncommitted changes on disk; returns an exit status, errors are shown."""
        try:
            stage = keep_with_places(self.session).stage
        except (ZodbshError, OSError) as exc:
            return self.commands.show(exc, self.output)
        next_ = "(zodbsh diff | commit | abort)" if self.ask is None else "(.diff | .commit | .abort)"
        self.say("nothing to stage" if stage is None else f"{staged_text(stage)}     {next_}")
        return ExitCode.OK

    def return_home(self) -> None:
        """Leave the past, where the shell looks at it, and go on with the stage that waits."""
        if self.session is self.home:
            return
        self._close_past()
        if self.home.at is not None or self.home.dirty_count():
            return
        self.home.known_stage = ""
        try:
            stage = continue_stage(self.home)
        except (ZodbshError, OSError) as exc:
            self.commands.show(exc, self.output)
            return
        if stage is not None:
            self.say(f"goes on with what is {staged_text(stage)}")

    def _close_past(self) -> None:
        past = self.session
        self.look_at(self.home)
        past.close()

    def close(self) -> None:
        """Stop watching, and close everything; what is uncommitted is dropped."""
        if self.session is not self.home:
            self._close_past()
        self.watch.close()
        self.home.close()


def leave(code: int | str | None = None) -> NoReturn:
    """Leave the shell."""
    # Python's own exit() closes the standard input first, and with it the terminal that is to be asked.
    raise SystemExit(code)


def _exit_status(error: SystemExit, output: Output) -> int:
    if error.code is None:
        return ExitCode.OK
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(escape_lines(str(error.code)), file=output.err, flush=True)
    return ExitCode.FINDINGS
