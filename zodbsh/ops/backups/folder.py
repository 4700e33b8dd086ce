"""The folder that backups go to: is it one for them, and does a new one go again where no backup comes into it?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from shlex import quote
from typing import TYPE_CHECKING

from zodbsh.analysis.blobfolder import LAYOUTS, holds_blobs, lies_within
from zodbsh.errors import UsageError
from zodbsh.filestorage.repository import BLOBS, LOCK, Folder
from zodbsh.ops.backups.lock import folder_lock
from zodbsh.publish import fsync_folder, uninterrupted
from zodbsh.source.file import blobs_beside

if TYPE_CHECKING:
    from zodbsh.db.spec import Spec

_MARKER = ".layout"


class NoPlace(UsageError):
    """Backups cannot go to this folder; nothing was done."""

    code = "backup-no-place"
    hint = "A backup goes into a folder of its own: take another one."


@contextmanager
def backup_folder(path: str, spec: Spec) -> Iterator[None]:
    """Hold a folder for the backups of a database; make it where it is missing, and remove it again where that fails.

    Raises NoPlace, FolderBusy, OSError.
    """
    check_folder(path, spec)
    is_new = not os.path.lexists(path)
    if is_new:
        os.mkdir(path, 0o700)
    try:
        if is_new:
            fsync_folder(os.path.dirname(os.path.abspath(path)))
        with folder_lock(path):
            try:
                yield
            except BaseException:
                if is_new:
                    # Under the lock: nobody else's backup goes with it.
                    _empty(path)
                raise
    except BaseException:
        if is_new:
            with uninterrupted(), suppress(OSError):
                os.rmdir(path)
        raise


def check_folder(path: str, spec: Spec) -> None:
    """Raise NoPlace where a folder is none for backups, or holds blobs. Raises OSError."""
    outer = os.path.dirname(os.path.abspath(path))
    if not _is_folder(outer):
        what = "is no folder" if os.path.lexists(outer) else "does not exist"
        raise NoPlace(f"{outer} {what}", hint=f"`mkdir -p {quote(outer)}` makes it, if the path is right.")
    if os.path.lexists(path) and not _is_folder(path):
        raise NoPlace(
            f"{path} is no folder", hint=f"Name a folder, which may be new: `{quote(f'{path}.backups')}`, for example."
        )
    real = os.path.realpath(path)
    own = os.path.realpath(spec.blob_dir or blobs_beside(spec.path))
    if lies_within(real, own):
        raise NoPlace(f"{path} is where the blobs of {spec.text} are")
    above = real
    while above != os.path.dirname(above):
        if _is_marked(above):
            raise NoPlace(f"{above} is a database's folder of blobs ({_MARKER} says so)")
        above = os.path.dirname(above)
    if not os.path.lexists(path):
        return
    names = os.listdir(path)
    ours = LOCK in names or any(name.endswith(".manifest") for name in names)
    blobs = os.path.join(path, BLOBS)
    if not ours and holds_blobs(path):
        raise NoPlace(f"{path} holds the blobs of a database")
    if os.path.lexists(blobs) and (not ours or os.path.realpath(blobs) == own):
        raise NoPlace(f"{blobs} holds the blobs of a database, and a backup keeps its own there")


def lost_full(folder: Folder) -> str:
    """Say which full backup is missing where there is none, but what belongs to one; "" where nothing does."""
    if folder.chains:
        return ""
    # An index alone is what a backup leaves that was killed while it took itself back.
    left = [name for name in folder.beside if not name.endswith(".index")]
    left += [step.name for step in folder.lost]
    if not left:
        return ""
    first = min(left)
    more = f" (and {len(left) - 1:,} more)" if len(left) > 1 else ""
    return f"the full backup that {folder.join(first)}{more} belongs to is missing"


def _empty(path: str) -> None:
    """Remove what a backup makes first in a new folder; whatever else is there stays, and so does the folder."""
    blobs = os.path.join(path, BLOBS)
    with uninterrupted(), suppress(OSError):
        if set(os.listdir(path)) - {LOCK, BLOBS} or (os.path.isdir(blobs) and set(os.listdir(blobs)) - {_MARKER}):
            return
        for remove, name in (
            (os.unlink, os.path.join(blobs, _MARKER)),
            (os.rmdir, blobs),
            (os.unlink, os.path.join(path, LOCK)),
        ):
            with suppress(OSError):
                remove(name)


def _is_folder(path: str) -> bool:
    """Tell whether a path is a folder's. Raises PermissionError where that cannot be seen."""
    with suppress(FileNotFoundError, NotADirectoryError):
        os.stat(path)
    return os.path.isdir(path)


def _is_marked(folder: str) -> bool:
    """Tell whether a folder has ZODB's marker of one with blobs, or one that cannot be read."""
    path = os.path.join(folder, _MARKER)
    try:
        with open(path, "rb") as marker:
            return marker.read(16).strip() in {layout.encode("ascii") for layout in LAYOUTS}
    except OSError:
        return os.path.isfile(path)
