"""The pickle machine, inert: one handler an instruction, no recursion, no calls."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from zodbsh.record import containers, objects, scalars
from zodbsh.record.limits import RecordError
from zodbsh.record.opcodes import OPCODES, opcode_name
from zodbsh.record.walk import deeper_than

if TYPE_CHECKING:
    from zodbsh.record.machine import Handler, Machine
    from zodbsh.record.values import Value


def run(machine: Machine, start: int) -> tuple[Value, int]:
    """Return the value of the pickle at ``start``, and the position after its STOP.

    Raises RecordError.
    """
    data, handlers, position = machine.data, HANDLERS, start
    machine.stack, machine.marks = [], []
    steps = 0
    try:
        for steps in range(machine.budget):  # noqa: B007
            position = handlers[data[position]](machine, position)
    except objects.Stop:
        machine.budget -= steps + 1
        value = machine.stack.pop()
        check_depth(machine, value, position)
        return value, position + 1
    except IndexError:
        if position >= len(data):
            raise RecordError(position, "the record ends before its STOP") from None
        opcode = OPCODES[data[position]]
        opcode.read(data, position, machine.limits)  # It says so where the argument is what ends too early.
        raise RecordError(position, f"{opcode.name} finds too little on the stack") from None
    except KeyError as error:
        raise RecordError(position, f"the memo has no entry {error.args[0]}") from None
    except struct.error:
        raise RecordError(position, f"the record ends inside {opcode_name(data[position])}") from None
    raise RecordError(position, f"more than {machine.limits.nodes} instructions")


def check_depth(machine: Machine, value: Value, position: int) -> None:
    """Raise RecordError with ``position`` where containers stand in one another deeper than the limit."""
    # A chain needs as many containers; most records do not have them.
    if machine.containers >= machine.limits.depth and deeper_than(value, machine.limits.depth):
        raise RecordError(position, f"values nested more than {machine.limits.depth} deep") from None


_BY_NAME: dict[str, Handler] = {**scalars.HANDLERS, **containers.HANDLERS, **objects.HANDLERS}

HANDLERS: list[Handler] = [_BY_NAME[OPCODES[code].name] if code in OPCODES else objects.unknown for code in range(256)]
"""A handler for each byte."""
