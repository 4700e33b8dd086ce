"""``zodbsh usage``: what eats the space, by class and by path."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.graph import ObjectGraph
from zodbsh.analysis.retained import blob_files, branches, sizes_with_blobs, undecodable_now
from zodbsh.engine import chosen
from zodbsh.engine.columns import Options
from zodbsh.ids import oid_text
from zodbsh.progress import SILENT, Progress

if TYPE_CHECKING:
    from zodbsh.engine.columns import ToolRow
    from zodbsh.source.base import Source
    from zodbsh.source.snapshot import Snapshot


class ClassUsage(NamedTuple):
    """One class: its objects and the data bytes of their records, then the records that later ones supersede."""

    class_: str
    objects: int
    bytes: int
    old_records: int
    old_bytes: int


class Garbage(NamedTuple):
    """What exists and cannot be reached from the root.

    ``undecodable`` counts current records that do not decode: what they refer to may look like garbage, too.
    """

    objects: int
    bytes: int
    undecodable: int


class ClassesUsage(NamedTuple):
    """All classes, those with the most current bytes first.

    ``garbage`` is None where it was not asked for, or cannot be known: not all of the history was counted, or there is
    no root object. ``past`` tells that the database goes on after what was counted.
    """

    classes: tuple[ClassUsage, ...]
    garbage: Garbage | None
    past: bool


class PathUsage(NamedTuple):
    """One object, and what would go with it.

    ``bytes`` are those of its record, of a BTree those of all its nodes, of a blob also its file's. ``retained_bytes``
    and ``retained_objects`` tell what would be freed if nothing referred to it any more, itself included. ``depth``
    counts levels below the root. ``internal`` marks a node of the BTree that ``path`` leads to. ``more`` objects of the
    level below, which retain ``more_bytes``, are left out.
    """

    path: str
    oid: int
    class_: str
    bytes: int
    retained_bytes: int
    retained_objects: int
    depth: int
    internal: bool
    more: int
    more_bytes: int


class PathsUsage(NamedTuple):
    """The root and what it retains, each object followed by what it retains itself.

    ``entries`` is empty where there is no root object. ``blobs`` counts blob files. ``undecodable`` as in `Garbage`.
    """

    entries: tuple[PathUsage, ...]
    blobs: int
    blob_bytes: int
    undecodable: int


def usage_by_class(
    snapshot: Snapshot, *, since: int = 0, garbage: bool = True, progress: Progress = SILENT
) -> ClassesUsage:
    """Return what each class takes, counting the transactions from ``since`` to the snapshot's.

    Where not all of the history is counted, current is what no later counted record supersedes. Raises what
    ``Source.columns`` raises.
    """
    source = snapshot.source
    garbage = garbage and not since
    columns = source.columns(snapshot.tid, options=Options(references=garbage, since=since), progress=progress)
    parents = None
    if garbage:
        graph = ObjectGraph(snapshot, columns)
        parents = graph.reached.parents
        garbage = graph.root is not None or not len(columns)
    sums = chosen.sums(columns.classes, columns.sizes, parents, len(columns.class_names))
    classes = [
        ClassUsage(
            name, sums.objects[number], sums.bytes[number],
            max(columns.class_records[number] - sums.objects[number], 0),
            # A range may hold a record that shares the data of one before it.
            max(columns.class_bytes[number] - sums.bytes[number], 0),
        )
        for number, name in enumerate(columns.class_names) if columns.class_records[number]
    ]  # fmt: skip
    classes.sort(key=lambda row: (-row.bytes, -row.old_bytes, row.class_))
    found = None
    if garbage:
        found = Garbage(sum(sums.garbage_objects), sum(sums.garbage_bytes), undecodable_now(columns))
    return ClassesUsage(tuple(classes), found, snapshot.tid < source.last_tid)


def tool_usage(source: Source, *, since: int, at: int, progress: Progress = SILENT) -> tuple[ToolRow, ...]:
    """Return the rows of zodbtools' ``analyze``, in its order. Raises what ``Source.columns`` raises."""
    options = Options(references=False, since=since, tool_rows=True)
    return tuple(sorted(source.columns(at, options=options, progress=progress).tool_rows, key=_total_bytes))


def usage_by_path(snapshot: Snapshot, *, depth: int, top: int, progress: Progress = SILENT) -> PathsUsage:
    """Return what would go with each object, ``depth`` levels below the root, of each the ``top`` largest.

    An object that several others refer to counts where their ways from the root join. Old revisions are not counted.
    Raises what ``Source.columns`` raises.
    """
    graph = ObjectGraph.read(snapshot, progress=progress)
    columns = graph.columns
    undecodable = undecodable_now(columns)
    if graph.root is None:
        return PathsUsage((), 0, 0, undecodable)
    blobs = blob_files(snapshot.source, columns, snapshot.tid)
    sizes = sizes_with_blobs(columns, blobs)
    retained = graph.retained(sizes)
    entries = []
    for branch in branches(graph, sizes, retained, depth=depth, top=top):
        oid = columns.oids[branch.number]
        place = graph.place(oid)
        entries.append(
            PathUsage(
                path=oid_text(oid) if place is None else place.path,
                oid=oid,
                class_=columns.class_name(branch.number) or "",
                bytes=branch.own,
                retained_bytes=retained.bytes[branch.number],
                retained_objects=retained.objects[branch.number],
                depth=branch.depth,
                internal=place is not None and place.internal,
                more=branch.more,
                more_bytes=branch.more_bytes,
            )
        )
    return PathsUsage(tuple(entries), blobs.files, blobs.bytes, undecodable)


def _total_bytes(row: ToolRow) -> int:
    return row.total_bytes
