"""ZODB's FileStorage with what it leaves to luck taken care of.

The file is never created and never truncated to fit: it must be there and sound
before ZODB opens it. The saved index is read by our own parser. A failed write
leaves the file as it was, with nothing half-written waiting in a buffer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from zc.lockfile import LockError, LockFile
from ZODB.FileStorage import FileStorage
from ZODB.fsIndex import fsBucket, fsIndex
from ZODB.utils import z64

from zodbsh.db.beside import leave_to_owner, make_folders, no_wider_than, refuse_symlinks
from zodbsh.db.blobs import removed_on_failure
from zodbsh.db.locks import locked, other_name, refuse_other_writers
from zodbsh.db.undorecords import keep_last_records
from zodbsh.errors import DatabaseNotFound, StorageIOError
from zodbsh.filestorage.damage import Damage, FramingDamage
from zodbsh.filestorage.datafile import DataFile, read_magic
from zodbsh.filestorage.framing import scan_file
from zodbsh.filestorage.index import IndexDoubt, check_index, read_index
from zodbsh.filestorage.structs import STATUS_OFFSET
from zodbsh.ids import from_bytes, tid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import OutcomeUnknown, fsync_folder, sync_file, uninterrupted


class CommitUnknown(OutcomeUnknown):
    """The transaction may or may not be durable: the error came while it was being made final."""

    tid: int | None = None


class SoundFileStorage(FileStorage):  # type: ignore[misc]
    """A FileStorage opened for writing: locked, scanned, and only then opened.

    Raises DatabaseLocked, FramingDamage (nothing has been written then),
    DatabaseNotFound, Unsupported (a sidecar is a symlink), OSError.
    """

    _file: Any
    _nextpos: int
    _saved: int
    _tfile: Any
    _undoing = False

    def __init__(self, path: str, *, blob_dir: str | None = None, progress: Progress = SILENT) -> None:
        refuse_symlinks(path)
        require_sound(path, progress)
        self._scanned = _fingerprint(path)
        self._progress = progress
        self._database = os.path.abspath(path)
        self._second_lock: LockFile | None = None
        try:
            with no_wider_than(path):
                super().__init__(path, blob_dir=blob_dir)
            self._lock_real_file(path)
        except LockError as exc:
            self._release()
            raise locked(path) from exc
        except BaseException:
            self._release()
            raise
        finally:
            self._leave_to_owner(f"{path}.lock", f"{path}.tmp", *self._blob_places())

    def close(self) -> None:
        """Save the index, release the locks; may be called twice."""
        with uninterrupted():
            if self._file is not None and not self._file.closed:
                with no_wider_than(self._file_name):
                    super().close()
            self._release()

    def tpc_abort(self, transaction: Any) -> None:
        """Forget the transaction, its blobs included; no signal cuts that short."""
        with uninterrupted():
            super().tpc_abort(transaction)

    def undo(self, transaction_id: bytes, transaction: Any) -> Any:
        """Undo a transaction as part of the one in progress."""
        self._undoing = True
        return super().undo(transaction_id, transaction)

    def tpc_vote(self, transaction: Any) -> Any:
        """Write the transaction, still in flight, to the disk; where that fails, the file ends where it ended before.

        ZODB syncs once, after the status byte: after a power failure the byte could be there and the data not.
        """
        try:
            if self._undoing and transaction is self._transaction:
                keep_last_records(self)
            resolved = super().tpc_vote(transaction)
            self._sync_blobs()
            os.fsync(self._file.fileno())
        except OSError as exc:
            self._drop_unwritten()
            raise StorageIOError(
                f"{self._file_name}: cannot write the transaction: {exc.strerror or exc}; nothing changed"
            ) from exc
        return resolved

    def _finish(self, tid: bytes, user: bytes, description: bytes, extension: bytes) -> None:
        try:
            super()._finish(tid, user, description, extension)
        except Exception as exc:
            number = from_bytes(tid)
            unknown = CommitUnknown(
                f"{self._file_name}: an error while transaction {tid_text(number)} was made final: {exc}",
                hint=f"`zodbsh show {self._file_name} {tid_text(number)}` tells whether it is there.",
            )
            unknown.tid = number
            raise unknown from exc

    def _blob_storeblob(self, oid: bytes, serial: bytes, blobfilename: str) -> None:
        # ZODB makes the folder, too, but takes a failure for a folder that is there.
        make_folders(os.path.normpath(self.fshelper.getPathForOID(oid)), self._database)
        path = self.fshelper.getBlobFilename(oid, serial)
        with removed_on_failure(path):
            super()._blob_storeblob(oid, serial, blobfilename)
        self._leave_to_owner(path)

    def _txn_undo_write(self, tpos: int) -> Any:
        # The copy of a blob is only given to the storage when it is complete.
        folder = self.fshelper.temp_dir if self.blob_dir else None
        before = set(os.listdir(folder)) if folder else set()
        try:
            return super()._txn_undo_write(tpos)
        except BaseException:
            with uninterrupted(), suppress(OSError):
                for name in set(os.listdir(folder)) - before if folder else ():
                    os.unlink(os.path.join(folder or "", name))
            raise

    def _clear_temp(self) -> None:
        self._undoing = False
        try:
            super()._clear_temp()
            # ZODB keeps what a large transaction wrote there, and the room it takes.
            self._tfile.truncate(0)
        except OSError:
            # The buffer of the temporary file still holds what the disk had no room for.
            name = self._tfile.name
            _close_unflushed(self._tfile)
            self._tfile = open(name, "w+b")  # noqa: SIM115 - it stays open as long as the storage
            self._tfmt._file = self._tfile

    def _save_index(self) -> None:
        """Save the index as ZODB does, but whole: a reader of ZODB's takes a torn one for good."""
        name = self.__name__ + ".index"
        temporary = name + ".index_tmp"
        # The index is a hint: without it the next one to open the file scans it.
        with uninterrupted(), suppress(OSError):
            try:
                self._index.save(self._pos, temporary)
                self._leave_to_owner(temporary)
                sync_file(temporary)
                os.replace(temporary, name)
            finally:
                with suppress(OSError):
                    os.unlink(temporary)
        self._saved += 1

    def _newIndexes(self) -> Any:  # noqa: N802 - ZODB's name
        # ZODB calls this with the lock held and the file not yet opened.
        if _fingerprint(self._file_name) != self._scanned:
            require_sound(self._file_name, self._progress)
        return super()._newIndexes()

    def _restore_index(self) -> Any:
        return restore_index(self)

    def _lock_real_file(self, path: str) -> None:
        """Lock under the file's own name too: ZODB locks only the name that it was given."""
        if real := other_name(path):
            refuse_symlinks(real)
            try:
                with no_wider_than(path):
                    self._second_lock = LockFile(real + ".lock")
            except LockError as exc:
                raise locked(real) from exc
            finally:
                self._leave_to_owner(f"{real}.lock")
        refuse_other_writers(path)

    def _sync_blobs(self) -> None:
        """Make the files of the transaction's blobs last, and their names."""
        folders = set()
        for oid, serial in self.dirty_oids:
            path = self.fshelper.getBlobFilename(oid, serial)
            sync_file(path)
            # Any of the folders down to it may be new.
            while path != self.blob_dir and path != os.path.dirname(path):
                path = os.path.dirname(path)
                folders.add(path)
        for folder in sorted(folders, reverse=True):
            fsync_folder(folder)

    def _blob_places(self) -> tuple[str, ...]:
        """What ZODB makes of a folder for blobs that is not there yet."""
        folder = self.__dict__.get("blob_dir")
        return (folder, os.path.join(folder, "tmp"), os.path.join(folder, ".layout")) if folder else ()

    def _leave_to_owner(self, *made: str) -> None:
        for path in made:
            leave_to_owner(path, self._database)

    def _drop_unwritten(self) -> None:
        """Put the file back to its last whole transaction, and forget what waits in the buffer."""
        name = self._file.name
        # ZODB truncates too, but its buffer is flushed first, and that fails again.
        _close_unflushed(self._file)
        self._file = open(name, "r+b")  # noqa: SIM115 - it stays open as long as the storage
        with suppress(OSError):
            # What cannot be cut off is a transaction that was never finished, and known as such.
            os.ftruncate(self._file.fileno(), self._pos)
            os.fsync(self._file.fileno())
        self._files.flush()

    def _abort(self) -> None:
        try:
            super()._abort()
        except OSError:
            # ZODB cuts the file first; what cannot be cut off is no transaction either.
            self._nextpos = 0
        # ZODB removes the blobs of a transaction that was voted for, not of one whose vote failed.
        self._blob_tpc_abort()

    def _release(self) -> None:
        for name in ("_lock_file", "_second_lock"):
            lock = self.__dict__.pop(name, None)
            if lock is not None:
                lock.close()
        for name in ("_tfile", "_file"):
            file = self.__dict__.get(name)
            if file is not None:
                _close_unflushed(file)


def restore_index(storage: Any) -> Any:
    """Return index, end and last tid for a FileStorage from its ``.index``, None where it must scan.

    Parsed strictly and checked against the file; never unpickled.
    """
    index = read_index(storage.__name__ + ".index")
    if isinstance(index, IndexDoubt):
        return None
    with DataFile(storage._file_name) as file:
        if check_index(file, index) is not None:
            return None
    found = fsIndex()
    for prefix, bucket in index.buckets.items():
        found._data[prefix] = fsBucket().fromString(bucket)
    last = storage._check_sanity(found, index.end) if index.end > len(z64) else None
    return (found, index.end, last) if last else None


@contextmanager
def safe_indexes() -> Iterator[None]:
    """Have every FileStorage opened in the block read its index as ours do, whoever opens it."""
    original = FileStorage._restore_index
    FileStorage._restore_index = restore_index
    try:
        yield
    finally:
        FileStorage._restore_index = original


def require_sound(path: str, progress: Progress = SILENT) -> None:
    """Raise FramingDamage where the file is damaged anywhere.

    A transaction that was never finished (its writer died) is no damage: ZODB
    sets it aside. A beginning too short to tell what it was is: ZODB would cut
    it off without a word.
    """
    with DataFile(path) as file:
        read_magic(file)
        scan = scan_file(file, progress, histories=True)
    damages = list(scan.damages)
    if not damages and 0 < scan.tail <= STATUS_OFFSET:
        damages.append(Damage(scan.end, "header", f"{scan.tail} bytes are too few for a transaction"))
    if damages:
        raise FramingDamage(path, damages[0], more=len(damages) - 1)


def _fingerprint(path: str) -> tuple[int, int, int, int]:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise DatabaseNotFound(f"{path}: no such file") from None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _close_unflushed(file: Any) -> None:
    """Close a buffered file without writing what waits in its buffer."""
    with suppress(OSError, ValueError):
        file.raw.close()
    with suppress(OSError, ValueError):
        file.close()
