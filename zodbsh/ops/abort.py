"""``abort``: drop the stage, or what is uncommitted in the shell."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.db.spec import Spec
from zodbsh.stage import store
from zodbsh.stage.format import StageDamaged
from zodbsh.stage.model import StageConflict

if TYPE_CHECKING:
    from zodbsh.db.session import Session


class AbortResult(NamedTuple):
    """What was dropped: how many objects (None where a damaged stage did not tell), and whether anything was.

    ``stage_id`` is the stage's, empty for a damaged one. Of a session: ``undone`` are
    the transactions that are not undone now, ``others`` counts the objects of a stage
    that the session has no part in, and that is still there.
    """

    dropped: bool
    objects: int | None
    damaged: bool = False
    stage_id: str = ""
    undone: tuple[int, ...] = ()
    others: int | None = None


def staged_objects(spec: Spec) -> AbortResult:
    """Return what an abort would drop; ``dropped`` tells whether there is anything. A damaged stage counts."""
    try:
        stage = store.load(spec)
    except StageDamaged:
        return AbortResult(True, None, damaged=True)
    if stage is None:
        return AbortResult(False, 0)
    return AbortResult(True, len(stage.entries), stage_id=stage.id)


def abort_stage(spec: Spec, found: AbortResult) -> AbortResult:
    """Drop the stage that ``staged_objects`` found.

    Raises StageConflict where it is another one by now, StorageIOError.
    """
    if spec.kind == "memory" or not found.dropped:
        return found
    if not store.drop(spec, only=None if found.damaged else found.stage_id):
        raise StageConflict(
            f"{spec.text}: the stage was committed, dropped or replaced by another process meanwhile", hint=""
        )
    return found


def abort_session(session: Session) -> AbortResult:
    """Drop what is uncommitted in a session, and the stage on disk that is part of it."""
    from zodbsh.stage.live import forget, stage_of_others

    undone = tuple(sorted(session.undoing))
    objects = len(session.own_changes().entries)
    dropped = forget(session) or objects > 0 or bool(undone)
    others = None
    with suppress(StageDamaged):
        others = stage_of_others(session)
    return AbortResult(dropped, objects, undone=undone, others=others)
