"""``zodbsh restore``: a database from a folder of backups, as of a time, verified before it gets its name.

Written whole under a temporary name, checked against the manifests (or repozo's
``.dat``), scanned, cut after the last transaction not after the time, then
renamed. Blobs are those that the restored content names.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import BinaryIO, NamedTuple

from zodbsh.filestorage.datafile import DataFile, EmptyFile, NotFileStorage, read_magic
from zodbsh.filestorage.indexsave import drop_indexes, save_index
from zodbsh.filestorage.parts import check_part
from zodbsh.filestorage.repository import BackupDamaged
from zodbsh.filestorage.stream import TransactionStream
from zodbsh.filestorage.structs import MAGIC_SIZE
from zodbsh.findings import Finding
from zodbsh.ids import MAX_ID
from zodbsh.ops.backups.blobrevisions import blob_revisions
from zodbsh.ops.backups.chain import Piece, damaged, pieces, recorded_blobs
from zodbsh.ops.backups.restoreblobs import NewBlobs
from zodbsh.ops.backups.restoreplace import OLD, blobs_of, check_old, check_owner, check_places, place_of
from zodbsh.ops.backups.restoreplan import Plan, good_before, last_good, nothing_of, plan_restore, unchecked
from zodbsh.ops.backups.scan import Scan, SourceDamaged, scan_source
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import failing_well, require_room, staged, uninterrupted


class RestoreResult(NamedTuple):
    """A restored database: from which step, up to which transaction.

    ``cut`` is how many bytes of the step are later than the time asked for. ``old`` is where the database stays that
    was in the way, ``old_blobs`` its blobs, ``blob_folder`` where the blobs are (None: there are none).
    ``findings`` are blobs that the backup has not got, and steps that nothing vouches for.
    """

    folder: str
    path: str | None
    step: str
    size: int
    cut: int
    transactions: int
    last_tid: int
    blob_folder: str | None
    blobs: int
    blob_bytes: int
    old: str | None
    old_blobs: str | None
    findings: tuple[Finding, ...] = ()


def restore(
    path: str,
    out: str,
    *,
    at: int = MAX_ID,
    force: bool = False,
    blobs: str | None = None,
    with_blobs: bool = True,
    copy_blobs: bool = False,
    hold: ExitStack | None = None,
    progress: Progress = SILENT,
) -> RestoreResult:
    """Write the database to ``out``, its blobs to the folder ``blobs`` (``<out>.blobs``).

    Where ``out`` is there, ``force`` replaces it, under its write lock; it stays as ``.old``, and so does its folder of
    blobs. Raises BackupNotFound, BackupDamaged, AlreadyExists, DatabaseLocked, StorageIOError, OutcomeUnknown;
    nothing has changed then (OutcomeUnknown apart). From the moment when all is written, signals wait until ``hold`` is
    left (without it, until this returns): whoever stops the program hears what was done.
    """
    check_places(path, out, (blobs or blobs_of(out)) if with_blobs else None, force=force)
    plan = plan_restore(path, at)
    with ExitStack() as own, failing_well(out, "restored"), _locked(out):
        check_old(out, force=force)
        restoring = _Restoring(plan, out, blobs, force=force, copy=copy_blobs, progress=progress)
        return restoring.run(hold or own, with_blobs=with_blobs)


def stream(path: str, out: BinaryIO, *, at: int = MAX_ID, progress: Progress = SILENT) -> RestoreResult:
    """Write the database, without blobs, to a pipe; what is wrong shows when its bytes are written already.

    ``blobs`` of the result are those left out.
    Raises BackupNotFound, BackupDamaged, StorageIOError, OSError.
    """
    plan = plan_restore(path, at)
    cut = _Cut(out, plan.until)
    progress.start("restoring", plan.pieces[-1].end, "bytes")
    for piece in plan.pieces:
        with last_good(plan, piece):
            _copy(piece, cut.feed, progress)
            if cut.stream.damage is not None:
                raise damaged(piece, f"is damaged at {cut.stream.damage}")
    cut.close(plan.pieces[-1])
    progress.finish()
    last = plan.pieces[-1]
    found = cut.stream
    left_out = sum(1 for blob in recorded_blobs(plan.pieces).values() if blob.tid <= found.last_tid)
    return RestoreResult(
        path, None, last.step.name, found.end, (last.end or found.end) - found.end, found.transactions,
        found.last_tid, None, left_out, 0, None, None, unchecked(plan),
    )  # fmt: skip


class _Cut:
    """Passes on what belongs to whole transactions up to a tid."""

    def __init__(self, out: BinaryIO, until: int) -> None:
        self.stream = TransactionStream(until=until)
        self._out = out
        self._held = b""
        self._written = 0

    def feed(self, data: bytes) -> None:
        if self.stream.stopped:
            return
        self.stream.feed(data)
        held = self._held + data
        ready = self.stream.ready - self._written
        self._out.write(held[:ready])
        self._held = held[ready:]
        self._written += ready

    def close(self, last: Piece) -> None:
        self.stream.close()
        if self.stream.damage is not None:
            raise damaged(last, f"is damaged at {self.stream.damage}")
        self._out.flush()


class _Restoring:
    """One restore to a file."""

    def __init__(self, plan: Plan, out: str, blobs: str | None, *, force: bool, copy: bool, progress: Progress) -> None:
        self._plan, self._out, self._blobs, self._copy = plan, out, blobs, copy
        self._progress = progress
        self._replaces = force and os.path.exists(out)
        self._default_blobs = blobs_of(out)

    def run(self, hold: ExitStack, *, with_blobs: bool) -> RestoreResult:
        plan, out = self._plan, self._out
        size = sum(piece.size or 0 for piece in plan.pieces)
        real = place_of(out)
        require_room(os.path.dirname(real), size + size // 50, f"restoring {out}")
        mode = stat.S_IMODE(os.stat(plan.pieces[0].path).st_mode) & 0o666 | 0o600
        old = os.path.realpath(out) + OLD if self._replaces else None
        with ExitStack() as stack:
            # The last one that is entered gets its name first.
            blobs = stack.enter_context(NewBlobs(self._blob_folder, out))
            data_file = stack.enter_context(
                staged(real, exclusive=not self._replaces, mode=mode, keep=OLD if self._replaces else None)
            )
            scan = self._write_data(data_file)
            has_blobs = with_blobs and self._fill_blobs(blobs, data_file, scan)
            hold.enter_context(uninterrupted())
            if has_blobs:
                blobs.put()
            # What is there belongs to what is replaced.
            drop_indexes(dict.fromkeys((out, real)))
        # Without one ZODB scans the file.
        save_index(real, scan.end, scan.columns)
        return RestoreResult(
            plan.folder.path, out, plan.pieces[-1].step.name, scan.end, size - scan.end, len(scan.ends), scan.last_tid,
            self._blob_folder if has_blobs else None, blobs.blobs, blobs.bytes, old, blobs.old,
            (*unchecked(plan), *blobs.findings),
        )  # fmt: skip

    @property
    def _blob_folder(self) -> str:
        return self._blobs or self._default_blobs

    def _write_data(self, path: str) -> Scan:
        """Write the database to a file, check it, and cut it at the time."""
        plan, progress = self._plan, self._progress
        progress.start("restoring", plan.pieces[-1].end, "bytes")
        with open(path, "r+b") as file:
            for piece in plan.pieces:
                with last_good(plan, piece):
                    _copy(piece, lambda data: _write(file, data), progress)
        progress.finish()
        with DataFile(path) as data:
            try:
                read_magic(data)
            except (EmptyFile, NotFileStorage) as exc:
                raise damaged(plan.pieces[0], "is damaged: it does not begin as a FileStorage") from exc
            try:
                scan = scan_source(data, until=plan.until, progress=progress)
            except SourceDamaged as exc:
                raise self._damaged(exc) from exc
            later = data.current_size() - scan.end
        if scan.tail:
            raise damaged(plan.pieces[-1], "is damaged: it ends within a transaction")
        if later and not scan.ends:
            raise nothing_of(plan.folder.path, plan.until)
        if later:
            os.truncate(path, scan.end)
        return scan

    def _damaged(self, exc: SourceDamaged) -> BackupDamaged:
        """Name the file of the backup in which a damage of the whole is."""
        place = exc.damage.position
        piece = next((p for p in self._plan.pieces if p.end is not None and place < p.end), self._plan.pieces[-1])
        return damaged(
            piece,
            f"is damaged at byte {place - piece.start:,} of it: {exc.damage}",
            hint=good_before(self._plan, piece),
        )

    def _fill_blobs(self, blobs: NewBlobs, path: str, scan: Scan) -> bool:
        """Make the folder of blobs; tell whether there is to be one."""
        with DataFile(path) as data:
            wanted = list(blob_revisions(data, scan.columns, MAGIC_SIZE, scan.end))
        if not wanted and self._blobs is None and not os.path.lexists(self._blob_folder):
            return False
        recorded = recorded_blobs(self._plan.pieces)
        if os.path.lexists(blobs.target):
            folder = self._plan.folder
            known = {key for chain in folder.chains for key in recorded_blobs(pieces(folder, chain))}
            known |= {(oid, tid) for oid, tid, _ in wanted}
            check_owner(blobs.target, self._out, set(scan.columns.oids) | {oid for oid, _ in known}, known)
        blobs.fill(self._plan.folder.path, wanted, recorded, copy=self._copy, progress=self._progress)
        return True


def _copy(piece: Piece, write: Callable[[bytes], None], progress: Progress) -> None:
    """Hand on a step's content, compared with what is recorded of it."""
    check_part(
        piece.path, compressed=piece.step.compressed, chunks=piece.chunks, md5sum=piece.md5, size=piece.size,
        also=write, progress=progress, done=piece.start,
    )  # fmt: skip


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


@contextmanager
def _locked(out: str) -> Iterator[None]:
    """Hold the write lock of the database that is replaced, if there is one."""
    if not os.path.exists(out):
        yield
        return
    from zodbsh.db.locks import write_lock

    with write_lock(out):
        yield
