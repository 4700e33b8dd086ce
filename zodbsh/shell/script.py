"""The shell without a prompt: code from the command line or from a pipe, statement by statement.

prompt_toolkit is not imported here. The value of each expression is shown, dot
commands may stand between statements, the first line that fails ends the run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.errors import ExitCode, UsageError, ZodbshError
from zodbsh.ids import tid_text
from zodbsh.render.sizes import count_text
from zodbsh.shell.evaluation import Outcome, continues_block, dedented, is_block, remember_source
from zodbsh.shell.interpreter import Leave
from zodbsh.shell.stage import is_staged
from zodbsh.shell.words import is_dot_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zodbsh.shell.interpreter import Shell


_LONG = 100


def run_code(shell: Shell, code: str) -> int:
    """Run the code of ``-c``; without dot commands in it, nothing runs unless all of it is Python."""
    lines = dedented(code).splitlines(keepends=True)
    if not any(is_dot_command(line) for line in lines):
        try:
            list(shell.evaluator.statements("".join(lines), "<string>"))
        except SyntaxError as exc:
            remember_source("<string>", lines)
            return shell.conclude(Outcome(error=exc))
    return run_script(shell, lines, name="<string>")


def run_script(shell: Shell, lines: Iterable[str], *, name: str) -> int:
    """Run lines of Python and dot commands; return the exit status.

    What a run that succeeds leaves uncommitted is staged, as `zodbsh run` does
    it; what a failed run leaves is dropped.
    """
    status = int(ExitCode.OK)
    with shell.evaluator:
        try:
            for piece in pieces(shell, lines, name):
                status = shell.execute(piece) if isinstance(piece, str) else shell.conclude(piece)
                if not isinstance(piece, str):
                    shell.after()
                if status != ExitCode.OK:
                    break
        except Leave as leave:
            status = leave.status
        except UnicodeDecodeError as exc:
            raise UsageError(f"{name} is not {exc.encoding}: {exc.reason} at byte {exc.start}") from exc
        return _end(shell, status)


class Cell:
    """The lines of one statement as they come in."""

    def __init__(self, shell: Shell) -> None:
        self.lines: list[str] = []
        self._evaluator = shell.evaluator
        self._next_look = 0

    def is_whole(self, *, surely: bool = False) -> bool:
        """Tell whether the lines are a statement, or never will be one.

        To look is to compile: a long cell is looked at each time it has grown by
        half, unless the answer is needed (``surely``).
        """
        if len(self.lines) < self._next_look and not surely:
            return False
        whole = self._evaluator.completeness("".join(self.lines)) != "incomplete"
        if not whole and len(self.lines) > _LONG:
            self._next_look = len(self.lines) * 3 // 2
        return whole

    def take(self) -> str:
        """Return the text and begin anew."""
        text = "".join(self.lines)
        self.lines, self._next_look = [], 0
        return text


def pieces(shell: Shell, lines: Iterable[str], name: str) -> Iterator[str | Outcome]:
    """Yield each dot command, and the outcome of each statement, as soon as it is whole."""
    cell = Cell(shell)
    known: list[str] = []
    remember_source(name, known)
    for number, line in enumerate(lines, 1):
        known.append(line if line.endswith("\n") else f"{line}\n")
        starts = bool(line.strip()) and not line[0].isspace()
        dot = is_dot_command(line)
        if cell.lines and starts and not continues_block(line) and cell.is_whole(surely=dot):
            first = number - len(cell.lines)
            yield from _outcomes(shell, cell.take(), name, first)
        if not cell.lines and dot:
            yield line.rstrip("\n")
            continue
        if cell.lines or line.strip():
            cell.lines.append(known[-1])
            if starts and cell.is_whole() and not is_block("".join(cell.lines)):
                first = number - len(cell.lines) + 1
                yield from _outcomes(shell, cell.take(), name, first)
    if cell.lines:
        first = len(known) - len(cell.lines) + 1
        yield from _outcomes(shell, cell.take(), name, first)


def _outcomes(shell: Shell, text: str, name: str, first_line: int) -> Iterator[Outcome]:
    try:
        trees = list(shell.evaluator.statements(dedented(text), name, first_line=first_line))
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError) as exc:
        yield Outcome(error=exc)
        return
    for tree in trees:
        yield shell.evaluator.run_tree(tree, name)


def _end(shell: Shell, status: int) -> int:
    """Stage or drop what is uncommitted; return the exit status."""
    session = shell.session
    if session.undoing:
        which = ", ".join(map(tid_text, sorted(session.undoing)))
        shell.say(f"not committed: the undo of {which}; `.commit` as a line of its own carries it out")
        status = status or ExitCode.FINDINGS
    try:
        pending = session.own_changes()
        if not pending.entries:
            return status
        count = count_text(len(pending.entries), "uncommitted change")
        if is_staged(session):
            return status
        if status != ExitCode.OK:
            shell.say(f"not staged, because the run failed: {count}")
            return status
        if session.spec.kind == "memory":
            shell.say(f"gone with the database in memory: {count}")
            return status
        return shell.stage()
    except ZodbshError as exc:
        return shell.commands.show(exc, shell.output)
