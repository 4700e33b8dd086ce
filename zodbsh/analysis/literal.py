"""Reading the keys and names of a path: literals, as Python writes them, and nothing is evaluated."""

from __future__ import annotations

import re
import warnings

from zodbsh.analysis.keys import MAX_NESTING, Key, ShownKey
from zodbsh.errors import UsageError

MAX_TARGET = 65_536
"""Longest target that is read, in characters."""

_STRING = re.compile(
    r"""(?P<prefix>[bBuUrR]{0,2})(?:'(?P<single>(?:[^'\\\n]|\\.)*)'|"(?P<double>(?:[^"\\\n]|\\.)*)")"""
)
_NUMBER = re.compile(r"[+-]?(?:inf\b|0[xX][0-9a-fA-F_]+|(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?)")
_NAME = re.compile(r"[^\W\d]\w*")
# What is shown but is no literal begins so: a reference, a tuple with something in it, a dotted name, a call.
_SHOWN = re.compile(r"[<(]|\w+[.(]|nan\b")
_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^'"\[\]]+""")
_SPACE = re.compile(r"[ \t]*")
_CONSTANTS: dict[str, Key] = {"None": None, "True": True, "False": False}
_HINT = "A key is a string, bytes, a number, None, True, False, or a tuple of those: ['k'], [42], [(1, 'a')]."


class TargetSyntaxError(UsageError):
    """A target cannot be read; the message says at which character."""

    code = "target-syntax"


def read_key(text: str, position: int) -> tuple[Key, int]:
    """Read the key behind an opening bracket, and the closing bracket; return it and the position after both.

    Raises TargetSyntaxError.
    """
    try:
        key, end = read_literal(text, position)
        end = skip_space(text, end)
        if text[end : end + 1] == "]":
            return key, end + 1
        error = TargetSyntaxError(f"a ] is missing at character {end + 1} of the target", hint=_HINT)
    except TargetSyntaxError as exc:
        error = exc
    if not _SHOWN.match(text, position):
        raise error
    # It is no literal: take the text up to the bracket that closes this one.
    depth, end = 1, position
    while depth:
        if match := _QUOTED.match(text, end):
            end = match.end()
        elif end >= len(text) or text[end] not in "[]":
            raise error
        else:
            depth += 1 if text[end] == "[" else -1
            end += 1
    return ShownKey(text[position : end - 1].strip()), end


def read_literal(text: str, position: int, nesting: int = 0) -> tuple[Key, int]:
    """Read the literal that starts at ``position``; return it and the position after it.

    Nothing is evaluated. Raises TargetSyntaxError.
    """
    position = skip_space(text, position)
    if text[position : position + 1] == "(":
        return _read_tuple(text, position, nesting)
    if match := _STRING.match(text, position):
        return _string_value(match, position), match.end()
    if match := _NUMBER.match(text, position):
        return _number_value(match[0], position), match.end()
    if (match := _NAME.match(text, position)) and match[0] in _CONSTANTS:
        return _CONSTANTS[match[0]], match.end()
    if text[position : position + 1] in ("'", '"'):
        raise TargetSyntaxError(f"the string at character {position + 1} of the target does not end", hint=_HINT)
    raise TargetSyntaxError(f"not a key at character {position + 1} of the target: {_near(text, position)}", hint=_HINT)


def read_name(text: str, position: int) -> tuple[str, int]:
    """Read the identifier at ``position``; return it and the position after it. Raises TargetSyntaxError."""
    match = _NAME.match(text, position)
    if match is None:
        raise TargetSyntaxError(
            f"no attribute name at character {position + 1} of the target: {_near(text, position)}",
            hint="Write root.name, or root['any key'].",
        )
    end = match.end()
    # A few characters continue an identifier though they are no letters: the middle dot of Catalan.
    while end < len(text) and text[position : end + 1].isidentifier():
        end += 1
    return text[position:end], end


def skip_space(text: str, position: int) -> int:
    """Return the position of the next character that is no space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _near(text: str, position: int) -> str:
    return repr(text[position : position + 20]) if position < len(text) else "the target ends"


def _read_tuple(text: str, position: int, nesting: int) -> tuple[Key, int]:
    if nesting >= MAX_NESTING:
        raise TargetSyntaxError(f"tuples nested more than {MAX_NESTING} deep at character {position + 1} of the target")
    items: list[Key] = []
    comma = True
    position = skip_space(text, position + 1)
    while text[position : position + 1] != ")":
        if not comma:
            raise TargetSyntaxError(f"a comma is missing at character {position + 1} of the target", hint=_HINT)
        item, position = read_literal(text, position, nesting + 1)
        items.append(item)
        position = skip_space(text, position)
        comma = text[position : position + 1] == ","
        if comma:
            position = skip_space(text, position + 1)
    # As in Python, (1) is 1 and (1,) is a tuple.
    single = len(items) == 1 and not comma
    return (items[0] if single else tuple(items)), position + 1


def _string_value(match: re.Match[str], position: int) -> str | bytes:
    body = match["single"] if match["single"] is not None else match["double"]
    prefix = match["prefix"].lower()
    if "\\" not in body and prefix in ("", "u", "r"):
        return body
    import ast  # a path with an escape is rare, and ast is slow to import

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = ast.literal_eval(match[0])
    except (ValueError, SyntaxError) as exc:
        raise TargetSyntaxError(f"not a string at character {position + 1} of the target: {match[0][:40]}") from exc
    assert isinstance(value, str | bytes)
    return value


def _number_value(text: str, position: int) -> int | float:
    try:
        if "x" in text.lower():
            return int(text, 16)
        if any(mark in text for mark in ".eEi"):
            return float(text)
        return int(text)
    except ValueError:
        raise TargetSyntaxError(f"not a number at character {position + 1} of the target: {text[:40]}") from None
