"""BTrees over decoded records: one key by descent, all keys in order, never the whole tree at once.

A tree from a file may be damaged or hostile: every node is visited once, depth is bounded, and a child that is no
node of a tree is an error that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from zodbsh.analysis.keys import Key, ShownKey
from zodbsh.analysis.records import dangling, read_record
from zodbsh.errors import ExitCode, ObjectNotFound, ZodbshError
from zodbsh.ids import oid_text
from zodbsh.record.btrees import BucketState, TreeKind, TreeState, TreeStateError, read_tree_state, record_tree
from zodbsh.record.decode import class_text
from zodbsh.record.shape import python_key_text
from zodbsh.record.values import Record, Ref, Value
from zodbsh.source.snapshot import Snapshot

MAX_DEPTH = 64
"""Deepest tree that is walked; one of a thousand million keys is six deep."""

# What Python orders by itself and BTrees order alike (Python 2's str as bytes, which is the order of its characters).
_ORDERED = frozenset((bool, int, float, str, bytes, tuple))
_FIRST = ShownKey("")


class TreeDamaged(ZodbshError):
    """A BTree whose nodes do not form a tree."""

    code = "tree-damaged"
    exit_code = ExitCode.DAMAGED


class Entry(NamedTuple):
    """A key of a tree with its value (None in a set), and the oid of the record that holds both."""

    key: Value
    value: Value
    holder: int


class Tree:
    """The tree, bucket or set that one object is the top of.

    ``is_set`` tells whether it has keys only.
    Everything here raises TreeDamaged, DanglingReference or BrokenRecord where the tree cannot be followed.
    """

    def __init__(self, snapshot: Snapshot, oid: int, record: Record, kind: TreeKind) -> None:
        self.is_set = kind.is_set
        self._snapshot = snapshot
        self._oid = oid
        self._top = _read_node(oid, record, kind)

    @classmethod
    def of(cls, snapshot: Snapshot, oid: int, record: Record) -> Tree | None:
        """Return the tree that an object's record is the top of, None where it is none."""
        kind = record_tree(record)
        return None if kind is None else cls(snapshot, oid, record, kind)

    def entries(self, start: Key = _FIRST) -> Iterator[Entry]:
        """Yield every entry in the tree's order, loading one node at a time.

        With ``start``, begin with the bucket in which it is or would be. Raises TypeError where keys of the tree
        cannot be compared with it.
        """
        for holder, bucket in self.buckets(start):
            yield from _entries(holder, bucket)

    def buckets(self, start: Key = _FIRST) -> Iterator[tuple[int, BucketState]]:
        """Yield every bucket in order, with the oid of its record; ``start`` as in ``entries``."""
        for oid, state in self.nodes(start):
            if isinstance(state, BucketState):
                yield oid, state

    def nodes(self, start: Key = _FIRST) -> Iterator[tuple[int, TreeState | BucketState]]:
        """Yield every node, the top first, and every bucket in order; ``start`` as in ``entries``.

        A bucket whose next one was met before is the last that is yielded: BTrees would go round for ever there.
        """
        seen = {self._oid}
        # Of each node on the way down: its oid, and what is left of its children.
        way: list[tuple[int, Iterator[Ref]]] = []
        state, oid = self._top, self._oid
        while True:
            yield oid, state
            if isinstance(state, BucketState) and way and state.next is not None and state.next.oid in seen:
                after = oid_text(state.next.oid)
                raise TreeDamaged(
                    f"the tree {oid_text(self._oid)} comes back to its node {after}: it is next to {oid_text(oid)}"
                )
            if isinstance(state, TreeState) and state.children:
                first = 0 if start is _FIRST else _bisect(state.keys, start)
                way.append((oid, iter(state.children[first:])))
            child = None
            while way and (child := next(way[-1][1], None)) is None:
                way.pop()
            if child is None:
                return
            if child.oid in seen or len(way) > MAX_DEPTH:
                raise TreeDamaged(f"the tree {oid_text(self._oid)} comes back to its node {oid_text(child.oid)}")
            oid = child.oid
            seen.add(oid)
            state = self._node(child, way[-1][0])

    def find(self, wanted: Key) -> Entry | None:
        """Return the entry under a key, None where there is none.

        Descends by comparison; a tree whose keys cannot be compared with ``wanted`` is walked.
        """
        try:
            holder, bucket = next(self.buckets(wanted), (self._oid, BucketState((), None)))
            return _search(holder, bucket, wanted)
        except TypeError:
            return find_key(self.entries(), wanted)

    def count(self, limit: int) -> tuple[int, bool]:
        """Return how many entries there are, and whether that is all: at most ``limit`` buckets are looked at."""
        total = 0
        for number, (_, bucket) in enumerate(self.buckets()):
            if number >= limit:
                return total, False
            total += len(bucket.keys)
        return total, True

    def _node(self, ref: Ref, holder: int) -> TreeState | BucketState:
        try:
            record = read_record(self._snapshot, ref.oid)
        except ObjectNotFound as exc:
            raise dangling(ref, holder) from exc
        kind = record_tree(record)
        if kind is None:
            raise TreeDamaged(
                f"the tree {oid_text(self._oid)} has a node {oid_text(ref.oid)} that is a {class_text(record.class_)}"
            )
        return _read_node(ref.oid, record, kind)


def _read_node(oid: int, record: Record, kind: TreeKind) -> TreeState | BucketState:
    try:
        return read_tree_state(kind, record.state)
    except TreeStateError as exc:
        raise TreeDamaged(f"{oid_text(oid)}: {exc.message}", hint=exc.hint) from exc


def same_key(stored: Value, wanted: Key) -> bool:
    """Tell whether a stored key is the wanted one as Python's ``==`` sees it; Python 2's str may be written as b''."""
    if isinstance(wanted, ShownKey):
        return python_key_text(stored) == wanted.text
    if isinstance(wanted, bytes) and isinstance(stored, str):
        return stored.encode("utf-8", "surrogatepass") == wanted
    if isinstance(wanted, tuple) and type(stored) is not tuple:
        return False  # references and names are tuples to Python, but not to a user
    return bool(stored == wanted)


def find_key(entries: Iterable[Entry], wanted: Key) -> Entry | None:
    """Return the entry whose key is ``wanted``: of the same type if there is one, equal otherwise."""
    equal = None
    for entry in entries:
        if same_key(entry.key, wanted):
            if type(entry.key) is type(wanted):
                return entry
            equal = equal or entry
    return equal


def _entries(holder: int, bucket: BucketState) -> Iterator[Entry]:
    if bucket.values is None:
        return (Entry(key, None, holder) for key in bucket.keys)
    return (Entry(key, value, holder) for key, value in zip(bucket.keys, bucket.values, strict=True))


def _search(holder: int, bucket: BucketState, wanted: Key) -> Entry | None:
    place = _bisect(bucket.keys, wanted) - 1
    if place < 0 or not same_key(bucket.keys[place], wanted):
        return None
    return Entry(bucket.keys[place], None if bucket.values is None else bucket.values[place], holder)


def _bisect(keys: tuple[Value, ...], wanted: Key) -> int:
    """Return how many keys are not greater than ``wanted``. Raises TypeError where they cannot be compared."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        if _less(wanted, keys[middle]):
            high = middle
        else:
            low = middle + 1
    return low


def _less(wanted: Key, key: Value) -> bool:
    # BTrees put None before everything.
    if wanted is None or key is None:
        return wanted is None and key is not None
    if type(key) not in _ORDERED:
        raise TypeError(type(key))
    return bool(wanted < key)  # type: ignore[operator]
