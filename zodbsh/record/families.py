"""What the letters of a BTree's family allow as keys and values."""

from __future__ import annotations

from zodbsh.record.values import Value

FAMILY_ITEMS = {
    "O": "any value", "I": "a signed number of 32 bits", "U": "an unsigned number of 32 bits",
    "L": "a signed number of 64 bits", "Q": "an unsigned number of 64 bits", "F": "a number",
    "f": "2 bytes", "s": "6 bytes",
}  # fmt: skip
"""What each letter stands for, in words."""

_RANGES = {
    "I": (-(2**31), 2**31 - 1), "U": (0, 2**32 - 1), "L": (-(2**63), 2**63 - 1), "Q": (0, 2**64 - 1),
}  # fmt: skip
_LENGTHS = {"f": 2, "s": 6}
_INTS = frozenset((int, bool))
_FLOATS = frozenset((float, int, bool))


def misfit(letter: str, items: tuple[Value, ...]) -> int | None:
    """Return the place of the first item that a family's letter does not allow, None where all fit."""
    if letter == "O":
        return None
    types = set(map(type, items))
    if letter == "F":
        return None if types <= _FLOATS else next(i for i, item in enumerate(items) if type(item) not in _FLOATS)
    if letter in _LENGTHS:
        length = _LENGTHS[letter]
        return next((i for i, item in enumerate(items) if type(item) is not bytes or len(item) != length), None)
    low, high = _RANGES[letter]
    if types <= _INTS and (not items or (min(items) >= low and max(items) <= high)):  # type: ignore[type-var, operator]
        return None
    return next(i for i, item in enumerate(items) if type(item) not in _INTS or not low <= item <= high)  # type: ignore[operator]
