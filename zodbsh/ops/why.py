"""``zodbsh why``: the ways by which an object lives, or the island of garbage that it is part of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.graph import ObjectGraph
from zodbsh.analysis.island import Island, island_of
from zodbsh.analysis.lookup import kind_text
from zodbsh.analysis.target import parse_target, resolve, trace
from zodbsh.analysis.ways import DEFAULT_BUDGET, ways_to
from zodbsh.errors import ObjectNotFound
from zodbsh.ids import oid_text, tid_text
from zodbsh.progress import SILENT, Progress

if TYPE_CHECKING:
    from zodbsh.source.snapshot import Snapshot

ISLAND_LIMIT = 20
"""How many objects of a top are listed."""


class Way(NamedTuple):
    """A way to the target as text: ``part_of`` where it leads to the BTree that the target is a node or bucket of.

    ``whole`` is False where it starts at an oid, because no path says how that object is reached.
    """

    path: str
    part_of: bool
    whole: bool


class WhyResult(NamedTuple):
    """Why a target lives: ``ways``, all or as many as were asked for where ``complete``; or its ``island``.

    ``oid`` is the record that the target is, or (``embedded``) lies in; ``has_root`` tells whether the database has a
    root object at this time.
    """

    oid: int
    path: str
    class_: str
    embedded: bool
    ways: tuple[Way, ...]
    complete: bool
    island: Island | None
    has_root: bool

    @property
    def reachable(self) -> bool:
        """Whether the root reaches it."""
        return self.island is None


def why(
    snapshot: Snapshot, target: str, *, count: int = 1, budget: int = DEFAULT_BUDGET, limit: int = ISLAND_LIMIT,
    progress: Progress = SILENT,
) -> WhyResult:  # fmt: skip
    """Return at most ``count`` ways from the root to a target; of garbage its island.

    A value that lies in a record has the ways to its object. Raises ObjectNotFound, which says who refers to what does
    not exist, and what ``zodbsh.analysis.target.resolve`` raises on the way there.
    """
    parsed = parse_target(target)
    way = trace(snapshot, parsed)
    value = resolve(snapshot, parsed) if way.inside else None
    graph = ObjectGraph.read(snapshot, progress=progress)
    number = graph.columns.find(way.owner)
    if number is None or not graph.columns.exists(number):
        raise _missing(graph, way.owner, number)
    inside = "".join(way.inside)
    class_ = kind_text(value.value) if value is not None else graph.columns.class_name(number) or ""
    shown = WhyResult(
        way.oid, way.path, class_, value is not None, (), complete=True, island=None, has_root=graph.root is not None
    )
    if not graph.is_reachable(number):
        return shown._replace(island=island_of(graph, number, limit=limit))
    found = ways_to(graph, way.owner, count, budget=budget)
    ways = tuple(
        Way(place.path + inside, place.internal and not inside, place.path.startswith("root")) for place in found.places
    )
    return shown._replace(ways=ways, complete=found.complete)


def _missing(graph: ObjectGraph, oid: int, number: int | None) -> ObjectNotFound:
    referrers = [] if number is None else graph.referrers(number)
    when = tid_text(graph.snapshot.tid)
    if not referrers:
        return ObjectNotFound(f"no object {oid_text(oid)} at {when}, and nothing refers to it")
    first = ", ".join(sorted({graph.path(graph.columns.oids[source]) for source, _ in referrers[:3]}))
    more = f" and {len(referrers) - 3:,} more" if len(referrers) > 3 else ""
    return ObjectNotFound(
        f"no object {oid_text(oid)} at {when}, though {first}{more} refer{'s' if len(referrers) == 1 else ''} to it",
        hint=f"`zodbsh refs DATABASE {oid_text(oid)}` lists who refers to it, and by what.",
    )
