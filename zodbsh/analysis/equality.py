"""Comparing decoded values as Python would compare what they stand for, at a bounded cost and without recursion.

A reference equals another to the same object, and the object's oid as a number. A date or a time is compared with
text that writes one (RFC 3339), a UUID or a class with its text; a time without a zone is taken as UTC.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import Any
from uuid import UUID

from zodbsh.errors import ExitCode, ZodbshError
from zodbsh.record.decode import class_text
from zodbsh.record.values import Dict, Global, Instance, Ref, Set, Value

MAX_STEPS = 1_000_000
"""So many pairs of values are compared for one object; a pair of containers counts ten times."""

_LONGEST_DATE = 40
_CONTAINER = 10
# Comparing so much text costs as much as comparing two numbers.
_TEXT = 1_000
_ORDERINGS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class TooCostly(ZodbshError):
    """An expression that would cost too much on this object."""

    code = "expression-cost"
    exit_code = ExitCode.UNSUPPORTED


class Budget:
    """What the comparisons for one object may still cost."""

    __slots__ = ("_left",)

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self._left = steps

    def spend(self, steps: int) -> None:
        """Account for comparisons. Raises TooCostly."""
        self._left -= steps
        if self._left < 0:
            raise TooCostly("values of this size are not compared")


def equal(one: Value, other: Value, budget: Budget) -> bool:
    """Tell whether two values are equal. Raises TooCostly."""
    todo: list[tuple[Value, Value]] = [(one, other)]
    # What holds itself is compared once with each other value.
    seen: set[tuple[int, int]] = set()
    while todo:
        left, right = todo.pop()
        kind = type(left)
        if kind is not type(right) or kind not in _CONTAINERS:
            budget.spend(1)
            if not _same(left, right, budget):
                return False
            continue
        budget.spend(_CONTAINER)
        if left is right or (id(left), id(right)) in seen:
            continue
        seen.add((id(left), id(right)))
        parts = _parts(left, right, budget)
        if parts is None:
            return False
        todo.extend(parts)
    return True


def ordered(left: Value, sign: str, right: Value, budget: Budget) -> bool:
    """Tell whether ``left < right`` (or ``<=``, ``>``, ``>=``); False where the two have no order. Raises TooCostly."""
    while type(left) is type(right) and type(left) in (list, tuple):
        assert isinstance(left, list | tuple)
        assert isinstance(right, list | tuple)
        budget.spend(_CONTAINER)
        pairs = zip(left, right, strict=False)
        differing = next((pair for pair in pairs if not equal(pair[0], pair[1], budget)), None)
        if differing is None:
            left, right = len(left), len(right)
        else:
            left, right = differing
    if type(left) in _UNORDERED or type(right) in _UNORDERED:
        return False
    left, right = _alike(left, right)
    try:
        return bool(_ORDERINGS[sign](left, right))
    except (TypeError, ArithmeticError):
        return False


def contains(text: str | bytes, part: Value) -> bool | None:
    """Tell whether a text has a part; None where the two are of different kinds."""
    if isinstance(text, str):
        return part in text if isinstance(part, str) else None
    if isinstance(part, bytes) or (isinstance(part, int) and 0 <= part <= 255):
        return part in text
    return None


_CONTAINERS = frozenset((list, tuple, Dict, Set, Instance))
_UNORDERED = frozenset((Dict, Set, Instance, Ref, Global))


def _parts(left: Any, right: Any, budget: Budget) -> list[tuple[Value, Value]] | None:
    """Return the pairs of parts that have to be equal, None where the two containers cannot be."""
    if isinstance(left, Dict):
        return _mapping(left.pairs, right.pairs, budget)
    if isinstance(left, Set):
        return _mapping([(item, None) for item in left.items], [(item, None) for item in right.items], budget)
    if isinstance(left, Instance):
        if len(left.pairs) != len(right.pairs):
            return None
        pairs = zip(left.pairs, right.pairs, strict=True)
        return [
            (left.class_, right.class_), (left.args, right.args), (left.kwargs, right.kwargs),
            (left.state, right.state), (left.items, right.items),
            *((one, other) for mine, yours in pairs for one, other in zip(mine, yours, strict=True)),
        ]  # fmt: skip
    if len(left) != len(right):
        return None
    budget.spend(len(left))
    return list(zip(left, right, strict=True))


def _mapping(
    left: list[tuple[Value, Value]], right: list[tuple[Value, Value]], budget: Budget
) -> list[tuple[Value, Value]] | None:
    """Pair what stands under equal keys; keys that are containers are paired in their order."""
    budget.spend(len(left) + len(right))
    mine, my_others = _by_key(left)
    yours, your_others = _by_key(right)
    if mine.keys() != yours.keys() or len(my_others) != len(your_others):
        return None
    parts = [(value, yours[key]) for key, value in mine.items()]
    for (key, value), (other_key, other) in zip(my_others, your_others, strict=True):
        parts += [(key, other_key), (value, other)]
    return parts


def _by_key(pairs: list[tuple[Value, Value]]) -> tuple[dict[object, Value], list[tuple[Value, Value]]]:
    found: dict[object, Value] = {}
    others = []
    for key, value in pairs:
        if type(key) in _CONTAINERS:
            others.append((key, value))
        else:
            found[(Ref, key.oid, key.database) if isinstance(key, Ref) else key] = value
    return found, others


def _same(left: Value, right: Value, budget: Budget) -> bool:
    """Tell whether two scalars, or values of two types, are equal."""
    if isinstance(left, Ref):
        return _leads_to(left, right)
    if isinstance(right, Ref):
        return _leads_to(right, left)
    if isinstance(left, str) and isinstance(right, str):
        if len(left) == len(right):
            budget.spend(len(left) // _TEXT)
        return left == right
    if isinstance(left, Global | UUID) and isinstance(right, str):
        return _text(left) == right
    if isinstance(right, Global | UUID) and isinstance(left, str):
        return _text(right) == left
    if isinstance(left, Global) is not isinstance(right, Global):
        return False  # a name is a tuple to Python, but not to a user
    left, right = _alike(left, right)
    try:
        return bool(left == right)
    except ArithmeticError:
        return False


def _leads_to(ref: Ref, other: Value) -> bool:
    if isinstance(other, Ref):
        return (ref.oid, ref.database) == (other.oid, other.database)
    return type(other) is int and ref.database is None and ref.oid == other


def _text(value: Global | UUID) -> str:
    return class_text(value) if isinstance(value, Global) else str(value)


def _alike(left: Any, right: Any) -> tuple[Any, Any]:
    """Return two dates or times in a form that Python compares; anything else as it is."""
    if isinstance(left, date | time) and isinstance(right, str):
        right = _read(right, clock=isinstance(left, time))
    elif isinstance(right, date | time) and isinstance(left, str):
        left = _read(left, clock=isinstance(right, time))
    if isinstance(left, date) and isinstance(right, date) and type(left) is not type(right):
        left, right = _moment(left), _moment(right)
    if isinstance(left, datetime | time) and isinstance(right, datetime | time):
        left, right = _aware(left), _aware(right)
    return left, right


@lru_cache(1_000)
def _read(text: str, *, clock: bool) -> datetime | time | str:
    """Return the date, or with ``clock`` the time of day, that a text writes; the text where it writes none."""
    if len(text) > _LONGEST_DATE:
        return text
    try:
        return time.fromisoformat(text) if clock else datetime.fromisoformat(text)
    except ValueError:
        return text


def _moment(value: date) -> datetime:
    return value if isinstance(value, datetime) else datetime(value.year, value.month, value.day, tzinfo=UTC)


def _aware(value: Any) -> Any:
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
