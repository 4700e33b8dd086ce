"""``pack``: remove old revisions and unreachable objects, or say what would go.

A file is packed by ZODB's own pack, under the lock, after its framing was
scanned; every reference is checked afterwards. Any other storage packs itself.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from zodbsh.analysis.reachability import BLOB_CLASS, ClassRemoval, Dangling, PackPlan, check_references, plan_pack
from zodbsh.errors import DamagedDatabase, Unsupported, UsageError, ZodbshError
from zodbsh.ids import MAX_ID, oid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.times import tid_time, time_tid

if TYPE_CHECKING:
    from zodbsh.db.spec import Spec
    from zodbsh.source.base import Source

# Beside the packed file: its .index (about 8 bytes an object, never more than a tenth) and what others write.
_SPARE = 1_000_000


class StorageCannotPack(Unsupported):
    """A storage that packs itself failed at it; what it did until then is its own affair."""

    code = "storage-cannot-pack"
    hint = "Its log may say more; packing the database file itself on its server does without it."


class Figures(NamedTuple):
    """A database's size at one moment; ``bytes`` is None where the storage does not tell."""

    bytes: int | None
    transactions: int
    records: int
    objects: int


class PackResult(NamedTuple):
    """What a pack did, or (``dry_run``) would do.

    ``tid`` is the pack time. ``changed`` is False where there was nothing to
    remove. ``old`` is the path of the copy of before, None where there is none.
    ``classes`` is known of a dry run only. ``findings`` are references that lead
    nowhere afterwards; in a dry run, those that ZODB's pack would stop at.
    ``before`` and ``after`` are None where the storage cannot be read through.
    ``trouble`` says what failed once the new file was in place.
    """

    database: str
    tid: int
    dry_run: bool
    collect: bool
    changed: bool
    before: Figures | None
    after: Figures | None
    objects_removed: int | None
    revisions_removed: int | None
    blobs_removed: int | None = None
    blob_bytes_removed: int | None = None
    classes: tuple[ClassRemoval, ...] = ()
    findings: tuple[Dangling, ...] = ()
    old: str | None = None
    trouble: str | None = None

    @property
    def clean(self) -> bool:
        """Whether nothing was found that a user has to look at."""
        return not self.findings and self.trouble is None


def pack_time(*, days: int | None, to: int | None, now: datetime | None = None) -> int:
    """Return the tid that ``--days`` and ``--to`` stand for; MAX_ID for neither. Raises UsageError for both."""
    if days is not None and to is not None:
        raise UsageError("--days and --to exclude each other")
    if days is not None:
        try:
            return time_tid((now or datetime.now(UTC)) - timedelta(days=days))
        except OverflowError:
            return 0
    return MAX_ID if to is None else to


def misses_blobs(spec: Spec, *, progress: Progress = SILENT) -> bool:
    """Tell whether a file has blobs, but it is not known in which folder: a pack would leave their files there."""
    from zodbsh.db.source import open_source

    if spec.kind != "file" or spec.blob_dir is not None:
        return False
    try:
        with closing(open_source(spec)) as source:
            return any(row.class_ == BLOB_CLASS for row in source.census(progress=progress).classes)
    except DamagedDatabase:
        # The pack refuses it, and says more.
        return False


def preview(source: Source, *, tid: int = MAX_ID, collect: bool = True, progress: Progress = SILENT) -> PackResult:
    """Say what a pack to ``tid`` would remove, without a lock and without writing."""
    tid = min(tid, source.last_tid)
    plan = plan_pack(source, tid, collect=collect, progress=progress)
    before = _figures(source, progress)
    return PackResult(
        source.info().name,
        tid,
        dry_run=True,
        collect=collect,
        changed=plan.revisions_removed > 0,
        before=before,
        after=_shrunk(before, plan),
        objects_removed=plan.objects_removed,
        revisions_removed=plan.revisions_removed,
        blobs_removed=plan.blobs_removed,
        blob_bytes_removed=plan.blob_bytes_removed,
        classes=plan.classes,
        findings=plan.dangling,
    )


def pack(spec: Spec, *, tid: int = MAX_ID, collect: bool = True, progress: Progress = SILENT) -> PackResult:
    """Pack a database to ``tid`` (inclusive) and check every reference after.

    Raises DatabaseNotFound, DamagedDatabase, DatabaseLocked, Unsupported (Python
    2's format, a storage that cannot), DiskFullError, StorageIOError,
    DanglingReference, PackRefused; then nothing changed.
    """
    if spec.kind == "file":
        return _pack_file(spec, tid, collect, progress)
    return _pack_storage(spec, tid, collect, progress)


def _pack_file(spec: Spec, tid: int, collect: bool, progress: Progress) -> PackResult:
    from zodbsh.db.open import open_storage
    from zodbsh.db.pack import DanglingReference, pack_file, settle
    from zodbsh.db.source import open_source
    from zodbsh.db.spec import check_file

    # ZODB's renames would put a file in the place of a symlink.
    path = os.path.realpath(spec.path)
    spec = replace(spec, path=path)
    if check_file(path)[:4] == b"FS21":
        raise Unsupported(
            f"{spec.text} is in Python 2's format; ZODB on Python 3 cannot pack it",
            hint="`zodbsh pack --dry-run` says what would go.",
        )
    spare_old = _room_for_both(path)
    storage = open_storage(spec, progress=progress)
    try:
        with closing(open_source(spec)) as source:
            before = _figures(source, progress)
            tid = min(tid, source.last_tid)
            try:
                packed = pack_file(storage, tid, collect=collect, spare_old=spare_old, progress=progress)
            except DanglingReference as exc:
                raise _explained(exc, source, tid, progress) from exc
    finally:
        storage.close()
    settle(path)
    with closing(open_source(spec)) as source:
        after = _figures(source, progress)
        findings = check_references(source, progress=progress)
    return PackResult(
        spec.text,
        tid,
        dry_run=False,
        collect=collect,
        changed=packed.published,
        before=before,
        after=after,
        objects_removed=before.objects - after.objects,
        revisions_removed=before.records - after.records,
        findings=tuple(findings),
        old=path + ".old" if packed.published else None,
        trouble=packed.trouble,
    )


def _pack_storage(spec: Spec, tid: int, collect: bool, progress: Progress) -> PackResult:
    """Let a storage pack itself; figures where it can be read through."""
    from ZODB.POSException import POSError
    from ZODB.serialize import referencesf

    from zodbsh.db.open import open_storage, translated
    from zodbsh.db.source import open_source

    storage = open_storage(spec, progress=progress)
    try:
        if storage.isReadOnly():
            raise Unsupported(f"{spec.text} is read-only")
        with closing(open_source(spec, storage=storage)) as source:
            tid, before = min(tid, source.last_tid), _figures_if_any(source, progress)
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
            after = _figures_if_any(source, progress)
            findings = () if after is None else tuple(check_references(source, progress=progress))
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


def _figures(source: Source, progress: Progress) -> Figures:
    census = source.census(progress=progress)
    return Figures(source.info().bytes, census.transactions, census.records, census.objects)


def _figures_if_any(source: Source, progress: Progress) -> Figures | None:
    try:
        return _figures(source, progress)
    except Unsupported:
        return None


def _shrunk(before: Figures, plan: PackPlan) -> Figures:
    return Figures(
        None if before.bytes is None else before.bytes - plan.bytes_removed,
        before.transactions - plan.transactions_removed,
        before.records - plan.revisions_removed,
        before.objects - plan.objects_removed,
    )


def _room_for_both(path: str) -> bool:
    """Tell whether the packed file has room beside an earlier ``.old``; raise DiskFullError where it has none."""
    from zodbsh.db.pack import DiskFullError

    need = os.path.getsize(path) + _SPARE
    free = shutil.disk_usage(os.path.dirname(path)).free
    if need <= free:
        return True
    try:
        old = os.lstat(path + ".old").st_size
    except OSError:
        old = 0
    if need > free + old:
        raise DiskFullError(f"a pack of {path} may take {need:,} bytes; {free + old:,} are free. Nothing changed.")
    return False


def _explained(error: Any, source: Source, tid: int, progress: Progress) -> ZodbshError:
    """Name who holds the reference that ZODB's pack stopped at: it tells only the target."""
    from zodbsh.db.pack import DanglingReference

    for dangling in plan_pack(source, tid, progress=progress).dangling:
        if dangling.target == error.target:
            who = (
                "the database has no root" if dangling.oid is None else f"{oid_text(dangling.oid)} ({dangling.class_})"
            )
            return DanglingReference(
                error.target,
                message=who
                if dangling.oid is None
                else f"{who} refers to {oid_text(error.target)}, which does not exist at the pack time",
            )
    found: ZodbshError = error
    return found
