"""Objects that nobody refers to, and that may be others which are referred to and missing: their oids may be wrong."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from zodbsh.analysis.graph import ObjectGraph
from zodbsh.filestorage.salvage.parts import Contradiction, Reader
from zodbsh.filestorage.salvage.records import record_places
from zodbsh.ids import oid_text
from zodbsh.ops.recovery.lost import Names
from zodbsh.source.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zodbsh.engine.columns import Columns
    from zodbsh.filestorage.datafile import DataFile
    from zodbsh.filestorage.salvage.plan import Plan
    from zodbsh.source.base import Source

# Of more missing objects than this, damage to single oids is not the cause.
_MOST = 1_000


def likely_pairs(
    file: DataFile, plan: Plan, source: Source, columns: Columns, missing: Sequence[int]
) -> list[Contradiction]:
    """Return each record of an object with one revision, to which nobody refers, that may be one of ``missing``.

    It is of the class that the reference names, and the only one to which nobody refers, or the only one whose oid
    differs in one byte. ``source`` is the new file, ``columns`` hold it, ``file`` is the damaged one. Raises
    StorageIOError.
    """
    if not 0 < len(missing) <= _MOST:
        return []
    lonely = _unreferenced(source, columns)
    everyone = set().union(*lonely.values())
    names = Names(source, missing)
    pairs: dict[int, list[tuple[int, str | None]]] = {}
    for oid in missing:
        class_, path = names.of(oid)
        alike = everyone if class_ is None else lonely.get(class_, set())
        near = [one for one in _in_one_byte(oid) if one in alike]
        likely = near or alike
        if len(likely) == 1:
            (one,) = likely
            if len(list(islice(source.history(one), 2))) == 1:
                pairs.setdefault(one, []).append((oid, path))
    found = []
    reader = Reader(file)
    for position in (place for part in plan.parts for place in record_places(reader, part)) if pairs else ():
        record = reader.record(position)
        if record is not None and len(others := pairs.get(record.oid, [])) == 1:
            oid, path = others[0]
            named = oid_text(oid) if path is None else f"{oid_text(oid)}, {path},"
            message = f"nobody refers to this object, and {named} is referred to and missing: it may be that one"
            found.append(Contradiction(position, "oid", record.oid, record.tid, False, message))
    return found


def _unreferenced(source: Source, columns: Columns) -> dict[str, set[int]]:
    """Return by class the objects to which nobody refers, themselves included, except for the root."""
    graph = ObjectGraph(Snapshot(source), columns)
    starts = graph.turned.starts
    found: dict[str, set[int]] = {}
    for number in range(len(columns)):
        if starts[number] == starts[number + 1] and number != graph.root and columns.exists(number):
            found.setdefault(columns.class_name(number) or "", set()).add(columns.oids[number])
    return found


def _in_one_byte(oid: int) -> Iterator[int]:
    """Yield the oids that differ from one in one byte."""
    return (oid ^ byte << shift for shift in range(0, 64, 8) for byte in range(1, 256))
