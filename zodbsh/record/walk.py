"""Walking values: each container once, never by recursion.

Values may share parts and lists may hold themselves, so that a small record can
unfold into more than any memory holds. What is here visits a container once,
by identity, and needs time and memory in proportion to the record.
"""

from __future__ import annotations

from collections import Counter

from zodbsh.record.values import Dict, Global, Instance, Ref, Set, Value
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCALARS = frozenset((type(None), bool, int, float, complex, str, bytes, Global))
_MAX_STEPS = 20_000_000


def children(value: Value) -> list[Value] | tuple[Value, ...]:
    """Return what a value holds directly, in the record's order; nothing for a scalar.

    Of an instance: its class where that is no plain name, arguments, items,
    pairs, state. Of a reference: its class where that is a reference itself.
    """
    kind = type(value)
    if kind is list or kind is tuple:
        return value  # type: ignore[return-value]
    if kind in _SCALARS:
        return ()
    if isinstance(value, Ref):
        return (value.class_,) if isinstance(value.class_, Ref) else ()
    if isinstance(value, Set):
        return value.items
    if isinstance(value, Dict):
        found = [part for pair in value.pairs for part in pair]
        found.extend(value.args)
        if value.state is not None:
            found.append(value.state)
        return found
    if isinstance(value, Instance):
        found = [] if type(value.class_) is Global else [value.class_]
        found.extend(value.args)
        if value.kwargs is not None:
            found.append(value.kwargs)
        found.extend(value.items)
        for pair in value.pairs:
            found.extend(pair)
        if value.has_state:
            found.append(value.state)
        return found
    return ()


def is_container(value: Value) -> bool:
    """Tell whether a value can hold others."""
    kind = type(value)
    if kind in _SCALARS:
        return False
    if kind is Ref:
        return type(value.class_) is Ref  # type: ignore[union-attr]
    return kind in (list, tuple, Dict, Set, Instance)


def walk(value: Value) -> Iterator[Value]:
    """Yield the value and everything in it, depth first, in the record's order.

    A container that is met again is not yielded again, nor is what it holds.
    """
    seen: set[int] = set()
    stack: list[Iterator[Value]] = [iter((value,))]
    while stack:
        for found in stack[-1]:
            if is_container(found):
                if id(found) in seen:
                    continue
                seen.add(id(found))
                yield found
                stack.append(iter(children(found)))
                break
            yield found
        else:
            stack.pop()


def deeper_than(value: Value, limit: int) -> bool:
    """Tell whether some way from the value inwards passes more than ``limit`` containers.

    An edge back to a container that the way has passed already (a cycle) ends
    it. The longest way counts, however the containers are shared.
    """
    depths: dict[int, int] = {}
    passing: set[int] = {id(value)}
    ways: list[tuple[Value, Iterator[Value]]] = [(value, iter(children(value)))]
    best = [1]
    while ways:
        found, inner = ways[-1]
        for child in inner:
            if not is_container(child):
                continue
            key = id(child)
            if (depth := depths.get(key)) is not None:
                best[-1] = max(best[-1], depth + 1)
            elif key not in passing:
                passing.add(key)
                ways.append((child, iter(children(child))))
                best.append(1)
                break
        else:
            ways.pop()
            depth = best.pop()
            depths[id(found)] = depth
            passing.discard(id(found))
            if best:
                best[-1] = max(best[-1], depth + 1)
            if depth > limit:
                return True
        if len(ways) > limit:
            return True
    return False


def same(left: Value, right: Value) -> bool:
    """Tell whether two values mean the same.

    Types must agree (1 is not True), NaN equals itself, references agree where
    target, class and database do (not where they stand), plain dicts and sets
    without regard to order. Two values that need more than twenty million
    comparisons count as different.
    """
    todo: list[tuple[Value, Value]] = [(left, right)]
    compared: set[tuple[int, int]] = set()
    steps = 0
    while todo:
        one, other = todo.pop()
        steps += 1
        if steps > _MAX_STEPS or type(one) is not type(other):
            return False
        if one is other:
            continue
        if isinstance(one, Ref) and isinstance(other, Ref):
            if one[0] != other[0] or one[2:4] != other[2:4]:
                return False
            todo.append((one.class_, other.class_))
        elif type(one) in _SCALARS or not is_container(one):
            if not _same_scalar(one, other):
                return False
        elif (id(one), id(other)) not in compared:
            compared.add((id(one), id(other)))
            parts = _parts(one, other)
            if parts is None:
                return False
            todo.extend(parts)
    return True


def _same_scalar(one: Value, other: Value) -> bool:
    if isinstance(one, float | complex):
        return repr(one) == repr(other)
    if one == other:
        # Aware times are equal where the instant is, whatever their zone; a Decimal where its value is.
        return str(one) == str(other) if type(one) not in _SCALARS else True
    return one != one and other != other


def _parts(one: Value, other: Value) -> list[tuple[Value, Value]] | None:
    """Return the pairs that must be the same for two containers of one type to be, None where they differ."""
    if isinstance(one, Instance) and isinstance(other, Instance):
        if one.has_state is not other.has_state:
            return None
        parts = [(one.class_, other.class_), (one.kwargs, other.kwargs), (one.state, other.state)]
        for mine, theirs in ((one.args, other.args), (one.items, other.items)):
            if len(mine) != len(theirs):
                return None
            parts.extend(zip(mine, theirs, strict=True))
        pairs = _pair_parts(one.pairs, other.pairs, ordered=True)
        return None if pairs is None else parts + pairs
    if isinstance(one, Dict) and isinstance(other, Dict):
        if one.class_ != other.class_ or len(one.args) != len(other.args):
            return None
        ordered = one.class_ is not None and one.class_.name == "OrderedDict"
        pairs = _pair_parts(one.pairs, other.pairs, ordered=ordered)
        if pairs is None:
            return None
        return [*pairs, *zip(one.args, other.args, strict=True), (one.state, other.state)]
    if isinstance(one, Set) and isinstance(other, Set):
        if one.frozen is not other.frozen or len(one.items) != len(other.items):
            return None
        keys, others = [_key(item) for item in one.items], [_key(item) for item in other.items]
        if None not in keys and None not in others:
            return [] if Counter(keys) == Counter(others) else None
    mine, theirs = children(one), children(other)
    return list(zip(mine, theirs, strict=True)) if len(mine) == len(theirs) else None


def _pair_parts(
    one: list[tuple[Value, Value]], other: list[tuple[Value, Value]], *, ordered: bool
) -> list[tuple[Value, Value]] | None:
    if len(one) != len(other):
        return None
    if not ordered:
        mine, theirs = {_key(key): value for key, value in one}, {_key(key): value for key, value in other}
        if None not in mine and len(mine) == len(one) and mine.keys() == theirs.keys():
            return [(value, theirs[key]) for key, value in mine.items()]
        if None not in mine and None not in theirs:
            return None
    parts: list[tuple[Value, Value]] = []
    for (my_key, my_value), (their_key, their_value) in zip(one, other, strict=True):
        parts += ((my_key, their_key), (my_value, their_value))
    return parts


def _key(value: Value) -> tuple[object, ...] | None:
    """Return what stands for a scalar or a reference where order does not count; None for anything else."""
    if isinstance(value, Ref):
        return (Ref, value.oid, value.database, value.weak)
    if isinstance(value, float | complex):
        return (type(value), repr(value))
    if type(value) in _SCALARS:
        return (type(value), value)
    return None if is_container(value) else (type(value), str(value))
