"""One descriptor on a file that others may be writing: opened once, read by position, never written."""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import Self

from zodbsh.errors import DENIED, DamagedDatabase, DatabaseNotFound, NoPermission, StorageIOError, Unsupported, os_hint
from zodbsh.filestorage.structs import FORMATS, MAGIC_SIZE

# ZODB's pack renames the database away and its successor into place; these stand beside it meanwhile.
_PACK_SIBLINGS = (".old", ".lock", ".pack")
_PACK_PATIENCE = 1.0
_PACK_PAUSE = 0.02
# macOS refuses to read more than 2 GB at once.
_MOST = 1 << 30

_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP}


class AccessDenied(NoPermission):
    """The operating system does not let us read the file."""


class EmptyFile(DamagedDatabase):
    """The file is empty, or too short for the four bytes every FileStorage begins with."""

    code = "database-empty"
    hint = "A FileStorage begins with FS21 or FS30; this one was never written, or was cut. Restore a backup."


class NotFileStorage(Unsupported):
    """The file is something other than a FileStorage."""

    code = "not-a-filestorage"
    hint = "A FileStorage begins with FS21 or FS30."


class DataFile:
    """A file opened for reading only, by position only; no lock, no shared offset, no memory map.

    ``limit`` is the file's size at the moment it was opened: what comes later is
    not looked at. Whoever finds that a snapshot ends earlier lowers it.
    """

    def __init__(self, path: str) -> None:
        """Open ``path``, which must be a regular file.

        Raises DatabaseNotFound, AccessDenied, Unsupported or StorageIOError.
        A name that is missing beside the traces of a pack is waited for, for a second.
        """
        self.path = path
        self._fd = _open_patiently(path)
        try:
            status = os.fstat(self._fd)
            _require_file(path, status.st_mode)
        except BaseException:
            self.close()
            raise
        self.limit = status.st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @property
    def fd(self) -> int:
        """The descriptor, for a pass that reads by itself; -1 once closed."""
        return self._fd

    def read(self, position: int, size: int) -> bytes:
        """Return ``size`` bytes from ``position``, fewer only where the file ends. Raises StorageIOError."""
        try:
            data = os.pread(self._fd, min(size, _MOST), position)
            if len(data) == size or not data:
                return data
            # A signal or the system's own limit on one read may cut it short.
            parts = [data]
            done = len(data)
            while done < size and (data := os.pread(self._fd, min(size - done, _MOST), position + done)):
                parts.append(data)
                done += len(data)
            return b"".join(parts)
        except OSError as exc:
            raise read_error(self.path, exc) from exc

    def current_size(self) -> int:
        """Return the file's size now. Raises StorageIOError."""
        try:
            return os.fstat(self._fd).st_size
        except OSError as exc:
            raise read_error(self.path, exc) from exc

    def still_named(self) -> bool:
        """Tell whether the file has its name yet: a pack puts another one there."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self.path))
        except OSError:
            return False

    def close(self) -> None:
        """Release the descriptor; may be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def read_magic(file: DataFile) -> tuple[str, str]:
    """Return the format's name and meaning. Raises EmptyFile or NotFileStorage."""
    magic = file.read(0, MAGIC_SIZE)
    if magic in FORMATS:
        return FORMATS[magic]
    if not magic:
        raise EmptyFile(f"{file.path} is empty")
    if any(known.startswith(magic) for known in FORMATS):
        raise EmptyFile(f"{file.path} has only {len(magic)} of a FileStorage's bytes")
    raise NotFileStorage(f"{file.path} is no FileStorage: it begins with {magic!r}")


def read_error(path: str, error: OSError) -> StorageIOError:
    """Return the error that says why ``path`` could not be read."""
    return StorageIOError(f"cannot read {path}: {error.strerror or error}", hint=os_hint(error))


def _open_patiently(path: str) -> int:
    deadline = time.monotonic() + _PACK_PATIENCE
    while True:
        try:
            # Looking first keeps us from opening a device, which may act on that, or waiting for a FIFO's writer.
            _require_file(path, os.stat(path).st_mode)
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except ValueError as exc:
            raise DatabaseNotFound(f"no such file: {path!r}") from exc
        except OSError as exc:
            if exc.errno in DENIED:
                raise AccessDenied(f"no permission to read {path}") from exc
            if exc.errno not in _MISSING:
                raise read_error(path, exc) from exc
            if not _pack_may_be_renaming(path) or time.monotonic() >= deadline:
                raise DatabaseNotFound(f"no such file: {path}") from exc
        time.sleep(_PACK_PAUSE)


def _pack_may_be_renaming(path: str) -> bool:
    return any(os.path.lexists(path + suffix) for suffix in _PACK_SIBLINGS)


def _require_file(path: str, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise DatabaseNotFound(f"{path} is a folder, not a database", hint="Name the file in it, mostly Data.fs.")
    if not stat.S_ISREG(mode):
        raise NotFileStorage(f"{path} is no regular file", hint="A FileStorage lives in a regular file.")
