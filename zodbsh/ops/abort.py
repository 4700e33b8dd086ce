"""``abort``: drop the stage, or what is uncommitted in the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.db.spec import Spec
from zodbsh.stage import store
from zodbsh.stage.format import StageDamaged

if TYPE_CHECKING:
    from zodbsh.db.session import Session


class AbortResult(NamedTuple):
    """What was dropped: how many objects (None where a damaged stage did not tell), and whether anything was."""

    dropped: bool
    objects: int | None
    damaged: bool = False


def staged_objects(spec: Spec) -> AbortResult:
    """Return what an abort would drop; ``dropped`` tells whether there is anything. A damaged stage counts."""
    try:
        stage = store.load(spec)
    except StageDamaged:
        return AbortResult(True, None, damaged=True)
    return AbortResult(stage is not None, 0 if stage is None else len(stage.entries))


def abort_stage(spec: Spec) -> AbortResult:
    """Drop a database's stage, damaged or not. Raises StorageIOError."""
    found = staged_objects(spec)
    if spec.kind == "memory":
        return found
    return found._replace(dropped=store.drop(spec))


def abort_session(session: Session) -> AbortResult:
    """Drop what is uncommitted in a session, and the stage on disk."""
    from zodbsh.stage.live import forget

    objects = len(session.pending().entries)
    return AbortResult(forget(session) or objects > 0, objects)
