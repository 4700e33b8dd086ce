"""What was typed, kept for each database by itself, readable by its owner only."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from prompt_toolkit.history import FileHistory, InMemoryHistory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prompt_toolkit.history import History

MAX_BYTES = 4 * 2**20
"""A longer history loses its older half when it is opened."""


class DatabaseHistory(FileHistory):
    """A history file (mode 0600) that leaves out what begins with a space."""

    def append_string(self, string: str) -> None:
        """Add an entry to the session and the file, unless it begins with a space or repeats the last one."""
        if string[:1].isspace():
            return
        if self._loaded_strings[:1] == [string]:
            return
        super().append_string(string)

    def store_string(self, string: str) -> None:
        """Write an entry; a full disk or a file that is gone must not end the session."""
        with suppress(OSError):
            super().store_string(string)

    def load_history_strings(self) -> Iterable[str]:
        """Return the entries, newest first; none where the file cannot be read."""
        try:
            return list(super().load_history_strings())
        except OSError:
            return []


def open_history(identity: str, *, keep: bool = True, folder: str | None = None) -> History:
    """Return the history of the database with this identity, in memory where none can or may be kept."""
    if not keep:
        return InMemoryHistory()
    path = history_path(identity, folder=folder)
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        _make_private(path)
    except OSError:
        return InMemoryHistory()
    return DatabaseHistory(path)


def history_path(identity: str, *, folder: str | None = None) -> str:
    """Return a database's history file: its name is a hash of the database's identity (its real path, its address).

    The hash keeps paths (and passwords in addresses) out of the name.
    """
    if folder is None:
        from platformdirs import user_state_dir

        folder = os.path.join(user_state_dir("zodbsh", appauthor=False), "history")
    return os.path.join(folder, hashlib.sha256(os.fsencode(identity)).hexdigest()[:32])


def _make_private(path: str) -> None:
    """Create the file for its owner only, take others' rights away, and cut it where it is too long.

    Raises OSError, also where the path is a link or no file.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"not a file: {path}")
        if status.st_mode & 0o077:
            os.fchmod(descriptor, 0o600)
        if status.st_size > MAX_BYTES:
            tail = os.pread(descriptor, MAX_BYTES // 2, status.st_size - MAX_BYTES // 2)
            # Entries start with a comment line that holds the time.
            start = tail.find(b"\n# ")
            os.pwrite(descriptor, tail[start:], 0)
            os.ftruncate(descriptor, len(tail) - start)
    finally:
        os.close(descriptor)
