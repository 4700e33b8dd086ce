"""What a view writes its human form on: lines, facts and tables, each through the gate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.render.gate import escape, guard

if TYPE_CHECKING:
    from zodbsh.render.output import Output, Rows

_SGR = {
    "bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36",
}  # fmt: skip


class Span(NamedTuple):
    """A piece of a line in a style: bold, dim, or a colour's name."""

    text: str
    style: str


class Page:
    """One command's human output. Whatever is passed in is escaped here; a line never spans two."""

    def __init__(self, output: Output) -> None:
        self._out = output.out
        self._color = output.uses_color(output.out)

    def line(self, *parts: str | Span) -> None:
        """Write one line; strings with line feeds in them come out escaped, on the one line."""
        texts = [(escape(part.text), part.style) if isinstance(part, Span) else (escape(part), "") for part in parts]
        plain = "".join(text for text, _ in texts)
        if guard(plain) != plain:
            texts = [(guard(plain), "")]
        self._out.write("".join(self._styled(text, style) for text, style in texts).rstrip() + "\n")

    def heading(self, text: str) -> None:
        """Write a heading."""
        self.line(Span(text, "bold"))

    def gap(self) -> None:
        """Write an empty line."""
        self._out.write("\n")

    def lines(self, text: str, *, indent: str = "") -> None:
        """Write text of several lines, each indented and escaped."""
        for line in text.split("\n"):
            self.line(indent, line)

    def facts(self, pairs: Iterable[tuple[str, str]], *, indent: str = "") -> None:
        """Write names and values in two aligned columns."""
        pairs = list(pairs)
        width = max((len(name) for name, _ in pairs), default=0)
        for name, value in pairs:
            self.line(indent, Span(name.ljust(width), "dim"), "  ", value)

    def table(self, rows: Rows, *, right: Sequence[str] = (), indent: str = "") -> None:
        """Write a table; the columns named in ``right`` are aligned to the right.

        On a terminal the columns fold to its width; elsewhere nothing is cut.
        """
        from zodbsh.render.tables import table_lines

        for number, line in enumerate(table_lines(rows, right=right, stream=self._out, indent=len(indent))):
            self.line(indent, Span(line, "bold") if number == 0 else line)

    def _styled(self, text: str, style: str) -> str:
        if not (self._color and style):
            return text
        return f"\x1b[{_SGR[style]}m{text}\x1b[0m"
