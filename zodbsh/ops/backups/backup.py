"""``zodbsh backup``: a full backup or an increment of a FileStorage, verified before it counts.

The database is only read, as of one moment, without a lock. What is written gets
its name when it has been read back: first the data file, then its index, then
the ``.dat`` that repozo reads, last the manifest. So whatever ends a backup
early, the folder holds whole steps, which repozo and zodbsh restore.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import closing, suppress
from datetime import UTC, datetime
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.errors import StorageIOError, Unsupported
from zodbsh.filestorage.backupmanifest import Blob
from zodbsh.filestorage.repository import BackupDamaged, Folder, Step, parse_step, read_folder, stamp_after, step_name
from zodbsh.findings import Finding
from zodbsh.ops.backups.blobs import Taken
from zodbsh.ops.backups.chain import Piece, end_of, pieces, recorded_blobs
from zodbsh.ops.backups.folder import backup_folder, lost_full
from zodbsh.ops.backups.judge import judge
from zodbsh.ops.backups.mend import mend
from zodbsh.ops.backups.prune import Pruned, prune, sweep
from zodbsh.ops.backups.scan import Scan, scan_source
from zodbsh.ops.backups.step import Job, Replaced, wanted_blobs, write_step
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import failing_well
from zodbsh.source.file import FileSource

if TYPE_CHECKING:
    from zodbsh.db.spec import Spec

_TRIES = 20
# A clock that is further behind than this is not waited for.
_PATIENCE = 5.0


class BackupResult(NamedTuple):
    """What a backup did.

    ``kind`` is ``full``, ``increment``, or ``none`` where there was nothing new; ``reason`` says why a backup is full
    that might have been an increment. ``start`` and ``end`` are the range of the database that was written, ``size``
    that of the data file; ``findings`` are blobs whose files are missing, or bytes changed in place; ``pruned`` is what
    ``keep`` removed.
    """

    database: str
    folder: str
    kind: str
    reason: str
    step: str | None
    start: int
    end: int
    size: int
    transactions: int
    last_tid: int
    blobs: int
    new_blobs: int
    new_blob_bytes: int
    findings: tuple[Finding, ...] = ()
    pruned: Pruned = Pruned()
    notes: tuple[str, ...] = ()


def backup(
    spec: Spec,
    folder: str,
    *,
    full: bool = False,
    quick: bool = False,
    compress: bool = False,
    keep: int | None = None,
    copy_blobs: bool = False,
    progress: Progress = SILENT,
) -> BackupResult:
    """Back a FileStorage up into ``folder``, which is made where it is missing.

    ``full`` forces a full backup; ``quick`` does not read the files that an increment would be put on top of; ``keep``
    removes all but so many full backups and what follows them, once the new state was verified. Raises Unsupported
    (no FileStorage), NoPlace, SourceDamaged, OtherDatabase, FolderBusy, BackupDamaged (of ``keep``), StorageIOError,
    OutcomeUnknown, and what opening the file raises.
    """
    if spec.kind != "file":
        raise Unsupported(
            f"{spec.text} is no FileStorage; a backup copies the file of one",
            hint="Back up on the server that has the file; a relational database has a backup of its own.",
        )
    # What is no database is told before a folder is made.
    with closing(_opened(spec)):
        pass
    with failing_well(folder, "written to"), backup_folder(folder, spec):
        for _ in range(_TRIES):
            with closing(_opened(spec)) as source, suppress(Replaced):
                mode = stat.S_IMODE(os.fstat(source.file.fd).st_mode) & 0o666 | 0o600
                job = Job(source, spec.text, folder, mode, copy_blobs, progress)
                return _Run(job, compress=compress).run(full=full, quick=quick, keep=keep)
        raise StorageIOError(f"{spec.text} is packed again and again while its blobs are taken", hint="Try again.")


def _opened(spec: Spec) -> FileSource:
    return FileSource(spec.path, blob_dir=spec.blob_dir, unchecked=True)


class _Run:
    """One backup of one open file."""

    def __init__(self, job: Job, *, compress: bool) -> None:
        self._job, self._compress = job, compress
        self._notes: list[str] = []
        self._found: list[Finding] = []

    def run(self, *, full: bool, quick: bool, keep: int | None) -> BackupResult:
        """Make the backup; complete what the folder lacks; prune when all is verified."""
        job = self._job
        sweep(job.path)
        folder = read_folder(job.path)
        scan = scan_source(job.file, name=job.name, progress=job.progress)
        chains = [pieces(folder, chain) for chain in folder.chains]
        chain = chains[-1] if chains else []
        known = {key: blob for found in chains for key, blob in recorded_blobs(found).items()}
        verdict = judge(job, chains, scan, full=full, quick=quick, lost=lost_full(folder))
        if verdict.damage:
            self._find("backup-damaged", f"{verdict.damage}; this backup is full, so that nothing depends on it")
        reason = verdict.reason
        if reason:
            result = self._write(self._new_step(folder, increment=False), [], scan, known)
        elif end_of(chain) < scan.end:
            result = self._write(self._new_step(folder, increment=True), chain, scan, known)
        elif chain[-1].manifest is None:
            reason, result = self._adopt(folder, chain, scan, known)
        elif self._has_more_blobs(scan, chain):
            reason = "there are blobs that the last one does not have"
            result = self._write(self._new_step(folder, increment=False), [], scan, known)
        else:
            result = self._nothing_new(chain, scan)
        mended = mend(job, scan, contents=full or keep is not None)
        self._found += mended.findings
        self._notes += mended.notes
        if verdict.changed is not None:
            message = "changed in place since the last backup, which only damage does; no older backup was removed"
            self._find("changed-in-place", message, verdict.changed)
        elif keep is not None and verdict.is_stranger:
            self._notes.append("no older backup was removed: none of their transactions is in the database")
        elif keep is not None and verdict.is_earlier:
            self._notes.append("no older backup was removed: the last one has later transactions than the database")
        elif keep is not None:
            result = self._prune(result, keep, mended.bad)
        findings = (*result.findings, *self._found)
        return result._replace(reason=reason, findings=findings, notes=tuple(self._notes))

    def _find(self, kind: str, message: str, offset: int | None = None) -> None:
        self._found.append(Finding(kind, None, None, offset, message))

    def _prune(self, result: BackupResult, keep: int, bad: str) -> BackupResult:
        job = self._job
        try:
            return result._replace(pruned=prune(job.path, keep, job.progress, bad=bad))
        except BackupDamaged as exc:
            again = f"`zodbsh backup {quote(job.name)} {quote(job.path)} --full` makes a new full backup."
            raise BackupDamaged(exc.message, folder=job.path, hint=again) from exc
        except OSError as exc:
            # The backup is whole, and older ones are no loss.
            self._find("not-pruned", f"older backups could not be removed: {exc.strerror or exc}")
            return result

    def _adopt(
        self, folder: Folder, chain: list[Piece], scan: Scan, known: dict[tuple[int, int], Blob]
    ) -> tuple[str, BackupResult]:
        """Write the manifest that the last step lacks, or, where that is damaged, a full backup."""
        *before, last = chain
        try:
            return "it had no manifest", self._write(last.step, before, scan, known, adopt=last)
        except BackupDamaged as exc:
            self._find("backup-damaged", f"{exc.message}; this backup is full, so that nothing depends on it")
        step = self._new_step(folder, increment=False)
        return "the last one is damaged", self._write(step, [], scan, known)

    def _write(
        self,
        step: Step,
        chain: list[Piece],
        scan: Scan,
        known: dict[tuple[int, int], Blob],
        *,
        adopt: Piece | None = None,
    ) -> BackupResult:
        manifest, taken = write_step(self._job, step, chain, scan, known, adopt=adopt)
        return BackupResult(
            self._job.name, self._job.path, step.kind, "", step.name, manifest.start, scan.end, manifest.size,
            manifest.transactions, scan.last_tid, len(recorded_blobs(chain)) + len(taken.blobs), taken.new,
            taken.new_bytes, self._findings(taken),
        )  # fmt: skip

    def _has_more_blobs(self, scan: Scan, chain: list[Piece]) -> bool:
        """Tell whether there are files now of blobs that were missing when the chain was made."""
        source, had = self._job.source, recorded_blobs(chain)
        return any(
            (oid, tid) not in had and (path := source.blob_path(oid, tid)) is not None and os.access(path, os.R_OK)
            for oid, tid, _ in wanted_blobs(self._job.file, scan, chain)
        )

    def _nothing_new(self, chain: list[Piece], scan: Scan) -> BackupResult:
        had = recorded_blobs(chain)
        missing = {key for piece in chain if piece.manifest is not None for key in piece.manifest.missing}
        taken = Taken(tuple(had.values()), tuple(sorted(missing - had.keys())), (), 0, 0)
        return BackupResult(
            self._job.name, self._job.path, "none", "", None, scan.end, scan.end, 0, 0, scan.last_tid, len(had), 0, 0,
            self._findings(taken),
        )  # fmt: skip

    def _new_step(self, folder: Folder, *, increment: bool) -> Step:
        stamp, wait = stamp_after(folder.newest, _now())
        if wait > _PATIENCE:
            self._notes.append(f"the newest backup is of the future: this one is named {stamp}")
        else:
            # repozo takes no notice of what is named for a moment that has not come.
            while wait > 0:
                time.sleep(0.02)
                stamp, wait = stamp_after(folder.newest, _now())
        step = parse_step(step_name(stamp, increment=increment, compressed=self._compress))
        assert step is not None
        return step

    def _findings(self, taken: Taken) -> tuple[Finding, ...]:
        if taken.missing and self._job.source.blob_folder() is None:
            message = f"the database has {len(taken.missing):,} blobs, but no folder of blobs is known (--blobs DIR)"
            return (Finding("blob-missing", None, None, None, message),)
        gone = [Finding("blob-missing", oid, tid, None, self._why_missing(oid, tid)) for oid, tid in taken.missing]
        kept = "its file is missing beside the database; an earlier backup has it"
        return (*gone, *(Finding("blob-missing", oid, tid, None, kept) for oid, tid in taken.rescued))

    def _why_missing(self, oid: int, tid: int) -> str:
        path = self._job.source.blob_path(oid, tid)
        return "its file is missing" if path is None else f"{path} cannot be read"


def _now() -> datetime:
    return datetime.now(UTC)
