"""The menu of the prompt: dot commands by the command table, Python by looking at the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from prompt_toolkit.completion import Completer, Completion

from zodbsh.analysis.target import complete_target
from zodbsh.render.gate import escape
from zodbsh.shell.completion import Candidate, complete
from zodbsh.shell.dot import find_command, shell_commands, table_names
from zodbsh.shell.words import last_word, split_words
from zodbsh.source.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prompt_toolkit.completion import CompleteEvent
    from prompt_toolkit.document import Document

    from zodbsh.shell.interpreter import Shell


class ShellCompleter(Completer):
    """Completes in the thread that asks: a ZODB connection belongs to one."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Yield what may stand at the cursor."""
        before, after = document.text_before_cursor, document.text_after_cursor
        try:
            found = candidates(self._shell, before, after)
        except Exception:  # noqa: BLE001 - Tab is no place for an error
            return
        for candidate in found:
            yield Completion(
                candidate.text,
                start_position=-candidate.replaces,
                display=escape(candidate.display),
                display_meta=escape(candidate.meta),
            )


def candidates(shell: Shell, before: str, after: str = "") -> list[Candidate]:
    """Return what may stand between the text before and after the cursor."""
    if before.lstrip().startswith("."):
        return list(_dot(shell, before.lstrip(), after))
    return complete(before, after, shell.evaluator.namespace, connection=shell.session.connection)


def _dot(shell: Shell, before: str, after: str) -> Iterator[Candidate]:
    words, word = last_word(before)
    if not words:
        names = sorted({*shell_commands(shell), *table_names(shell)})
        yield from (Candidate(f".{name}", len(word), f".{name}") for name in names if f".{name}".startswith(word))
        return
    command = find_command(shell, words[0].removeprefix("."))
    if command is None:
        return
    if word.startswith("-"):
        yield from _options(command, word)
        return
    option = _option(command, words[-1])
    parameter = option if option is not None else _argument(command, words[1:])
    if parameter is None:
        return
    if isinstance(parameter.type, click.Choice):
        for choice in map(str, parameter.type.choices):
            if choice.startswith(word):
                yield Candidate(choice, len(word), choice)
    elif words[0] == ".help":
        names = sorted({*shell_commands(shell), *table_names(shell)})
        yield from (Candidate(name, len(word), name) for name in names if name.startswith(word))
    elif parameter.name in ("target", "targets"):
        yield from _targets(shell, word, after)


def _targets(shell: Shell, word: str, after: str) -> Iterator[Candidate]:
    """Complete a path from the root; only the root is a name there. A slash path is one in what is committed."""
    if word.startswith("/"):
        for text in complete_target(Snapshot(shell.session.source()), word):
            if len(split_words(text)) == 1:
                yield Candidate(text, len(word), text)
        return
    namespace = {"root": shell.session.root}
    found = complete(word, after, namespace, connection=shell.session.connection)
    if "." in word or "[" in word:
        # A method is no part of a path.
        yield from (item for item in found if item.meta not in ("function", "method", "computed"))
    elif "root".startswith(word):
        yield Candidate("root", len(word), "root")


def _options(command: click.Command, word: str) -> Iterator[Candidate]:
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            for name in (*parameter.opts, *parameter.secondary_opts):
                if name.startswith(word) and (name.startswith("--") or len(word) == 1):
                    yield Candidate(name, len(word), name, (parameter.help or "").split("\n")[0])


def _option(command: click.Command, word: str) -> click.Option | None:
    """Return the option that waits for its value, None where ``word`` is none."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and word in parameter.opts and not parameter.is_flag:
            return parameter
    return None


def _argument(command: click.Command, words: list[str]) -> click.Argument | None:
    """Return the argument that the next word would be."""
    given = 0
    waiting = False
    for word in words:
        if waiting:
            waiting = False
        elif word.startswith("-"):
            waiting = _option(command, word) is not None and "=" not in word
        else:
            given += 1
    arguments = [p for p in command.params if isinstance(p, click.Argument) and p.name != "database"]
    for argument in arguments:
        if given == 0 or argument.nargs == -1:
            return argument
        given -= 1
    return None
