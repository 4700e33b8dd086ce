"""The blob files of what a pack removes: they go when the packed file is in its place, and not before.

Which ones they are is written down first, in ``Data.fs.packed-blobs``: a pack
that is killed in between leaves that list, and the next one finishes with it.
With ``.old`` kept, the folder ``<blobs>.old`` gets every blob file of the file
of before, as ZODB's pack does, so that the two can take the others' places.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.blobfolder import LAYOUTS, BlobFile, blob_files, blob_name
from zodbsh.db.beside import leave_to_owner, make_folders
from zodbsh.errors import ObjectNotFound, StorageIOError
from zodbsh.ids import oid_text, tid_text
from zodbsh.publish import (
    OutcomeUnknown,
    fsync_folder,
    fsync_folders,
    link_or_copy,
    publish,
    require_room,
    temporary_name,
    uninterrupted,
)
from zodbsh.source.file import FileSource

if TYPE_CHECKING:
    from zodbsh.analysis.packplan import Plan

JOURNAL = ".packed-blobs"
OLD = ".old"
_MAGIC = "zodbsh: blob files of what a pack removed\n"
_LAYOUT = ".layout"


class Folder(NamedTuple):
    """A database's folder of blobs, and how it is laid out."""

    path: str
    layout: str


class Removal(NamedTuple):
    """Blob files that go: how many bytes they have."""

    files: tuple[BlobFile, ...]
    bytes: int


def folder_of(source: FileSource) -> Folder | None:
    """Return the source's folder of blobs, None where none is known. Raises StorageIOError for an unknown layout."""
    found = source.blob_folder()
    if found is None:
        return None
    if found[1] not in LAYOUTS:
        raise StorageIOError(f"{found[0]}: its layout is neither bushy nor lawn")
    return Folder(os.path.abspath(found[0]), found[1])


def files_that_go(source: FileSource, folder: Folder, plan: Plan) -> Removal:
    """Return the blob files of revisions that the pack removes. A file that belongs to no revision is left alone."""
    going: list[BlobFile] = []
    size = 0
    for found in blob_files(*folder):
        if isinstance(found, BlobFile) and found.tid <= plan.tid and _goes(source, found, plan):
            going.append(found)
            with suppress(OSError):
                size += os.stat(found.path).st_size
    return Removal(tuple(going), size)


def left_of(removal: Removal) -> Removal:
    """Return those of the files that are still there."""
    left = tuple(found for found in removal.files if os.path.lexists(found.path))
    size = 0
    for found in left:
        with suppress(OSError):
            size += os.stat(found.path).st_size
    return Removal(left, size)


def check_room(folder: Folder) -> None:
    """Raise DiskFullError where the old blob files would have to be copied, and there is no room for that."""
    aside = temporary_name(folder.path)
    marker = next((entry.path for entry in _entries(folder.path) if entry.name == _LAYOUT), None)
    if marker is None:
        return
    try:
        with uninterrupted():
            os.link(marker, aside)
            os.unlink(aside)
    except OSError:
        need = sum(os.lstat(found.path).st_size for found in blob_files(*folder) if isinstance(found, BlobFile))
        require_room(os.path.dirname(folder.path), need, f"a copy of {folder.path}, which cannot be linked,")


def write_down(path: str, removal: Removal) -> None:
    """Put down which blob files go once the packed file has the name ``path``. Raises OSError."""
    lines = [f"{oid_text(found.oid)} {tid_text(found.tid)}\n" for found in removal.files]
    content = "".join([_MAGIC, *lines, "end\n"]).encode("ascii")
    try:
        publish(path + JOURNAL, lambda file: file.writelines([content]), like=path)
    except OutcomeUnknown as exc:
        take_back(path)
        raise StorageIOError(f"{path} could not be packed, nothing changed: {exc.message}") from exc


def take_back(path: str) -> None:
    """Forget what was written down: nothing was packed."""
    with uninterrupted(), suppress(OSError):
        os.unlink(path + JOURNAL)


def carry_out(path: str, folder: Folder, *, keep_old: bool) -> int:
    """Remove what is written down, the database being packed; return how many files went.

    With ``keep_old``, everything is in ``<blobs>.old`` first. What is of a revision that is still there stays: then
    the pack that wrote the list down never came to its end. Raises OSError.
    """
    journal = path + JOURNAL
    going = _written_down(journal)
    removed = 0
    if going:
        source = FileSource(path)
        try:
            names = [blob_name(folder.layout, oid, tid) for oid, tid in going if not _has(source, oid, tid)]
        finally:
            source.close()
        # Once one has gone, all of them are in ``<blobs>.old``, which must not be made anew from what is left.
        if keep_old and names and all(os.path.lexists(os.path.join(folder.path, name)) for name in names):
            _keep_all(folder)
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(folder.path, name))
                removed += 1
            _remove_empty(folder.path, os.path.dirname(name))
    os.unlink(journal)
    fsync_folder(os.path.dirname(journal))
    return removed


def _goes(source: FileSource, found: BlobFile, plan: Plan) -> bool:
    for revision in source.history(found.oid, found.tid):
        if revision.tid < found.tid:
            break
        return revision.position is None or not plan.stays(found.oid, revision.position)
    return False


def _has(source: FileSource, oid: int, tid: int) -> bool:
    try:
        revision = next(source.history(oid, tid), None)
    except ObjectNotFound:
        return False
    return revision is not None and revision.tid == tid


def _written_down(journal: str) -> list[tuple[int, int]]:
    """Read the list; an unfinished or strange one is no list."""
    with open(journal, encoding="ascii", errors="replace") as file:
        lines = file.read().splitlines(keepends=True)
    if not lines or lines[0] != _MAGIC or lines[-1] != "end\n":
        return []
    pairs = (line.split() for line in lines[1:-1])
    return [(int(oid, 16), int(tid, 16)) for oid, tid in pairs]


def _keep_all(folder: Folder) -> None:
    """Make ``<blobs>.old`` a folder with every blob file there is now; an earlier one goes."""
    old = folder.path + OLD
    new = temporary_name(old)
    try:
        os.mkdir(new, 0o700)
        shutil.copymode(folder.path, new)
        leave_to_owner(new, folder.path)
        marker = os.path.join(folder.path, _LAYOUT)
        if os.path.exists(marker):
            link_or_copy(marker, os.path.join(new, _LAYOUT))
        made: set[str] = set()
        for found in blob_files(*folder):
            if isinstance(found, BlobFile):
                name = blob_name(folder.layout, found.oid, found.tid)
                parent = os.path.dirname(name)
                if parent not in made:
                    make_folders(os.path.join(new, parent), folder.path)
                    made.add(parent)
                link_or_copy(found.path, os.path.join(new, name))
        # The files that go have their second names on the disk first.
        fsync_folders(new)
        if os.path.lexists(old):
            aside = temporary_name(old)
            os.rename(old, aside)
            os.rename(new, old)
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.rename(new, old)
        fsync_folder(os.path.dirname(old))
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _remove_empty(top: str, name: str) -> None:
    """Remove the folders on the way to a file that are empty now."""
    with suppress(OSError):
        while name:
            os.rmdir(os.path.join(top, name))
            name = os.path.dirname(name)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries
