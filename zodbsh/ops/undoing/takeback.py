"""``undo DB --after TIME``: a Data.fs as it was at a moment; what came later becomes a tail beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from shlex import quote
from typing import NamedTuple

from zodbsh.analysis.paths import places_of
from zodbsh.analysis.undoing import is_blob
from zodbsh.db.locks import other_name, write_lock
from zodbsh.db.open import Conflict, NotWritable
from zodbsh.db.refile import Piece, refile
from zodbsh.db.spec import Spec
from zodbsh.db.tailfile import BlobFile, discard_tail, keep_tail, remove_blobs
from zodbsh.engine import chosen
from zodbsh.engine.columns import Columns, Options
from zodbsh.errors import ExitCode, Unsupported, UsageError, ZodbshError
from zodbsh.filestorage.damage import Damage, FramingDamage
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.structs import MAGIC_SIZE, STATUS_OFFSET
from zodbsh.filestorage.tail import Tail, TailHeader, digest_range
from zodbsh.findings import Finding
from zodbsh.ids import ROOT_OID, oid_text, tid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import OutcomeUnknown, failing_well, require_room, uninterrupted
from zodbsh.source.base import Transaction
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot
from zodbsh.stage import store
from zodbsh.times import time_text

# So many transactions are listed; more are counted.
_LISTED = 10_000
# So many findings are given their path.
_PATHS = 1_000
_SPARE = 1_000_000


class BeforeTheFirst(UsageError):
    """There was no database yet at that moment, or none with a root."""

    code = "before-the-first"


class LeavesDangling(ZodbshError):
    """At that moment references would lead nowhere that lead somewhere today: a pack has been there since."""

    code, exit_code = "undo-dangling", ExitCode.CONFLICT
    hint = "Nothing was changed. --dry-run lists them; --force takes the file back all the same."


class Removed(NamedTuple):
    """One transaction that would go, and how many objects it wrote."""

    transaction: Transaction
    objects: int


class TakeBackPlan(NamedTuple):
    """What taking a file back to a moment would do; nothing has been written.

    The file would end with ``base``, at ``end``; ``last_tid`` is its last transaction now. ``removed`` lists the first
    of the ``transactions`` that would go, oldest first, in ``bytes``; they wrote ``objects``. ``blobs`` are their blob
    files; ``blobs_unknown`` counts those whose file is not found. ``findings`` are references that would lead nowhere
    and do not today. ``stage_outdated`` tells that a stage was made on top of what would go.
    """

    database: str
    base: Transaction
    end: int
    last_tid: int
    transactions: int
    removed: tuple[Removed, ...]
    objects: int
    bytes: int
    blobs: tuple[BlobFile, ...] = ()
    blobs_unknown: int = 0
    findings: tuple[Finding, ...] = ()
    stage_outdated: bool = False


class TakeBackResult(NamedTuple):
    """What was done: ``tail`` is the path of the tail, None where nothing had to go; ``trouble`` what failed after."""

    plan: TakeBackPlan
    tail: str | None
    trouble: str | None = None


def plan_take_back(source: FileSource, tid: int, *, spec: Spec, progress: Progress = SILENT) -> TakeBackPlan:
    """Say what would go if the file ended with the last transaction not after ``tid``.

    Raises BeforeTheFirst, FramingDamage.
    """
    base = next(source.transactions(0, tid, reverse=True), None)
    if base is None or base.position is None or base.length is None:
        first = next(source.transactions(), None)
        hint = "The database holds no transaction."
        if first is not None:
            hint = f"Its first transaction: {tid_text(first.tid)} ({time_text(first.tid)})."
        raise BeforeTheFirst(f"{source.path}: there is nothing from {time_text(tid)} or before", hint=hint)
    end = base.position + base.length
    removed, blobs, unknown, count = [], [], 0, 0
    objects: set[int] = set()
    for transaction in source.transactions(base.tid + 1):
        wrote = set()
        for revision in source.records(transaction):
            wrote.add(revision.oid)
            if is_blob(revision.data):
                path = source.blob_path(revision.oid, revision.tid)
                unknown += path is None
                blobs += [] if path is None else [BlobFile(revision.oid, revision.tid, path)]
        objects |= wrote
        count += 1
        if count <= _LISTED:
            removed.append(Removed(transaction, len(wrote)))
    return TakeBackPlan(
        spec.text, base, end, source.last_tid, count, tuple(removed), len(objects), (source.info().bytes or end) - end,
        tuple({blob.path: blob for blob in blobs}.values()), unknown,
        tuple(_findings(source, base.tid, progress)) if count else (),
        _stage_outdated(spec, base.tid),
    )  # fmt: skip


def take_back(
    spec: Spec, plan: TakeBackPlan, *, force: bool = False, hold: ExitStack | None = None, progress: Progress = SILENT
) -> TakeBackResult:
    """Take the file back as planned, under its write lock; what goes is kept as a tail first.

    Once it is done, signals wait until ``hold`` is left.

    Raises LeavesDangling (unless ``force``), Conflict (the file was changed since), DatabaseLocked, FramingDamage,
    NotWritable, Unsupported, DiskFullError, StorageIOError: nothing changed then; and OutcomeUnknown.
    """
    require_file(spec)
    if not plan.transactions:
        return TakeBackResult(plan, None)
    if plan.findings and not force:
        raise LeavesDangling(f"{spec.text}: {plan.findings[0].message}, and there is more like it"
                             if len(plan.findings) > 1 else f"{spec.text}: {plan.findings[0].message}")  # fmt: skip
    path = other_name(spec.path) or spec.path
    with (
        failing_well(spec.text, "taken back"),
        write_lock(spec.path),
        closing(sound_source(spec, progress)) as source,
        ExitStack() as own,
    ):
        _require_unchanged(source, plan)
        file, size = source.file, source.info().bytes or 0
        header = _header(file, plan, size, progress)
        require_room(os.path.dirname(path), size + _SPARE, f"taking back {spec.text}")
        tail = keep_tail(path, file, header, plan.blobs, progress)
        troubles: list[str | None] = []
        try:
            trouble = refile(
                path,
                [Piece(file, 0, plan.end, header.base_digest)],
                beside=(spec.path,),
                hold=own if hold is None else hold,
                after=lambda: troubles.append(remove_blobs(blob.path for blob in plan.blobs)),
                progress=progress,
            )
        except OutcomeUnknown as exc:
            exc.hint = (
                f"`zodbsh log {quote(spec.text)} -n 1` tells whether it was taken back; "
                f"what was taken off it is in {tail.path}, and its blobs are in both places."
            )
            raise
        except BaseException:
            _forget(tail, file, path)
            raise
    return TakeBackResult(plan, tail.path, "; ".join(filter(None, [*troubles, trouble])) or None)


def require_file(spec: Spec) -> None:
    """Raise Unsupported where a database is no plain file, NotWritable where it is configured as read-only."""
    if spec.kind != "file":
        raise Unsupported(
            f"{spec.text}: only a FileStorage can be taken back to a moment",
            hint="`zodbsh undo DATABASE TID...` undoes single transactions.",
        )
    if spec.read_only:
        raise NotWritable(f"{spec.text} is configured as read-only")


def sound_source(spec: Spec, progress: Progress = SILENT) -> FileSource:
    """Open a file whose framing has been checked from one end to the other. Raises FramingDamage."""

    def damaged(damage: Damage) -> None:
        raise FramingDamage(spec.path, damage, more=0)

    source = FileSource(spec.path, blob_dir=spec.blob_dir, unchecked=True)
    try:
        found = source.survey(options=Options(references=False), on_damage=damaged, progress=progress)
        if 0 < found.tail <= STATUS_OFFSET:
            damaged(Damage(found.end, "header", f"{found.tail} bytes are too few for a transaction"))
    except BaseException:
        source.close()
        raise
    return source


def is_named(file: DataFile, path: str) -> bool:
    """Tell whether an open file is the one under that name; True only where that is certain."""
    try:
        return os.path.samestat(os.fstat(file.fd), os.stat(path))
    except OSError:
        return False


def _forget(tail: Tail, file: DataFile, path: str) -> None:
    """Remove a tail again, where the database still has its transactions."""
    if is_named(file, path):
        with uninterrupted(), suppress(OSError):
            discard_tail(tail)


def _require_unchanged(source: FileSource, plan: TakeBackPlan) -> None:
    base = next(source.transactions(plan.base.tid, plan.base.tid, reverse=True), None)
    if source.last_tid != plan.last_tid or base != plan.base:
        raise Conflict(
            f"{plan.database} was changed while it was looked at",
            hint="Nothing was changed. Run it again to see what would go now.",
        )


def _header(file: DataFile, plan: TakeBackPlan, size: int, progress: Progress) -> TailHeader:
    return TailHeader(
        format=file.read(0, MAGIC_SIZE),
        base_end=plan.end,
        base_tid=plan.base.tid,
        first_tid=plan.removed[0].transaction.tid,
        last_tid=plan.last_tid,
        transactions=plan.transactions,
        length=size - plan.end,
        blobs=len(plan.blobs),
        base_digest=digest_range(file, 0, plan.end, progress),
        digest=digest_range(file, plan.end, size - plan.end, progress),
    )


def _findings(source: FileSource, tid: int, progress: Progress) -> Iterator[Finding]:
    """Yield the references that would lead nowhere in the file as it was then, and do not today."""
    then = source.columns(tid, progress=progress)
    root = then.find(ROOT_OID)
    if root is None or not then.exists(root):
        raise BeforeTheFirst(f"{source.path} had no root at {tid_text(tid)} ({time_text(tid)})")
    pairs = set(_dangling(then))
    if pairs:
        pairs -= set(_dangling(source.columns(progress=progress)))
    places = places_of(Snapshot(source, tid), [oid for oid, _ in sorted(pairs)[:_PATHS]]) if pairs else {}
    for oid, target in sorted(pairs):
        who = places[oid].path if oid in places else oid_text(oid)
        message = f"{who} would refer to {oid_text(target)}, which a pack has removed as it was then"
        yield Finding("dangling", oid, None, None, message)


def _dangling(columns: Columns) -> Iterator[tuple[int, int]]:
    found = chosen.dangling(columns.classes, columns.starts, columns.counts, columns.targets)
    return ((columns.oids[source], columns.oids[target]) for source, target in found)


def _stage_outdated(spec: Spec, tid: int) -> bool:
    if spec.kind != "file" or not os.path.lexists(store.stage_path(spec)):
        return False
    with suppress(ZodbshError):
        stage = store.load(spec)
        return stage is not None and (
            stage.base_tid > tid or any(entry.serial is not None and entry.serial > tid for entry in stage.entries)
        )
    return True
