"""When two decoded values mean the same, as a number that can be looked up.

Equality of values is not Python's: ``1``, ``1.0`` and ``True`` are three values, ``nan`` is itself, a dict and a
set have no order, and where in a record a reference stands does not matter. Values may hold themselves, and may
share parts so often that following every way would never end: everything here is iterative and looks at each part
once.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from zodbsh.record.values import Dict, Global, Instance, Ref, Set, Value
from zodbsh.record.walk import children, is_container

_PLAIN = (bool, int, str, bytes, Global)
_OPEN = -1
# From here on, to compare a text again costs more than to remember it.
_LONG_TEXT = 1_000


class Identities:
    """Gives each value a number: two values get the same one exactly when they mean the same.

    Keeps every value alive that it was shown; use one for the two sides of a comparison.
    """

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}
        self._known: dict[int, int] = {}
        self._kept: list[Value] = []

    def number(self, value: Value) -> int:
        """Return the value's number."""
        stack: list[tuple[Value, Iterator[Value], list[int]]] = []
        found = self._enter(value, stack)
        while stack:
            current, parts, numbers = stack[-1]
            if found is not None:
                numbers.append(found)
            found = None
            for part in parts:
                found = self._enter(part, stack)
                break
            else:
                stack.pop()
                found = self._known[id(current)] = self._intern(_shape(current, numbers))
        assert found is not None
        return found

    def same(self, old: Value, new: Value) -> bool:
        """Tell whether two values mean the same."""
        return self.number(old) == self.number(new)

    def _enter(self, value: Value, stack: list[tuple[Value, Iterator[Value], list[int]]]) -> int | None:
        """Return the number of a scalar or of what is known; put anything else on the stack and return None."""
        if not is_container(value) or (isinstance(value, Ref) and not isinstance(value.class_, Ref)):
            return self._text(value) if isinstance(value, (str, bytes)) else self._intern(_scalar(value))
        known = self._known.get(id(value))
        if known == _OPEN:
            # It holds itself: how far up it stands is what tells one such loop from another.
            depth = next(up for up, (other, _, _) in enumerate(reversed(stack)) if other is value)
            return self._intern(("loop", depth))
        if known is not None:
            return known
        self._known[id(value)] = _OPEN
        self._kept.append(value)
        stack.append((value, iter(children(value)), []))
        return None

    def _text(self, value: str | bytes) -> int:
        """Number a text; a long one, which a record may hold at a million places, is looked at once."""
        if len(value) < _LONG_TEXT:
            return self._intern(_scalar(value))
        known = self._known.get(id(value))
        if known is None:
            known = self._known[id(value)] = self._intern(_scalar(value))
            self._kept.append(value)
        return known

    def _intern(self, shape: Hashable) -> int:
        return self._numbers.setdefault(shape, len(self._numbers))


def _scalar(value: Value) -> Hashable:
    if value is None or isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, Ref):
        return Ref, value.oid, value.class_, value.database, value.weak
    # Aware times are equal where the instant is, whatever their zone; a Decimal where its value is; nan never.
    return type(value), str(value)


def _shape(value: Value, numbers: list[int]) -> Hashable:
    """Return what a container is, with numbers for what ``children`` gives of it."""
    if isinstance(value, Dict):
        end = 2 * len(value.pairs)
        pairs = _pairs(numbers[:end], ordered=value.class_ is not None and value.class_.name == "OrderedDict")
        return "dict", value.class_, pairs, tuple(numbers[end:])
    if isinstance(value, Set):
        return "set", value.frozen, frozenset(numbers)
    if isinstance(value, Instance):
        class_ = value.class_ if isinstance(value.class_, Global) else None
        lengths = (len(value.args), value.kwargs is not None, len(value.items), len(value.pairs), value.has_state)
        return "instance", class_, lengths, tuple(numbers)
    if isinstance(value, Ref):
        return "ref", value.oid, value.database, value.weak, tuple(numbers)
    return type(value), tuple(numbers)


def _pairs(numbers: list[int], *, ordered: bool) -> Hashable:
    # As in a dict, the last value under a key is the one that counts.
    pairs = dict(zip(numbers[::2], numbers[1::2], strict=True)).items()
    return tuple(pairs) if ordered else frozenset(pairs)
