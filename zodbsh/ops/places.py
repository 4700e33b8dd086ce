"""Where uncommitted objects are, without walking a whole database for it.

Whoever changed an object came to it on some way, and the objects on that way
are loaded: in a session the loaded objects are searched first. A stage keeps
what was found, so ``status`` knows the paths that were known when it was made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zodbsh.analysis.paths import Place, places_of
from zodbsh.analysis.target import resolve
from zodbsh.db.changes import Changes
from zodbsh.errors import ObjectNotFound, ZodbshError
from zodbsh.ids import MAX_ID, oid_text, to_bytes
from zodbsh.source.base import Revision, Source
from zodbsh.source.snapshot import Snapshot
from zodbsh.stage.live import Kept, keep
from zodbsh.stage.model import Stage, StagePlace
from zodbsh.stage.overlay import OverlaySource

if TYPE_CHECKING:
    from zodbsh.db.session import Session


def places_in_session(session: Session, pending: Changes, oids: Iterable[int]) -> dict[int, Place]:
    """Return where objects of a session are, its uncommitted changes included; what is not found is left out."""
    wanted = set(oids)
    found = places_of(Snapshot(_LoadedSource(session, pending)), wanted)
    missing = wanted - found.keys()
    if missing:
        found.update(places_of(Snapshot(OverlaySource(session.source(), pending)), missing))
    return found


def places_of_changes(source: Source, changes: Changes) -> dict[int, Place]:
    """Return where the objects of a stage (or of other changes) are, on top of a source."""
    snapshot = Snapshot(OverlaySource(source, changes))
    known = changes.places if isinstance(changes, Stage) else ()
    found = {place.oid: Place(place.path, place.internal) for place in known if _still(snapshot, place)}
    missing = [entry.oid for entry in changes.entries if entry.oid not in found]
    if missing:
        found.update(places_of(snapshot, missing))
    return found


def keep_with_places(session: Session, *, note: str = "", user: str = "") -> Kept:
    """Stage what is uncommitted in a session (``zodbsh.stage.live.keep``), with the paths that are known now."""

    def known(changes: Changes) -> tuple[StagePlace, ...]:
        oids = [entry.oid for entry in changes.entries]
        found = places_of(Snapshot(_LoadedSource(session, changes)), oids)
        return tuple(StagePlace(oid, *found[oid]) for oid in oids if oid in found)

    return keep(session, note=note, user=user, places=known)


def _still(snapshot: Snapshot, place: StagePlace) -> bool:
    try:
        found = resolve(snapshot, place.path)
    except ZodbshError:
        return False
    return place.internal or (found.oid == place.oid and not found.embedded)


class _LoadedSource(OverlaySource):
    """A session's source that knows only what the session has loaded or changed."""

    def __init__(self, session: Session, changes: Changes) -> None:
        super().__init__(session.source(), changes)
        self._cache = session.connection._cache

    def load(self, oid: int, at: int = MAX_ID) -> Revision:
        """Return a revision that costs no look at an object nobody looked at. Raises ObjectNotFound."""
        loaded = self._cache.get(to_bytes(oid))
        if oid not in self._entries and (loaded is None or loaded._p_changed is None):
            raise ObjectNotFound(f"object {oid_text(oid)} is not loaded")
        return super().load(oid, at)
