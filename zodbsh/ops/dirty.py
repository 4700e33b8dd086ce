"""What is dirty in a session, with paths; see ``zodbsh.db.dirty`` for how it is found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.db.changes import Dirty, DirtyObject, SharedValue
from zodbsh.ops.places import places_in_session

if TYPE_CHECKING:
    from zodbsh.db.session import Session


def dirty(session: Session) -> Dirty:
    """Return what a commit of the session would save, and what it would miss, each object with its path.

    Raises CannotSave.
    """
    return with_paths(session, session.dirty())


def warnings(session: Session) -> Dirty:
    """Return the same for a caller who only looks at what would be missed: paths only where that is anything."""
    found = session.dirty()
    return with_paths(session, found) if found.silent or found.shared else found


def with_paths(session: Session, found: Dirty) -> Dirty:
    """Return the session's own findings, each object with its path instead of its oid."""
    listed = [*found.changed, *found.new, *found.silent, *(owner for value in found.shared for owner in value.owners)]
    if not listed:
        return found
    places = places_in_session(session, session.pending(), {item.oid for item in listed})

    def named(items: tuple[DirtyObject, ...]) -> tuple[DirtyObject, ...]:
        return tuple(item._replace(path=places[item.oid].path) if item.oid in places else item for item in items)

    return found._replace(
        changed=named(found.changed),
        new=named(found.new),
        silent=named(found.silent),
        shared=tuple(SharedValue(value.type_, named(value.owners)) for value in found.shared),
    )
