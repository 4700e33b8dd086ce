"""``zodbsh refs``: what an object refers to, and what refers to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.graph import ObjectGraph
from zodbsh.analysis.links import Link, Links, links_in, links_out
from zodbsh.analysis.lookup import kind_text
from zodbsh.analysis.records import BrokenRecord
from zodbsh.analysis.target import parse_target, resolve, trace
from zodbsh.errors import ObjectNotFound
from zodbsh.ids import oid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.record.shape import edges_within

if TYPE_CHECKING:
    from zodbsh.analysis.target import Resolved
    from zodbsh.source.snapshot import Snapshot


class RefsResult(NamedTuple):
    """The references around a target.

    ``oid`` is the record that it is, or (``embedded``) lies in; ``class_`` is None where it does not exist.
    ``out`` and ``into`` are None where they were not asked for. ``undecodable`` counts the objects whose references are
    not known, because their records do not decode; ``trouble`` says so of the target's own.
    """

    oid: int
    path: str
    part_of: bool
    class_: str | None
    embedded: bool
    out: Links | None
    into: Links | None
    undecodable: int
    trouble: BrokenRecord | None = None

    @property
    def exists(self) -> bool:
        """Whether there is such an object at this time."""
        return self.class_ is not None


def refs(
    snapshot: Snapshot, target: str, *, out: bool = True, into: bool = True, depth: int = 1, limit: int | None = None,
    progress: Progress = SILENT,
) -> RefsResult:  # fmt: skip
    """Return the references from and to a target, each at most ``limit``, ``depth`` levels deep.

    The target may be an object that does not exist: who refers to it is known. Raises ObjectNotFound where nothing is
    known of it at all, and what ``zodbsh.analysis.target.resolve`` raises on the way there.
    """
    parsed = parse_target(target)
    way = trace(snapshot, parsed)
    # Where the way ends at what lies in a record, the value itself is wanted, too.
    value = resolve(snapshot, parsed) if way.inside else None
    graph = ObjectGraph.read(snapshot, progress=progress)
    number = graph.columns.find(way.oid)
    if number is None:
        raise ObjectNotFound(
            f"no object {oid_text(way.oid)} in {snapshot.source.info().name}, and nothing refers to it"
        )
    exists = graph.columns.exists(number)
    place = graph.place(way.owner) if exists else None
    path = way.path if place is None else place.path + "".join(way.inside)
    found, trouble = None, None
    if out and exists:
        try:
            first = None if value is None else edges_within(value.value)
            found = links_out(graph, way.oid, first, depth=depth, limit=limit)
        except BrokenRecord as exc:
            trouble = exc
    return RefsResult(
        way.oid, path, place is not None and place.internal,
        graph.columns.class_name(number) if value is None else kind_text(value.value),
        value is not None,
        (found or Links()) if out else None,
        links_in(graph, way.oid, None if value is None else _holder(graph, value, way.inside), depth=depth, limit=limit)
        if into else None,
        _undecodable(graph),
        trouble,
    )  # fmt: skip


def _holder(graph: ObjectGraph, value: Resolved, inside: tuple[str, ...]) -> Link:
    """Return the object in whose record a value lies, as what holds it; of a value in a bucket, the bucket."""
    place = graph.place(value.owner)
    path = value.owner_path if place is None else place.path
    number = graph.columns.find(value.oid)
    class_ = None if number is None else graph.columns.class_name(number)
    return Link(value.oid, class_, path, value.oid != value.owner, "".join(inside), 1, value.oid)


def _undecodable(graph: ObjectGraph) -> int:
    """Count the objects whose current record does not decode."""
    columns = graph.columns
    found = ((columns.find(record.oid), record.where) for record in columns.undecodable)
    return sum(number is not None and columns.position(number) == where for number, where in found)
