"""Instructions that push what stands in the record: numbers, constants, strings."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from zodbsh.record.known import BYTEARRAY
from zodbsh.record.limits import RecordError
from zodbsh.record.opcodes import OPCODES, Argument, opcode_name, read_string_line, text_or_bytes
from zodbsh.record.values import Instance, Value

if TYPE_CHECKING:
    from zodbsh.record.machine import Handler, Machine

_UINT4 = struct.Struct("<I").unpack_from
_INT4 = struct.Struct("<i").unpack_from
_UINT2 = struct.Struct("<H").unpack_from
_DOUBLE = struct.Struct(">d").unpack_from


def _push(code: str) -> Handler:
    read = OPCODES[ord(code)].read

    def handler(machine: Machine, position: int) -> int:
        value: Argument
        value, position = read(machine.data, position, machine.limits)
        machine.stack.append(value)
        return position

    return handler


def _constant(value: Value) -> Handler:
    def handler(machine: Machine, position: int) -> int:
        machine.stack.append(value)
        return position + 1

    return handler


def _binint1(machine: Machine, position: int) -> int:
    machine.stack.append(machine.data[position + 1])
    return position + 2


def _binint2(machine: Machine, position: int) -> int:
    machine.stack.append(_UINT2(machine.data, position + 1)[0])
    return position + 3


def _binint(machine: Machine, position: int) -> int:
    machine.stack.append(_INT4(machine.data, position + 1)[0])
    return position + 5


def _binfloat(machine: Machine, position: int) -> int:
    machine.stack.append(_DOUBLE(machine.data, position + 1)[0])
    return position + 9


def _ends_inside(machine: Machine, position: int, end: int) -> RecordError:
    name, missing = opcode_name(machine.data[position]), end - len(machine.data)
    return RecordError(position, f"the record ends inside {name}, {missing} bytes too early")


def _short_binstring(machine: Machine, position: int) -> int:
    data = machine.data
    start = position + 2
    end = start + data[position + 1]
    if end > len(data):
        raise _ends_inside(machine, position, end)
    _push_string(machine, data[start:end], start)
    return end


def _binstring(machine: Machine, position: int) -> int:
    size = _INT4(machine.data, position + 1)[0]
    start = position + 5
    if size < 0:
        raise RecordError(position, f"a negative length, {size}")
    if start + size > len(machine.data):
        raise _ends_inside(machine, position, start + size)
    _push_string(machine, machine.data[start : start + size], start)
    return int(start + size)


def _string(machine: Machine, position: int) -> int:
    raw, end = read_string_line(machine.data, position)
    _push_string(machine, raw, None)
    return end


def _push_string(machine: Machine, raw: bytes, start: int | None) -> None:
    value = text_or_bytes(raw)
    if len(raw) == 8:
        machine.oids[id(value)] = (value, raw, start)
    machine.stack.append(value)


def _short_binbytes(machine: Machine, position: int) -> int:
    data = machine.data
    start = position + 2
    end = start + data[position + 1]
    if end > len(data):
        raise _ends_inside(machine, position, end)
    raw = data[start:end]
    if end - start == 8:
        machine.oids[id(raw)] = (raw, raw, start)
    machine.stack.append(raw)
    return end


def _long_bytes(layout: str) -> Handler:
    unpack, width = struct.Struct(layout).unpack_from, struct.calcsize(layout)

    def handler(machine: Machine, position: int) -> int:
        start = position + 1 + width
        end = start + unpack(machine.data, position + 1)[0]
        if end > len(machine.data):
            raise _ends_inside(machine, position, end)
        raw = machine.data[start:end]
        if len(raw) == 8:
            machine.oids[id(raw)] = (raw, raw, start)
        machine.stack.append(raw)
        return int(end)

    return handler


def _binunicode(machine: Machine, position: int) -> int:
    data = machine.data
    start = position + 5
    end = start + _UINT4(data, position + 1)[0]
    if end > len(data):
        raise _ends_inside(machine, position, end)
    _push_text(machine, data[start:end], position)
    return int(end)


def _short_binunicode(machine: Machine, position: int) -> int:
    data = machine.data
    start = position + 2
    end = start + data[position + 1]
    if end > len(data):
        raise _ends_inside(machine, position, end)
    _push_text(machine, data[start:end], position)
    return end


def _push_text(machine: Machine, raw: bytes, position: int) -> None:
    try:
        machine.stack.append(raw.decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError:
        raise RecordError(position, "a text that is not UTF-8") from None


def _bytearray8(machine: Machine, position: int) -> int:
    content, end = OPCODES[0x96].read(machine.data, position, machine.limits)
    machine.stack.append(Instance(BYTEARRAY, (content,)))
    machine.containers += 1
    return end


HANDLERS: dict[str, Handler] = {
    "INT": _push("I"), "BININT": _binint, "BININT1": _binint1, "BININT2": _binint2, "LONG": _push("L"),
    "LONG1": _push("\x8a"), "LONG4": _push("\x8b"), "FLOAT": _push("F"), "BINFLOAT": _binfloat,
    "NONE": _constant(None), "NEWTRUE": _constant(True), "NEWFALSE": _constant(False), "STRING": _string,
    "BINSTRING": _binstring, "SHORT_BINSTRING": _short_binstring, "BINBYTES": _long_bytes("<I"),
    "SHORT_BINBYTES": _short_binbytes, "BINBYTES8": _long_bytes("<Q"), "BYTEARRAY8": _bytearray8,
    "UNICODE": _push("V"), "SHORT_BINUNICODE": _short_binunicode, "BINUNICODE": _binunicode,
    "BINUNICODE8": _push("\x8d"), "EMPTY_TUPLE": _constant(()),
}  # fmt: skip
"""A handler for each instruction of this kind."""
