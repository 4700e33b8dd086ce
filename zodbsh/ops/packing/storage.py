"""Having a storage pack itself: whatever is no plain file of ours."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from zodbsh.analysis.packplan import dangling_in
from zodbsh.errors import Unsupported
from zodbsh.ops.packing.result import PackResult, figures_if_any
from zodbsh.progress import SILENT, Progress
from zodbsh.times import tid_time

if TYPE_CHECKING:
    from zodbsh.db.spec import Spec


class StorageCannotPack(Unsupported):
    """A storage that packs itself failed at it; what it did until then is its own affair."""

    code = "storage-cannot-pack"
    hint = "Its log may say more; packing the database file itself on its server does without it."


def pack_storage(spec: Spec, tid: int, *, collect: bool, progress: Progress = SILENT) -> PackResult:
    """Let a storage pack itself to ``tid``; figures where it can be read through.

    Raises StorageCannotPack, Unsupported, and what opening raises.
    """
    from ZODB.POSException import POSError
    from ZODB.serialize import referencesf

    from zodbsh.db.open import open_storage, translated
    from zodbsh.db.source import open_source

    storage = open_storage(spec, progress=progress)
    try:
        if storage.isReadOnly():
            raise Unsupported(f"{spec.text} is read-only")
        with closing(open_source(spec, storage=storage)) as source:
            tid, before = min(tid, source.last_tid), figures_if_any(source, progress=progress)
        options = {} if collect else _without_collection(storage, spec)
        progress.start("Packing", None, "objects")
        with translated(spec.text):
            try:
                storage.pack(_seconds(tid), referencesf, **options)
            except (POSError, OSError):
                raise
            except Exception as exc:  # whatever a storage of any kind stops at
                raise StorageCannotPack(f"{spec.text}: the storage's own pack stopped: {exc!r}") from exc
        progress.finish()
        with closing(open_source(spec, storage=storage)) as source:
            after = figures_if_any(source, progress=progress)
            findings = () if after is None else dangling_in(source.columns(progress=progress))
    finally:
        storage.close()
    return PackResult(
        spec.text,
        tid,
        dry_run=False,
        collect=collect,
        changed=before is None or before != after,
        before=before,
        after=after,
        objects_removed=before.objects - after.objects if before and after else None,
        revisions_removed=before.records - after.records if before and after else None,
        findings=findings,
    )


def _without_collection(storage: Any, spec: Spec) -> dict[str, bool]:
    from inspect import signature

    if "gc" not in signature(storage.pack).parameters:
        raise Unsupported(f"{spec.text} decides by itself what it collects: --no-gc does not reach it")
    return {"gc": False}


def _seconds(tid: int) -> float:
    """Return the time for a storage's ``pack``: the first microsecond that does not cut the transaction off."""
    moment = tid_time(tid)
    return 0.0 if moment is None else moment.timestamp() + 1e-6
