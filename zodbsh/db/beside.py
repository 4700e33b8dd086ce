"""What stands beside a Data.fs: the files that ZODB, and whoever writes, opens under its name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from zodbsh.errors import Unsupported

# What ZODB opens for writing beside the database, following a symlink to wherever it leads.
_SIDECARS = (".lock", ".tmp", ".index", ".index.index_tmp")


def refuse_symlinks(path: str) -> None:
    """Raise Unsupported where ZODB would write through a symlink beside the database."""
    for suffix in _SIDECARS:
        if os.path.islink(path + suffix):
            raise Unsupported(
                f"{path + suffix} is a symbolic link; ZODB would write through it",
                hint="Remove the link.",
            )


@contextmanager
def no_wider_than(path: str) -> Iterator[None]:
    """Let no file that appears beside the database be readable for more people than the database is."""
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o600
    before = os.umask(0o077)
    os.umask(before | ~(mode | 0o311) & 0o777)
    try:
        yield
    finally:
        os.umask(before)


def leave_to_owner(made: str, like: str) -> None:
    """Have what this process made beside ``like``, a database, belong to its owner and group, who go on with it.

    A file that may be written gets the database's mode besides. As far as the system lets us: whoever is not the
    superuser can at most change the group.
    """
    with suppress(OSError):
        owner, now = os.stat(like), os.lstat(made)
        if (now.st_uid, now.st_gid) == (owner.st_uid, owner.st_gid):
            return
        descriptor = os.open(made, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            found = os.fstat(descriptor)
            is_folder = stat.S_ISDIR(found.st_mode)
            # Whoever may write there may have put another name of any file in its place.
            if found.st_uid != os.geteuid() or not (is_folder or found.st_nlink == 1):
                return
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
            if stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IWUSR:
                os.fchmod(descriptor, stat.S_IMODE(found.st_mode) | owner.st_mode & 0o666)
        finally:
            os.close(descriptor)


def make_folders(path: str, like: str, mode: int = 0o777) -> list[str]:
    """Make a folder and those above it that are missing, with the owner of ``like``; return them, topmost first.

    Raises OSError.
    """
    if not path or os.path.isdir(path):
        return []
    made = make_folders(os.path.dirname(path), like, mode)
    with suppress(FileExistsError):
        os.mkdir(path, mode)
        leave_to_owner(path, like)
        made.append(path)
    return made
