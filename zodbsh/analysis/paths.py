"""By which path an object lives: a budgeted walk from the root, breadth first, over decoded records.

Every path that is given has been followed back: pasted as a TARGET it leads to that very object.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from zodbsh.analysis.literal import MAX_TARGET
from zodbsh.analysis.target import resolve
from zodbsh.errors import ZodbshError
from zodbsh.ids import ROOT_OID, oid_text
from zodbsh.record.decode import RecordError
from zodbsh.record.shape import INTERNAL, edges
from zodbsh.source.snapshot import Snapshot

DEFAULT_BUDGET = 20_000
"""How many objects a walk looks at by default; two or three seconds' worth."""

MAX_WAY = 200
"""Through how many objects a path leads at most; beyond, it starts at an oid."""

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


class Places:
    """Where objects are, given for each the object before it on its way from the root."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._places: dict[int, Spot | None] = {ROOT_OID: Spot(Place("root"), ROOT_OID)}
        self._steps: dict[int, dict[int, str]] = {}

    def parent_of(self, oid: int) -> int | None:
        """Return the object before ``oid`` on a way from the root, None where there is no way."""
        raise NotImplementedError

    def place(self, oid: int) -> Place | None:
        """Return where an object is; None where no path leads there."""
        way = [oid]
        while way[-1] not in self._places and len(way) <= MAX_WAY:
            parent = self.parent_of(way[-1])
            if parent is None:
                return None
            way.append(parent)
        # Nobody reads a longer path: it starts at an oid.
        spot = self._places.get(way[-1])
        for parent, child in zip(reversed(way), way[-2::-1], strict=False):
            before = spot or Spot(Place(oid_text(parent)), parent)
            step = self._steps_of(parent).get(child)
            spot = None if step is None else extend(self._snapshot, before, child, step)
            if len(way) <= MAX_WAY:
                self._places[child] = spot
        return None if spot is None else spot.place

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


class Spot(NamedTuple):
    """A place and the object that its path leads to: the object itself, or the tree that it is part of."""

    place: Place
    holder: int


def extend(snapshot: Snapshot, before: Spot, child: int, step: str) -> Spot | None:
    """Return where ``child`` is, to which ``step`` leads from the object at ``before``; None where no path says so.

    The step has been taken, from the object that the path before it leads to.
    """
    path = before.place.path
    if step == INTERNAL:
        return Spot(Place(path, internal=True), before.holder)
    if len(path) + len(step) > MAX_TARGET:
        return None
    try:
        found = resolve(snapshot, ("root" if path == "root" else oid_text(before.holder)) + step)
    except ZodbshError:
        return None
    if found.oid != child or found.embedded:
        return None
    # What the root holds is written as an attribute where it can be.
    return Spot(Place(found.path if path == "root" else path + step), child)


class PathFinder(Places):
    """A walk that can go on: what one question has walked is not walked again for the next."""

    def __init__(self, snapshot: Snapshot, budget: int = DEFAULT_BUDGET) -> None:
        super().__init__(snapshot)
        self._left = budget
        self._parents: dict[int, int] = {ROOT_OID: ROOT_OID}
        self._waiting: deque[int] = deque((ROOT_OID,))

    def parent_of(self, oid: int) -> int | None:
        """Return the object from which the walk first met this one."""
        return self._parents.get(oid)

    def places(self, oids: Iterable[int]) -> dict[int, Place]:
        """Return where each of the objects is; what is not found is left out."""
        oids = list(oids)
        self._walk(set(oids))
        found = ((oid, self.place(oid)) for oid in oids if oid in self._parents)
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
