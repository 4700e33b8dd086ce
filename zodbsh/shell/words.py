"""The words of a dot command's line.

A target is written as in Python (``.inspect root.accounts['a b']``), so quotes
and brackets inside a word belong to it. A word that begins with a quote is a
quoted one (``.commit -m "first account"``), as is what follows ``--option=``.
"""

from __future__ import annotations

import re

from zodbsh.errors import UsageError

_OPTION = re.compile(r"--[\w-]+=")
_PAIRS = {"[": "]", "(": ")", "{": "}"}


class UnfinishedWord(UsageError):
    """A quote or a bracket is not closed."""

    code = "unfinished-word"


def is_dot_command(line: str) -> bool:
    """Tell whether a line is a dot command rather than Python."""
    return re.match(r"\.[A-Za-z]", line) is not None


def split_words(line: str) -> list[str]:
    """Split a dot command's line, the dot of its name included in the first word.

    Raises UnfinishedWord.
    """
    words: list[str] = []
    rest = line.strip()
    while rest:
        word, end = _word(rest)
        words.append(word)
        rest = rest[end:].lstrip()
    return words


def last_word(line: str) -> tuple[list[str], str]:
    """Return the finished words and the unfinished one the cursor stands in (empty after a space)."""
    words: list[str] = []
    rest = line.lstrip()
    while rest:
        try:
            word, end = _word(rest)
        except UnfinishedWord:
            return words, rest
        if end == len(rest):
            return words, rest
        words.append(word)
        rest = rest[end:].lstrip()
    return words, ""


def _word(text: str) -> tuple[str, int]:
    """Read the word that the text begins with; return it and the position after it."""
    start = match.end() if (match := _OPTION.match(text)) else 0
    if text[start : start + 1] in ("'", '"'):
        body, end = _quoted(text, start)
        if end == len(text) or text[end].isspace():
            return text[:start] + body, end
    open_: list[str] = []
    position = start
    while position < len(text):
        character = text[position]
        if character in "'\"" and (open_ or position > start):
            position = _quoted(text, position)[1]
            continue
        if character.isspace() and not open_:
            break
        if character in _PAIRS:
            open_.append(_PAIRS[character])
        elif open_ and character == open_[-1]:
            open_.pop()
        position += 1
    if open_:
        raise UnfinishedWord(f"{open_[-1]!r} is missing at the end of {text[:40]!r}")
    return text[:position], position


def _quoted(text: str, start: int) -> tuple[str, int]:
    """Read a quoted string; return what it says and the position after it."""
    quote, body, position = text[start], "", start + 1
    while position < len(text):
        character = text[position]
        if character == "\\" and text[position + 1 : position + 2] in (quote, "\\"):
            body += text[position + 1]
            position += 2
            continue
        if character == quote:
            return body, position + 1
        body += character
        position += 1
    raise UnfinishedWord(f"the quote {quote} is not closed in {text[start : start + 40]!r}")
