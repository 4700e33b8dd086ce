"""Errors as users see them: two lines, or one JSON object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.render.gate import escape_lines

if TYPE_CHECKING:
    from zodbsh.render.output import Output


def show_error(code: str, message: str, hint: str, output: Output) -> None:
    """Write an error to stderr, as JSON where a program reads the result."""
    if output.machine:
        from zodbsh.render.jsontext import dumps

        print(dumps({"error": {"code": code, "message": message, "hint": hint}}), file=output.err)
        return
    label = "\x1b[31merror:\x1b[0m" if output.uses_color(output.err) else "error:"
    print(label, escape_lines(message), file=output.err)
    if hint:
        print("hint:", escape_lines(hint), file=output.err)
