"""A conflict's three sides, attribute by attribute: what was there, what they made of it, what we want."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.compare import ABSENT, Side, compare_records
from zodbsh.analysis.paths import places_of
from zodbsh.ids import oid_text
from zodbsh.record.decode import class_text, decode_record
from zodbsh.record.values import Record
from zodbsh.source.base import Source
from zodbsh.source.snapshot import Snapshot

if TYPE_CHECKING:
    from zodbsh.stage.replay import Sides


class ThreeSides(NamedTuple):
    """One attribute on its three sides; ABSENT where a side lacks it."""

    name: str
    base: Side
    theirs: Side
    ours: Side


class ConflictObject(NamedTuple):
    """One object that both changed; ``their_tid`` is None where it was deleted."""

    path: str
    oid: int
    class_: str
    base_tid: int
    their_tid: int | None
    base_known: bool
    attributes: tuple[ThreeSides, ...]


class ConflictResult(NamedTuple):
    """All objects in conflict."""

    objects: tuple[ConflictObject, ...]


def conflict_sides(source: Source, sides: tuple[Sides, ...]) -> ConflictResult:
    """Describe conflicts; the paths are those of the database as it is now."""
    places = places_of(Snapshot(source), [side.oid for side in sides])
    return ConflictResult(
        tuple(
            ConflictObject(
                path=places[side.oid].path if side.oid in places else oid_text(side.oid),
                oid=side.oid,
                class_=class_text(decode_record(side.ours).class_),
                base_tid=side.base_tid,
                their_tid=side.their_tid,
                base_known=side.base is not None,
                attributes=tuple(three_sides(*map(_decoded, (side.base, side.theirs, side.ours)))),
            )
            for side in sides
        )
    )


def three_sides(base: Record | None, theirs: Record | None, ours: Record | None) -> list[ThreeSides]:
    """Return every attribute that is not the same on all sides, ours first."""
    by_us = {change.name: change for change in compare_records(base, ours)}
    by_them = {change.name: change for change in compare_records(base, theirs)}
    found = []
    for name in dict.fromkeys((*by_us, *by_them)):
        ours_change, theirs_change = by_us.get(name), by_them.get(name)
        known = ours_change or theirs_change
        old = ABSENT if known is None else known.old
        found.append(
            ThreeSides(
                name,
                old,
                theirs_change.new if theirs_change else old,
                ours_change.new if ours_change else old,
            )
        )
    return found


def _decoded(data: bytes | None) -> Record | None:
    return None if data is None else decode_record(data)
