"""The order of a BTree's keys, as BTrees see it, without the code of any class.

``None`` is the smallest key. Numbers are ordered by value, texts by code point, bytes by byte, tuples by their first
parts that differ. Python 3 orders nothing else with anything; Python 2 put numbers before all other types and took
its ``str`` and ``unicode`` for one. What an instance or a persistent object says of its order only its class knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice, pairwise
from operator import lt
from typing import Any, NamedTuple
from uuid import UUID

from zodbsh.record.shape import python_key_text
from zodbsh.record.values import Global, Ref, Value

UNORDERED = 2
"""What has no order: a text and a number in Python 3, or not-a-number and anything."""

_PLAIN = frozenset((int, str, bytes, float))
_NUMBERS = frozenset((bool, int, float, Decimal))
_TEXTS = frozenset((str, bytes))
_KNOWN = frozenset((*_NUMBERS, *_TEXTS, type(None), tuple, complex, date, datetime, time, timedelta, UUID))
# So many parts of tuples are compared for each key of a node, and so many more at least: parts may be shared.
_STEPS_PER_KEY = 50
_STEPS = 10_000
# So many characters are compared in one step, more or less.
_CHARACTERS = 256

_SHOWN = 40
_SHOWN_ITEMS = 4
_SHOWN_BITS = 128


class Ascent(NamedTuple):
    """What can be said of keys that are to ascend.

    ``broken`` is the place of the first key that is not smaller than the next one, None where there is none;
    ``unknown`` counts those of which only code can tell.
    """

    broken: int | None
    unknown: int = 0


class KeyOrder:
    """Compares the keys of one node after the other.

    ``python2`` says whose rules hold.
    """

    def __init__(self, *, python2: bool = False) -> None:
        self._python2 = python2
        self._steps = _STEPS

    def ascent(self, keys: Sequence[Value]) -> Ascent:
        """Tell whether each key is smaller than the next one; a node's keys are to come here before its bounds do."""
        self._steps = _STEPS + _STEPS_PER_KEY * len(keys)
        types = set(map(type, keys))
        if len(types) < 2 and types <= _PLAIN:
            plain: Sequence[Any] = keys
            if all(map(lt, plain, islice(plain, 1, None))):
                return Ascent(None)
            return Ascent(next(place for place, (one, two) in enumerate(pairwise(plain)) if not one < two))
        unknown = 0
        for place, (one, other) in enumerate(pairwise(keys)):
            found = self.compare(one, other)
            if found is None:
                unknown += 1
            elif found >= 0:
                return Ascent(place, unknown)
        return Ascent(None, unknown)

    def compare(self, one: Value, other: Value) -> int | None:
        """Return -1, 0 or 1 as ``one`` is smaller, equal or greater, `UNORDERED`, or None where only code can tell."""
        if type(one) is not tuple or type(other) is not tuple:
            return self._compare_parts(one, other, nested=False)
        ways: list[tuple[Iterator[tuple[Value, Value]], int]] = [_parts(one, other)]
        while ways:
            parts, longer = ways[-1]
            for part, against in parts:
                # What is the same object is the same key, whatever its class says.
                if part is against:
                    continue
                self._steps -= 1
                if self._steps < 0:
                    return None
                if type(part) is tuple and type(against) is tuple:
                    ways.append(_parts(part, against))
                    break
                found = self._compare_parts(part, against, nested=True)
                if found != 0:
                    return found
            else:
                ways.pop()
                if longer:
                    return longer
        return 0

    def _compare_parts(self, one: Value, other: Value, *, nested: bool) -> int | None:
        kind, against = type(one), type(other)
        if one is None or other is None:
            return self._compare_none(one, other, nested=nested)
        if kind is against and kind in _TEXTS:
            self._steps -= min(len(one), len(other)) // _CHARACTERS if nested else 0  # type: ignore[arg-type]
            return _rich(one, other)
        if kind in _NUMBERS and against in _NUMBERS:
            return _rich(one, other)
        if kind not in _KNOWN or against not in _KNOWN:
            return 0 if _same(one, other) else None
        if self._python2:
            return self._compare_python2(one, other)
        return _rich(one, other) if kind not in (tuple, complex) and against not in (tuple, complex) else UNORDERED

    def _compare_none(self, one: Value, other: Value, *, nested: bool) -> int:
        if one is other:
            return 0
        # Within a tuple it is Python that compares, not BTrees.
        return UNORDERED if nested and not self._python2 else (-1 if one is None else 1)

    @staticmethod
    def _compare_python2(one: Value, other: Value) -> int | None:
        kind, against = type(one), type(other)
        if kind in _TEXTS and against in _TEXTS:
            return _rich(_raw(one), _raw(other))
        if kind in _NUMBERS and (against in _TEXTS or against is tuple):
            return -1
        if against in _NUMBERS and (kind in _TEXTS or kind is tuple):
            return 1
        return _rich(one, other) if kind is against else None


def shown(key: Value) -> str:
    """Return a key as a message shows it: as Python writes it, cut where it is long."""
    if isinstance(key, str | bytes):
        return repr(key) if len(key) <= _SHOWN else f"{key[:_SHOWN]!r}..."
    if isinstance(key, int) and key.bit_length() > _SHOWN_BITS:
        return f"a number of {key.bit_length()} bits"
    if type(key) is tuple:
        items = ["(...)" if type(item) is tuple else shown(item) for item in key[:_SHOWN_ITEMS]]
        if len(key) > _SHOWN_ITEMS:
            items.append("...")
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    return python_key_text(key)[: 2 * _SHOWN]


def _parts(one: Value, other: Value) -> tuple[Iterator[tuple[Value, Value]], int]:
    """Return the parts of two tuples side by side, and how they compare where those are all equal."""
    assert isinstance(one, tuple)
    assert isinstance(other, tuple)
    longer = (len(one) > len(other)) - (len(one) < len(other))
    return zip(one, other, strict=False), longer


def _rich(one: Value, other: Value) -> int:
    """Compare what Python compares by itself."""
    try:
        if one < other:  # type: ignore[operator]
            return -1
        if one > other:  # type: ignore[operator]
            return 1
        return 0 if one == other else UNORDERED
    except (TypeError, ValueError, ArithmeticError):
        return UNORDERED


def _same(one: Value, other: Value) -> bool:
    if isinstance(one, Ref) and isinstance(other, Ref):
        return one.oid == other.oid and one.database == other.database and not one.weak and not other.weak
    return one is other or (isinstance(one, Global) and isinstance(other, Global) and one == other)


def _raw(text: Value) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text  # type: ignore[return-value]
