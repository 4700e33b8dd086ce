"""``pack``: remove old revisions and unreachable objects, or say what would go.

A file is packed by ourselves, under its lock: a copy of what stays is written
beside it, held against it record by record, and takes its place in one step. Any
other storage packs itself.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from zodbsh.analysis.packplan import Plan, class_removals, plan_pack
from zodbsh.errors import DamagedDatabase, StorageIOError, Unsupported, UsageError
from zodbsh.filestorage.damage import Damage, FramingDamage
from zodbsh.filestorage.structs import STATUS_OFFSET
from zodbsh.ids import MAX_ID, oid_text
from zodbsh.ops.packing.result import Figures, PackResult, figures_of
from zodbsh.progress import SILENT, Progress
from zodbsh.record.classpart import BLOB_CLASS
from zodbsh.times import time_tid

if TYPE_CHECKING:
    from zodbsh.db.spec import Spec
    from zodbsh.ops.packing.file import Contents
    from zodbsh.source.base import Source
    from zodbsh.source.file import FileSource


class CollectionRefused(DamagedDatabase):
    """Records that would stay do not tell what they refer to, or there is no root: what is garbage cannot be known."""

    code = "pack-collection-refused"
    hint = "Nothing changed. `zodbsh pack --no-gc` packs without collecting garbage; `zodbsh verify` lists all of them."


def pack_time(*, days: int | None, to: int | None, now: datetime | None = None) -> int:
    """Return the tid that ``--days`` and ``--to`` stand for; MAX_ID for neither. Raises UsageError for both."""
    if days is not None and to is not None:
        raise UsageError("--days and --to exclude each other", hint="Leave one of them out.")
    if days is not None:
        try:
            return time_tid((now or datetime.now(UTC)) - timedelta(days=days))
        except OverflowError:
            return 0
    return MAX_ID if to is None else to


def misses_blobs(spec: Spec, *, progress: Progress = SILENT) -> bool:
    """Tell whether a file has blobs, but it is not known in which folder: a pack would leave their files there."""
    from zodbsh.source.file import FileSource

    if spec.kind != "file":
        return False
    try:
        with closing(FileSource(spec.path, blob_dir=spec.blob_dir)) as source:
            if source.blob_folder() is not None:
                return False
            return any(row.class_ == BLOB_CLASS for row in source.census(progress=progress).classes)
    except DamagedDatabase:
        # The pack refuses it, and says more.
        return False


def preview(source: Source, *, tid: int = MAX_ID, collect: bool = True, progress: Progress = SILENT) -> PackResult:
    """Say what a pack to ``tid`` would remove, without a lock and without writing."""
    from zodbsh.ops.packing import blobs as packblobs
    from zodbsh.source.file import FileSource

    tid = min(tid, source.last_tid)
    plan = plan_pack(source, tid, collect=collect, progress=progress)
    before = figures_of(source, progress=progress)
    findings = plan.dangling + plan.undecodable
    name = source.info().name
    if plan.redundant:
        return PackResult(name, tid, True, collect, False, before, before, 0, 0)
    if plan.unsure:
        return PackResult(name, tid, True, collect, False, before, None, None, None, findings=findings)
    kept = _kept_of_file(source, plan) if isinstance(source, FileSource) else _kept_of_source(source, plan)
    folder = packblobs.folder_of(source) if isinstance(source, FileSource) else None
    blobs = None
    if folder is not None and isinstance(source, FileSource):
        blobs = packblobs.files_that_go(source, folder, plan)
    totals = plan.columns.totals
    revisions, objects = totals.records - kept.records, sum(1 for _ in plan.removed())
    return PackResult(
        name,
        tid,
        dry_run=True,
        collect=collect,
        changed=revisions > 0,
        before=before,
        after=Figures(
            None if before.bytes is None or kept.bytes is None else before.bytes + kept.bytes - plan.border,
            before.transactions - totals.transactions + kept.transactions,
            before.records - revisions,
            before.objects - objects,
        ),
        objects_removed=objects,
        revisions_removed=revisions,
        blobs_removed=None if blobs is None else len(blobs.files),
        blob_bytes_removed=None if blobs is None else blobs.bytes,
        classes=class_removals(source, plan),
        findings=findings,
    )


def pack(
    spec: Spec,
    *,
    tid: int = MAX_ID,
    collect: bool = True,
    keep_old: bool = True,
    hold: ExitStack | None = None,
    progress: Progress = SILENT,
) -> PackResult:
    """Pack a database to ``tid`` (inclusive) and check every reference.

    A file's former content stays as ``.old`` with ``keep_old``; other storages
    decide that themselves. Raises DatabaseNotFound, DamagedDatabase (with it
    CollectionRefused), DatabaseLocked, Unsupported, DiskFullError,
    StorageIOError, PackFailed: then nothing changed. Raises OutcomeUnknown where
    the packed file has its name, and the system does not confirm that it lasts.
    Once a packed file is about to get its name, signals wait until ``hold`` is
    left (without it, until this returns): whoever stops the program hears what was done.
    """
    if spec.kind == "file":
        with ExitStack() as own:
            return _pack_file(spec, tid, collect, keep_old, hold or own, progress)
    if not keep_old:
        raise Unsupported(f"{spec.text} packs itself: --no-old does not reach it")
    from zodbsh.ops.packing.storage import pack_storage

    return pack_storage(spec, tid, collect=collect, progress=progress)


def _pack_file(spec: Spec, tid: int, collect: bool, keep_old: bool, hold: ExitStack, progress: Progress) -> PackResult:
    from zodbsh.db.locks import write_lock
    from zodbsh.db.open import NotWritable
    from zodbsh.db.spec import check_file
    from zodbsh.ops.packing import blobs as packblobs
    from zodbsh.ops.packing.file import contents_of, pack_file
    from zodbsh.publish import failing_well, uninterrupted

    check_file(spec.path)
    if spec.read_only:
        raise NotWritable(f"{spec.text} is configured as read-only")
    if spec.blob_dir is not None and not os.path.isdir(spec.blob_dir):
        raise StorageIOError(f"{spec.blob_dir}: there is no such folder for blobs")
    path = os.path.realpath(spec.path)
    with failing_well(spec.text, "packed"), ExitStack() as stack:
        # What is to be done is worked out before the lock is taken, and again where the file changed meanwhile.
        seen = _fingerprint(path)
        source, plan = _planned(stack, path, spec, tid, collect, progress)
        stack.enter_context(write_lock(spec.path))
        if _fingerprint(path) != seen:
            source, plan = _planned(stack, path, spec, tid, collect, progress)
        folder = packblobs.folder_of(source)
        blobs_stay = folder is None and BLOB_CLASS in plan.columns.class_names
        if folder is not None and os.path.lexists(path + packblobs.JOURNAL):
            # A pack before this one was killed when only its blob files were left to remove.
            packblobs.carry_out(path, folder, keep_old=keep_old)
        blobs = None
        if folder is not None:
            blobs = packblobs.files_that_go(source, folder, plan)
            if keep_old and blobs.files:
                packblobs.check_room(folder)

        def before_publishing() -> None:
            if blobs is not None and blobs.files:
                packblobs.write_down(path, blobs)
            hold.enter_context(uninterrupted())

        try:
            packed = pack_file(
                source,
                plan,
                keep_old=keep_old,
                beside=[os.path.abspath(spec.path)],
                before_publishing=before_publishing,
                progress=progress,
            )
        except BaseException:
            # Where the packed file has its name, the list of blob files is for the next pack.
            if not _replaced(source, path):
                packblobs.take_back(path)
            raise
        if packed.after is None:
            unchanged = contents_of(source, progress=progress)
        trouble, old_blobs = packed.trouble, None
        if packed.after is not None and folder is not None and blobs and blobs.files:
            try:
                packblobs.carry_out(path, folder, keep_old=keep_old)
                old_blobs = folder.path + packblobs.OLD if keep_old else None
            except OSError as exc:
                left = packblobs.left_of(blobs)
                # What failed may be the file of a blob that stays, on its way into the folder of before.
                where = f"{os.fsdecode(exc.filename)}: " if exc.filename else ""
                trouble = (
                    f"{len(left.files):,} blob files of what was removed are still there, because something failed: "
                    f"{where}{exc.strerror or exc}; once that is mended, the next pack removes them"
                )
                gone = [found for found in blobs.files if found not in left.files]
                blobs = packblobs.Removal(tuple(gone), blobs.bytes - left.bytes)
    changed = packed.after is not None
    after = unchanged if packed.after is None else packed.after
    before = after if packed.after is None else packed.before
    return PackResult(
        spec.text,
        plan.tid,
        dry_run=False,
        collect=collect,
        changed=changed,
        before=_of(before),
        after=_of(after),
        objects_removed=before.objects - after.objects,
        revisions_removed=before.records - after.records,
        blobs_removed=None if blobs is None else len(blobs.files) if changed else 0,
        blob_bytes_removed=None if blobs is None else blobs.bytes if changed else 0,
        findings=after.findings,
        old=path + ".old" if changed and keep_old else None,
        old_blobs=old_blobs,
        trouble=trouble,
        blobs_stay=blobs_stay,
    )


class _Kept(NamedTuple):
    """What stays of the time up to the pack: bytes with the file's beginning, None where there is no file."""

    bytes: int | None
    transactions: int
    records: int


def _kept_of_file(source: Any, plan: Plan) -> _Kept:
    from zodbsh.engine import chosen

    counted = chosen.copy_packed(source.file.fd, plan.border, plan.columns, plan.marks, plan.targets, -1)
    return _Kept(counted.end, counted.transactions, counted.records)


def _kept_of_source(source: Source, plan: Plan) -> _Kept:
    transactions = records = 0
    for transaction in source.transactions(0, plan.tid):
        kept = sum(plan.stays(revision.oid, revision.tid) for revision in source.records(transaction))
        transactions += kept > 0
        records += kept
    return _Kept(None, transactions, records)


def _planned(
    stack: ExitStack, path: str, spec: Spec, tid: int, collect: bool, progress: Progress
) -> tuple[FileSource, Plan]:
    """Open the file and plan its pack. Raises FramingDamage, CollectionRefused, OSError."""
    from zodbsh.source.file import FileSource, blobs_beside

    try:
        source = stack.enter_context(closing(FileSource(path, blob_dir=spec.blob_dir or blobs_beside(spec.path))))
    except FramingDamage as exc:
        raise FramingDamage(path, exc.damage, more=0) from exc
    if 0 < (tail := source.info().tail) <= STATUS_OFFSET:
        # It may be the beginning of any transaction, of a whole one, too.
        damage = Damage(source.end, "header", f"{tail} bytes are too few for a transaction")
        raise FramingDamage(path, damage, more=0)
    plan = plan_pack(source, min(tid, source.last_tid), collect=collect, progress=progress)
    _refuse_what_is_unsure(path, plan)
    return source, plan


def _replaced(source: FileSource, path: str) -> bool:
    """Tell whether another file has taken the place of the source's."""
    was = os.fstat(source.file.fd)
    try:
        now = os.stat(path)
    except OSError:
        return True
    return (now.st_dev, now.st_ino) != (was.st_dev, was.st_ino)


def _fingerprint(path: str) -> tuple[int, int, int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _refuse_what_is_unsure(path: str, plan: Plan) -> None:
    """Raise where a pack could take away what is needed."""
    if plan.unsure and not plan.undecodable:
        raise CollectionRefused(f"{path} has no root at the pack time: everything would be garbage")
    if plan.unsure:
        first, more = plan.undecodable[0], len(plan.undecodable) - 1
        also = f" (and {more} more like it)" if more else ""
        raise CollectionRefused(
            f"{path}: what {oid_text(first.oid or 0)} ({first.class_}) refers to is not known: {first.reason}{also}"
        )


def _of(contents: Contents) -> Figures:
    return Figures(contents.end, contents.transactions, contents.records, contents.objects)
