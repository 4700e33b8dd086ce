"""Attribute changes over several lines, for people; and as ``diff`` gives them to programs."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import unified_diff
from itertools import islice
from typing import TYPE_CHECKING

from zodbsh.analysis.compare import ABSENT, Absent, AttributeChange
from zodbsh.render.jsontext import value_json
from zodbsh.render.page import Span
from zodbsh.render.values import ClassOf, value_text

if TYPE_CHECKING:
    from zodbsh.analysis.compare import Side
    from zodbsh.render.page import Page

_WIDTH = 100
_PARTS = 20
_LINES = 200
# Comparing takes the square of the lines that differ, in the worst case.
_COMPARED_LINES = 10_000
_MORE = "(... and more: --format json)"
# A text is shown by line where it has lines, and is worth the room.
_LONG = 60


def attribute_json(change: AttributeChange) -> dict[str, object]:
    """Return a change as JSON: ``old`` and ``new`` are null where a side has nothing, and ``missing`` says which."""
    data: dict[str, object] = {"name": change.name, "old": side_json(change.old), "new": side_json(change.new)}
    if change.old is ABSENT or change.new is ABSENT:
        data["missing"] = "old" if change.old is ABSENT else "new"
    return data


def side_json(side: Side) -> object:
    """Return one side's value as JSON, null where it has nothing, or nothing known."""
    return None if isinstance(side, Absent) else value_json(side)


def show_changes(page: Page, changes: Iterable[AttributeChange], *, indent: str, class_of: ClassOf | None) -> None:
    """Write changes: ``+`` what is new, ``-`` what is gone, ``~`` what differs; text by line."""
    for change in changes:
        if change.old is ABSENT:
            page.line(indent, Span(f"+ {change.name}: {side_text(change.new, class_of)}", "green"))
        elif change.new is ABSENT:
            page.line(indent, Span(f"- {change.name}: {side_text(change.old, class_of)}", "red"))
        elif isinstance(change.old, str) and isinstance(change.new, str) and _by_line(change.old, change.new):
            page.line(indent, Span(f"~ {change.name}:", "yellow"))
            _show_lines(page, change.old, change.new, indent + "    ")
        elif change.parts:
            page.line(indent, Span(f"~ {change.name}:", "yellow"))
            _show_parts(page, change, indent + "    ", class_of)
        else:
            old, new = side_text(change.old, class_of), side_text(change.new, class_of)
            page.line(indent, Span(f"~ {change.name}: ", "yellow"), old, " -> ", new)


def side_text(side: Side, class_of: ClassOf | None = None, *, width: int = _WIDTH) -> str:
    """Return one side's value as bounded text, ``(nothing)`` where it has none, ``(unknown)`` where it is not known."""
    if isinstance(side, Absent):
        return side.text
    return value_text(side, width=width, class_of=class_of)


def _by_line(old: str, new: str) -> bool:
    if old.count("\n") + new.count("\n") > _COMPARED_LINES:
        return False
    return "\n" in old or "\n" in new or (len(old) > _LONG and len(new) > _LONG)


def _show_lines(page: Page, old: str, new: str, indent: str) -> None:
    # Header lines name files, which there are none of.
    lines = islice(unified_diff(old.split("\n"), new.split("\n"), lineterm="", n=1), 2, None)
    for number, line in enumerate(lines):
        if number == _LINES:
            page.line(indent, _MORE)
            return
        style = {"+": "green", "-": "red", "@": "dim"}.get(line[:1], "")
        page.line(indent, Span(line, style) if style else line)


def _show_parts(page: Page, change: AttributeChange, indent: str, class_of: ClassOf | None) -> None:
    shown = [AttributeChange(part.path, part.old, part.new) for part in change.parts[:_PARTS]]
    show_changes(page, shown, indent=indent, class_of=class_of)
    if len(change.parts) > _PARTS:
        page.line(indent, f"(... and {len(change.parts) - _PARTS:,} more: --format json)")
