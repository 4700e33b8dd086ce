"""A record's bytes, decoded: class, state, references.

A record is two pickles one after the other: the class part and the state. What
follows them is ignored, as ZODB ignores it. Everything else that does not
decode raises RecordError with the position and the reason; nothing that a
record names is imported or called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from zodbsh.ids import oid_text
from zodbsh.record.interpreter import check_depth, run
from zodbsh.record.limits import DEFAULT_LIMITS, Limits, RecordError
from zodbsh.record.machine import Machine
from zodbsh.record.opcodes import read_global
from zodbsh.record.values import Global, Record, Ref, Value

__all__ = [
    "DEFAULT_LIMITS", "Limits", "RecordError", "class_text", "decode_pickle", "decode_record", "record_class",
    "references", "references_of_any", "strong_references",
]  # fmt: skip

# The class part of nearly every record: GLOBAL, PUT, STOP.
_PLAIN_CLASS = re.compile(rb"(?:\x80[\x00-\x05])?(c[^\n]*\n[^\n]*\n)(?:q.|p[0-9]{1,9}\n)?\.", re.DOTALL)


def decode_record(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Record:
    """Return the record that ``data`` holds. Raises RecordError."""
    machine = Machine(data, limits)
    part, middle = run(machine, 0)
    class_, args = _class_part(part, middle)
    state, end = run(machine, middle)
    # By the memo, the state may have put more into the class part's arguments.
    check_depth(machine, args, end - 1)
    return Record(class_, args, state, tuple(machine.references))


def decode_pickle(data: bytes, start: int = 0, limits: Limits = DEFAULT_LIMITS) -> tuple[Value, int]:
    """Return the value of one pickle and the position after its STOP. Raises RecordError."""
    return run(Machine(data, limits), start)


def references(data: bytes) -> tuple[Ref, ...]:
    """Return every reference of a record, those of its class part first. Raises RecordError as decode_record does."""
    # What cannot be decoded has no references to rely on, so everything is looked at.
    return decode_record(data).references


def strong_references(data: bytes) -> Iterator[int]:
    """Yield the oids that keep other objects of the same database alive. Raises RecordError."""
    return (ref.oid for ref in references(data) if not ref.weak and ref.database is None)


def references_of_any(data: bytes) -> tuple[Ref, ...]:
    """Return every reference of two pickles, whatever they stand for: the class part may name no class.

    Raises RecordError where one of them does not decode.
    """
    machine = Machine(data, DEFAULT_LIMITS)
    _, middle = run(machine, 0)
    run(machine, middle)
    return tuple(machine.references)


def record_class(data: bytes) -> Global | Ref:
    """Return the class a record names, without looking at its state. Raises RecordError."""
    plain = _PLAIN_CLASS.match(data)
    if plain and len(data) <= DEFAULT_LIMITS.bytes:
        return read_global(data, plain.start(1), DEFAULT_LIMITS)[0]
    part, middle = run(Machine(data, DEFAULT_LIMITS), 0)
    return _class_part(part, middle)[0]


def class_text(class_: Global | Ref | None) -> str:
    """Return a class as it is shown: ``module.name``."""
    if isinstance(class_, Ref):
        return f"(persistent class {oid_text(class_.oid)})"
    if class_ is None or not class_.name:
        return "(unnamed)" if class_ is None or not class_.module else f"{class_.module}.(unnamed)"
    return class_.dotted


def _class_part(part: Value, middle: int) -> tuple[Global | Ref, Value]:
    """Return class and arguments of the seven forms that ``ZODB/serialize.py`` lists."""
    args: Value = ()
    class_ = part
    if type(part) is tuple and len(part) == 2:
        class_, args = part
        if isinstance(class_, str) and isinstance(args, str):
            return Global(class_, args), ()
    if type(class_) is tuple and len(class_) == 2:
        module, name = class_
        if isinstance(module, str) and isinstance(name, str):
            class_ = Global(module, name)
    if not isinstance(class_, Global | Ref):
        raise RecordError(middle - 1, "a class part that names no class")
    if args is None:
        return class_, ()
    if type(args) not in (tuple, list):
        raise RecordError(middle - 1, "a class part whose arguments are no tuple")
    return class_, args
