"""A session and the stage on disk: continued at the start, kept at the end.

Inside a session the stage is a part of its transaction, as if it had been typed
there: a commit commits it (and removes it from the disk), an abort takes it out
of the session. The disk's copy goes only with a commit or by ``forget``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from zodbsh.db.changes import Changes
from zodbsh.db.imports import UserCodeFailed
from zodbsh.db.undo import UndoNotStaged
from zodbsh.errors import Unsupported
from zodbsh.stage import store
from zodbsh.stage.applied import applied_by
from zodbsh.stage.model import Stage, StageConflict, StagePlace, join, make_stage

if TYPE_CHECKING:
    from zodbsh.db.session import Session


class Doomed(UserCodeFailed):
    """The user's code has called ``transaction.doom()``."""

    code = "transaction-doomed"
    hint = "Nothing was staged."


FindPlaces: TypeAlias = "Callable[[Changes], tuple[StagePlace, ...]]"


class Kept(NamedTuple):
    """What a session left behind.

    ``stage`` is what is on disk now, None for nothing; ``saved`` tells whether
    it differs from what was there before.
    """

    stage: Stage | None
    saved: bool

    @property
    def changed(self) -> int:
        """How many objects of the database the stage changes."""
        return sum(not entry.new for entry in self.stage.entries) if self.stage else 0

    @property
    def new(self) -> int:
        """How many new objects the stage holds."""
        return sum(entry.new for entry in self.stage.entries) if self.stage else 0


def continue_stage(session: Session) -> Stage | None:
    """Make the stage on disk the session's uncommitted changes; return it, None where there is none.

    A stage that turns out to be committed already is removed. Not for a session
    that looks at the past. Raises StageDamaged, StorageIOError.
    """
    stage = store.load(session.spec)
    if stage is None or session.at is not None:
        return None
    if applied_by(session.source(), stage) is not None:
        store.drop(session.spec, only=stage.id)
        return None
    session.known_stage = stage.id
    session.restore(stage, stage_id=stage.id, on_commit=lambda: _committed(session, stage.id))
    return stage


def keep(session: Session, *, note: str = "", user: str = "", places: FindPlaces | None = None) -> Kept:
    """Put what is uncommitted in the session on disk; what was there before is continued, never lost.

    The session keeps its changes: it may go on, and its commit removes the
    stage. Where its transaction no longer holds the stage on disk (it was
    aborted), new changes are added to that stage. ``places`` finds paths worth
    keeping (``zodbsh.ops.places.keep_with_places`` gives it). Raises StageConflict,
    CannotSave, UndoNotStaged, Unsupported (in memory, or Python 2's format), StorageIOError.
    """
    if session.undoing:
        raise UndoNotStaged("an undo cannot be staged")
    pending = session.pending()
    before = store.load(session.spec) if session.known_stage else None
    continued = session.stage_id is not None
    if not pending.entries and not continued:
        return Kept(before, saved=False)
    if not pending.entries:
        # Every staged change was taken back one by one.
        return Kept(None, saved=store.drop(session.spec, only=session.known_stage))
    _require_useful(session)
    if session.at is not None and not session.known_stage and store.load(session.spec) is not None:
        raise StageConflict(
            f"{session.spec.text}: a stage waits already, and changes of the past cannot be added to it",
            hint="Nothing was staged. `zodbsh commit` or `zodbsh abort` settles the one that waits.",
        )
    if session.transaction.isDoomed():
        raise Doomed("the transaction is doomed: it was never to be committed, so it is not staged")
    known = () if places is None else places(pending)
    if before is None or continued:
        created = before.created if before is not None else None
        after = make_stage(
            pending,
            note=note or (before.note if before is not None else ""),
            user=user or (before.user if before is not None else ""),
            created=created,
            places=known,
        )
        if before is not None:
            # What this session did not come by was come by before; a hint that is wrong by now is seen when it is used.
            found = {place.oid for place in after.places}
            after = replace(after, places=after.places + tuple(old for old in before.places if old.oid not in found))
    else:
        after = join(before, pending, places=known)
    if before is not None and _same(before, after) and not (note or user):
        return Kept(before, saved=False)
    saved = store.save(session.spec, after, replaces=session.known_stage)
    session.known_stage = saved.id
    if before is None or continued:
        session.attach(saved.id, lambda: _committed(session, saved.id))
    return Kept(saved, saved=True)


def forget(session: Session) -> bool:
    """Drop what is uncommitted, in the session and on disk; return whether there was a stage on disk."""
    session.abort()
    # A stage that somebody else has made since is not this session's to drop.
    dropped = bool(session.known_stage) and store.drop(session.spec, only=session.known_stage)
    session.known_stage = ""
    return dropped


def stage_of_others(session: Session) -> int | None:
    """Return how many objects the stage on disk holds where this session has no part in it, None otherwise."""
    stage = store.load(session.spec)
    return None if stage is None or stage.id == session.known_stage else len(stage.entries)


def _committed(session: Session, id_: str) -> None:
    store.drop(session.spec, only=id_)
    session.known_stage = ""


def _same(before: Stage, after: Changes) -> bool:
    """Tell whether a stage holds these very changes already."""
    ours = {entry.oid: (entry.serial, entry.data) for entry in before.entries}
    theirs = {entry.oid: (entry.serial, entry.data) for entry in after.entries}
    # A blob's content is not compared: to write it again costs less.
    return ours == theirs and not any(entry.blob for entry in after.entries)


def _require_useful(session: Session) -> None:
    """Refuse to stage what could never be committed."""
    store.stage_path(session.spec)
    if session.python2:
        raise Unsupported(
            f"{session.spec.text} is in Python 2's format: nothing can be staged, because nothing can be committed",
            hint="Copy it with a Python 2 tool first, or only look.",
        )
