"""Class names as numbers: each distinct way of writing a class is decoded once."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# Records whose class part ends within so many bytes are told apart by them first.
_HEAD = 16
# So many different class parts with one head are remembered; more are decoded each time.
_SIBLINGS = 64


class ClassTable:
    """Numbers the classes of records.

    ``class_of`` returns a record's class as text and the length of the class
    part (its first pickle), or 0 for the length where it cannot tell. Equal
    bytes up to that length mean the same class, so they are not decoded again.
    """

    def __init__(self, class_of: Callable[[bytes], tuple[str, int]]) -> None:
        self._class_of = class_of
        self._numbers: dict[str, int] = {}
        self._parts: dict[bytes, list[tuple[bytes, int]]] = {}
        self.names: list[str] = []

    def number(self, data: bytes) -> tuple[int, int]:
        """Return the number of the class of the record ``data``, and the length of its class part (0: unknown)."""
        siblings = self._parts.setdefault(data[:_HEAD], [])
        for part, number in siblings:
            if data.startswith(part):
                return number, len(part)
        name, length = self._class_of(data)
        number = self._numbers.setdefault(name, len(self.names))
        if number == len(self.names):
            self.names.append(name)
        if length and len(siblings) < _SIBLINGS:
            siblings.append((data[:length], number))
        return number, length
