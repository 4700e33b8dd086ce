"""Errors that reach a user: a code, an exit status, a message, a hint.

Each error class stands beside the code that raises it; this module holds the
base, the exit codes (docs/exit-codes.md) and the few errors that several
layers raise.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """What the process's exit status means."""

    OK = 0
    FINDINGS = 1
    USAGE = 2
    NOT_FOUND = 3
    LOCKED = 4
    CONFLICT = 5
    DAMAGED = 6
    IO = 7
    UNSUPPORTED = 8
    UNKNOWN = 9
    BUG = 70
    HANGUP = 129
    INTERRUPT = 130
    TERMINATE = 143


class ZodbshError(Exception):
    """Base of every error that is shown to a user without a traceback.

    ``code`` is a stable kebab-case reference, ``exit_code`` the process's exit
    status, ``hint`` one sentence that says what to do next (may be empty). The
    message is one line; ``context`` holds the lines to show below it, if any.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[ExitCode] = ExitCode.BUG
    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None, context: str = "") -> None:
        super().__init__(message)
        self.message, self.context = message, context
        if hint is not None:
            self.hint = hint


class UsageError(ZodbshError):
    """The command line cannot be understood: a value, a range, a combination."""

    code = "usage"
    exit_code = ExitCode.USAGE


class DatabaseNotFound(ZodbshError):
    """The database does not exist, or is a folder."""

    code = "database-not-found"
    exit_code = ExitCode.NOT_FOUND
    hint = "Check the path; only `zodbsh init` creates a database."


class BlobFolderNotFound(ZodbshError):
    """There is no folder of blobs where one was named."""

    code = "blob-folder-not-found"
    exit_code = ExitCode.NOT_FOUND
    hint = "Name the folder of the blob files; without `--blobs` the one beside the database is taken."


class ObjectNotFound(ZodbshError):
    """No object with this oid exists at this point in time."""

    code = "object-not-found"
    exit_code = ExitCode.NOT_FOUND


class DamagedDatabase(ZodbshError):
    """The database's framing is damaged where it has to be sound."""

    code = "database-damaged"
    exit_code = ExitCode.DAMAGED


class StorageIOError(ZodbshError):
    """The operating system failed a read or a write; nothing changed."""

    code = "io-error"
    exit_code = ExitCode.IO


class NoPermission(StorageIOError):
    """The operating system does not let this user read or write a file, or use its folder."""

    code = "permission-denied"
    hint = "Check the owner and the mode of the file and of its folder."


class Unsupported(ZodbshError):
    """The storage or the environment cannot do what was asked."""

    code = "unsupported"
    exit_code = ExitCode.UNSUPPORTED


class MissingPackage(Unsupported):
    """An optional package is not installed; the hint names the command."""

    code = "package-missing"


DENIED = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))
_HINTS = {
    errno.ENOSPC: "Free some space, then try again.",
    errno.EDQUOT: "Free some space, then try again.",
    errno.EACCES: NoPermission.hint,
    errno.EPERM: NoPermission.hint,
    errno.EROFS: "The file system is read-only.",
    errno.EIO: "The disk or the file system failed; look at the system's log.",
}


def os_error_kind(error: OSError) -> type[StorageIOError]:
    """Return as which of our errors a refusal of the operating system is raised or shown."""
    return NoPermission if error.errno in DENIED else StorageIOError


def os_hint(error: OSError) -> str:
    """Return what to do about a refusal of the operating system; empty where that is not known."""
    return _HINTS.get(error.errno or 0, "")
