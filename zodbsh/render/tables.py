"""Tables as aligned text: no boxes; as wide as its content, except on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

from zodbsh.render.gate import escape, guard

if TYPE_CHECKING:
    from zodbsh.render.output import Rows

_GAP = 2


def cell_text(value: object) -> str:
    """Return a cell as people read it: numbers with thousands separated, None empty, text escaped."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return escape(str(value))


def table_lines(rows: Rows, *, right: Sequence[str] = (), stream: TextIO, indent: int = 0) -> Iterator[str]:
    """Yield the table's lines, the headers first."""
    from zodbsh.render.output import is_terminal

    cells = [[cell_text(value) for value in row] for row in rows.rows]
    for row in cells:
        row[:1] = map(guard, row[:1])
    rights = [header in right for header in rows.headers]
    if is_terminal(stream):
        yield from _folded(list(rows.headers), cells, rights, _terminal_width() - indent)
        return
    everything = [list(rows.headers), *cells]
    widths = [max(cell_width(row[column]) for row in everything) for column in range(len(rows.headers))]
    for row in everything:
        yield _joined(row, widths, rights)


def cell_width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _joined(row: Sequence[str], widths: Sequence[int], rights: Sequence[bool]) -> str:
    padded = []
    for text, width, right in zip(row, widths, rights, strict=True):
        space = " " * (width - cell_width(text))
        padded.append(space + text if right else text + space)
    return (" " * _GAP).join(padded).rstrip()


def _terminal_width() -> int:
    from shutil import get_terminal_size

    return get_terminal_size().columns


def _folded(headers: list[str], cells: list[list[str]], rights: list[bool], width: int) -> Iterator[str]:
    """Let rich fold the columns: it knows how to share a terminal's width among them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for header, is_right in zip(headers, rights, strict=True):
        table.add_column(Text(header), justify="right" if is_right else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(text) for text in row))
    console = Console(width=max(width, 20), color_system=None, force_terminal=False, legacy_windows=False)
    for segments in console.render_lines(table, pad=False):
        yield "".join(segment.text for segment in segments).rstrip()
