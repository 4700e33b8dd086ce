"""What stands beside a Data.fs: the files that ZODB, and whoever writes, opens under its name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

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
    os.umask(before | ~(mode | 0o111) & 0o777)
    try:
        yield
    finally:
        os.umask(before)
