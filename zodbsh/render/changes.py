"""What changed in an object, attribute by attribute, on one line each."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from zodbsh.analysis.compare import Absent, AttributeChange, Part
from zodbsh.render.jsontext import value_json
from zodbsh.render.page import Span
from zodbsh.render.values import value_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zodbsh.analysis.compare import Side
    from zodbsh.render.values import ClassOf

_WIDTH = 60
_LINES = 50


def change_json(change: AttributeChange) -> dict[str, object]:
    """Return ``name``, ``old``, ``new``, and ``parts`` where a container differs in parts.

    A side that lacks the attribute is null, and ``missing`` names it (``old`` or ``new``).
    """
    found = {"name": change.name} | _sides(change)
    if change.parts:
        found["parts"] = [{"path": part.path} | _sides(part) for part in change.parts]
    return found


def change_lines(
    changes: Iterable[AttributeChange], *, class_of: ClassOf | None = None, limit: int = _LINES
) -> Iterator[list[str | Span]]:
    """Yield one line for each difference: ``- name  old``, ``+ name  new``, ``  name  old -> new``."""
    lines = (_line(part, class_of) for change in changes for part in (change.parts or (change,)))
    yield from islice(lines, limit)
    rest = sum(1 for _ in lines)
    if rest:
        yield [f"(... and {rest:,} more)"]


def side_text(side: Side, *, class_of: ClassOf | None = None, width: int = _WIDTH) -> str | None:
    """Return one side of a change as text, None where it is absent."""
    return None if isinstance(side, Absent) else value_text(side, width=width, class_of=class_of)


def _line(part: AttributeChange | Part, class_of: ClassOf | None) -> list[str | Span]:
    name = part.path if isinstance(part, Part) else part.name
    old, new = side_text(part.old, class_of=class_of), side_text(part.new, class_of=class_of)
    if old is None:
        return [Span(f"+ {name}  {new}", "green")]
    if new is None:
        return [Span(f"- {name}  {old}", "red")]
    return [f"  {name}  {old} -> {new}"]


def _sides(change: AttributeChange | Part) -> dict[str, object]:
    sides: dict[str, object] = {}
    for name, side in (("old", change.old), ("new", change.new)):
        if isinstance(side, Absent):
            sides[name] = None
            sides["missing"] = name
        else:
            sides[name] = value_json(side)
    return sides
