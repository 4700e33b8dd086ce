"""Writing one step of a backup: data, index, ``.dat``, blobs and manifest, each given its name when all are written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from hashlib import sha256
from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.filestorage.backupmanifest import BackupManifest, Blob, manifest_bytes, manifest_name
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.parts import Digests, check_part, copy_range
from zodbsh.filestorage.repository import Line, Step, dat_bytes, dat_name
from zodbsh.filestorage.stream import TransactionStream
from zodbsh.filestorage.structs import MAGIC_SIZE
from zodbsh.ops.backups.blobrevisions import Wanted, blob_revisions
from zodbsh.ops.backups.blobs import Taken, leave_blobs, take_blobs
from zodbsh.ops.backups.chain import Piece, end_of, recorded_blobs
from zodbsh.ops.backups.scan import Scan, SourceDamaged, scan_source
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import OutcomeUnknown, require_room, staged, uninterrupted, without_signals

if TYPE_CHECKING:
    from zodbsh.source.file import FileSource

# Beside the data: a manifest, a line of `.dat`, folders.
_SPARE = 65_536


class StepUnknown(OutcomeUnknown):
    """A step has its data, which restores, but not all that belongs to it."""

    code = "backup-incomplete"


class Replaced(Exception):
    """A pack has replaced the file, and taken blobs of the one that we read."""


class Job(NamedTuple):
    """What a step is made of and where it goes: ``source`` is called ``name``, ``path`` is the folder of backups."""

    source: FileSource
    name: str
    path: str
    mode: int
    copy_blobs: bool = False
    progress: Progress = SILENT

    @property
    def file(self) -> DataFile:
        """The database's file."""
        return self.source.file

    def join(self, name: str) -> str:
        """Return the path of a file in the folder of backups."""
        return os.path.join(self.path, name)

    def staged(self, name: str, *, exclusive: bool = False) -> AbstractContextManager[str]:
        """Give a temporary file that becomes a file in the folder of backups."""
        return staged(self.join(name), exclusive=exclusive, mode=self.mode)

    def is_replaced(self) -> bool:
        """Tell whether another file has the database's name now."""
        try:
            now = os.stat(self.file.path)
        except FileNotFoundError:
            return True
        ours = os.fstat(self.file.fd)
        return (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino)


def write_step(
    job: Job,
    step: Step,
    chain: list[Piece],
    scan: Scan,
    known: dict[tuple[int, int], Blob],
    *,
    adopt: Piece | None = None,
) -> tuple[BackupManifest, Taken]:
    """Write the step that follows a chain (none: a full backup), up to the end of what was scanned.

    With ``adopt`` the step is there, of a backup that was killed or repozo's, and what it lacks is made for it.
    ``known`` are the blobs that manifests name. Raises Replaced, SourceDamaged, BackupDamaged, BlobConflict,
    StorageIOError, OSError, OutcomeUnknown; but for the last nothing is left of the step.
    """
    start = end_of(chain)
    full = chain[0].step if chain else step
    if not step.compressed and adopt is None:
        require_room(job.path, scan.end - start + 8 * len(scan.columns) + _SPARE, f"a backup of {job.name}")
    reached: list[str] = []
    added: list[str] = []
    try:
        # From the moment when all is written, signals wait until every name is given.
        with ExitStack() as held, ExitStack() as stack:
            # The last one that is entered gets its name first.
            manifest_file = stack.enter_context(job.staged(manifest_name(step), exclusive=True))
            stack.enter_context(_noting(reached, "dat"))
            dat_file = stack.enter_context(job.staged(dat_name(full)))
            index_file = stack.enter_context(job.staged(step.stamp + ".index"))
            stack.enter_context(_noting(reached, "data"))
            data_file = adopt.path if adopt else stack.enter_context(job.staged(step.name, exclusive=True))
            # Python's work, while the digests and the disk have theirs.
            index = stack.enter_context(ThreadPoolExecutor(1, initializer=without_signals)).submit(
                write_index, index_file, scan
            )
            wanted = list(wanted_blobs(job.file, scan, chain))
            taken = take_blobs(
                job.source, wanted, known, job.path, copy=job.copy_blobs, progress=job.progress
            )  # fmt: skip
            added += taken.added
            if taken.missing and job.is_replaced():
                raise Replaced
            digests = _read_data(adopt) if adopt else _write_data(job, data_file, step, start, scan)
            manifest = BackupManifest(
                step.name, full.name, start, scan.end, os.stat(data_file).st_size,
                scan.first_tid, scan.last_tid, scan.packed_tid, scan.transactions_after(start),
                digests.md5, digests.chunks, index.result(), taken.blobs, taken.missing,
                tuple(piece.step.name for piece in chain if piece.manifest is not None),
            )  # fmt: skip
            lines = [*_lines(chain), Line(step.name, start, scan.end, digests.md5)]
            fill(dat_file, [dat_bytes(job.path, lines)])
            fill(manifest_file, [manifest_bytes(manifest)])
            held.enter_context(uninterrupted())
    except BaseException as exc:
        with uninterrupted():
            gone = "dat" not in reached and not isinstance(exc, OutcomeUnknown)
            if gone and _take_back(job, step, reached, adopt=adopt is not None):
                leave_blobs(job.path, added)
            elif isinstance(exc, OSError):
                raise StepUnknown(
                    f"{job.join(step.name)} was written, but not all that belongs to it: {exc.strerror or exc}",
                    hint=f"`zodbsh backup {quote(job.name)} {quote(job.path)}` completes it.",
                ) from exc
        raise
    return manifest, taken


def wanted_blobs(file: DataFile, scan: Scan, chain: list[Piece]) -> Iterator[Wanted]:
    """Yield the blobs that no manifest of a chain has: those missing then, those of what none covers."""
    covered = max((piece.manifest.end for piece in chain if piece.manifest is not None), default=MAGIC_SIZE)
    had = recorded_blobs(chain)
    missing = {key for piece in chain if piece.manifest is not None for key in piece.manifest.missing}
    for oid, tid in sorted(missing - had.keys()):
        yield Wanted(oid, tid, True)
    for wanted in blob_revisions(file, scan.columns, covered, scan.end):
        if (wanted.oid, wanted.tid) not in had and (wanted.oid, wanted.tid) not in missing:
            yield wanted


def write_index(path: str, scan: Scan) -> str:
    """Write the index of a step; return its SHA-256."""
    digest = sha256()
    with open(path, "r+b") as file:
        for part in scan.index_file():
            digest.update(part)
            file.write(part)
    return digest.hexdigest()


def fill(path: str, parts: Iterable[bytes]) -> None:
    """Write a file's content into one that is there and empty."""
    with open(path, "r+b") as file:
        file.writelines(parts)


@contextmanager
def _noting(reached: list[str], what: str) -> Iterator[None]:
    """Note that what was entered later has ended well."""
    yield
    reached.append(what)


def _take_back(job: Job, step: Step, reached: list[str], *, adopt: bool) -> bool:
    """Remove a data file that has no line in ``.dat``: repozo's next quick increment would repeat what is in it.

    Tells whether it is gone.
    """
    if reached == ["data"] and not adopt:
        with suppress(OSError):
            os.unlink(job.join(step.name))
        with suppress(OSError):
            os.unlink(job.join(step.stamp + ".index"))
        return not os.path.lexists(job.join(step.name))
    return True


def _write_data(job: Job, path: str, step: Step, start: int, scan: Scan) -> Digests:
    """Write the data file, and read it back from the disk."""
    progress = job.progress
    with open(path, "r+b") as out:
        progress.start("writing the backup", scan.end, "bytes")
        digests = copy_range(job.file, start, scan.end, out, compressed=step.compressed, progress=progress)
        progress.finish()
        out.flush()
        os.fsync(out.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    progress.start("verifying the backup", scan.end, "bytes")
    # An increment refers to what is before it, and what is compressed cannot be read by position.
    stream = TransactionStream(start, scan.tid_before(job.file, start)) if start or step.compressed else None
    check_part(
        path, compressed=step.compressed, chunks=digests.chunks, md5sum=None, size=scan.end - start,
        also=None if stream is None else stream.feed, progress=progress, done=start,
    )  # fmt: skip
    progress.finish()
    if stream is None:
        with DataFile(path) as written:
            scan_source(written, name=job.name, progress=progress)
        return digests
    stream.close()
    if stream.damage is not None:
        raise SourceDamaged(job.name, stream.damage)
    return digests


def _read_data(piece: Piece) -> Digests:
    """Return the digests of a step without a manifest. Raises BackupDamaged where it is not what its MD5 says."""
    return check_part(
        piece.path, compressed=piece.step.compressed, chunks=None, md5sum=piece.md5, size=piece.size
    )  # fmt: skip


def _lines(chain: list[Piece]) -> Iterator[Line]:
    """Yield the lines of a chain's `.dat`, also those that are not there."""
    for piece in chain:
        if piece.line is not None:
            yield piece.line
            continue
        found = _read_data(piece)
        yield Line(piece.step.name, piece.start, piece.start + found.size, found.md5)
