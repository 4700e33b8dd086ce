"""Who holds a database's write lock.

ZODB locks ``Data.fs.lock`` with flock and writes its process id into it.
"""

from __future__ import annotations

import os

from zodbsh.errors import ExitCode, ZodbshError

_MAX_PID_TEXT = 64
_MAX_COMMAND = 200


class DatabaseLocked(ZodbshError):
    """Another process holds the write lock."""

    code, exit_code = "database-locked", ExitCode.LOCKED
    hint = "Close the other process, or work read-only: edits can be staged and committed later."


def locked(path: str) -> DatabaseLocked:
    """Return the error for a locked database, naming who holds it as far as can be known."""
    pid = holder(path + ".lock")
    if pid is None:
        return DatabaseLocked(f"{path}: locked by another process")
    if pid == os.getpid():
        return DatabaseLocked(f"{path}: already open for writing in this process")
    command = command_of(pid)
    return DatabaseLocked(f"{path}: locked by process {pid}" + (f" ({command})" if command else ""))


def holder(lock_path: str) -> int | None:
    """Return the process id written in a lock file, None where there is none."""
    try:
        descriptor = os.open(lock_path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = os.read(descriptor, _MAX_PID_TEXT).split(b"\n")[0].strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return int(text) if text.isdigit() and len(text) < 12 else None


def command_of(pid: int) -> str:
    """Return a process's command line, shortened; empty where the system does not tell."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    text = " ".join(os.fsdecode(word) for word in words)
    return text if len(text) <= _MAX_COMMAND else text[: _MAX_COMMAND - 3] + "..."
