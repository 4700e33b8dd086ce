"""The session's uncommitted changes and the stage on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.db.changes import STAGE_KEY
from zodbsh.stage import store
from zodbsh.stage.live import Kept, keep
from zodbsh.stage.model import Stage, make_stage

if TYPE_CHECKING:
    from zodbsh.db.session import Session


def stage_changes(session: Session) -> Kept:
    """Put the session's uncommitted changes on disk; the session keeps them too, and a commit of it drops the stage.

    Raises StageConflict where another process staged meanwhile, CannotSave,
    StorageIOError, Unsupported.
    """
    kept = keep(session)
    if kept.stage is not None and kept.saved:
        _follow(session, kept.stage.id)
    return kept


def is_staged(session: Session) -> bool:
    """Tell whether the stage on disk holds exactly what is uncommitted. Raises StageDamaged, CannotSave."""
    if session.stage_id is None:
        return False
    stage = store.load(session.spec)
    if stage is None or stage.id != session.known_stage:
        return False
    return _content(stage) == _content(make_stage(session.pending()))


def staged_text(stage: Stage) -> str:
    """Return what is staged in a few words: ``staged: 1 changed, 2 new``."""
    new = sum(entry.new for entry in stage.entries)
    parts = [(len(stage.entries) - new, "changed"), (new, "new")]
    return "staged: " + ", ".join(f"{count:,} {word}" for count, word in parts if count)


def _content(stage: Stage) -> list[tuple[int, int | None, bytes, bool]]:
    return sorted((entry.oid, entry.serial or 0, entry.data, entry.blob is not None) for entry in stage.entries)


def _follow(session: Session, stage_id: str) -> None:
    """Tie the session's transaction to a stage just saved, as ``Session.restore`` ties it to one continued."""
    current = session.transaction.get()
    current.setExtendedInfo(STAGE_KEY, stage_id)
    session.stage_id = stage_id

    def ended(committed: bool) -> None:
        if committed:
            # A later stage of the same transaction has another id.
            if store.drop(session.spec, only=stage_id):
                session.known_stage = ""
            session.stage_id = None
        elif not session.dirty_count():
            session.stage_id = None

    current.addAfterCommitHook(ended)
    current.addAfterAbortHook(ended, (False,))
