"""The distinct ways from the root to an object, shortest first, as Python would write them.

The search goes backwards from the object over the references turned around, best first. How far the root is from each
object is a lower bound of what is left (exact but for BTrees, where the chain of buckets and the pointer to the first
one are short cuts that no way takes), so ways come out in the order of their length: the number of records on them.
Source: Hart, Nilsson, Raphael (1968), over ways without loops.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from itertools import count as counter
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.paths import MAX_WAY, Place, Spot, extend
from zodbsh.analysis.records import BrokenRecord, read_record
from zodbsh.errors import ObjectNotFound
from zodbsh.ids import ROOT_OID, oid_text
from zodbsh.record.shape import INTERNAL, edges, tree_children

if TYPE_CHECKING:
    from zodbsh.analysis.graph import ObjectGraph
    from zodbsh.source.snapshot import Snapshot

DEFAULT_BUDGET = 20_000
"""How many references a search follows back."""

_MAX_STEPS = 1_000
_KEPT_RECORDS = 256


class Ways(NamedTuple):
    """The ways that were found, as places; ``complete`` tells that these are all, or as many as were asked for.

    A path starts at an oid where no path says how that object is reached: by a reference within a key, or by more steps
    than anybody reads.
    """

    places: tuple[Place, ...]
    complete: bool


class _Chain(NamedTuple):
    """A way from an object to the target: the object, how many references it takes, and what comes after it.

    ``nearest`` is the smallest distance from the root among its objects.
    """

    number: int
    length: int
    nearest: int
    after: _Chain | None

    def holds(self, number: int) -> bool:
        """Tell whether the way passes an object."""
        link: _Chain | None = self
        while link is not None:
            if link.number == number:
                return True
            link = link.after
        return False


def ways_to(graph: ObjectGraph, oid: int, count: int = 1, *, budget: int = DEFAULT_BUDGET) -> Ways:
    """Return at most ``count`` ways from the root to an object that the root reaches; different ones differ as text.

    Ways that can be written from the root on come first.
    """
    whole: dict[Place, None] = {}
    partial: dict[Place, None] = {}
    # The first way is the path that an object has everywhere else.
    place = graph.place(oid)
    if place is not None:
        (whole if _is_whole(place) else partial)[place] = None
    if len(whole) >= count:
        return Ways(tuple(whole), complete=True)
    number = graph.columns.find(oid)
    assert number is not None
    search = _Search(graph, number, budget)
    steps = Steps(graph.snapshot)
    for chain in search:
        for place in texts(graph.snapshot, steps, chain, limit=count + 1):
            (whole if _is_whole(place) else partial)[place] = None
        if len(whole) >= count:
            break
        if len(partial) > count + MAX_WAY:
            search.exhausted = True
            break
    else:
        found = tuple(whole) + tuple(partial)
        return Ways(found[:count], complete=not search.exhausted)
    found = tuple(whole) + tuple(partial)
    return Ways(found[:count], complete=len(whole) >= count)


def texts(snapshot: Snapshot, steps: Steps, oids: Sequence[int], *, limit: int) -> Iterator[Place]:
    """Yield at most ``limit`` paths for a way through the given objects, one for each choice of references.

    Where a step cannot be written, the path starts anew at the oid behind it; so does one of a way that is too long.
    """
    oids = oids[-MAX_WAY - 1 :]
    stack = [(0, Spot(Place("root" if oids[0] == ROOT_OID else oid_text(oids[0])), oids[0]))]
    while stack and limit > 0:
        index, spot = stack.pop()
        if index == len(oids) - 1:
            limit -= 1
            yield spot.place
            continue
        parent, child = oids[index : index + 2]
        following = [extend(snapshot, spot, child, step) for step in steps.between(parent, child)[:limit]]
        written = [(index + 1, other) for other in following if other is not None]
        stack += reversed(written or [(index + 1, Spot(Place(oid_text(child)), child))])


def _is_whole(place: Place) -> bool:
    return place.path.startswith("root")


class Steps:
    """The steps from object to object that keep alive: no weak reference, of a BTree only the children."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._known: OrderedDict[int, dict[int, list[str]]] = OrderedDict()

    def between(self, parent: int, child: int) -> list[str]:
        """Return the steps from an object to another, the shortest first."""
        if parent not in self._known:
            self._known[parent] = self._read(parent)
            if len(self._known) > _KEPT_RECORDS:
                self._known.popitem(last=False)
        return self._known[parent].get(child, [])

    def _read(self, parent: int) -> dict[int, list[str]]:
        try:
            record = read_record(self._snapshot, parent)
        except (BrokenRecord, ObjectNotFound):
            return {}
        children = tree_children(record)
        found: dict[int, dict[str, None]] = {}
        for step, ref in edges(record):
            if ref.weak or ref.database is not None:
                continue
            if step == INTERNAL and children is not None and ref.oid not in children:
                continue
            steps = found.setdefault(ref.oid, {})
            if len(steps) < _MAX_STEPS:
                steps[step] = None
        return {oid: sorted(steps, key=lambda step: (len(step), step)) for oid, steps in found.items()}


class _Search:
    """Yields the ways to an object as oids from the root on, shortest first, until ``budget`` references are followed.

    ``exhausted`` tells then that there may be more.
    """

    def __init__(self, graph: ObjectGraph, target: int, budget: int) -> None:
        self.exhausted = False
        self._graph = graph
        self._target = target
        self._left = budget
        self._steps = Steps(graph.snapshot)

    def __iter__(self) -> Iterator[list[int]]:
        graph, oids = self._graph, self._graph.columns.oids
        order = counter()
        # Each entry: the length that the way has at least, then the chain behind, who refers to its head, and which of
        # those is next: of many referrers only the nearest are looked at.
        heap: list[tuple[int, int, _Chain, list[int], int]] = []

        def push(chain: _Chain, sources: list[int], index: int) -> None:
            if index < len(sources):
                length = chain.length + 1 + graph.distance(sources[index])
                heapq.heappush(heap, (length, next(order), chain, sources, index))

        start = _Chain(self._target, 0, graph.distance(self._target), None)
        if self._target == graph.root:
            yield [ROOT_OID]
            return
        push(start, self._sources(self._target), 0)
        while heap:
            if self._left <= 0:
                self.exhausted = True
                return
            self._left -= 1
            _, _, chain, sources, index = heapq.heappop(heap)
            push(chain, sources, index + 1)
            source = sources[index]
            distance = graph.distance(source)
            # A chain that comes nearer with every object has no loop.
            if distance >= chain.nearest and chain.holds(source):
                continue
            if not self._steps.between(oids[source], oids[chain.number]):
                continue
            longer = _Chain(source, chain.length + 1, min(distance, chain.nearest), chain)
            if source == graph.root:
                yield list(self._oids(longer))
            else:
                push(longer, self._sources(source), 0)

    def _sources(self, number: int) -> list[int]:
        """Return the reachable objects that keep an object alive, nearest first."""
        graph = self._graph
        _ = graph.turned
        found = [source for source, weak in graph.referrers(number) if not weak and graph.is_reachable(source)]
        return sorted(found, key=graph.distance)

    def _oids(self, chain: _Chain) -> Iterator[int]:
        link: _Chain | None = chain
        while link is not None:
            yield self._graph.columns.oids[link.number]
            link = link.after
