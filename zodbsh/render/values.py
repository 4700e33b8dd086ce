"""Decoded values as bounded, Python-like text.

    'abc'  12  b'\\x00'  [1, 2, ... 8 more]  {'k': (1, 2)}  2026-05-17 14:30:00
    <account.Account 0x2a>                 a reference
    account.Money(amount=10, unit='EUR')   an instance, by its attributes
    fractions.Fraction(1, 2)               an instance, by its arguments

Never more than ``width`` characters, ``depth`` levels and ``items`` parts a
container, whatever the value holds; a list that holds itself ends at the depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text
from zodbsh.record.decode import class_text
from zodbsh.record.values import Dict, Global, Instance, Ref, Set
from zodbsh.render.gate import escape

if TYPE_CHECKING:
    from zodbsh.record.values import Value

ClassOf = Callable[[int], "str | None"]

_ELLIPSIS = "..."
_MAX_DEPTH = 40


def value_text(
    value: Value, *, width: int = 100, depth: int = 3, items: int = 10, class_of: ClassOf | None = None
) -> str:
    """Return a value as text on one line, already through the gate.

    ``class_of`` names the class of a reference that does not say it.
    """
    text = _Writer(width, items, class_of).text(value, min(depth, _MAX_DEPTH))
    return text if len(text) <= width else text[: max(width - len(_ELLIPSIS), 0)] + _ELLIPSIS


def ref_text(ref: Ref, class_of: ClassOf | None = None) -> str:
    """Return a reference as text: ``<module.Class 0x2a>``, with what else it says."""
    class_ = class_text(ref.class_) if ref.class_ is not None else None
    if class_ is None and class_of is not None and ref.database is None:
        class_ = class_of(ref.oid)
    words = [escape(class_)] if class_ else []
    words.append(oid_text(ref.oid))
    if ref.database is not None:
        words.append(f"in {escape(repr(ref.database))}")
    if ref.weak:
        words.insert(0, "weak")
    return f"<{' '.join(words)}>"


class _Call(NamedTuple):
    """What an instance shows between its parentheses."""

    positional: list[Value]
    named: list[tuple[str, Value]]


class _Writer:
    def __init__(self, width: int, items: int, class_of: ClassOf | None) -> None:
        self._width = width
        self._items = items
        self._class_of = class_of
        # What is beyond the width is not shown, so it is not worked out either.
        self._left = 4 * width + 64

    def text(self, value: Value, depth: int) -> str:
        """Return a value's text, ``...`` for what lies too deep or too far."""
        if self._left <= 0:
            return _ELLIPSIS
        # A container costs something too, or a hostile record makes empty work.
        self._left -= 2
        text = self._scalar(value)
        if text is None:
            text = self._container(value, depth)
        else:
            self._left -= len(text)
        return text

    def _scalar(self, value: Value) -> str | None:
        if isinstance(value, str):
            return self._quoted(value)
        if isinstance(value, bytes):
            return self._quoted(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return _digits(value)
        if value is None or isinstance(value, (bool, float, complex)):
            return repr(value)
        if isinstance(value, Ref):
            return ref_text(value, self._class_of)
        if isinstance(value, Global):
            return f"<class {escape(class_text(value))}>"
        if isinstance(value, datetime):
            return value.isoformat(" ")
        if isinstance(value, (date, time)):
            return value.isoformat()
        if isinstance(value, (list, tuple, Dict, Set, Instance)):
            return None
        if isinstance(value, Decimal):
            return f"Decimal({str(value)!r})"
        return f"timedelta({value})" if isinstance(value, timedelta) else f"UUID({str(value)!r})"

    def _quoted(self, value: str | bytes) -> str:
        """Quote as Python does; a long one is cut and says how long it is."""
        room = max(self._width, 16)
        if len(value) <= room:
            return escape(repr(value))
        unit = "characters" if isinstance(value, str) else "bytes"
        tail = f"{_ELLIPSIS} ({len(value):,} {unit})"
        return escape(repr(value[: max(room - len(tail) - 4, 8)])) + tail

    def _container(self, value: Value, depth: int) -> str:
        if isinstance(value, list):
            return self._sequence("[", value, "]", depth)
        if isinstance(value, tuple):
            return self._sequence("(", value, ",)" if len(value) == 1 else ")", depth)
        if isinstance(value, Set):
            if not value.items:
                return "frozenset()" if value.frozen else "set()"
            opening, closing = ("frozenset({", "})") if value.frozen else ("{", "}")
            return self._sequence(opening, value.items, closing, depth)
        if isinstance(value, Dict):
            name = f"{escape(value.class_.name)}(" if value.class_ is not None else ""
            return name + self._pairs(value.pairs, depth) + (")" if name else "")
        assert isinstance(value, Instance)
        return self._instance(value, depth)

    def _sequence(self, opening: str, values: list[Value] | tuple[Value, ...], closing: str, depth: int) -> str:
        if values and depth <= 0:
            return f"{opening}{_ELLIPSIS}{closing.lstrip(',')}"
        return opening + self._joined(len(values), (self.text(value, depth - 1) for value in values)) + closing

    def _pairs(self, pairs: list[tuple[Value, Value]], depth: int) -> str:
        if pairs and depth <= 0:
            return "{" + _ELLIPSIS + "}"
        parts = (f"{self.text(key, depth - 1)}: {self.text(value, depth - 1)}" for key, value in pairs)
        return "{" + self._joined(len(pairs), parts) + "}"

    def _instance(self, value: Instance, depth: int) -> str:
        name = escape(class_text(value.class_)) if isinstance(value.class_, Global) else self.text(value.class_, 1)
        call = _call(value)
        if depth <= 0 and (call.positional or call.named):
            return f"{name}({_ELLIPSIS})"
        parts = [self.text(part, depth - 1) for part in islice(call.positional, self._items + 1)]
        parts += [f"{escape(key)}={self.text(part, depth - 1)}" for key, part in islice(call.named, self._items + 1)]
        return f"{name}({self._joined(len(call.positional) + len(call.named), parts)})"

    def _joined(self, count: int, parts: Iterable[str]) -> str:
        shown: list[str] = []
        for part in islice(parts, self._items):
            shown.append(part)
            if self._left <= 0:
                break
        if count > len(shown):
            shown.append(f"{_ELLIPSIS} {count - len(shown):,} more")
        return ", ".join(shown)


def _call(value: Instance) -> _Call:
    """Return an instance's arguments and attributes; what has no name comes first."""
    positional: list[Value] = list(value.args) + list(value.items)
    named: list[tuple[str, Value]] = []
    mappings = [value.kwargs] if value.kwargs else []
    if isinstance(value.state, Dict):
        mappings.append(value.state)
    elif _has_slots(value.state):
        mappings += [part for part in value.state if isinstance(part, Dict)]  # type: ignore[union-attr]
    elif value.has_state and value.state is not None:
        positional.append(value.state)
    for mapping in mappings:
        for key, item in mapping.pairs:
            named.append((key if isinstance(key, str) else repr(key)[:40], item))
    if value.pairs:
        positional.append(Dict(value.pairs))
    return _Call(positional, named)


def _has_slots(state: Value) -> bool:
    """Tell whether a state has the two parts of a class with ``__slots__``: dict or None, and dict."""
    return (
        isinstance(state, tuple)
        and len(state) == 2
        and (state[0] is None or isinstance(state[0], Dict))
        and isinstance(state[1], Dict)
    )


def _digits(number: int) -> str:
    """Return a whole number's digits; of a huge one its size (Python refuses to write it)."""
    bits = number.bit_length()
    return str(number) if bits <= 1024 else f"<whole number of {bits:,} bits>"
