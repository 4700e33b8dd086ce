"""Decoded values as zodb-json-codec's markers, one level at a time.

Where the codec is ambiguous or silent, zodbsh says more: a dict that holds a key
beginning with ``@`` is written as pairs (``@d``), the items of a reduced object
are kept (``items``, ``pairs``), and a reference says what else it knows
(``@weak``, ``@database``). docs/json.md lists all of them.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from uuid import UUID

from zodbsh.ids import tid_text
from zodbsh.record.decode import class_text
from zodbsh.record.values import Dict, Global, Instance, Ref, Set
from zodbsh.render.jsontext import Marked

if TYPE_CHECKING:
    from zodbsh.record.values import Record, Value

# What fits a signed 64-bit integer is a JSON number, as in zodb-json-codec.
_MAX_NUMBER = 2**63 - 1


def expand(value: Value) -> object:
    """Return a value as JSON whose parts are still marked values."""
    if value is None or isinstance(value, (bool, str, float)):
        return value
    if isinstance(value, int):
        return value if -_MAX_NUMBER - 1 <= value <= _MAX_NUMBER else {"@bi": int_text(value)}
    if isinstance(value, list):
        return map(Marked, value)
    if isinstance(value, Ref):
        return _reference(value)
    if isinstance(value, Global):
        return {"@cls": [value.module, value.name]}
    if isinstance(value, tuple):
        return {"@t": map(Marked, value)}
    if isinstance(value, Dict):
        return _dict(value)
    if isinstance(value, Set):
        return {"@fset" if value.frozen else "@set": map(Marked, value.items)}
    if isinstance(value, Instance):
        return _instance(value)
    return _other(value)


def int_text(number: int) -> str:
    """Return a whole number's digits, however many there are (Python refuses more than 4,300 at once)."""
    try:
        return str(number)
    except ValueError:
        return hex(number)


def _other(value: bytes | complex | date | time | timedelta | Decimal | UUID) -> object:
    if isinstance(value, bytes):
        from base64 import b64encode

        return {"@b": b64encode(value).decode()}
    if isinstance(value, complex):
        return _reduce(Global("builtins", "complex"), (value.real, value.imag))
    if isinstance(value, datetime):
        return {"@dt": value.isoformat()}
    if isinstance(value, date):
        return {"@date": value.isoformat()}
    if isinstance(value, time):
        return {"@time": value.isoformat()}
    if isinstance(value, timedelta):
        return {"@td": [value.days, value.seconds, value.microseconds]}
    return {"@dec" if isinstance(value, Decimal) else "@uuid": str(value)}


def _reference(ref: Ref) -> object:
    oid = tid_text(ref.oid)
    class_ = ref.class_
    if isinstance(class_, Ref):
        target: object = [oid, class_text(class_)]
    else:
        target = oid if class_ is None else [oid, class_.dotted]
    marked: dict[str, object] = {"@ref": target}
    if ref.weak:
        marked["@weak"] = True
    if ref.database is not None:
        marked["@database"] = ref.database
    return marked


def _dict(value: Dict) -> object:
    if value.class_ is not None:
        return _reduce(value.class_, (), pairs=value.pairs)
    return _mapping(value.pairs)


def _mapping(pairs: list[tuple[Value, Value]]) -> object:
    names = {key for key, _ in pairs if isinstance(key, str) and not key.startswith("@")}
    if len(names) == len(pairs):
        return {str(key): Marked(item) for key, item in pairs}
    return {"@d": _pairs(pairs)}


def _pairs(pairs: list[tuple[Value, Value]]) -> object:
    return ([Marked(key), Marked(item)] for key, item in pairs)


def _instance(value: Instance) -> object:
    class_ = value.class_
    plain = not (value.args or value.kwargs or value.items or value.pairs)
    if plain and isinstance(class_, Global):
        marked: dict[str, object] = {"@cls": [class_.module, class_.name]}
        marked["@s"] = Marked(value.state) if value.has_state else {}
        return marked
    reduced = _reduce(class_, value.args, items=value.items, pairs=value.pairs)
    inner = reduced["@reduce"]
    if value.kwargs:
        inner["kwargs"] = Marked(value.kwargs)
    if value.has_state:
        inner["state"] = Marked(value.state)
    return reduced


def _reduce(
    callable_: Value,
    args: tuple[Value, ...],
    *,
    items: list[Value] | None = None,
    pairs: list[tuple[Value, Value]] | None = None,
) -> dict[str, dict[str, object]]:
    inner: dict[str, object] = {"callable": Marked(callable_), "args": Marked(args)}
    if items:
        inner["items"] = map(Marked, items)
    if pairs:
        inner["pairs"] = _pairs(pairs)
    return {"@reduce": inner}


def state_json(record: Record) -> object:
    """Return a record's state for the encoder; BTrees, buckets and sets by their content.

    ``@kv`` holds a bucket's pairs (of a small tree too), ``@ks`` a set's keys,
    ``@children`` the inside of a tree as reference, key, reference, ...,
    ``@first`` and ``@next`` the first and the next bucket.
    """
    from zodbsh.record.btrees import BucketState, TreeStateError, read_tree_state, tree_kind

    kind = tree_kind(record.class_)
    if kind is None or record.state is None:
        return Marked(record.state)
    try:
        state = read_tree_state(kind, record.state)
    except TreeStateError:
        return Marked(record.state)
    if isinstance(state, BucketState):
        if state.values is None:
            marked: dict[str, object] = {"@ks": map(Marked, state.keys)}
        else:
            marked = {"@kv": _pairs(list(zip(state.keys, state.values, strict=True)))}
        return marked | ({} if state.next is None else {"@next": Marked(state.next)})
    inside: list[Value] = [state.children[0]]
    for key, child in zip(state.keys, state.children[1:], strict=True):
        inside += [key, child]
    return {"@children": map(Marked, inside), "@first": Marked(state.first)}
