"""Two backups into one folder do not go together; nor does a backup go with a look at what it is writing."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from zodbsh.db.locks import command_of, holder
from zodbsh.errors import ExitCode, ZodbshError
from zodbsh.filestorage.repository import LOCK

# Whoever only looks holds the lock for a moment.
_PATIENCE = 1.0
_PAUSE = 0.05


class FolderBusy(ZodbshError):
    """Another backup writes into the folder."""

    code, exit_code = "backup-running", ExitCode.LOCKED
    hint = "Nothing was written. Wait for the other backup."


@contextmanager
def folder_lock(folder: str) -> Iterator[None]:
    """Hold the folder for writing. Raises FolderBusy, OSError."""
    path = os.path.join(folder, LOCK)
    is_new = not os.path.lexists(path)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        deadline = time.monotonic() + _PATIENCE
        while not _locked(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                raise FolderBusy(_who(folder, path))
            time.sleep(_PAUSE)
        if not _is_there(path, descriptor):
            raise FolderBusy(f"another backup into {folder} has just failed, and removed the folder", hint="Try again.")
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode("ascii"))
        except OSError:
            if is_new:
                # Under the lock, as a backup that fails in its new folder does: who waits for it sees that it is gone.
                os.unlink(path)
            raise
        yield
    finally:
        # The file stays: whoever waits for it has it open.
        os.close(descriptor)


def is_busy(folder: str) -> bool:
    """Tell whether a backup is being written into the folder now."""
    try:
        descriptor = os.open(os.path.join(folder, LOCK), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return not _locked(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _is_there(path: str, descriptor: int) -> bool:
    """Tell whether a file that we waited for still has its name."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _locked(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _who(folder: str, path: str) -> str:
    pid = holder(path)
    if pid is None:
        return f"another backup writes into {folder}"
    command = command_of(pid)
    return f"process {pid}" + (f" ({command})" if command else "") + f" writes a backup into {folder}"
