"""Errors as users see them: a line and a hint, or one JSON object."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.render.gate import escape, escape_lines

if TYPE_CHECKING:
    from zodbsh.render.output import Output


def show_error(code: str, message: str, hint: str, output: Output, *, context: str = "") -> None:
    """Write an error to stderr, as JSON where a program reads the result.

    ``message`` and ``hint`` are a line each, whatever they quote; ``context`` may have more.
    """
    if output.machine:
        from zodbsh.render.jsontext import dumps

        whole = f"{message}\n{context}" if context else message
        print(dumps({"error": {"code": code, "message": whole, "hint": hint}}), file=output.err)
        return
    label = "\x1b[31merror:\x1b[0m" if output.uses_color(output.err) else "error:"
    print(label, escape(message), file=output.err)
    if context:
        print(escape_lines(context), file=output.err)
    if hint:
        print("hint:", escape(hint), file=output.err)
