"""``commit``: apply the stage as one transaction, or say who is in the way."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.db.imports import import_modules, search_first
from zodbsh.db.spec import Spec
from zodbsh.errors import UsageError, ZodbshError
from zodbsh.progress import SILENT, Progress
from zodbsh.stage import store
from zodbsh.stage.applied import applied_by
from zodbsh.stage.model import StageConflict

if TYPE_CHECKING:
    from zodbsh.db.session import Session

_MAX_TEXT = 65_535


class CommitResult(NamedTuple):
    """A commit's outcome.

    ``tid`` is None where there was nothing to commit. ``resolved`` lists the
    objects that their class merged with somebody else's change. ``before`` tells
    that the stage had been committed already, by an earlier run that could not
    remove it. ``trouble`` is what went wrong after the commit was durable.
    """

    tid: int | None
    objects: int
    resolved: tuple[int, ...] = ()
    before: bool = False
    trouble: str | None = None


def commit_stage(
    spec: Spec,
    *,
    note: str = "",
    user: str = "",
    import_paths: Iterable[str] = (),
    modules: Iterable[str] = (),
    blobs: str | None = None,
    progress: Progress = SILENT,
) -> CommitResult:
    """Commit a database's stage and remove it.

    Classes are imported only to resolve a conflict, from ``import_paths`` too.
    Raises StageConflicts, StageDangling, StageDamaged, DatabaseLocked,
    DamagedDatabase, StorageIOError (nothing changed), CommitUnknown.
    """
    _check_text(note, user)
    stage = store.load(spec)
    if not stage:
        from zodbsh.db.source import open_source

        # What is no database, or a damaged one, is not told that all is well.
        with closing(open_source(spec)) as source:
            _ = source.last_tid
        return CommitResult(None, 0)
    if blobs is not None:
        spec = replace(spec, blob_dir=blobs)
    from zodbsh.db.open import open_storage
    from zodbsh.db.source import open_source
    from zodbsh.stage.replay import replay

    restore_path = search_first(import_paths)
    try:
        import_modules(modules)
        storage = open_storage(spec, progress=progress)
        try:
            # From here to the stage's removal the database is ours; until now another process could take the stage.
            now = store.load(spec)
            if now is None or now.id != stage.id:
                raise StageConflict(
                    f"{spec.text}: the stage was committed, dropped or replaced by another process just now",
                    hint="Nothing was committed. `zodbsh status` shows what is there.",
                )
            source = open_source(spec, storage=storage)
            try:
                applied = applied_by(source, stage)
            finally:
                source.close()
            if applied is None:
                done = replay(stage, storage, name=spec.text, note=note or stage.note, user=user or stage.user)
                result = CommitResult(done.tid, done.objects, done.resolved)
            else:
                result = CommitResult(applied, len(stage.entries), before=True)
            result = result._replace(trouble=_dropped(spec, stage.id))
        finally:
            storage.close()
    finally:
        restore_path()
    return result


def commit_session(session: Session, *, note: str = "", user: str = "") -> CommitResult:
    """Commit what is uncommitted in a session, the stage it continues included."""
    _check_text(note, user)
    if not session.pending().entries and not session.undoing:
        return CommitResult(None, 0)
    return CommitResult(*session.commit(note=note, user=user))


def _dropped(spec: Spec, id_: str) -> str | None:
    try:
        store.drop(spec, only=id_)
    except ZodbshError as exc:
        return f"the stage could not be removed ({exc.message}); it is committed, and will not be committed again"
    return None


def _check_text(*texts: str) -> None:
    if any(len(text.encode("utf-8", "surrogateescape")) > _MAX_TEXT for text in texts):
        raise UsageError(f"a note or a user's name has at most {_MAX_TEXT:,} bytes")
