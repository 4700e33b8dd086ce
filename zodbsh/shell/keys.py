"""Keys of live mappings and BTrees that begin with what is typed, by range scan.

A BTree is never loaded as a whole: a scan starts at the typed prefix and ends
with the budget of loads or the limit of keys, whichever comes first.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any

from zodbsh.shell.loads import LimitReached
from zodbsh.shell.objects import isinstance_of, mapping_data, tree_class

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LIMIT = 50
"""Keys that are offered at most."""

SCANNED = 100_000
"""Keys of a dict in memory that are looked at, at most."""

_INTEGERS = "ILUQ"
_LAST = "\U0010ffff"


def matching_keys(obj: Any, prefix: str | bytes | None, *, limit: int = LIMIT) -> list[Any]:
    """Return keys of a mapping that begin with ``prefix``; None stands for any key.

    A str or a bytes prefix finds keys of that type. Returns what was found when
    the budget of loads is spent, and nothing for what is no mapping.
    """
    return _collect(_matching(obj, prefix), limit)


def matching_integers(obj: Any, digits: str, *, limit: int = LIMIT) -> list[int]:
    """Return integer keys whose decimal text begins with ``digits`` (a sign may stand first)."""
    return _collect(_matching_integers(obj, digits), limit)


def _collect(keys: Iterator[Any], limit: int) -> list[Any]:
    found: list[Any] = []
    # Keys that cannot be compared, a damaged bucket, a spent budget: what was found until then is offered.
    with suppress(LimitReached, Exception):
        for key in islice(keys, limit):
            found.append(key)  # noqa: PERF402 - list(...) would lose them
    return found


def _matching(obj: Any, prefix: str | bytes | None) -> Iterator[Any]:
    kind = tree_class(type(obj))
    if kind is None:
        data = mapping_data(obj)
        if data is None:
            return
        for key in islice(dict.__iter__(data), SCANNED):
            if prefix is None or (isinstance_of(key, type(prefix)) and key.startswith(prefix)):
                yield key
        return
    if not kind.is_mapping:
        return
    if not prefix:
        keys: Iterable[Any] = obj.keys()
    else:
        keys = obj.keys(prefix, prefix + _LAST if isinstance(prefix, str) else prefix + b"\xff" * 16)
    for key in keys:
        if prefix is None or (isinstance_of(key, type(prefix)) and key.startswith(prefix)):
            yield key


def _matching_integers(obj: Any, digits: str) -> Iterator[int]:
    if tree_class(type(obj)) is None:
        for key in _matching(obj, None):
            if type(key) is int and str(key).startswith(digits):
                yield key
        return
    if not digits or digits == "-":
        for key in _matching(obj, None) if not digits else obj.keys(None, -1):
            if type(key) is int:
                yield key
        return
    for low, high in _ranges(digits):
        yield from (key for key in obj.keys(low, high) if type(key) is int)


def _ranges(digits: str) -> Iterator[tuple[int, int]]:
    """Yield the ranges of 64-bit integers whose text begins with the digits: 12, 120 to 129, 1200 to 1299, ..."""
    number = int(digits)
    if digits.lstrip("-").startswith("0") and number == 0:
        yield 0, 0
        return
    scale = 1
    while abs(number) * scale < 2**63:
        near, far = number * scale, number * scale + (scale - 1) * (1 if number > 0 else -1)
        low, high = min(near, far), max(near, far)
        yield max(low, -(2**63)), min(high, 2**63 - 1)
        scale *= 10
