"""What is dirty in a session, with paths; see ``zodbsh.db.dirty`` for how it is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.analysis.paths import places_of
from zodbsh.db.changes import Dirty, DirtyObject, SharedValue
from zodbsh.source.snapshot import Snapshot
from zodbsh.stage.overlay import OverlaySource

if TYPE_CHECKING:
    from zodbsh.db.session import Session


def dirty(session: Session) -> Dirty:
    """Return what a commit of the session would save, and what it would miss, each object with its path.

    Raises CannotSave.
    """
    found = session.dirty()
    listed = [*found.changed, *found.new, *found.silent, *(owner for value in found.shared for owner in value.owners)]
    if not listed:
        return found
    snapshot = Snapshot(OverlaySource(session.source(), session.pending()))
    places = places_of(snapshot, {item.oid for item in listed})

    def named(items: tuple[DirtyObject, ...]) -> tuple[DirtyObject, ...]:
        return tuple(item._replace(path=places[item.oid].path) if item.oid in places else item for item in items)

    return found._replace(
        changed=named(found.changed),
        new=named(found.new),
        silent=named(found.silent),
        shared=tuple(SharedValue(value.type_, named(value.owners)) for value in found.shared),
    )
