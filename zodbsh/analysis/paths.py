"""By which path an object lives: a budgeted walk from the root, breadth first, over decoded records.

Every path that is given has been followed back: pasted as a TARGET it leads to that very object.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from zodbsh.analysis.target import resolve
from zodbsh.errors import ZodbshError
from zodbsh.ids import ROOT_OID, oid_text
from zodbsh.record.decode import RecordError
from zodbsh.record.shape import INTERNAL, edges
from zodbsh.source.snapshot import Snapshot

DEFAULT_BUDGET = 20_000
"""How many objects a walk looks at by default; two or three seconds' worth."""

_KEPT_STEPS = 64


class Place(NamedTuple):
    """Where an object is.

    ``path`` leads to it; ``internal`` means that it is a node or a bucket of the BTree that ``path`` leads to, and has
    no path of its own.
    """

    path: str
    internal: bool = False


def paths_of(snapshot: Snapshot, oids: Iterable[int], *, budget: int = DEFAULT_BUDGET) -> dict[int, str]:
    """Return the shortest path from the root to each object that has one, as text that can be used as a TARGET.

    What is not reached within ``budget`` objects is left out, as is what has no path of its own: the inner nodes and
    buckets of BTrees. Below what cannot be written as a path (a reference within a key) a path starts at an oid.
    """
    return {oid: place.path for oid, place in places_of(snapshot, oids, budget=budget).items() if not place.internal}


def places_of(snapshot: Snapshot, oids: Iterable[int], *, budget: int = DEFAULT_BUDGET) -> dict[int, Place]:
    """Return where each object is; a BTree's nodes and buckets are given with the path of their tree."""
    return PathFinder(snapshot, budget).places(oids)


class PathFinder:
    """A walk that can go on: what one question has walked is not walked again for the next."""

    def __init__(self, snapshot: Snapshot, budget: int = DEFAULT_BUDGET) -> None:
        self._snapshot = snapshot
        self._left = budget
        self._parents: dict[int, int] = {ROOT_OID: ROOT_OID}
        self._waiting: deque[int] = deque((ROOT_OID,))
        self._places: dict[int, Place | None] = {ROOT_OID: Place("root")}
        self._steps: dict[int, dict[int, str]] = {}

    def places(self, oids: Iterable[int]) -> dict[int, Place]:
        """Return where each of the objects is; what is not found is left out."""
        oids = list(oids)
        self._walk(set(oids))
        found = ((oid, self._place(oid)) for oid in oids if oid in self._parents)
        return {oid: place for oid, place in found if place is not None}

    def _walk(self, wanted: set[int]) -> None:
        """Go on until all that is wanted is met, or nothing is left to look at, or to spend."""
        missing = wanted - self._parents.keys()
        while missing and self._waiting and self._left > 0:
            parent = self._waiting.popleft()
            self._left -= 1
            try:
                references = self._snapshot.record(parent).references
            except (ZodbshError, RecordError):
                continue  # whoever asks for a path does not ask what is broken elsewhere
            for ref in references:
                if ref.oid not in self._parents and ref.database is None and not ref.weak:
                    self._parents[ref.oid] = parent
                    self._waiting.append(ref.oid)
                    missing.discard(ref.oid)

    def _place(self, oid: int) -> Place | None:
        """Return where an object that the walk has met is; None where no path leads there."""
        way = [oid]
        while way[-1] not in self._places:
            way.append(self._parents[way[-1]])
        for parent, child in zip(reversed(way), way[-2::-1], strict=False):
            self._places[child] = self._extend(parent, child)
        return self._places[oid]

    def _extend(self, parent: int, child: int) -> Place | None:
        before = self._places[parent] or Place(oid_text(parent))
        step = self._steps_of(parent).get(child)
        if step is None:
            return None
        if step == INTERNAL:
            return Place(before.path, internal=True)
        path = before.path + step
        if parent == ROOT_OID:
            path = self._root_path(path)
        return Place(path) if self._leads_to(path, child) else None

    def _steps_of(self, parent: int) -> dict[int, str]:
        """Return the shortest step to each object that a record refers to."""
        if parent not in self._steps:
            if len(self._steps) >= _KEPT_STEPS:
                self._steps.clear()
            steps: dict[int, str] = {}
            for step, ref in edges(self._snapshot.record(parent)):
                if ref.database is None and not ref.weak and len(step) < len(steps.get(ref.oid, step + "_")):
                    steps[ref.oid] = step
            self._steps[parent] = steps
        return self._steps[parent]

    def _root_path(self, path: str) -> str:
        """Return a path whose first step is a key of the root object as it is shown: an attribute where it can be."""
        try:
            return resolve(self._snapshot, path).path
        except ZodbshError:
            return path

    def _leads_to(self, path: str, oid: int) -> bool:
        try:
            found = resolve(self._snapshot, path)
        except ZodbshError:
            return False
        return found.oid == oid and not found.embedded
