"""Instructions of containers, of the stack and of the memo."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from zodbsh.record.limits import RecordError
from zodbsh.record.opcodes import MAX_INDEX, read_index
from zodbsh.record.values import Dict, Instance, Set, Value

if TYPE_CHECKING:
    from zodbsh.record.machine import Handler, Machine

_UINT4 = struct.Struct("<I").unpack_from


def _empty_list(machine: Machine, position: int) -> int:
    machine.stack.append([])
    machine.containers += 1
    return position + 1


def _empty_dict(machine: Machine, position: int) -> int:
    machine.stack.append(Dict())
    machine.containers += 1
    return position + 1


def _empty_set(machine: Machine, position: int) -> int:
    machine.stack.append(Set())
    machine.containers += 1
    return position + 1


def _list(machine: Machine, position: int) -> int:
    items = machine.pop_mark()
    machine.stack.append(items)
    machine.containers += 1
    return position + 1


def _tuple(machine: Machine, position: int) -> int:
    items = machine.pop_mark()
    machine.stack.append(tuple(items))
    machine.containers += 1
    return position + 1


def _tuple1(machine: Machine, position: int) -> int:
    stack = machine.stack
    stack[-1] = (stack[-1],)
    machine.containers += 1
    return position + 1


def _tuple2(machine: Machine, position: int) -> int:
    stack = machine.stack
    last = stack.pop()
    stack[-1] = (stack[-1], last)
    machine.containers += 1
    return position + 1


def _tuple3(machine: Machine, position: int) -> int:
    stack = machine.stack
    last = stack.pop()
    middle = stack.pop()
    stack[-1] = (stack[-1], middle, last)
    machine.containers += 1
    return position + 1


def _dict(machine: Machine, position: int) -> int:
    items = machine.pop_mark()
    machine.stack.append(Dict(_pairs(items, position)))
    machine.containers += 1
    return position + 1


def _frozenset(machine: Machine, position: int) -> int:
    items = machine.pop_mark()
    machine.stack.append(Set(items, frozen=True))
    machine.containers += 1
    return position + 1


def _pairs(items: list[Value], position: int) -> list[tuple[Value, Value]]:
    if len(items) % 2:
        raise RecordError(position, "a key without a value")
    return list(zip(items[::2], items[1::2], strict=True))


def _append(machine: Machine, position: int) -> int:
    item = machine.stack.pop()
    _extend(machine.stack[-1], [item], position)
    return position + 1


def _appends(machine: Machine, position: int) -> int:
    items = machine.pop_mark()
    _extend(machine.stack[-1], items, position)
    return position + 1


def _extend(target: Value, items: list[Value], position: int) -> None:
    if type(target) is list:
        target.extend(items)
    elif isinstance(target, Instance):
        target.items.extend(items)
    else:
        raise RecordError(position, "items for something that is no list")


def _setitem(machine: Machine, position: int) -> int:
    value = machine.stack.pop()
    key = machine.stack.pop()
    _update(machine.stack[-1], [(key, value)], position)
    return position + 1


def _setitems(machine: Machine, position: int) -> int:
    items = machine.pop_mark()
    _update(machine.stack[-1], _pairs(items, position), position)
    return position + 1


def _update(target: Value, pairs: list[tuple[Value, Value]], position: int) -> None:
    if not isinstance(target, Dict | Instance):
        raise RecordError(position, "keys for something that is no dict")
    target.pairs.extend(pairs)


def _additems(machine: Machine, position: int) -> int:
    items = machine.pop_mark()
    target = machine.stack[-1]
    if not isinstance(target, Set | Instance) or (isinstance(target, Set) and target.frozen):
        raise RecordError(position, "items for something that is no set")
    target.items.extend(items)
    return position + 1


# The stack and the memo.


def _pop(machine: Machine, position: int) -> int:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.pop_mark()
    return position + 1


def _dup(machine: Machine, position: int) -> int:
    machine.stack.append(machine.stack[-1])
    return position + 1


def _mark(machine: Machine, position: int) -> int:
    # A container at the deepest level holds one mark while it is filled, a reference in it another.
    if len(machine.marks) > 2 * machine.limits.depth:
        raise RecordError(position, f"marks nested more than {2 * machine.limits.depth} deep")
    machine.marks.append(machine.stack)
    machine.stack = []
    return position + 1


def _pop_mark(machine: Machine, position: int) -> int:
    machine.pop_mark()
    return position + 1


def _get(machine: Machine, position: int) -> int:
    index, end = read_index(machine.data, position, machine.limits)
    machine.stack.append(machine.memo[index])
    return end


def _binget(machine: Machine, position: int) -> int:
    machine.stack.append(machine.memo[machine.data[position + 1]])
    return position + 2


def _long_binget(machine: Machine, position: int) -> int:
    machine.stack.append(machine.memo[_UINT4(machine.data, position + 1)[0]])
    return position + 5


def _put(machine: Machine, position: int) -> int:
    index, end = read_index(machine.data, position, machine.limits)
    machine.put(index, position)
    return end


def _binput(machine: Machine, position: int) -> int:
    # No need to count: there are 256 such entries.
    machine.memo[machine.data[position + 1]] = machine.stack[-1]
    return position + 2


def _long_binput(machine: Machine, position: int) -> int:
    machine.put(_UINT4(machine.data, position + 1)[0], position)
    return position + 5


def _memoize(machine: Machine, position: int) -> int:
    index = len(machine.memo)
    if index > MAX_INDEX:
        raise RecordError(position, "a memo index that is no number below 2**32")
    machine.put(index, position)
    return position + 1


HANDLERS: dict[str, Handler] = {
    "EMPTY_LIST": _empty_list, "APPEND": _append, "APPENDS": _appends, "LIST": _list, "TUPLE": _tuple,
    "TUPLE1": _tuple1, "TUPLE2": _tuple2, "TUPLE3": _tuple3, "EMPTY_DICT": _empty_dict, "DICT": _dict,
    "SETITEM": _setitem, "SETITEMS": _setitems, "EMPTY_SET": _empty_set, "ADDITEMS": _additems,
    "FROZENSET": _frozenset, "POP": _pop, "DUP": _dup, "MARK": _mark, "POP_MARK": _pop_mark, "GET": _get,
    "BINGET": _binget, "LONG_BINGET": _long_binget, "PUT": _put, "BINPUT": _binput, "LONG_BINPUT": _long_binput,
    "MEMOIZE": _memoize,
}  # fmt: skip
"""A handler for each instruction of this kind."""
