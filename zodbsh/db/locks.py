"""Who holds a database's write lock.

ZODB locks ``Data.fs.lock`` with flock and writes its process id into it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from zodbsh.db.beside import leave_to_owner, no_wider_than, refuse_symlinks
from zodbsh.errors import ExitCode, NoPermission, ZodbshError

_MAX_PID_TEXT = 64
_MAX_COMMAND = 200


class DatabaseLocked(ZodbshError):
    """Another process holds the write lock."""

    code, exit_code = "database-locked", ExitCode.LOCKED
    hint = "Close the other process, then try again; looking and staging need no lock."


@contextmanager
def write_lock(path: str) -> Iterator[None]:
    """Hold the write lock of the file at ``path`` as ZODB does, under its own name, too, where ``path`` is a symlink.

    Raises DatabaseLocked, NoPermission, Unsupported (a symlink where ZODB would write), OSError.
    """
    from zc.lockfile import LockError, LockFile

    if not os.access(path, os.W_OK):
        # Its folder may let us put another file in its place, but whoever took the right to write away meant that.
        raise NoPermission(f"{path} may not be written")

    names = [path, other] if (other := other_name(path)) else [path]
    with ExitStack() as stack:
        for name in names:
            refuse_symlinks(name)
            try:
                with no_wider_than(path):
                    stack.enter_context(closing(LockFile(name + ".lock")))
                leave_to_owner(name + ".lock", path)
            except LockError as exc:
                raise locked(name) from exc
        refuse_other_writers(path)
        yield


def refuse_other_writers(path: str) -> None:
    """Raise DatabaseLocked where another process of this machine has the very file open for writing.

    ZODB locks a name: whoever came by another one (a symlink, a hard link) is not kept out by it. Only what the system
    tells is known: the processes of this user, or all of them to the superuser, on Linux.
    """
    try:
        wanted = os.stat(path)
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return
    for pid in pids:
        if pid != os.getpid() and any(_writes(pid, number, wanted) for number in _descriptors(pid)):
            command = command_of(pid)
            by = f"process {pid}" + (f" ({command})" if command else "")
            raise DatabaseLocked(f"{path}: open for writing under another name in {by}")


def _descriptors(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []


def _writes(pid: int, number: str, wanted: os.stat_result) -> bool:
    try:
        found = os.stat(f"/proc/{pid}/fd/{number}")
        if (found.st_dev, found.st_ino) != (wanted.st_dev, wanted.st_ino):
            return False
        with open(f"/proc/{pid}/fdinfo/{number}", encoding="ascii", errors="replace") as file:
            flags = next((line.split()[1] for line in file if line.startswith("flags:")), "0")
        return int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
    except (OSError, ValueError, IndexError):
        return False


def other_name(path: str) -> str | None:
    """Return the file's own name where ``path`` is a symlink to it, None where it is the file itself.

    A link among its folders makes no other file, nor another lock file.
    """
    folder, name = os.path.split(os.path.abspath(path))
    real = os.path.realpath(path)
    return None if os.path.join(os.path.realpath(folder), name) == real else real


def locked(path: str) -> DatabaseLocked:
    """Return the error for a locked database, naming who holds it as far as can be known."""
    pid = holder(path + ".lock")
    if pid is None:
        return DatabaseLocked(f"{path}: locked by another process")
    if pid == os.getpid():
        return DatabaseLocked(f"{path}: already open for writing in this process")
    command = command_of(pid)
    return DatabaseLocked(f"{path}: locked by process {pid}" + (f" ({command})" if command else ""))


def is_held(lock_path: str) -> bool:
    """Tell whether a process of this machine holds a lock file, without locking it or making it.

    Linux tells who holds which file; elsewhere a living process whose id is in the file is taken for its holder.
    """
    try:
        inode = os.stat(lock_path).st_ino
        with open("/proc/locks", encoding="ascii", errors="replace") as table:
            # 1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF
            return any(line.split()[1] == "FLOCK" and line.split()[5].endswith(f":{inode}") for line in table)
    except FileNotFoundError:
        return _lives(holder(lock_path))
    except (OSError, IndexError):
        return False


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


def _lives(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def command_of(pid: int) -> str:
    """Return a process's command line, shortened; empty where the system does not tell."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read(4096).rstrip(b"\0").split(b"\0")
    except OSError:
        return ""
    text = " ".join(os.fsdecode(word) for word in words)
    return text if len(text) <= _MAX_COMMAND else text[: _MAX_COMMAND - 3] + "..."
