"""``status``: what is staged, or uncommitted in the shell, and whether it still fits the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from zodbsh.analysis.paths import Place
from zodbsh.db.changes import Changes, Dirty
from zodbsh.db.locks import other_name
from zodbsh.db.spec import Spec
from zodbsh.db.tailfile import fitting_tails
from zodbsh.errors import ObjectNotFound
from zodbsh.ids import oid_text
from zodbsh.ops.leftovers import Leftover
from zodbsh.ops.places import places_in_session, places_of_changes
from zodbsh.record.decode import class_text, record_class
from zodbsh.source.base import Source
from zodbsh.stage.applied import applied_by
from zodbsh.stage.format import StageDamaged
from zodbsh.stage.live import stage_of_others
from zodbsh.stage.model import Stage

if TYPE_CHECKING:
    from zodbsh.db.session import Session

Change = Literal["changed", "new"]


class StagedObject(NamedTuple):
    """One object that a commit would store.

    ``path`` is the oid's text where no path is known. ``outdated`` tells that
    another transaction has changed or deleted the object since: a commit needs
    its class to resolve the conflict.
    """

    path: str
    oid: int
    class_: str
    change: Change
    bytes: int
    outdated: bool


class StatusResult(NamedTuple):
    """What waits to be committed.

    ``base_tid`` is the transaction that the changes are on top of, ``last_tid``
    the database's last one. ``stage`` is the stage on disk, None where there is
    none or the changes are a session's. ``applied_by`` is the transaction that
    committed this stage already (its process ended before it could remove it).
    ``dirty`` is known of a session only, ``undoing`` are the transactions its next
    commit undoes, ``others`` counts the objects of a stage that it has no part in.
    """

    database: str
    base_tid: int
    last_tid: int
    staged: tuple[StagedObject, ...]
    stage: Stage | None = None
    applied_by: int | None = None
    dirty: Dirty | None = None
    undoing: tuple[int, ...] = ()
    others: int | None = None
    leftovers: tuple[Leftover, ...] = ()

    @property
    def changed(self) -> int:
        """How many objects of the database would change."""
        return sum(item.change == "changed" for item in self.staged)

    @property
    def new(self) -> int:
        """How many objects would be new."""
        return len(self.staged) - self.changed


def status(
    source: Source, changes: Changes | None, *, dirty: Dirty | None = None, places: dict[int, Place] | None = None
) -> StatusResult:
    """Describe changes on top of a source; None for a clean database. Nothing is written, no class is imported.

    ``places`` are the objects' places where they are known already.
    """
    database, stage = source.info().name, changes if isinstance(changes, Stage) else None
    if changes is None or not changes.entries:
        return StatusResult(database, source.last_tid, source.last_tid, (), stage, dirty=dirty)
    applied = applied_by(source, stage) if stage is not None else None
    if applied is not None:
        return StatusResult(database, changes.base_tid, source.last_tid, (), stage, applied, dirty)
    if places is None:
        places = places_of_changes(source, changes)
    staged = tuple(
        StagedObject(
            path=places[entry.oid].path if entry.oid in places else oid_text(entry.oid),
            oid=entry.oid,
            class_=class_text(record_class(entry.data)),
            change="new" if entry.new else "changed",
            bytes=len(entry.data),
            outdated=not entry.new and _serial(source, entry.oid) != entry.serial,
        )
        for entry in changes.entries
    )
    return StatusResult(database, changes.base_tid, source.last_tid, staged, stage, dirty=dirty)


def session_status(session: Session) -> StatusResult:
    """Describe what is uncommitted in a session, what ZODB would miss included. Raises CannotSave."""
    from zodbsh.ops.dirty import dirty

    pending = session.pending()
    places = places_in_session(session, pending, [entry.oid for entry in pending.entries])
    found = status(session.source(), pending, dirty=dirty(session), places=places)
    try:
        others = stage_of_others(session)
    except StageDamaged:
        # `zodbsh status` tells what is wrong with it; here it is nobody's part.
        others = None
    return found._replace(undoing=tuple(sorted(session.undoing)), others=others)


def taken_off(source: Source, spec: Spec) -> int:
    """Count the transactions that ``undo --after`` has taken off a file's end and ``--redo`` would put back."""
    if spec.kind != "file":
        return 0
    info = source.info()
    path = other_name(spec.path) or spec.path
    fitting = fitting_tails(path, (info.bytes or 0) - info.tail, source.last_tid)
    return fitting[0].header.transactions if fitting else 0


def _serial(source: Source, oid: int) -> int | None:
    try:
        return source.load(oid).tid
    except ObjectNotFound:
        return None
