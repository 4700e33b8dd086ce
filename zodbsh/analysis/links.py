"""What an object refers to, and what refers to it, level by level.

A BTree's nodes and buckets are part of the tree. On the way out they are seen through: a tree refers to its values, and
to its own nodes. On the way in, who refers to the tree counts as referring to its buckets, from the second level on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.records import BrokenRecord, read_record
from zodbsh.analysis.target import resolve
from zodbsh.errors import ObjectNotFound, ZodbshError
from zodbsh.ids import ROOT_OID, oid_text
from zodbsh.record.decode import class_text
from zodbsh.record.shape import INTERNAL, edges, tree_children
from zodbsh.record.values import Ref

if TYPE_CHECKING:
    from zodbsh.analysis.graph import ObjectGraph
    from zodbsh.record.values import Record

MAX_EXPANDED = 20_000
"""How many records are opened at most for one question."""


class Link(NamedTuple):
    """The object at the other end of a reference.

    ``via`` is the step that holds the reference, behind the path of the object that refers: "" where it is a BTree's to
    its own nodes. ``class_`` is None, and ``exists`` False, for what does not exist; ``exists`` is None in another
    ``database``. ``path`` is that of the tree for a node or a bucket (``part_of``). ``level`` counts from 1;
    ``through`` is the object one level nearer.
    """

    oid: int
    class_: str | None
    path: str
    part_of: bool
    via: str
    level: int
    through: int
    weak: bool = False
    database: str | None = None
    exists: bool | None = True


class Links(NamedTuple):
    """The links of one direction; ``more`` counts what was left out, exactly where ``counted``."""

    found: tuple[Link, ...] = ()
    more: int = 0
    counted: bool = True


class _Stop(NamedTuple):
    """A record whose references are to be looked at, for the object ``through`` at ``level``."""

    oid: int
    through: int
    level: int


def links_out(
    graph: ObjectGraph, oid: int, first: Iterable[tuple[str, Ref]] | None, *, depth: int, limit: int | None
) -> Links:
    """Return what an object refers to, ``depth`` levels deep; ``first`` are the references to start with, if not all.

    At most ``limit`` links are returned, and as many to a tree's own nodes. Raises BrokenRecord for the object itself.
    """
    walk = _Walk(graph, limit)
    waiting = deque((_Stop(oid, oid, 0),))
    known = {oid}
    while waiting and walk.goes_on():
        stop = waiting.popleft()
        record = walk.record(stop.oid, needed=stop.oid == oid)
        if record is None:
            continue
        steps = first if first is not None and stop.oid == oid else edges(record)
        children = tree_children(record)
        inside: list[_Stop] = []
        for step, ref in steps:
            if step == INTERNAL and children is not None and ref.database is None:
                if stop.oid == oid:
                    walk.add_node(_link_to(graph, ref, step, stop))
                if ref.oid in children and ref.oid not in known:
                    known.add(ref.oid)
                    inside.append(stop._replace(oid=ref.oid))
                continue
            if not walk.has_room():
                walk.more += 1
                continue
            link = _link_to(graph, ref, _shown(graph, stop.oid, step), stop)
            walk.add(link)
            if link.exists and not ref.weak and link.level < depth and ref.oid not in known:
                known.add(ref.oid)
                waiting.append(_Stop(ref.oid, ref.oid, link.level))
        waiting.extendleft(reversed(inside))
    return walk.result(finished=not waiting)


def links_in(graph: ObjectGraph, oid: int, holder: Link | None = None, *, depth: int, limit: int | None) -> Links:
    """Return what refers to an object, which need not exist, ``depth`` levels deep.

    With ``holder``, start with that: it holds the value in question.
    """
    if depth > 1:
        _ = graph.turned  # one look at all references serves every level
    walk = _Walk(graph, limit)
    waiting = deque((_Stop(oid, oid, 0),))
    known = {oid}
    if holder is not None:
        walk.add(holder)
        waiting = deque((_Stop(holder.oid, holder.oid, 1),) if depth > 1 else ())
        known = {holder.oid}
    while waiting and walk.goes_on():
        stop = waiting.popleft()
        number = graph.columns.find(stop.oid)
        sources = [] if number is None else sorted(graph.referrers(number))
        for place, (source, weakly) in enumerate(sources):
            if not walk.has_room():
                walk.more += len(sources) - place
                break
            referrer = graph.columns.oids[source]
            record = walk.record(referrer)
            strong = False
            for step, weak in _steps_to(record, stop.oid):
                if step == INTERNAL and stop.level > 0:
                    if referrer not in known and _is_child(record, stop.oid):
                        known.add(referrer)
                        waiting.appendleft(stop._replace(oid=referrer))
                    continue
                strong = strong or not weak
                if walk.has_room():
                    walk.add(_link_from(graph, source, _shown(graph, referrer, step), weak, stop))
                else:
                    walk.more += 1
            if record is None and walk.has_room():
                walk.add(_link_from(graph, source, "", weakly, stop))
            if strong and stop.level + 1 < depth and referrer not in known:
                known.add(referrer)
                waiting.append(_Stop(referrer, referrer, stop.level + 1))
    return walk.result(finished=not waiting)


class _Walk:
    """What was found, within the limits."""

    def __init__(self, graph: ObjectGraph, limit: int | None) -> None:
        self.more = 0
        self._graph = graph
        self._limit = limit
        self._left = MAX_EXPANDED if limit is not None else 1 << 40
        self._begun = False
        self._found: list[Link] = []
        self._nodes: dict[int, Link] = {}

    def has_room(self) -> bool:
        return self._limit is None or len(self._found) < self._limit

    def goes_on(self) -> bool:
        """Tell whether another object is looked at; the first one is, to count what it has."""
        begun, self._begun = self._begun, True
        return not begun or (self.has_room() and self._left > 0)

    def add(self, link: Link) -> None:
        self._found.append(link)

    def add_node(self, link: Link) -> None:
        if link.oid not in self._nodes:
            if self._limit is None or len(self._nodes) < self._limit:
                self._nodes[link.oid] = link
            else:
                self.more += 1

    def record(self, oid: int, *, needed: bool = False) -> Record | None:
        """Return a record; None where it does not decode, unless it is needed."""
        self._left -= 1
        try:
            return read_record(self._graph.snapshot, oid)
        except (BrokenRecord, ObjectNotFound):
            if needed:
                raise
            return None

    def result(self, *, finished: bool) -> Links:
        return Links((*self._nodes.values(), *self._found), self.more, finished)


def _is_child(record: Record | None, oid: int) -> bool:
    return record is not None and oid in (tree_children(record) or ())


def _steps_to(record: Record | None, oid: int) -> Iterator[tuple[str, bool]]:
    """Yield each step of a record that holds a reference to an object, with whether it is weak."""
    if record is not None:
        for step, ref in edges(record):
            if ref.oid == oid and ref.database is None:
                yield step, ref.weak


def _shown(graph: ObjectGraph, holder: int, step: str) -> str:
    """Return a step as it is shown: what the root holds is written as an attribute where it can be."""
    if holder == ROOT_OID and step.startswith("['"):
        try:
            return resolve(graph.snapshot, f"root{step}").path.removeprefix("root")
        except ZodbshError:
            return step
    return step


def _link_to(graph: ObjectGraph, ref: Ref, via: str, stop: _Stop) -> Link:
    said = None if ref.class_ is None else class_text(ref.class_)
    path, part_of, class_ = oid_text(ref.oid), False, said
    exists: bool | None = None
    if ref.database is None:
        number = graph.columns.find(ref.oid)
        exists = number is not None and graph.columns.exists(number)
        if number is not None and exists:
            class_ = graph.columns.class_name(number)
            path, part_of = _place(graph, ref.oid)
    return Link(
        ref.oid, class_ if exists is not False else None, path, part_of,
        via, stop.level + 1, stop.through, ref.weak, ref.database, exists,
    )  # fmt: skip


def _link_from(graph: ObjectGraph, source: int, via: str, weak: bool, stop: _Stop) -> Link:
    oid = graph.columns.oids[source]
    path, part_of = _place(graph, oid)
    return Link(oid, graph.columns.class_name(source), path, part_of, via, stop.level + 1, stop.through, weak)


def _place(graph: ObjectGraph, oid: int) -> tuple[str, bool]:
    place = graph.place(oid)
    return (oid_text(oid), False) if place is None else place
