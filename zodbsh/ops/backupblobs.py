"""The blobs of a backup: which ones belong to a database's content, and their files in the folder ``blobs``."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import file_digest
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from zodbsh.analysis.blobfolder import BlobFile, Odd, blob_files, blob_name
from zodbsh.engine.columns import DELETED
from zodbsh.errors import StorageIOError
from zodbsh.filestorage.backupmanifest import Blob
from zodbsh.filestorage.damage import Damage
from zodbsh.filestorage.framing import Window, follow
from zodbsh.filestorage.repository import BLOBS, LAYOUT, BackupDamaged, is_leftover
from zodbsh.filestorage.structs import DATA_HEADER, NUMBER, TRANSACTION_HEADER, UNDONE, TransactionHeader
from zodbsh.ids import oid_text, tid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import fsync_folder, publish, uninterrupted
from zodbsh.record.classpart import BLOB_CLASS, class_part

if TYPE_CHECKING:
    from zodbsh.engine.columns import Columns
    from zodbsh.filestorage.datafile import DataFile
    from zodbsh.source.file import FileSource

_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class BlobConflict(StorageIOError):
    """The folder has another file for this blob: it is the backup of another database."""

    code = "backup-blob-conflict"
    hint = "One folder keeps the backups of one database; take another folder."


class Wanted(NamedTuple):
    """A blob's revision; ``certain`` is False for an undone creation, which has a file or none."""

    oid: int
    tid: int
    certain: bool


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


def blob_revisions(file: DataFile, columns: Columns, start: int, end: int) -> Iterator[Wanted]:
    """Yield every revision of a blob in the sound transactions from ``start`` to ``end``, each once.

    A transaction that undoes several has more than one record of an object; the last one counts, and the file is one.
    """
    numbers = {number for number, name in enumerate(columns.class_names) if name == BLOB_CLASS}
    if not any(columns.class_records[number] for number in numbers):
        return
    blobs, deleted = set(), set()
    for oid, class_ in zip(columns.oids, columns.classes, strict=True):
        if class_ in numbers:
            blobs.add(oid)
        elif class_ == DELETED:
            deleted.add(oid)
    window, position = Window(file), start
    followed: dict[int, int] = {}
    while position < end:
        offset = window.at(position, TRANSACTION_HEADER.size)
        header = TransactionHeader._make(TRANSACTION_HEADER.unpack_from(window.data, offset))
        record, ending = position + header.header_length, position + header.length
        found: dict[int, Wanted] = {}
        while record < ending and header.status != UNDONE:
            offset = window.at(record, DATA_HEADER.size + NUMBER.size)
            oid, tid, _, _, _, length = DATA_HEADER.unpack_from(window.data, offset)
            if oid in blobs or (oid in deleted and _is_blob(file, oid, record, length, followed)):
                back = NUMBER.unpack_from(window.data, offset + DATA_HEADER.size)[0]
                found[oid] = Wanted(oid, tid, bool(length or back))
            record += DATA_HEADER.size + (length or NUMBER.size)
        yield from found.values()
        position = ending + NUMBER.size


def _is_blob(file: DataFile, oid: int, position: int, length: int, followed: dict[int, int]) -> bool:
    if not length:
        (back,) = NUMBER.unpack(file.read(position + DATA_HEADER.size, NUMBER.size))
        found = follow(file, oid, position, back, followed)
        position, length = (0, 0) if isinstance(found, Damage) else found
    # A deletion says nothing of the class; its blob, if any, may have a file.
    return not length or class_part(file.read(position + DATA_HEADER.size, length))[0] == BLOB_CLASS


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
) -> tuple[list[Blob], list[Blob]]:
    """Replace files of blobs that are not what manifests say by the database's; return those replaced, those still bad.

    Sizes are compared, with ``contents`` their SHA-256 as well. Raises OSError.
    """
    store = _Store(os.path.join(folder, BLOBS), copy=copy)
    healed: list[Blob] = []
    bad: list[Blob] = []
    progress.start("verifying blobs", None, "blobs")
    for done, blob in enumerate(recorded):
        progress.advance(done)
        if store.has(blob) and not (contents and store.is_changed(blob)):
            continue
        path = source.blob_path(blob.oid, blob.tid)
        (healed if path is not None and store.heal(path, blob) else bad).append(blob)
    store.sync()
    progress.finish()
    return healed, bad


def leave_blobs(folder: str, paths: Iterable[str]) -> None:
    """Remove blobs that were taken for a step that was not written."""
    for path in paths:
        with suppress(OSError):
            os.unlink(path)
            _remove_empty(os.path.dirname(path), os.path.join(folder, BLOBS))


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

    def heal(self, path: str, blob: Blob) -> bool:
        """Put a good file in the place of a bad one; False where this one is none."""
        if size_of(path) != blob.size or digest_of(path) != blob.sha256:
            return False
        target = self._file(blob.oid, blob.tid)
        self._make_folder(os.path.dirname(target))
        with suppress(FileNotFoundError):
            os.unlink(target)
        add_file(path, target, copy=self._copy)
        return True

    def take(self, path: str, oid: int, tid: int, recorded: Blob | None) -> Blob:
        """Link or copy a blob file, unless it is there. Raises BlobConflict, OSError."""
        target, size = self._file(oid, tid), os.stat(path).st_size
        if recorded is not None:
            if recorded.size != size:
                raise _conflict(target, oid, tid)
            if size_of(target) == size:
                return recorded
            if digest_of(path) != recorded.sha256:
                raise _conflict(target, oid, tid)
        self._make_folder(os.path.dirname(target))
        if os.path.lexists(target) and not os.path.samefile(path, target):
            # No manifest vouches for it, or it is not what its manifest says.
            os.unlink(target)
        if not os.path.lexists(target):
            self.added.append(target)
            add_file(path, target, copy=self._copy)
        blob = Blob(oid, tid, os.stat(target).st_size, digest_of(target))
        if recorded is not None and blob != recorded:
            raise BackupDamaged(f"{target} was not written as it was read")
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


def add_file(path: str, target: str, *, copy: bool) -> None:
    """Give a file that nobody changes another name: a link, or a copy where it is asked for or cannot be linked."""
    if not copy and not os.path.islink(path):
        try:
            os.link(path, target)
        except OSError as exc:
            if exc.errno not in _CANNOT_LINK:
                raise
        else:
            return
    copy_verified(path, target)


def copy_verified(path: str, target: str) -> None:
    """Copy a file that nobody changes to a new name, read it back, and give it the same mode. Raises OSError."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())

        def write(out: BinaryIO) -> None:
            while data := file.read(1 << 20):
                out.write(data)

        def verify(temporary: str) -> None:
            if digest_of(temporary) != digest_of(path):
                raise StorageIOError(f"{target} was not written as it was read")

        publish(target, write, verify=verify, exclusive=True, mode=stat.S_IMODE(status.st_mode))


def digest_of(path: str) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def blob_file(folder: str, oid: int, tid: int) -> str:
    """Return the path of a blob's file in a folder of backups."""
    return os.path.join(folder, BLOBS, blob_name(LAYOUT, oid, tid))


def stored_blobs(folder: str) -> Iterator[BlobFile | Odd]:
    """Yield the blob files in a folder of backups."""
    path = os.path.join(folder, BLOBS)
    return blob_files(path, LAYOUT) if os.path.isdir(path) else iter(())


def sweep_blobs(folder: str) -> None:
    """Remove what a killed backup has left among the blobs."""
    for where, _, names in os.walk(os.path.join(folder, BLOBS)):
        for name in names:
            if is_leftover(name):
                os.unlink(os.path.join(where, name))


def prune_blobs(folder: str, keep: set[tuple[int, int]]) -> tuple[int, int]:
    """Remove the blobs that are not kept; return how many, and their bytes. Raises OSError."""
    removed = size = 0
    top = os.path.join(folder, BLOBS)
    for found in list(stored_blobs(folder)):
        if isinstance(found, Odd) or (found.oid, found.tid) in keep:
            continue
        size += os.stat(found.path).st_size
        os.unlink(found.path)
        removed += 1
        _remove_empty(os.path.dirname(found.path), top)
    return removed, size


def _remove_empty(folder: str, top: str) -> None:
    with suppress(OSError):
        while folder != top:
            os.rmdir(folder)
            folder = os.path.dirname(folder)


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def size_of(path: str) -> int | None:
    """Return a regular file's size, None where there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _conflict(target: str, oid: int, tid: int) -> BlobConflict:
    return BlobConflict(f"{target} is not the blob {oid_text(oid)} of {tid_text(tid)} that the database has")
