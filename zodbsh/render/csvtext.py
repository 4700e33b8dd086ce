"""CSV (RFC 4180, lines end in LF): cells pass the gate, so a row is always one line."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, TextIO

from zodbsh.render.gate import escape, guard

if TYPE_CHECKING:
    from zodbsh.render.output import Rows


def write_csv(rows: Rows, stream: TextIO) -> None:
    """Write the headers and the rows; None is an empty cell, a bool ``true`` or ``false``."""
    plain = csv.writer(stream, lineterminator="\n")
    quoting = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow(rows.headers)
    for row in rows.rows:
        cells = [_cell(value) for value in row]
        # A row that begins with a dot would be a dot command in the shell: a quote before it makes it none.
        (quoting if cells and guard(cells[0]) != cells[0] else plain).writerow(cells)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return escape(str(value))
