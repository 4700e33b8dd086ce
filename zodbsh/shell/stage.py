"""The session's uncommitted changes and the stage on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.stage import store
from zodbsh.stage.model import Stage, make_stage

if TYPE_CHECKING:
    from zodbsh.db.session import Session


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
