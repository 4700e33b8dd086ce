"""Types that people know, rebuilt by us from fields that we check.

``call`` takes the place of a call that a record asks for: nothing is called.
Where the arguments are not what the type itself writes, the result is a plain
Instance with class and arguments, never an error.

A datetime or a time whose zone cannot be told without asking somebody else's
code (pytz, zoneinfo) is an Instance of ``datetime.datetime`` whose arguments
are the local time without a zone and the zone, as Instance or Global.
"""

# ruff: noqa: ARG001 -- what takes the place of a call stands in a table, so all have one signature.
from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import TypeAlias
from uuid import UUID, SafeUUID

from zodbsh.record.limits import DEFAULT_LIMITS
from zodbsh.record.values import Dict, Global, Instance, Set, Value

Args: TypeAlias = tuple[Value, ...]
Charge: TypeAlias = Callable[[int], None]
"""Accounts for so many items that are copied or shared; raises RecordError for more than a record may ask."""

BYTEARRAY = Global("builtins", "bytearray")
UUID_CLASS = Global("uuid", "UUID")

_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[Ee][+-]?[0-9]{1,9})?|[+-]?Infinity|[+-]?NaN[0-9]*")
_LATIN1 = ("latin1", "latin-1")
_UTC_CLASSES = (("pytz", "_UTC"), ("dateutil.tz.tz", "tzutc"), ("dateutil.tz", "tzutc"))
_MINUTES_CLASSES = (("zope.datetime", "tzinfo"), ("pytz", "_FixedOffset"))


def call(func: Global, args: Args, charge: Charge) -> Value:
    """Return what calling a class or function of this name would make, as a value."""
    known = _KNOWN.get(func)
    if known is not None:
        value = known(func, args, charge)
        if value is not None:
            return value
    charge(len(args))
    return Instance(func, args)


def build(instance: Instance) -> Value | None:
    """Return what an instance that has its state stands for, None where for itself."""
    if instance.class_ != UUID_CLASS or instance.args or not isinstance(instance.state, Dict):
        return None
    number, safe = instance.state.get("int"), instance.state.get("is_safe")
    if type(number) is not int or not 0 <= number < 2**128:
        return None
    if len(instance.state) != (2 if "is_safe" in instance.state else 1):
        return None
    # Python writes the member's value; before 3.8, the member.
    value = safe.args[0] if isinstance(safe, Instance) and len(safe.args) == 1 else safe
    member = next((member for member in SafeUUID if type(value) is type(member.value) and value == member.value), None)
    return None if member is None else UUID(int=number, is_safe=member)


def _bytes(value: Value, size: int) -> bytes | None:
    # Python 2 writes the state as str, which is text here where it is UTF-8.
    raw = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return raw if isinstance(raw, bytes) and len(raw) == size else None


def _datetime(func: Global, args: Args, charge: Charge) -> Value | None:
    raw = _bytes(args[0], 10) if 1 <= len(args) <= 2 else None
    if raw is None:
        return None
    try:
        moment = datetime(  # noqa: DTZ001 -- the zone, if any, comes next.
            raw[0] << 8 | raw[1], raw[2] & 0x7F, raw[3], raw[4], raw[5], raw[6],
            raw[7] << 16 | raw[8] << 8 | raw[9], fold=raw[2] >> 7,
        )  # fmt: skip
    except ValueError:
        return None
    return _zoned(func, moment, args[1] if len(args) == 2 else None)


def _time(func: Global, args: Args, charge: Charge) -> Value | None:
    raw = _bytes(args[0], 6) if 1 <= len(args) <= 2 else None
    if raw is None:
        return None
    try:
        moment = time(raw[0] & 0x7F, raw[1], raw[2], raw[3] << 16 | raw[4] << 8 | raw[5], fold=raw[0] >> 7)
    except ValueError:
        return None
    return _zoned(func, moment, args[1] if len(args) == 2 else None)


def _zoned(func: Global, moment: datetime | time, zone: Value) -> Value:
    if zone is None:
        return moment
    known = _zone(zone)
    return Instance(func, (moment, zone)) if known is None else moment.replace(tzinfo=known)


def _zone(zone: Value) -> tzinfo | None:
    if zone == Global("pytz", "UTC") or zone == Global("datetime", "timezone.utc"):
        return UTC
    if not isinstance(zone, Instance) or zone.has_state or type(zone.class_) is not Global:
        return None
    if zone.class_ in _UTC_CLASSES and not zone.args:
        return UTC
    if zone.class_ in _MINUTES_CLASSES and len(zone.args) == 1 and type(zone.args[0]) is int:
        minutes = zone.args[0]
        return timezone(timedelta(minutes=minutes)) if abs(minutes) < 24 * 60 else None
    if zone.class_ != Global("datetime", "timezone") or not 1 <= len(zone.args) <= 2:
        return None
    offset, *names = zone.args
    if not isinstance(offset, timedelta) or abs(offset) >= timedelta(days=1):
        return None
    if not names:
        return timezone(offset)
    return timezone(offset, names[0]) if isinstance(names[0], str) else None


def _date(func: Global, args: Args, charge: Charge) -> Value | None:
    raw = _bytes(args[0], 4) if len(args) == 1 else None
    if raw is None:
        return None
    try:
        return date(raw[0] << 8 | raw[1], raw[2], raw[3])
    except ValueError:
        return None


def _timedelta(func: Global, args: Args, charge: Charge) -> Value | None:
    if len(args) != 3:
        return None
    days, seconds, microseconds = args
    if type(days) is not int or type(seconds) is not int or type(microseconds) is not int:
        return None
    if abs(days) > 999_999_999 or not 0 <= seconds < 86_400 or not 0 <= microseconds < 1_000_000:
        return None
    return timedelta(days, seconds, microseconds)


def _decimal(func: Global, args: Args, charge: Charge) -> Value | None:
    text = args[0] if len(args) == 1 else None
    if not isinstance(text, str) or len(text) > DEFAULT_LIMITS.digits or not _DECIMAL.fullmatch(text):
        return None
    return Decimal(text)


def _complex(func: Global, args: Args, charge: Charge) -> Value | None:
    if len(args) != 2:
        return None
    real, imaginary = args
    return complex(real, imaginary) if isinstance(real, float) and isinstance(imaginary, float) else None


def _encode(func: Global, args: Args, charge: Charge) -> Value | None:
    """Return what protocols 0 to 2 of Python 3 write as ``_codecs.encode(text, 'latin1')``."""
    if len(args) != 2 or not isinstance(args[0], str) or args[1] not in _LATIN1:
        return None
    charge(len(args[0]))
    try:
        return args[0].encode("latin-1")
    except UnicodeEncodeError:
        return None


def _empty_bytes(func: Global, args: Args, charge: Charge) -> Value | None:
    return None if args else b""


def _bytearray(func: Global, args: Args, charge: Charge) -> Value | None:
    if not args:
        return Instance(BYTEARRAY, (b"",))
    content = args[0] if len(args) == 1 else _encode(func, args, charge)
    return Instance(BYTEARRAY, (content,)) if isinstance(content, bytes) else None


def _set(func: Global, args: Args, charge: Charge) -> Value | None:
    frozen = func.name == "frozenset"
    if not args:
        return Set(frozen=frozen)
    if len(args) != 1 or type(args[0]) is not list:
        return None
    charge(len(args[0]))
    return Set(list(args[0]), frozen=frozen)


def _ordered(func: Global, args: Args, charge: Charge) -> Value | None:
    if not args:
        return Dict(class_=func)
    if len(args) != 1 or type(args[0]) is not list:
        return None
    charge(len(args[0]))
    pairs: list[tuple[Value, Value]] = []
    for pair in args[0]:
        if type(pair) not in (list, tuple) or len(pair) != 2:  # type: ignore[arg-type]
            return None
        pairs.append((pair[0], pair[1]))  # type: ignore[index]
    return Dict(pairs, func)


def _counter(func: Global, args: Args, charge: Charge) -> Value | None:
    if not args:
        return Dict(class_=func)
    content = args[0]
    if len(args) != 1 or not isinstance(content, Dict) or content.class_ is not None:
        return None
    charge(len(content))
    return Dict(list(content.pairs), func)


def _defaultdict(func: Global, args: Args, charge: Charge) -> Value | None:
    if len(args) == 2 and isinstance(args[1], Dict) and args[1].class_ is None:
        charge(len(args[1]))
        return Dict(list(args[1].pairs), func, args[:1])
    return Dict(class_=func, args=args) if len(args) <= 1 else None


def _reconstructor(func: Global, args: Args, charge: Charge) -> Value | None:
    """Return what protocols 0 and 1 write for a new-style object: ``(class, base, state of the base)``."""
    if len(args) != 3 or type(args[0]) is not Global or type(args[1]) is not Global:
        return None
    class_, base, content = args[0], args[1], args[2]
    if base.name == "object":
        return Instance(class_)
    made = Instance(class_)
    if base.name == "dict" and isinstance(content, Dict):
        charge(len(content))
        made.pairs = list(content.pairs)
    elif base.name == "list" and type(content) is list:
        charge(len(content))
        made.items = list(content)
    else:
        made.args = (content,)
    return made


def _newobj(func: Global, args: Args, charge: Charge) -> Value | None:
    if not args or type(args[0]) is not Global:
        return None
    charge(len(args))
    return Instance(args[0], args[1:])


def _newobj_ex(func: Global, args: Args, charge: Charge) -> Value | None:
    if len(args) != 3 or type(args[0]) is not Global or type(args[1]) is not tuple or not isinstance(args[2], Dict):
        return None
    charge(len(args[1]) + len(args[2]))
    return Instance(args[0], args[1], Dict(list(args[2].pairs)) if args[2].pairs else None)


def _broken(func: Global, args: Args, charge: Charge) -> Value | None:
    """Return what ZODB writes for an object whose class was missing then."""
    if len(args) < 2 or not isinstance(args[0], str) or not isinstance(args[1], str):
        return None
    charge(len(args))
    return Instance(Global(args[0], args[1]), args[2:])


def _getattr(func: Global, args: Args, charge: Charge) -> Value | None:
    """Return the class inside a class that protocols below 4 write as ``getattr(Outer, 'Inner')``."""
    if len(args) != 2 or type(args[0]) is not Global or not isinstance(args[1], str):
        return None
    charge(len(args[0].name) + len(args[1]))
    return Global(args[0].module, f"{args[0].name}.{args[1]}")


_BUILTINS: dict[str, Callable[[Global, Args, Charge], Value | None]] = {
    "bytearray": _bytearray, "bytes": _empty_bytes, "complex": _complex, "frozenset": _set,
    "getattr": _getattr, "set": _set,
}  # fmt: skip
_COPYREG: dict[str, Callable[[Global, Args, Charge], Value | None]] = {
    "_reconstructor": _reconstructor, "__newobj__": _newobj, "__newobj_ex__": _newobj_ex,
}  # fmt: skip
_KNOWN: dict[tuple[str, str], Callable[[Global, Args, Charge], Value | None]] = {
    ("datetime", "datetime"): _datetime,
    ("datetime", "date"): _date,
    ("datetime", "time"): _time,
    ("datetime", "timedelta"): _timedelta,
    ("decimal", "Decimal"): _decimal,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): _ordered,
    ("collections", "Counter"): _counter,
    ("collections", "defaultdict"): _defaultdict,
    ("ZODB.broken", "rebuild"): _broken,
    **{(module, name): made for module in ("builtins", "__builtin__") for name, made in _BUILTINS.items()},
    **{(module, name): made for module in ("copyreg", "copy_reg") for name, made in _COPYREG.items()},
}
