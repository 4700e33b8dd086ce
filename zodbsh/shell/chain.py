"""What stands before the cursor: a chain of names, attributes and constant keys.

Only such a chain is followed by completion: it can be resolved by looking, and
an expression with a call in it would have to be run.
"""

from __future__ import annotations

import ast
import re
from typing import Any, Literal, NamedTuple

_TOKEN = re.compile(
    r"""
    (?P<comment>\#[^\n]*)
  | (?P<string>(?i:[rbuf]{0,2})(?:
        '''(?s:[^\\]|\\.)*?'''
      | \"\"\"(?s:[^\\]|\\.)*?\"\"\"
      | '(?!'')(?:[^'\\\n]|\\.)*'
      | "(?!"")(?:[^"\\\n]|\\.)*"
    ))
  | (?P<open>(?i:[rbuf]{0,2})(?:'''|\"\"\"|'|"))
  | (?P<name>[^\W\d]\w*)
  | (?P<number>\d[\w.]*)
  | (?P<space>\s+)
  | (?P<operator>.)
    """,
    re.VERBOSE,
)


class Token(NamedTuple):
    """A piece of the text: its kind (a group of the pattern) and itself."""

    kind: str
    text: str


class Step(NamedTuple):
    """One step from an object to the next: ``.value``, ``[value]``, or ``()``."""

    kind: Literal["attribute", "item", "call"]
    value: Any = None


class Chain(NamedTuple):
    """A name and the steps from it."""

    name: str
    steps: tuple[Step, ...] = ()


class Cursor(NamedTuple):
    """What may be completed at the cursor.

    ``kind``: a name, an attribute of ``chain``, or a key of it. ``prefix`` is
    what is typed of it already; a key's includes no quote, ``quote`` holds that
    with the string's prefix (``b'``), and is empty for a number or nothing yet.
    """

    kind: Literal["name", "attribute", "key", "nothing"]
    prefix: str = ""
    chain: Chain | None = None
    quote: str = ""


NOTHING = Cursor("nothing")


def at_cursor(text: str) -> Cursor:
    """Tell what the text before the cursor asks for."""
    tokens, rest = _tokens(text)
    if rest is not None:
        quote, body = rest
        if "f" in quote.lower() or "r" in quote.lower() or quote[-3:] in ("'''", '"""') or "\n" in body:
            return NOTHING
        return _key(tokens, body, quote)
    if tokens and tokens[-1].kind == "comment":
        return NOTHING
    tail = text[len(text.rstrip()) :]
    tokens = [token for token in tokens if token.kind != "space"]
    if tokens and not tail and tokens[-1].kind == "name":
        prefix = tokens.pop().text
    elif tokens and not tail and tokens[-1].kind == "number":
        number = tokens.pop().text
        if tokens and tokens[-1].text == "-":
            tokens.pop()
            number = f"-{number}"
        return _key(tokens, number, "")
    else:
        prefix = ""
    if tokens and tokens[-1].text == ".":
        chain = _chain(tokens[:-1])
        return NOTHING if chain is None else Cursor("attribute", prefix, chain)
    if not prefix and tokens and tokens[-1].text == "[":
        return _key(tokens, "", "")
    if not prefix and tokens and tokens[-1].text == "-" and len(tokens) > 1 and tokens[-2].text == "[":
        return _key(tokens[:-1], "-", "")
    return Cursor("name", prefix)


def _key(tokens: list[Token], prefix: str, quote: str) -> Cursor:
    tokens = [token for token in tokens if token.kind != "space"]
    if not tokens or tokens[-1].text != "[":
        return NOTHING
    chain = _chain(tokens[:-1])
    return NOTHING if chain is None else Cursor("key", prefix, chain, quote)


def _tokens(text: str) -> tuple[list[Token], tuple[str, str] | None]:
    """Split the text; the second part is an unfinished string's quote and body."""
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        assert match is not None
        assert match.lastgroup is not None
        if match.lastgroup == "open":
            return tokens, (match[0], text[match.end() :])
        tokens.append(Token(match.lastgroup, match[0]))
        position = match.end()
    return tokens, None


def _chain(tokens: list[Token]) -> Chain | None:
    """Read the chain that the tokens end with, backwards; None where there is no such chain."""
    steps: list[Step] = []
    end = len(tokens)
    while end > 0:
        token = tokens[end - 1]
        if token.text == "]":
            start = _opening(tokens, end - 1)
            key = _constant(tokens[start + 1 : end - 1])
            if start < 0 or key is None:
                return None
            steps.append(Step("item", key[0]))
            end = start
        elif token.text == ")" and end > 1 and tokens[end - 2].text == "(":
            steps.append(Step("call"))
            end -= 2
        elif token.kind == "name":
            if end > 1 and tokens[end - 2].text == ".":
                steps.append(Step("attribute", token.text))
                end -= 2
            else:
                return Chain(token.text, tuple(reversed(steps)))
        else:
            return None
    return None


def _opening(tokens: list[Token], end: int) -> int:
    depth = 0
    for position in range(end, -1, -1):
        if tokens[position].text in ("]", ")", "}"):
            depth += 1
        elif tokens[position].text in ("[", "(", "{"):
            depth -= 1
            if depth == 0:
                return position
    return -1


def _constant(tokens: list[Token]) -> tuple[Any] | None:
    """Return a key that is written out (in a tuple, so that None can be one), None for an expression."""
    try:
        return (ast.literal_eval("".join(token.text for token in tokens)),)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
