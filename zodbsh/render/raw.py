"""What ``inspect --raw`` and ``--disassemble`` show: a record's bytes, its instructions."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text
from zodbsh.record.disassemble import disassemble
from zodbsh.render.jsontext import value_json
from zodbsh.render.output import Rows, is_terminal
from zodbsh.render.values import value_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zodbsh.ops.inspect import RawRecord
    from zodbsh.render.output import Output
    from zodbsh.render.page import Page

_ROW = 16


def write_raw(record: RawRecord, output: Output) -> None:
    """Write a record's bytes as they are; on a terminal as a hex dump."""
    from zodbsh.render.page import Page

    buffer = getattr(output.out, "buffer", None)
    if buffer is None or is_terminal(output.out):
        page = Page(output)
        for line in hex_lines(record.data):
            page.line(line)
        return
    output.out.flush()
    buffer.write(record.data)
    buffer.flush()


def hex_lines(data: bytes) -> Iterator[str]:
    """Yield the lines of a hex dump: offset, sixteen bytes, the same as text."""
    for offset in range(0, len(data), _ROW):
        row = data[offset : offset + _ROW]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{offset:08x}  {row[:8].hex(' '):23}  {row[8:].hex(' '):23}  |{text}|"


class InstructionsView(NamedTuple):
    """A record as its instructions; raises RecordError where one cannot be read, after those before it."""

    record: RawRecord

    def json(self) -> object:
        """Return a list of ``offset``, ``opcode``, ``argument``."""
        return (
            {"offset": offset, "opcode": name, "argument": value_json(argument)}
            for offset, name, argument in disassemble(self.record.data)
        )

    def rows(self) -> Rows:
        """Return the same as columns, the argument as text."""
        return Rows(
            ("offset", "opcode", "argument"),
            (
                (offset, name, None if argument is None else value_text(argument, width=1000))
                for offset, name, argument in disassemble(self.record.data)
            ),
        )

    def text(self, page: Page) -> None:
        """Write one instruction a line, as they are read."""
        page.heading(f"{self.record.path}  {oid_text(self.record.oid)}  {len(self.record.data):,} bytes")
        for offset, name, argument in disassemble(self.record.data):
            page.line(f"{offset:8}  {name:16}", "" if argument is None else value_text(argument))
