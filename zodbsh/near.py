"""Names that somebody may have meant who wrote another: a slip of the fingers away, or begun with it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

# So many that difflib finds similar are looked at more closely.
_LOOKED_AT = 20
_SHORTEST_BEGINNING = 2


def near_names(wanted: str, names: Iterable[str], *, limit: int = 3) -> list[str]:
    """Return at most ``limit`` of the names that resemble ``wanted``, the nearest first.

    A name resembles it that has at most one wrong, missing or additional character, or two that changed places, for
    three characters, two for seven, and so on; or that begins with it. Upper and lower case are the same.
    """
    known: dict[str, str] = {}
    for name in names:
        known.setdefault(name.lower(), name)
    text = wanted.lower()
    slips = (len(text) + 1) // 4
    distances = {name: _distance(text, name) for name in get_close_matches(text, known, n=_LOOKED_AT, cutoff=0.6)}
    found = sorted((name for name, distance in distances.items() if distance <= slips), key=distances.__getitem__)
    if len(text) >= _SHORTEST_BEGINNING:
        found += sorted((name for name in known if name.startswith(text) and name not in found), key=len)
    return [known[name] for name in found[:limit]]


def _distance(one: str, other: str) -> int:
    """Return how many characters to change, add, take out or swap with their neighbour (optimal string alignment)."""
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, char in enumerate(one, 1):
        now = [row]
        for column, theirs in enumerate(other, 1):
            cost = min(last[column] + 1, now[column - 1] + 1, last[column - 1] + (char != theirs))
            if row > 1 and column > 1 and char == other[column - 2] and one[row - 2] == theirs:
                cost = min(cost, before[column - 2] + 1)
            now.append(cost)
        before, last = last, now
    return last[-1]
