"""Persistent references: every form that ZODB ever wrote.

Source: ``ZODB/serialize.py``. A persistent id is one of

    oid                                       an object
    (oid, class)                              an object, its class known
    ['w', (oid,)]  ['w', (oid, database)]     a weak reference
    ['n', (database, oid)]                    an object of another database
    ['m', (database, oid, class)]             the same, its class known
    [oid]                                     a weak reference (old)

where a class is a class, ``(module, name)``, or a reference to a persistent class.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from zodbsh.record.limits import RecordError
from zodbsh.record.opcodes import unescape
from zodbsh.record.values import Global, Ref, Value

FindOid: TypeAlias = Callable[[Value], tuple[int, int | None] | None]
"""Returns a string's oid and where its 8 bytes stand; None for what is no oid."""

_MAX_CLASS_CHAIN = 16
_FORMS = {"w": (1, 2), "n": (2, 2), "m": (3, 3)}


def read_reference(pid: Value, find_oid: FindOid, position: int) -> Ref:
    """Return the reference a persistent id stands for.

    Raises RecordError with ``position`` for any other form.
    """
    if type(pid) is tuple:
        if len(pid) != 2:
            raise RecordError(position, f"a reference of {len(pid)} parts")
        return _reference(pid[0], find_oid, position, class_=read_class(pid[1], position))
    if type(pid) is not list:
        return _reference(pid, find_oid, position)
    if len(pid) == 1:
        return _reference(pid[0], find_oid, position, weak=True)
    kind, args = pid if len(pid) == 2 else (None, None)
    form = kind.decode("latin-1") if isinstance(kind, bytes) else kind
    if not isinstance(form, str) or form not in _FORMS or type(args) not in (tuple, list):
        raise RecordError(position, "a reference of an unknown form")
    parts: tuple[Value, ...] = tuple(args)  # type: ignore[arg-type]
    fewest, most = _FORMS[form]
    if not fewest <= len(parts) <= most:
        raise RecordError(position, f"a reference of form {form!r} with {len(parts)} parts")
    if form == "w":
        database = _database(parts[1], position) if len(parts) == 2 else None
        return _reference(parts[0], find_oid, position, database=database, weak=True)
    class_ = read_class(parts[2], position) if form == "m" else None
    return _reference(parts[1], find_oid, position, database=_database(parts[0], position), class_=class_)


def read_class(value: Value, position: int) -> Global | Ref | None:
    """Return the class a reference names, None where it names none.

    Raises RecordError with ``position`` for what can be no class.
    """
    if type(value) is Global or value is None:
        return value
    if isinstance(value, Ref):
        chain: Global | Ref | None = value
        for _ in range(_MAX_CLASS_CHAIN):
            if not isinstance(chain, Ref):
                return value
            chain = chain.class_
        raise RecordError(position, "a class of a class of a class, without end")
    if type(value) is tuple and len(value) == 2:
        module, name = value
        if isinstance(module, str) and isinstance(name, str):
            return Global(module, name)
    raise RecordError(position, "a reference whose class is neither a name nor a reference")


def read_text_reference(raw: bytes, position: int) -> Ref:
    """Return the reference of protocol 0's PERSID line.

    The line is the oid's 8 bytes, or their ``repr`` (what Python 3 writes). The
    reference has no offset: in a line not every byte may stand.
    """
    text = raw
    if len(raw) != 8 and raw[-1:] in (b"'", b'"'):
        quoted = raw.removeprefix(b"b")
        if len(quoted) >= 2 and quoted[:1] == quoted[-1:]:
            text = unescape(quoted[1:-1], position)
    if len(text) != 8:
        raise RecordError(position, f"an oid of {len(text)} bytes")
    return Ref(int.from_bytes(text, "big"))


def _reference(
    oid: Value,
    find_oid: FindOid,
    position: int,
    *,
    class_: Global | Ref | None = None,
    database: str | None = None,
    weak: bool = False,
) -> Ref:
    found = find_oid(oid)
    if found is None:
        raise RecordError(position, "a reference whose oid is not 8 bytes")
    return Ref(found[0], class_, database, weak, found[1])


def _database(name: Value, position: int) -> str | None:
    if isinstance(name, bytes):
        return name.decode("latin-1")
    if name is None or isinstance(name, str):
        return name
    raise RecordError(position, "a reference whose database has no name")
