"""The objects of a snapshot and their references, as a graph that questions are asked of."""

from __future__ import annotations

from array import array
from functools import cached_property
from operator import sub
from typing import TYPE_CHECKING

from zodbsh.analysis.paths import Place, Places
from zodbsh.engine import chosen
from zodbsh.engine.columns import NONE, WEAK, Options
from zodbsh.ids import ROOT_OID, oid_text
from zodbsh.progress import SILENT, Progress

if TYPE_CHECKING:
    from zodbsh.engine.columns import Column, Columns
    from zodbsh.engine.graph import Reach, Retained, Reverse
    from zodbsh.source.snapshot import Snapshot


class ObjectGraph(Places):
    """A snapshot with its columns.

    Numbers are dense (`Columns`); oids and paths stand at the border. What a
    question needs is worked out when it is first asked.
    """

    def __init__(self, snapshot: Snapshot, columns: Columns) -> None:
        super().__init__(snapshot)
        self.snapshot = snapshot
        self.columns = columns
        self._distances: dict[int, int] = {}

    @classmethod
    def read(cls, snapshot: Snapshot, *, progress: Progress = SILENT) -> ObjectGraph:
        """Read the graph of a snapshot. Raises what ``Source.columns`` raises."""
        return cls(snapshot, snapshot.source.columns(snapshot.tid, options=Options(), progress=progress))

    @cached_property
    def root(self) -> int | None:
        """The root's number, None where there is no root object."""
        number = self.columns.find(ROOT_OID)
        return number if number is not None and self.columns.exists(number) else None

    @cached_property
    def reached(self) -> Reach:
        """What the root reaches."""
        columns = self.columns
        roots = () if self.root is None else (self.root,)
        return chosen.reach(columns.classes, columns.starts, columns.counts, columns.targets, roots)

    @cached_property
    def turned(self) -> Reverse:
        """Every reference turned around."""
        return chosen.reverse(self.columns.starts, self.columns.counts, self.columns.targets)

    @cached_property
    def dominators(self) -> Column:
        """For each object the last one that every way from the root to it passes."""
        columns = self.columns
        assert self.root is not None
        return chosen.dominators(columns.classes, columns.starts, columns.counts, columns.targets, self.root)

    def is_reachable(self, number: int) -> bool:
        """Tell whether the root reaches an object."""
        return self.reached.parents[number] != NONE

    def referrers(self, number: int) -> list[tuple[int, bool]]:
        """Return who refers to an object (or to what does not exist), each once, with whether only weakly."""
        found: dict[int, bool] = {}
        columns = self.columns
        if "turned" in self.__dict__:
            starts = self.turned.starts
            sources = numbers(self.turned.sources)[starts[number] : starts[number + 1]]
        else:
            sources = numbers(chosen.referrers(columns.starts, columns.counts, columns.targets, number))
        for source in sources:
            found[source & ~WEAK] = found.get(source & ~WEAK, True) and source >= WEAK
        return list(found.items())

    def distance(self, number: int) -> int:
        """Return through how many references the root reaches an object, at the fewest; it has to be reachable."""
        parents, known = self.reached.parents, self._distances
        way = []
        while number not in known:
            parent = parents[number]
            if parent == number:
                known[number] = 0
                break
            way.append(number)
            number = parent
        distance = known[number]
        for member in reversed(way):
            distance += 1
            known[member] = distance
        return distance

    def ancestors(self, number: int) -> Reach:
        """Return what reaches an object, nearest first, the object itself included."""
        starts = numbers(self.turned.starts)
        counts = array("I", map(sub, starts[1:], starts))
        return chosen.reach(self.columns.classes, starts, counts, self.turned.sources, (number,))

    def parent_of(self, oid: int) -> int | None:
        """Return the object before this one on a shortest way from the root."""
        number = self.columns.find(oid)
        if number is None or not self.is_reachable(number):
            return None
        return self.columns.oids[self.reached.parents[number]]

    def path(self, oid: int) -> str:
        """Return an object's path (of its tree, where it is part of a BTree), or its oid where no path leads there."""
        place = self.place(oid)
        return oid_text(oid) if place is None else place.path

    def retained(self, sizes: Column | None = None) -> Retained:
        """Return what would go with each object; ``sizes`` by number, the records' data unless given."""
        return chosen.retained(self.reached.order, self.dominators, self.columns.sizes if sizes is None else sizes)


def numbers(column: Column) -> memoryview[int]:
    """Return a column as what can be sliced and walked through."""
    return memoryview(column)  # type: ignore[arg-type]


__all__ = ["ObjectGraph", "Place", "numbers"]
