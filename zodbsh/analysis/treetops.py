"""Which BTrees a snapshot holds: the objects that are the top of one."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from zodbsh.engine import chosen
from zodbsh.engine.columns import NONE
from zodbsh.errors import ObjectNotFound
from zodbsh.filestorage.damage import FramingDamage
from zodbsh.record.btrees import TreeState, TreeStateError, read_tree_state, record_tree, tree_kind
from zodbsh.record.decode import RecordError
from zodbsh.record.values import Dict, Global

if TYPE_CHECKING:
    from zodbsh.analysis.graph import ObjectGraph
    from zodbsh.record.btrees import TreeKind
    from zodbsh.record.values import Record


class TreeTops:
    """The trees of a snapshot, found by the classes of objects, and by a look at some records.

    ``nodes`` lists (by number) every object of a class that is a tree's, or a subclass of one; ``buckets`` those of a
    bucket's or a set's class. ``kinds`` has what each class is by its name, by class number.
    """

    def __init__(self, graph: ObjectGraph) -> None:
        self._snapshot = graph.snapshot
        self._columns = columns = graph.columns
        self.kinds = kinds = [tree_kind(_class(name)) for name in columns.class_names]
        tree_classes = bytearray(kind is not None and kind.is_tree for kind in kinds)
        bucket_classes = bytearray(kind is not None and not kind.is_tree for kind in kinds)
        groups: dict[TreeKind, int] = {}
        self._groups = array(
            "I",
            (groups.setdefault(kind, len(groups)) if kind is not None and kind.is_tree else NONE for kind in kinds),
        )
        for class_ in self._subclasses(bytearray(kind is None for kind in kinds), bucket_classes):
            tree_classes[class_] = 1
            self._groups[class_] = len(groups) + class_
        self.nodes = chosen.of_classes(columns.classes, tree_classes)
        self.buckets = chosen.of_classes(columns.classes, bucket_classes)

    def numbers(self, taken: Callable[[int], bool]) -> Iterator[int]:
        """Yield the number of each top: trees first, then the buckets and sets that are part of no tree.

        ``taken`` tells whether an object is part of a tree already: whoever is given a top walks its tree before the
        next one. A tree that is its own child, by whatever way, is given by one of its nodes.
        """
        columns = self._columns
        # Nearly all tops are told by columns alone: no tree of the same class refers to them.
        below = chosen.within_groups(columns.classes, columns.starts, columns.counts, columns.targets, self._groups)
        yield from (number for number in self.nodes if not below[number])
        # What is left is a value in a tree of its own kind, or part of a cycle.
        left = [number for number in self.nodes if not taken(number)]
        children = {child for number in left for child in self._children(number)}
        yield from (number for number in left if number not in children)
        yield from (number for number in left if not taken(number))
        yield from (number for number in self.buckets if not taken(number))

    def _subclasses(self, sources: bytearray, buckets: bytearray) -> Iterator[int]:
        """Yield the classes, unknown by their names, of objects that are trees by their states."""
        columns = self._columns
        told: dict[int, bool] = {}
        for number in chosen.referring_to_classes(
            columns.classes, columns.starts, columns.counts, columns.targets, sources, buckets
        ):
            class_ = columns.classes[number]
            if class_ in told or (record := self._record(number)) is None:
                continue
            if record_tree(record) is not None:
                told[class_] = True
                yield class_
            elif _has_attributes(record):
                # A class whose state is a dict is no tree's: no need to look at another one.
                told[class_] = False

    def _children(self, number: int) -> Iterator[int]:
        record = self._record(number)
        kind = None if record is None else record_tree(record)
        if record is None or kind is None or not kind.is_tree:
            return
        try:
            state = read_tree_state(kind, record.state)
        except TreeStateError:
            return
        if isinstance(state, TreeState):
            for child in state.children:
                found = self._columns.find(child.oid)
                if found is not None:
                    yield found

    def _record(self, number: int) -> Record | None:
        try:
            return self._snapshot.record(self._columns.oids[number])
        except (ObjectNotFound, RecordError, FramingDamage):
            return None


def _class(name: str) -> Global:
    module, _, last = name.rpartition(".")
    return Global(module, last)


def _has_attributes(record: Record) -> bool:
    state = record.state
    return isinstance(state, Dict) or (type(state) is tuple and len(state) == 2 and isinstance(state[1], Dict))
