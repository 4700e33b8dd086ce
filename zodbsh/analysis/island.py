"""Garbage: the island that an object the root does not reach is part of, and its tops.

A top is what nothing else in the garbage refers to: an object, or several that refer to each other in a circle. In the
words of graphs, a source among the strongly connected components.
"""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.graph import numbers
from zodbsh.analysis.ways import Steps, texts
from zodbsh.engine import chosen
from zodbsh.engine.columns import NONE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zodbsh.analysis.graph import ObjectGraph
    from zodbsh.engine.columns import Column

MAX_TOPS = 10
"""How many tops are looked for."""


class Member(NamedTuple):
    """An object of a top: its oid, class and size."""

    oid: int
    class_: str
    bytes: int


class Top(NamedTuple):
    """One top: some of its objects, how many more there are, and the path from it to the target."""

    members: tuple[Member, ...]
    more: int
    path: str


class Island(NamedTuple):
    """The garbage around an object: its tops, and what they reach of the garbage.

    ``more_tops`` tells that there are further tops.
    """

    tops: tuple[Top, ...]
    more_tops: bool
    objects: int
    bytes: int


def island_of(graph: ObjectGraph, number: int, *, limit: int | None = None) -> Island:
    """Return the island of an object that the root does not reach; of each top at most ``limit`` objects."""
    columns = graph.columns
    component = chosen.components(
        columns.classes, columns.starts, columns.counts, columns.targets, graph.reached.parents
    )
    # Nothing alive refers to garbage, so whatever reaches it is garbage, too.
    waiting: Iterable[int] = numbers(graph.ancestors(number).order)
    tops: list[Top] = []
    everything: list[int] = []
    while (ancestors := list(waiting)) and len(tops) < MAX_TOPS:
        # No reference leads to a higher component: nothing refers to the highest but what it holds.
        own = list(map(numbers(component).__getitem__, ancestors))
        highest = max(own)
        members = list(compress(ancestors, map(highest.__eq__, own)))
        reached = chosen.reach(columns.classes, columns.starts, columns.counts, columns.targets, members)
        everything += members
        tops.append(_top(graph, members, reached.parents, number, limit))
        waiting = compress(ancestors, map(NONE.__eq__, map(numbers(reached.parents).__getitem__, ancestors)))
    whole = numbers(chosen.reach(columns.classes, columns.starts, columns.counts, columns.targets, everything).order)
    dead = list(compress(whole, map(NONE.__eq__, map(numbers(graph.reached.parents).__getitem__, whole))))
    return Island(tuple(tops), bool(ancestors), len(dead), sum(map(numbers(columns.sizes).__getitem__, dead)))


def _top(graph: ObjectGraph, members: list[int], parents: Column, target: int, limit: int | None) -> Top:
    columns = graph.columns
    way = [target]
    while parents[way[-1]] != way[-1]:
        way.append(parents[way[-1]])
    oids = [columns.oids[number] for number in reversed(way)]
    path = next(texts(graph.snapshot, Steps(graph.snapshot), oids, limit=1)).path
    shown = tuple(
        Member(columns.oids[number], columns.class_name(number) or "", columns.sizes[number])
        for number in members[:limit]
    )
    return Top(shown, len(members) - len(shown), path)
