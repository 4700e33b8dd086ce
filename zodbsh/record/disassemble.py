"""A record as the instructions it is made of, for `inspect --disassemble`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.record.limits import DEFAULT_LIMITS, Limits, RecordError
from zodbsh.record.opcodes import OPCODES, Argument, opcode_name

if TYPE_CHECKING:
    from collections.abc import Iterator


class Instruction(NamedTuple):
    """One instruction: where it stands, its name, its argument (None where it has none)."""

    offset: int
    name: str
    argument: Argument


def disassemble(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Iterator[Instruction]:
    """Yield the instructions of a record's pickles, one after the other, to its end.

    Instructions are read, not followed: what they would do to stack and memo is
    not looked at, so a record that cannot be decoded may well be disassembled.
    Raises RecordError at the first byte that is no instruction, or whose
    argument cannot be read.
    """
    position = 0
    while position < len(data):
        code = data[position]
        opcode = OPCODES.get(code)
        if opcode is None:
            raise RecordError(position, f"{opcode_name(code)} is no instruction")
        argument, end = opcode.read(data, position, limits)
        yield Instruction(position, opcode.name, argument)
        position = end
