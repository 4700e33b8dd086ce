"""Which of a BTree's nodes and buckets have to be compared to know what changed in it.

A BTree that is cleared, or that loses a bucket, writes its own record and no other: the buckets that held the keys stay
as they are, and only the tree's earlier state leads to them. So beside the records that changed, those count that only
one of the two states of a changed node leads to. What both lead to and is no changed record, is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, TypeAlias

from zodbsh.record.btrees import BucketState, TreeState, TreeStateError, read_tree_state, record_tree
from zodbsh.record.values import Record

MAX_LOADED = 50_000
"""How many unchanged nodes are loaded at most: those of trees that were cleared."""

Loader: TypeAlias = Callable[[int], "Record | None"]


class NodePair(NamedTuple):
    """A node or bucket before and after; None where it is no part of the tree (or does not exist)."""

    oid: int
    old: Record | None
    new: Record | None


class TreeChanges(NamedTuple):
    """``pairs`` by the topmost changed node of each tree, that node first; ``partial`` if the limit left some out."""

    pairs: dict[int, list[NodePair]]
    partial: bool


def tree_changes(
    changed: Mapping[int, NodePair], load_old: Loader, load_new: Loader, *, limit: int = MAX_LOADED
) -> TreeChanges:
    """Return the nodes and buckets to compare, given those nodes of BTrees whose records changed.

    The loaders return a record of the earlier and of the later state, None where there is none.
    """
    named = {child for pair in changed.values() for side in (pair.old, pair.new) for child in children(side)}
    tops = [oid for oid in changed if oid not in named]
    while True:
        old = _Walk({oid: pair.old for oid, pair in changed.items()}, load_old, tops, limit)
        new = _Walk({oid: pair.new for oid, pair in changed.items()}, load_new, tops, limit)
        while old.open(new) | new.open(old):
            pass
        # A changed node below an unchanged one that was dropped is no top: it is reached from above after all.
        left = [oid for oid in tops if oid not in old.below and oid not in new.below]
        if len(left) == len(tops):
            break
        tops = left
    pairs: dict[int, list[NodePair]] = {oid: [changed[oid]] for oid in tops}
    for oid, top in (old.below | new.below).items():
        in_old, in_new = oid in old.below, oid in new.below
        if oid in changed or in_old != in_new:
            pair = NodePair(oid, old.record(oid) if in_old else None, new.record(oid) if in_new else None)
            pairs[top].append(pair)
    # Nodes that lead to each other in a ring have no top; that is damage, but no reason to hide them.
    for oid in changed.keys() - old.below.keys() - new.below.keys() - pairs.keys():
        pairs[oid] = [changed[oid]]
    return TreeChanges(pairs, old.partial or new.partial)


def children(record: Record | None) -> Iterator[int]:
    """Yield the oids of the nodes or buckets that a node of a BTree leads to; nothing for any other record."""
    state = node_state(record)
    if isinstance(state, TreeState):
        yield from (child.oid for child in state.children)


def node_state(record: Record | None) -> TreeState | BucketState | None:
    """Return the state of a BTree's node or bucket, None for any other record."""
    kind = None if record is None else record_tree(record)
    if kind is None or record is None:
        return None
    try:
        return read_tree_state(kind, record.state)
    except TreeStateError:
        return None


class _Walk:
    """One state of the trees: ``below`` holds what is reached from a top, with that top."""

    def __init__(self, changed: dict[int, Record | None], load: Loader, tops: list[int], limit: int) -> None:
        self.below: dict[int, int] = {}
        self.partial = False
        self._changed = changed
        self._load = load
        self._left = limit
        self._opened: dict[int, Record | None] = {}
        for top in tops:
            self._reach(changed[top], top)

    def record(self, oid: int) -> Record | None:
        """Return the record of what was reached."""
        return self._changed[oid] if oid in self._changed else self._opened.get(oid)

    def open(self, other: _Walk) -> bool:
        """Open what only this state reaches; False where nothing is left to open."""
        waiting = [
            oid for oid in self.below if oid not in other.below and oid not in self._opened and oid not in self._changed
        ]
        for oid in waiting:
            self.partial |= self._left == 0
            self._opened[oid] = record = self._load(oid) if self._left else None
            self._left = max(self._left - 1, 0)
            self._reach(record, self.below[oid])
        return bool(waiting)

    def _reach(self, record: Record | None, top: int) -> None:
        """Note what a node leads to, through changed records."""
        waiting = [record]
        while waiting:
            found = [child for child in children(waiting.pop()) if child not in self.below]
            self.below.update(dict.fromkeys(found, top))
            waiting.extend(self._changed[child] for child in reversed(found) if child in self._changed)
