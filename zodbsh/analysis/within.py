"""Of what changed in an object, what concerns one value in it."""

from __future__ import annotations

from collections.abc import Iterable

from zodbsh.analysis.compare import MAX_PARTS, AttributeChange
from zodbsh.analysis.literal import read_key, read_name


def changes_within(changes: Iterable[AttributeChange], inside: tuple[str, ...]) -> list[AttributeChange]:
    """Return the changes of the value to which the steps ``inside`` lead from the object (``.config``, ``['x']``).

    Where the value is deeper in an attribute, the differences that it lies in or that lie in it, each under its path;
    the attribute's whole change where they are too many to be known.
    """
    names, rest = _first_step(inside)
    found = []
    for change in changes:
        if change.name not in names:
            continue
        if not rest or not change.parts or len(change.parts) >= MAX_PARTS:
            found.append(change)
            continue
        above = [change.name]
        for step in rest:
            above.append(above[-1] + step)
        found += [AttributeChange(*part) for part in change.parts if _concerns(part.path, above)]
    return found


def _first_step(inside: tuple[str, ...]) -> tuple[set[str], tuple[str, ...]]:
    """Return the names that a change of the first step may have, and the steps after it."""
    text = inside[0]
    if text.startswith("."):
        name, end = read_name(text, 1)
        names = {name, f"[{name!r}]"}
    else:
        key, end = read_key(text, 1)
        # The same step leads to a key, to a member of a set, and to an attribute that Python cannot name.
        names = {text[:end], f"{{{text[1 : end - 1]}}}"} | ({key} if isinstance(key, str) else set())
    rest = (text[end:], *inside[1:])
    return names, tuple(step for step in rest if step)


def _concerns(path: str, above: list[str]) -> bool:
    """Tell whether a difference at ``path`` is one of the value at ``above[-1]``, of what it lies in, or of its parts.

    Members of a set have no place: any of them may be the one that is meant.
    """
    inner = path.startswith(tuple(above[-1] + mark for mark in ".[{"))
    return inner or path in above or path.startswith(tuple(step + "{" for step in above))
