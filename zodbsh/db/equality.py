"""Whether two decoded values say the same, however they were written.

Two pickles of one value may differ in bytes: memo use, the order of a set, what
a reference says of its target's class.
"""

from __future__ import annotations

from typing import Any

from zodbsh.record.values import Dict, Instance, Ref, Set, Value


def same(one: Value, other: Value) -> bool:
    """Tell whether two values are equal, types included; cycles end, nothing recurses.

    Sets and plain dicts are compared without regard to order where their items
    or keys are scalars or tuples of them, in order otherwise. References are equal
    where they lead to the same object with the same strength.
    """
    # A pair that is being compared is taken for equal when it is met again below itself.
    met: set[tuple[int, int]] = set()
    waiting: list[tuple[Any, Any]] = [(one, other)]
    while waiting:
        left, right = waiting.pop()
        if left is right:
            continue
        if type(left) is not type(right):
            return False
        pairs = _parts(left, right)
        if pairs is None:
            if left != right and not (left != left and right != right):
                return False
            continue
        if (id(left), id(right)) in met:
            continue
        met.add((id(left), id(right)))
        if pairs is _UNEQUAL:
            return False
        waiting.extend(pairs)
    return True


# Known by identity: an empty list of one's own means "nothing left to compare".
_UNEQUAL: list[tuple[Any, Any]] = []


def _parts(left: Any, right: Any) -> list[tuple[Any, Any]] | None:
    """Return what is left to compare of two values of one type, None where they compare by ``==``."""
    if isinstance(left, Ref):
        alike = (left.oid, left.database, left.weak) == (right.oid, right.database, right.weak)
        return [] if alike else _UNEQUAL
    if isinstance(left, list) or type(left) is tuple:
        return _pairwise(left, right)
    if isinstance(left, Dict):
        if left.class_ != right.class_ or len(left) != len(right):
            return _UNEQUAL
        return _mapping(left.pairs, right.pairs, ordered=left.class_ is not None)
    if isinstance(left, Set):
        return _set(left, right)
    if isinstance(left, Instance):
        if left.has_state != right.has_state:
            return _UNEQUAL
        return [
            (left.class_, right.class_), (left.args, right.args), (left.kwargs, right.kwargs),
            (left.state, right.state), (left.items, right.items), (left.pairs, right.pairs),
        ]  # fmt: skip
    return None


def _pairwise(left: Any, right: Any) -> list[tuple[Any, Any]]:
    if len(left) != len(right):
        return _UNEQUAL
    return list(zip(left, right, strict=True))


def _mapping(left: list[Any], right: list[Any], *, ordered: bool) -> list[tuple[Any, Any]]:
    ours, theirs = [_plain(key) for key, _ in left], [_plain(key) for key, _ in right]
    if ordered or None in ours or None in theirs or len(set(ours)) != len(ours):
        return list(zip(left, right, strict=True))
    by_key = dict(zip(theirs, right, strict=True))
    if by_key.keys() != set(ours):
        return _UNEQUAL
    return [(pair, by_key[key]) for key, pair in zip(ours, left, strict=True)]


def _set(left: Set, right: Set) -> list[tuple[Any, Any]]:
    if left.frozen != right.frozen or len(left) != len(right):
        return _UNEQUAL
    ours, theirs = [_plain(item) for item in left.items], [_plain(item) for item in right.items]
    if None in ours or None in theirs:
        return list(zip(left.items, right.items, strict=True))
    return [] if set(ours) == set(theirs) else _UNEQUAL


def _plain(value: Any) -> Any:
    """Return something hashable that tells a scalar (or a flat tuple of them) from others, None for anything else."""
    if type(value) is tuple:
        parts = tuple(_scalar(part) for part in value)
        return None if None in parts else ("tuple", parts)
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, Ref):
        return ("ref", value.oid, value.database, value.weak)
    scalar = value is None or isinstance(value, bool | int | float | complex | str | bytes)
    return (type(value).__name__, value) if scalar else None
