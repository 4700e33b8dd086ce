"""Instructions of classes, objects and persistent references, and of the machine itself."""

# ruff: noqa: ARG001 -- handlers stand in a table, so all have one signature.
from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.record import known
from zodbsh.record.limits import RecordError
from zodbsh.record.opcodes import OPCODES, line, opcode_name, read_global
from zodbsh.record.refs import read_reference, read_text_reference
from zodbsh.record.values import Dict, Global, Instance, Ref, Value

if TYPE_CHECKING:
    from zodbsh.record.machine import Handler, Machine

HIGHEST_PROTOCOL = 5

_CALLABLE = (Global, Instance, Ref)


class Stop(Exception):
    """STOP was reached."""


def _global(machine: Machine, position: int) -> int:
    class_, end = read_global(machine.data, position, machine.limits)
    machine.stack.append(class_)
    return end


def _stack_global(machine: Machine, position: int) -> int:
    stack = machine.stack
    name = stack.pop()
    module = stack[-1]
    if not isinstance(module, str) or not isinstance(name, str):
        raise RecordError(position, "a class whose name is no text")
    stack[-1] = Global(module, name)
    return position + 1


def _extension(code: int) -> Handler:
    read = OPCODES[code].read

    def handler(machine: Machine, position: int) -> int:
        number, end = read(machine.data, position, machine.limits)
        if not isinstance(number, int) or number <= 0:
            raise RecordError(position, f"extension code {number!r}")
        # What the code stands for is known only to the program that registered it.
        machine.stack.append(Global("copyreg", f"extension({number})"))
        return end

    return handler


def _instance(machine: Machine, class_: Value, args: Value, position: int) -> Value:
    if type(class_) not in _CALLABLE:
        raise RecordError(position, "an object whose class is no class")
    if type(args) is not tuple:
        raise RecordError(position, "an object whose arguments are no tuple")
    machine.position = position
    machine.charge(len(args))
    machine.containers += 1
    return Instance(class_, args)


def _reduce(machine: Machine, position: int) -> int:
    stack = machine.stack
    args = stack.pop()
    func = stack[-1]
    if type(func) is Global and type(args) is tuple:
        machine.position = position
        stack[-1] = known.call(func, args, machine.charge)
        machine.containers += 1
    else:
        # None in place of arguments is how ExtensionClass once asked for an empty object.
        stack[-1] = _instance(machine, func, () if args is None else args, position)
    return position + 1


def _newobj(machine: Machine, position: int) -> int:
    args = machine.stack.pop()
    machine.stack[-1] = _instance(machine, machine.stack[-1], args, position)
    return position + 1


def _newobj_ex(machine: Machine, position: int) -> int:
    kwargs = machine.stack.pop()
    args = machine.stack.pop()
    made = _instance(machine, machine.stack[-1], args, position)
    if not isinstance(kwargs, Dict) or not isinstance(made, Instance):
        raise RecordError(position, "an object whose keyword arguments are no dict")
    machine.charge(len(kwargs))
    made.kwargs = Dict(list(kwargs.pairs)) if kwargs.pairs else None
    machine.stack[-1] = made
    return position + 1


def _obj(machine: Machine, position: int) -> int:
    items = machine.pop_mark()
    machine.stack.append(_instance(machine, items[0], tuple(items[1:]), position))
    return position + 1


def _inst(machine: Machine, position: int) -> int:
    class_, end = read_global(machine.data, position, machine.limits)
    items = machine.pop_mark()
    machine.stack.append(_instance(machine, class_, tuple(items), position))
    return end


def _build(machine: Machine, position: int) -> int:
    state = machine.stack.pop()
    target = machine.stack[-1]
    if isinstance(target, Instance):
        if target.has_state:
            raise RecordError(position, "an object that gets a state twice")
        target.state, target.has_state = state, True
        if target.class_ == known.UUID_CLASS:
            value = known.build(target)
            if value is not None and machine.replace(target, value):
                machine.stack[-1] = value
    elif isinstance(target, Dict) and target.class_ is not None and target.state is None:
        target.state = state
    elif state is not None:
        raise RecordError(position, "a state for something that has none")
    return position + 1


def _persid(machine: Machine, position: int) -> int:
    raw, end = line(machine.data, position)
    reference = read_text_reference(raw, position)
    machine.stack.append(reference)
    machine.references.append(reference)
    return end


def _binpersid(machine: Machine, position: int) -> int:
    reference = read_reference(machine.stack.pop(), machine.find_oid, position)
    if type(reference.class_) is Ref:
        machine.containers += 1
    machine.stack.append(reference)
    machine.references.append(reference)
    return position + 1


# The machine itself.


def _proto(machine: Machine, position: int) -> int:
    protocol = machine.data[position + 1]
    if protocol > HIGHEST_PROTOCOL:
        raise RecordError(position, f"pickle protocol {protocol}; the highest known is {HIGHEST_PROTOCOL}")
    return position + 2


def _frame(machine: Machine, position: int) -> int:
    size, end = OPCODES[0x95].read(machine.data, position, machine.limits)
    if not isinstance(size, int) or end + size > len(machine.data):
        raise RecordError(position, f"a frame of {size!r} bytes, but {len(machine.data) - end} are left")
    return end


def _stop(machine: Machine, position: int) -> int:
    if not machine.stack:
        raise IndexError
    raise Stop


def _buffer(machine: Machine, position: int) -> int:
    raise RecordError(position, f"{opcode_name(machine.data[position])} asks for a buffer outside the record")


def unknown(machine: Machine, position: int) -> int:
    raise RecordError(position, f"{opcode_name(machine.data[position])} is no instruction")


HANDLERS: dict[str, Handler] = {
    "GLOBAL": _global, "STACK_GLOBAL": _stack_global, "EXT1": _extension(0x82), "EXT2": _extension(0x83),
    "EXT4": _extension(0x84), "REDUCE": _reduce, "BUILD": _build, "INST": _inst, "OBJ": _obj, "NEWOBJ": _newobj,
    "NEWOBJ_EX": _newobj_ex, "PERSID": _persid, "BINPERSID": _binpersid, "PROTO": _proto, "STOP": _stop,
    "FRAME": _frame, "NEXT_BUFFER": _buffer, "READONLY_BUFFER": _buffer,
}  # fmt: skip
"""A handler for each instruction of this kind."""
