"""Walking values: each container once, never by recursion.

Values may share parts and lists may hold themselves, so that a small record can
unfold into more than any memory holds. What is here visits a container once,
by identity, and needs time and memory in proportion to the record.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.record.values import Dict, Global, Instance, Ref, Set, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCALARS = frozenset((type(None), bool, int, float, complex, str, bytes, Global))


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


def unfolded(value: Value) -> tuple[int, int]:
    """Return how many parts a value has with shared ones counted at each place, and how many it really holds.

    A container and a scalar are one part each, long text one more for each 64
    characters. A container within itself counts once.
    """
    sizes: dict[int, int] = {}
    texts: set[int] = set()
    held = 1 + _long(value)
    passing = {id(value)}
    ways: list[tuple[Value, Iterator[Value]]] = [(value, iter(children(value)))]
    sums = [1 + _long(value)]
    while ways:
        found, inner = ways[-1]
        for child in inner:
            key = id(child)
            if not is_container(child):
                more = _long(child)
                held += 1
                if more and key not in texts:
                    texts.add(key)
                    held += more
                sums[-1] += 1 + more
            elif (size := sizes.get(key)) is not None:
                sums[-1] += size
            elif key in passing:
                sums[-1] += 1
            else:
                held += 1
                passing.add(key)
                ways.append((child, iter(children(child))))
                sums.append(1)
                break
        else:
            ways.pop()
            total = sizes[id(found)] = sums.pop()
            passing.discard(id(found))
            if sums:
                sums[-1] += total
    return total, held


def _long(value: Value) -> int:
    return len(value) // 64 if isinstance(value, (str, bytes)) else 0
