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
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.errors import StorageIOError, Unsupported, UsageError
from zodbsh.filestorage.backupmanifest import Blob
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.repository import (
    BLOBS,
    LOCK,
    BackupDamaged,
    Folder,
    Step,
    parse_step,
    read_folder,
    stamp_after,
    step_name,
)
from zodbsh.findings import Finding
from zodbsh.ids import tid_text
from zodbsh.ops.backupblobs import Taken, blob_file, heal_blobs
from zodbsh.ops.backupchain import Piece, check_files, first_change, has_any, pieces, recorded_blobs
from zodbsh.ops.backuplock import folder_lock
from zodbsh.ops.backupprune import Pruned, prune, sweep
from zodbsh.ops.backupscan import Scan, scan_source
from zodbsh.ops.backupstep import Job, Replaced, end_of, wanted_blobs, write_step
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import failing_well, fsync_folder
from zodbsh.source.file import FileSource

if TYPE_CHECKING:
    from zodbsh.db.spec import Spec

_TRIES = 20
# A clock that is further behind than this is not waited for.
_PATIENCE = 5.0


class OtherDatabase(UsageError):
    """The folder has the backups of another database."""

    code = "backup-other-database"
    hint = "One folder keeps the backups of one database; take another folder."


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
    compress: bool = False,
    keep: int | None = None,
    copy_blobs: bool = False,
    progress: Progress = SILENT,
) -> BackupResult:
    """Back a FileStorage up into ``folder``, which is made where it is missing.

    ``full`` forces a full backup; ``keep`` removes all but so many full backups and what follows them, once the new
    state was verified. Raises Unsupported (no FileStorage), SourceDamaged, OtherDatabase, FolderBusy, BackupDamaged
    (of ``keep``), StorageIOError, OutcomeUnknown, and what opening the file raises.
    """
    if spec.kind != "file":
        raise Unsupported(
            f"{spec.text} is no FileStorage; a backup copies the file of one",
            hint="Back up on the server that has the file; a relational database has a backup of its own.",
        )
    with closing(FileSource(spec.path, blob_dir=spec.blob_dir, unchecked=True)) as source:
        blobs = (source.blob_folder() or (None,))[0]
    with failing_well(folder, "written to"):
        _make_folder(folder, blobs)
    with failing_well(folder, "written to"), folder_lock(folder):
        for _ in range(_TRIES):
            with closing(FileSource(spec.path, blob_dir=spec.blob_dir, unchecked=True)) as source, suppress(Replaced):
                mode = stat.S_IMODE(os.fstat(source.file.fd).st_mode) & 0o666 | 0o600
                job = Job(source, spec.text, folder, mode, copy_blobs, progress)
                return _Run(job, compress=compress).run(full, keep)
        raise StorageIOError(f"{spec.text} is packed again and again while its blobs are taken", hint="Try again.")


class _Run:
    """One backup of one open file."""

    def __init__(self, job: Job, *, compress: bool) -> None:
        self._job, self._compress = job, compress
        self._notes: list[str] = []
        self._changed_in_place: int | None = None
        self._is_earlier = self._is_stranger = False
        self._found: list[Finding] = []

    def run(self, full: bool, keep: int | None) -> BackupResult:
        """Make the backup; prune when it is verified."""
        job = self._job
        sweep(job.path)
        folder = read_folder(job.path)
        scan = scan_source(job.file, name=job.name, progress=job.progress)
        chains = [pieces(folder, chain) for chain in folder.chains]
        chain = chains[-1] if chains else []
        known = {key: blob for found in chains for key, blob in recorded_blobs(found).items()}
        self._require_same(chains, scan, full=full)
        reason = "--full" if full else self._why_full(chain, scan)
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
        bad = self._heal(contents=full or keep is not None)
        result = result._replace(findings=(*result.findings, *self._found))
        if self._changed_in_place is not None:
            message = "changed in place since the last backup, which only damage does; no older backup was removed"
            finding = Finding("changed-in-place", None, None, self._changed_in_place, message)
            result = result._replace(findings=(*result.findings, finding))
        elif keep is not None and self._is_stranger:
            self._notes.append("no older backup was removed: none of their transactions is in the database")
        elif keep is not None and self._is_earlier:
            self._notes.append("no older backup was removed: the last one has later transactions than the database")
        elif keep is not None:
            result = self._prune(result, keep, bad)
        return result._replace(reason=reason, notes=tuple(self._notes))

    def _heal(self, *, contents: bool) -> str:
        """Make the files of the newest backup's blobs good again where they are not; return what stays bad."""
        job = self._job
        folder = read_folder(job.path)
        recorded = recorded_blobs(pieces(folder, folder.chains[-1]))
        healed, bad = heal_blobs(
            job.source, recorded.values(), job.path, contents=contents, copy=job.copy_blobs, progress=job.progress
        )  # fmt: skip
        for blob in healed:
            message = "its file in the backup was missing or damaged; the database's took its place"
            self._found.append(Finding("blob-replaced", blob.oid, blob.tid, None, message))
        for blob in bad:
            message = "its file in the backup is missing or damaged, and the database has none like it"
            self._found.append(Finding("blob-damaged", blob.oid, blob.tid, None, message))
        return f"{blob_file(job.path, bad[0].oid, bad[0].tid)} is missing or damaged" if bad else ""

    def _prune(self, result: BackupResult, keep: int, bad: str) -> BackupResult:
        try:
            return result._replace(pruned=prune(self._job.path, keep, self._job.progress, bad=bad))
        except OSError as exc:
            # The backup is whole, and older ones are no loss.
            message = f"older backups could not be removed: {exc.strerror or exc}"
            return result._replace(findings=(*result.findings, Finding("not-pruned", None, None, None, message)))

    def _adopt(
        self, folder: Folder, chain: list[Piece], scan: Scan, known: dict[tuple[int, int], Blob]
    ) -> tuple[str, BackupResult]:
        """Write the manifest that the last step lacks, or, where that is damaged, a full backup."""
        *before, last = chain
        try:
            return "it had no manifest", self._write(last.step, before, scan, known, adopt=last)
        except BackupDamaged as exc:
            self._notes.append(f"a full backup, because {exc.message}")
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

    def _require_same(self, chains: list[list[Piece]], scan: Scan, *, full: bool) -> None:
        """Raise OtherDatabase where the backups are of another one.

        Only a pack moves a database's beginning, and it leaves the transactions that current records are of. Where all
        of a small database was written anew before the pack, nothing tells it from another one: ``full`` says that
        it is the same, and nothing older is removed then.
        """
        chain = chains[-1] if chains else []
        manifest = next((piece.manifest for piece in reversed(chain) if piece.manifest is not None), None)
        if not chain or (manifest is not None and not manifest.last_tid):
            return
        job = self._job
        if manifest is not None and not scan.packed_tid and scan.first_tid != manifest.first_tid:
            begins = f"begins with {tid_text(scan.first_tid)}" if scan.first_tid else "is empty"
            raise OtherDatabase(
                f"{job.path} has the backups of another database: {job.name} {begins}, "
                f"theirs with {tid_text(manifest.first_tid)}"
            )
        # The last one may be unreadable.
        if not any(has_any(found, lambda tid: scan.holds(job.file, tid), job.progress) for found in reversed(chains)):
            if not full:
                raise OtherDatabase(
                    f"{job.path} has the backups of another database: not one of their transactions is in {job.name}",
                    hint="One folder keeps the backups of one database; take another folder. If all of it was written "
                    "anew and packed since, `--full` begins again, and removes nothing.",
                )
            self._is_stranger = True
        self._is_earlier = manifest is not None and scan.last_tid < manifest.last_tid

    def _why_full(self, chain: list[Piece], scan: Scan) -> str:
        """Return why the newest chain cannot be continued, "" where it can."""
        if not chain:
            return "there is none yet"
        if reason := check_files(chain):
            self._notes.append(f"a full backup, because {reason}")
            return "the last one is damaged"
        try:
            changed = first_change(self._job.file, chain, self._job.progress)
            if changed is None and not scan.ends_at(end_of(chain)):
                return f"the last one ends within a transaction, at byte {end_of(chain):,}"
        except BackupDamaged as exc:
            self._notes.append(f"a full backup, because {exc.message}")
            return "the last one is damaged"
        if changed is None:
            return ""
        if self._is_earlier:
            return "the database was taken back: the last backup has later transactions"
        if not _is_rewritten(chain[-1], scan, self._job.file):
            self._changed_in_place = changed
            return f"the database changed at byte {changed:,}, but not by a pack"
        last = chain[-1].manifest
        if last is not None and scan.packed_tid == last.packed_tid and not scan.holds(self._job.file, last.last_tid):
            return f"the database was taken back, and goes on otherwise from byte {changed:,}"
        return f"the database changed at byte {changed:,}, as by a pack"

    def _has_more_blobs(self, scan: Scan, chain: list[Piece]) -> bool:
        """Tell whether there are files now of blobs that were missing when the chain was made."""
        source, had = self._job.source, recorded_blobs(chain)
        return any(
            (oid, tid) not in had and source.blob_path(oid, tid) is not None
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
        gone = [Finding("blob-missing", oid, tid, None, "its file is missing") for oid, tid in taken.missing]
        kept = "its file is missing beside the database; an earlier backup has it"
        return (*gone, *(Finding("blob-missing", oid, tid, None, kept) for oid, tid in taken.rescued))


def _is_rewritten(last: Piece, scan: Scan, file: DataFile) -> bool:
    """Tell whether a pack, or something like it, has been at a file since a step: where it ended, all is otherwise."""
    manifest = last.manifest
    if manifest is None or scan.packed_tid != manifest.packed_tid or not scan.ends_at(manifest.end):
        return True
    return scan.tid_before(file, manifest.end) != manifest.last_tid


def _now() -> datetime:
    return datetime.now(UTC)


def _make_folder(path: str, blob_folder: str | None) -> None:
    """See to it that there is a folder for backups, and no other database's blobs in it."""
    if not os.path.lexists(path):
        outer = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(outer):
            raise UsageError(f"there is no folder {outer}", hint="Create the folder first.")
        os.mkdir(path, 0o700)
        fsync_folder(outer)
        return
    if not os.path.isdir(path):
        raise UsageError(f"{path} is no folder", hint="A backup goes into a folder of its own.")
    blobs = os.path.join(path, BLOBS)
    if not os.path.lexists(blobs):
        return
    same = blob_folder is not None and os.path.realpath(blob_folder) == os.path.realpath(blobs)
    ours = os.path.lexists(os.path.join(path, LOCK)) or any(n.endswith(".manifest") for n in os.listdir(path))
    if same or not ours:
        raise UsageError(
            f"{blobs} holds the blobs of a database", hint="A backup keeps its own blobs there: take another folder."
        )
