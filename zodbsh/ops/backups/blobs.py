"""The files of a backup's blobs, in the folder ``blobs``: taken, compared, made good, removed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from zodbsh.analysis.blobfolder import blob_name
from zodbsh.errors import StorageIOError
from zodbsh.filestorage.backupmanifest import Blob
from zodbsh.filestorage.repository import BLOBS, LAYOUT, BackupDamaged, is_leftover
from zodbsh.ids import oid_text, tid_text
from zodbsh.ops.backups.blobfiles import add_file, blob_file, digest_of, remove_empty, size_of
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import fsync_folder, publish, uninterrupted

if TYPE_CHECKING:
    from zodbsh.ops.backups.blobrevisions import Wanted
    from zodbsh.source.file import FileSource


class BlobConflict(StorageIOError):
    """Neither the database nor the folder has the file that manifests tell of; it may be another database."""

    code = "backup-blob-conflict"
    hint = "Put a good file in its place, or back up into another folder: one keeps the backups of one database."


class Unhealed(NamedTuple):
    """A blob whose file in the backup, at ``path``, is missing or damaged, and why it stays so."""

    blob: Blob
    path: str
    why: str


class Taken(NamedTuple):
    """What became of the blobs: those in the backup now, those whose file is nowhere, those only an older backup has.

    ``new`` of them, of ``new_bytes``, were not in the folder before: their paths are ``added``.
    """

    blobs: tuple[Blob, ...]
    missing: tuple[tuple[int, int], ...]
    rescued: tuple[tuple[int, int], ...]
    new: int
    new_bytes: int
    added: tuple[str, ...] = ()


def take_blobs(
    source: FileSource,
    wanted: Iterable[Wanted],
    known: Mapping[tuple[int, int], Blob],
    folder: str,
    *,
    copy: bool,
    progress: Progress = SILENT,
) -> Taken:
    """See to it that the folder of backups has the file of each blob; ``known`` are those that manifests name.

    Raises BlobConflict, StorageIOError, OSError; the folder is as it was then.
    """
    store = _Store(os.path.join(folder, BLOBS), copy=copy)
    try:
        return _take(source, wanted, known, store, progress)
    except BaseException:
        with uninterrupted():
            leave_blobs(folder, store.added)
        raise


def heal_blobs(
    source: FileSource,
    recorded: Iterable[Blob],
    folder: str,
    *,
    contents: bool,
    copy: bool,
    progress: Progress = SILENT,
) -> tuple[list[Blob], list[Unhealed], list[Unhealed]]:
    """Replace files of blobs that are not what manifests say by the database's.

    Return those replaced, those still bad, and those of which the backup has a good file and the database a bad one.

    Sizes are compared, with ``contents`` their SHA-256 as well.
    """
    store = _Store(os.path.join(folder, BLOBS), copy=copy)
    healed: list[Blob] = []
    failed: list[Unhealed] = []
    bad_beside: list[Unhealed] = []
    progress.start("verifying blobs", None, "blobs")
    for done, blob in enumerate(recorded):
        progress.advance(done)
        if store.has(blob) and not (contents and store.is_changed(blob)):
            path = source.blob_path(blob.oid, blob.tid)
            if path is not None and (why := is_bad(path, blob)):
                bad_beside.append(Unhealed(blob, path, why))
            continue
        path, why = source.blob_path(blob.oid, blob.tid), "the database has none like it"
        try:
            if path is not None and store.heal(path, blob):
                healed.append(blob)
                continue
        except (OSError, StorageIOError) as exc:
            why = f"could not be replaced: {exc.message if isinstance(exc, StorageIOError) else exc.strerror or exc}"
        failed.append(Unhealed(blob, blob_file(folder, blob.oid, blob.tid), why))
    store.sync()
    progress.finish()
    return healed, failed, bad_beside


def is_bad(path: str, blob: Blob) -> str:
    """Say what is wrong with the database's file of a recorded blob, as far as that shows without reading it."""
    size = size_of(path)
    if size is not None and size != blob.size:
        return f"{path} has {size:,} bytes, not {blob.size:,}"
    return "" if size is None or os.access(path, os.R_OK) else f"{path} cannot be read: no permission"


def leave_blobs(folder: str, paths: Iterable[str]) -> None:
    """Remove blobs that were taken for a step that was not written."""
    for path in paths:
        with suppress(OSError):
            os.unlink(path)
            remove_empty(os.path.dirname(path), os.path.join(folder, BLOBS))


def _take(
    source: FileSource,
    wanted: Iterable[Wanted],
    known: Mapping[tuple[int, int], Blob],
    store: _Store,
    progress: Progress,
) -> Taken:
    blobs, missing, rescued = [], [], []
    progress.start("taking blobs", None, "blobs")
    for done, (oid, tid, certain) in enumerate(wanted):
        progress.advance(done)
        recorded = known.get((oid, tid))
        path = source.blob_path(oid, tid)
        if path is not None and recorded is not None and is_bad(path, recorded) and store.is_good(recorded):
            # What the backup has is what was written; that the database's file is otherwise is said when all is done.
            blobs.append(recorded)
            continue
        if path is not None and not os.access(path, os.R_OK):
            missing.append((oid, tid))
            continue
        if path is None:
            if recorded is not None and store.has(recorded):
                blobs.append(recorded)
                if certain:
                    rescued.append((oid, tid))
            elif certain:
                missing.append((oid, tid))
            continue
        try:
            blobs.append(store.take(path, oid, tid, recorded))
        except FileNotFoundError:
            # A pack beside us has removed it between our looking and our taking.
            missing.append((oid, tid))
    store.sync()
    progress.finish()
    return Taken(
        tuple(blobs), tuple(missing), tuple(rescued), len(store.added), store.new_bytes, tuple(store.added)
    )  # fmt: skip


class _Store:
    """The folder ``blobs`` of a folder of backups."""

    def __init__(self, path: str, *, copy: bool) -> None:
        self.path, self._copy = path, copy
        self.added: list[str] = []
        self.new_bytes = 0
        self._folders: set[str] = set()

    def has(self, blob: Blob) -> bool:
        """Tell whether the file of a recorded blob is there, by its size."""
        return size_of(self._file(blob.oid, blob.tid)) == blob.size

    def is_changed(self, blob: Blob) -> bool:
        """Tell whether the file of a recorded blob has another content, or cannot be read."""
        try:
            return digest_of(self._file(blob.oid, blob.tid)) != blob.sha256
        except OSError:
            return True

    def is_good(self, blob: Blob) -> bool:
        """Tell whether the file of a recorded blob is the one that was written."""
        return self.has(blob) and not self.is_changed(blob)

    def heal(self, path: str, blob: Blob) -> bool:
        """Put a good file in the place of a bad one, in one step; False where this one is none."""
        if size_of(path) != blob.size or digest_of(path) != blob.sha256:
            return False
        target = self._file(blob.oid, blob.tid)
        place = os.path.dirname(target)
        self._make_folder(place)
        # What a killed run has left shows to nobody who looks at the folder above.
        for name in filter(is_leftover, os.listdir(place)):
            os.unlink(os.path.join(place, name))
        add_file(path, target, copy=self._copy, replace=True)
        return True

    def take(self, path: str, oid: int, tid: int, recorded: Blob | None) -> Blob:
        """Link or copy a blob file, unless it is there. Raises BlobConflict, OSError."""
        target, size = self._file(oid, tid), os.stat(path).st_size
        if recorded is not None:
            if recorded.size != size:
                raise _conflict(path, oid, tid)
            if size_of(target) == size:
                return recorded
            if digest_of(path) != recorded.sha256:
                raise _conflict(path, oid, tid)
        self._make_folder(os.path.dirname(target))
        is_there = os.path.lexists(target)
        if not is_there or not os.path.samefile(path, target):
            self.added.append(target)
            # What is there is vouched for by no manifest, or is not what its manifest says.
            add_file(path, target, copy=self._copy, replace=is_there)
        blob = Blob(oid, tid, os.stat(target).st_size, digest_of(target))
        if recorded is not None and blob != recorded:
            raise BackupDamaged(f"{target} was not written as it was read", folder=os.path.dirname(self.path))
        self.new_bytes += blob.size
        return blob

    def sync(self) -> None:
        """Make the names survive a power failure."""
        for folder in sorted(self._folders, reverse=True):
            fsync_folder(folder)

    def _file(self, oid: int, tid: int) -> str:
        return os.path.join(self.path, blob_name(LAYOUT, oid, tid))

    def _make_folder(self, folder: str) -> None:
        if folder in self._folders:
            return
        self._folders.add(folder)
        outer = os.path.dirname(folder)
        if folder == self.path:
            self._folders.add(outer)
            with suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            marker = os.path.join(folder, ".layout")
            if not os.path.lexists(marker):
                publish(marker, lambda file: _write(file, f"{LAYOUT}\n".encode()), mode=0o600)
            return
        self._make_folder(outer)
        with suppress(FileExistsError):
            os.mkdir(folder, 0o700)


def _conflict(path: str, oid: int, tid: int) -> BlobConflict:
    return BlobConflict(
        f"{path} is not the blob {oid_text(oid)} of {tid_text(tid)} that was backed up, nor is a good one left"
    )


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)
