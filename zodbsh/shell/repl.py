"""The interactive prompt: reads a cell, runs it, and never loses the session."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app_session
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.enums import EditingMode
from prompt_toolkit.lexers import Lexer, SimpleLexer

from zodbsh.errors import ExitCode
from zodbsh.shell.completer import ShellCompleter
from zodbsh.shell.interpreter import EOF, Leave
from zodbsh.shell.key_bindings import shell_bindings
from zodbsh.shell.leave import may_leave, rescue
from zodbsh.shell.prompt import continuation, prompt_fragments, toolbar_fragments
from zodbsh.shell.signals import read
from zodbsh.shell.style import shell_style

if TYPE_CHECKING:
    from collections.abc import Callable

    from prompt_toolkit.document import Document
    from prompt_toolkit.formatted_text import StyleAndTextTuples
    from prompt_toolkit.history import History
    from prompt_toolkit.output import Output

    from zodbsh.shell.interpreter import Shell


# A person who answers Ctrl-D with Ctrl-D does not do so this often; a terminal that is gone does.
_LAST_END = 5
_END = -1


def interact(shell: Shell, *, history: History, vi: bool = False) -> int:
    """Read and run until the user leaves; return the exit status.

    Uncommitted changes are asked about before leaving. Where the program is
    ended from outside, they are staged.
    """
    session = prompt_session(shell, history=history, vi=vi)
    questions: PromptSession[str] = PromptSession()
    shell.ask = lambda question, choices: ask(questions, question, choices)
    with shell.evaluator:
        try:
            return _loop(shell, session)
        except BaseException:
            rescue(shell)
            raise


def prompt_session(shell: Shell, *, history: History, vi: bool = False) -> PromptSession[str]:
    """Return the prompt, ready to read; nothing is loaded by drawing it."""
    color = shell.output.uses_color(shell.output.out)
    return PromptSession(
        message=lambda: prompt_fragments(shell),
        multiline=True,
        prompt_continuation=lambda width, _line, _wrapped: continuation(width),
        bottom_toolbar=lambda: toolbar_fragments(shell),
        lexer=ShellLexer(),
        completer=ShellCompleter(shell),
        complete_in_thread=False,
        # Keys of a BTree come from the database: only when they are asked for.
        complete_while_typing=False,
        auto_suggest=AutoSuggestFromHistory(),
        history=history,
        key_bindings=shell_bindings(shell.evaluator.is_finished),
        editing_mode=EditingMode.VI if vi else EditingMode.EMACS,
        style=shell_style(color=color),
        include_default_pygments_style=False,
        enable_open_in_editor=True,
        output=_with_toolbar(get_app_session().output),
    )


def _with_toolbar(output: Output) -> Output:
    """Let the toolbar show in a terminal that does not tell where its cursor is.

    prompt_toolkit hides it there, because it cannot tell the height that is left.
    """
    if not output.responds_to_cpr:
        setattr(output, "get_rows_below_cursor_position", lambda: 1)  # noqa: B010 - of this instance only
    return output


def ask(questions: PromptSession[str], question: str, choices: str) -> str | None:
    """Ask for one of the letters; anything else is an empty answer, None an interrupted one, EOF the end of input."""
    try:
        answer = read(questions, question).strip().lower()[:1]
    except KeyboardInterrupt:
        return None
    except EOFError:
        return EOF
    return answer if answer in choices else ""


def _loop(shell: Shell, session: PromptSession[str]) -> int:
    ends = 0
    while True:
        try:
            status = _turn(shell, session)
            if status is None:
                ends = 0
                continue
            if may_leave(shell):
                return max(status, 0)
        except KeyboardInterrupt:
            continue
        except Exception as exc:  # noqa: BLE001 - a bug of ours must not cost the user the session
            shell.commands.show(exc, shell.output)
            continue
        ends += status == _END
        if ends >= _LAST_END:
            shell.say("the input has ended; what is uncommitted is lost")
            return ExitCode.FINDINGS


def _turn(shell: Shell, session: PromptSession[str]) -> int | None:
    """Read and run once; return None, or the exit status where the user wants to leave (_END at the end of input)."""
    try:
        text = read(session)
    except EOFError:
        return _END
    try:
        if text.strip():
            shell.execute(text.lstrip() if text.lstrip().startswith(".") else text)
    except Leave as leave:
        return leave.status
    return None


class ShellLexer(Lexer):
    """Python's colours, except in dot commands; Pygments is imported with the first key, not for the first prompt."""

    def lex_document(self, document: Document) -> Callable[[int], StyleAndTextTuples]:
        """Return the function that gives a line's fragments."""
        plain = not document.text or document.text.lstrip().startswith(".")
        return (SimpleLexer() if plain else _python_lexer()).lex_document(document)


@cache
def _python_lexer() -> Lexer:
    from prompt_toolkit.lexers import PygmentsLexer
    from pygments.lexers.python import PythonLexer  # type: ignore[import-untyped]

    return PygmentsLexer(PythonLexer)
