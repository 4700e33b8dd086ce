"""Errors as users see them: two lines, or one JSON object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.render.gate import escape, escape_lines

if TYPE_CHECKING:
    from zodbsh.render.output import Output


def show_error(code: str, message: str, hint: str, output: Output) -> None:
    """Write an error to stderr, as JSON where a program reads the result."""
    if output.machine:
        from zodbsh.render.jsontext import dumps

        print(dumps({"error": {"code": code, "message": message, "hint": hint}}), file=output.err)
        return
    label = "\x1b[31merror:\x1b[0m" if output.uses_color(output.err) else "error:"
    print(label, _labelled(message), file=output.err)
    if hint:
        print("hint:", _labelled(hint), file=output.err)


def _labelled(text: str) -> str:
    """Escape what stands behind a label: only its further lines could begin with a dot."""
    first, feed, rest = text.partition("\n")
    return escape(first) + feed + escape_lines(rest)
