"""A limit on what looking may load from the database.

Completion and display run under a budget of loads, and under a ban on change:
whatever code they meet (a ``__repr__``, a key's ``__lt__``), it cannot walk the
database, and it cannot dirty it.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


_GATES = ("setstate", "get", "register")


class LimitReached(BaseException):
    """The budget is spent, or something tried to change an object while being looked at.

    Not an Exception: user code that catches everything must not swallow it.
    """


class Budget:
    """Counts loads; ``left`` is what may still be loaded."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self) -> None:
        """Count one load. Raises LimitReached when none is left."""
        if self.left <= 0:
            raise LimitReached
        self.left -= 1


@contextmanager
def limited_loads(connections: Iterable[Any], limit: int) -> Iterator[Budget]:
    """Let the connections load at most ``limit`` objects, and register no change, inside the block.

    Raises LimitReached out of whatever asks for more. ZODB's objects ask their
    connection for everything, so an attribute on the connection is the one gate.
    """
    budget = Budget(limit)
    guarded = []
    seen = set()
    for first in connections:
        family = getattr(first, "connections", None) or {}
        for connection in (first, *family.values()):
            if connection is None or id(connection) in seen:
                continue
            seen.add(id(connection))
            guarded.append(connection)
    before = [{name: vars(connection)[name] for name in _GATES if name in vars(connection)} for connection in guarded]
    for connection in guarded:
        _guard(connection, budget)
    try:
        yield budget
    finally:
        for connection, outer in zip(guarded, before, strict=True):
            for name in _GATES:
                vars(connection).pop(name, None)
            vars(connection).update(outer)


def _guard(connection: Any, budget: Budget) -> None:
    setstate, get, cache = connection.setstate, connection.get, connection._cache

    def limited_setstate(obj: object) -> None:
        budget.take()
        setstate(obj)

    def limited_get(oid: bytes) -> object:
        # A reference that does not say its class makes ZODB read the record.
        if cache.get(oid) is None:
            budget.take()
        return get(oid)

    def no_register(_obj: object) -> None:
        raise LimitReached

    vars(connection).update(setstate=limited_setstate, get=limited_get, register=no_register)
