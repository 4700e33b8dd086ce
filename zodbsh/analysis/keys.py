"""Keys and steps of a path, and how they are written: as Python would, so that they read back.

A key is a str, bytes, an int, a float, None, True, False, or a tuple of those. Any other key (a class, a date, a
reference) is written as ``python_key_text`` shows it, and found again by that text.
"""

from __future__ import annotations

import keyword
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from zodbsh.record.values import Value

MAX_NESTING = 32
"""Deepest tuple within a tuple that is read."""


class ShownKey:
    """A key that is no literal, by the text it is shown as: ``zope.interface.Interface``, ``<0x2a>``."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ShownKey) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"ShownKey({self.text!r})"


Key: TypeAlias = bool | int | float | str | bytes | tuple["Key", ...] | ShownKey | None


class Attribute(NamedTuple):
    """``.name``: an attribute (a key, on the root object)."""

    name: str


class Item(NamedTuple):
    """``[key]``: a key of a mapping or a BTree, an index of a sequence."""

    key: Key


class Segment(NamedTuple):
    """``/text``: an attribute, or a key as str, or as int."""

    text: str


Step: TypeAlias = Attribute | Item | Segment


def key_text(key: Key) -> str:
    """Return a key as it is written between brackets."""
    return key.text if isinstance(key, ShownKey) else literal_text(key) or "..."


def literal_text(key: Value | Key) -> str | None:
    """Return the key as it is written between brackets, or None where it has no literal form."""
    if key is None or isinstance(key, bool | str | bytes):
        return repr(key)
    if isinstance(key, int):
        return repr(key) if abs(key) < 10**100 else None
    if isinstance(key, float):
        return repr(key) if key == key else None
    if type(key) is tuple:
        return _tuple_text(key, MAX_NESTING)
    return None


def step_text(step: Step) -> str:
    """Return a step as Python writes it, to stand behind the path before it."""
    if isinstance(step, Attribute):
        return f".{step.name}" if is_attribute_name(step.name) else f"[{step.name!r}]"
    if isinstance(step, Segment):
        return f"/{step.text}"
    return f"[{key_text(step.key)}]"


def is_attribute_name(name: str) -> bool:
    """Tell whether ``.name`` is valid Python."""
    return name.isidentifier() and not keyword.iskeyword(name)


def _tuple_text(key: Sequence[Value | Key], nesting: int) -> str | None:
    if nesting == 0:
        return None
    parts = []
    for item in key:
        part = _tuple_text(item, nesting - 1) if type(item) is tuple else literal_text(item)
        if part is None:
            return None
        parts.append(part)
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"
