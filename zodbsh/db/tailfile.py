"""Tails beside a database (``zodbsh.filestorage.tail``): how they come, how their blob files travel, how they go."""

from __future__ import annotations

import errno
import filecmp
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import count
from typing import BinaryIO, NamedTuple

from zodbsh.db.beside import make_folders
from zodbsh.errors import StorageIOError, ZodbshError
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.tail import (
    Tail,
    TailBlob,
    TailDamaged,
    TailHeader,
    check_tail,
    read_tail,
    tail_name,
    tails_beside,
    write_tail,
)
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import AlreadyExists, OutcomeUnknown, fsync_folder, link_or_copy, publish, uninterrupted


class BlobFile(NamedTuple):
    """The file of a blob's revision in the database's folder of blobs."""

    oid: int
    tid: int
    path: str


def keep_tail(
    path: str, file: DataFile, header: TailHeader, blobs: Sequence[BlobFile], progress: Progress = SILENT
) -> Tail:
    """Publish the end of ``file``, the database ``path``, as a tail beside it, with its blob files; all is on the disk.

    What an earlier attempt that was cut off has left is used. Raises OSError, StorageIOError; nothing is left then.
    """
    listed = tuple(TailBlob(blob.oid, blob.tid, os.path.getsize(blob.path)) for blob in blobs)
    tail = Tail(_free_name(path, header, listed), header, listed)
    if os.path.lexists(tail.path):
        return tail
    made: list[str] = []
    try:
        _link_blobs(tail, path, blobs, made)

        def write(out: BinaryIO) -> None:
            write_tail(out, file, header, listed)

        def verify(temporary: str) -> None:
            found = read_tail(temporary)
            with DataFile(temporary) as written:
                check_tail(found, written, progress)
            if found.header != header or found.blobs != listed:
                raise StorageIOError(f"{tail.path}: what was written does not read back the same; nothing changed")

        publish(tail.path, write, verify=verify, exclusive=True, like=path)
    except BaseException as exc:
        # Whoever took the name meanwhile keeps it.
        mine = made if isinstance(exc, AlreadyExists) else [tail.path, *made]
        with uninterrupted(), suppress(OSError):
            _unlink(mine)
            os.rmdir(tail.blob_folder)
        if isinstance(exc, OutcomeUnknown):
            raise StorageIOError(f"{exc.message}; nothing was taken off the database") from exc
        raise
    return tail


def discard_tail(tail: Tail) -> None:
    """Remove a tail and its blob files, as far as they let themselves be removed; raises the first OSError."""
    os.unlink(tail.path)
    fsync_folder(os.path.dirname(tail.path))
    if os.path.isdir(tail.blob_folder):
        for blob in tail.blobs:
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(tail.blob_folder, blob.name))
        os.rmdir(tail.blob_folder)


def return_blobs(tail: Tail, path: str, targets: Sequence[str]) -> list[str]:
    """Give the tail's blob files their names in the folder of the database ``path`` again; return the new names.

    The tail keeps its own. Raises OSError, TailDamaged where a file is neither here nor there; nothing is left then.
    """
    made: list[str] = []
    try:
        for blob, target in zip(tail.blobs, targets, strict=True):
            source = os.path.join(tail.blob_folder, blob.name)
            if not _must_return(blob, source, target):
                continue
            # For the owner alone, as ZODB makes them.
            for folder in make_folders(os.path.dirname(target), path, 0o700):
                fsync_folder(os.path.dirname(folder))
            made.append(target)
            try:
                link_or_copy(source, target)
            except FileExistsError:
                made.remove(target)
                raise
        for folder in {os.path.dirname(target) for target in made}:
            fsync_folder(folder)
    except BaseException:
        with uninterrupted():
            _unlink(made)
        raise
    return made


def require_blobs(tail: Tail, targets: Sequence[str]) -> None:
    """Raise what ``return_blobs`` would: TailDamaged where a file is neither here nor there, OSError. Reads only."""
    for blob, target in zip(tail.blobs, targets, strict=True):
        source = os.path.join(tail.blob_folder, blob.name)
        if _must_return(blob, source, target) and os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), source, None, target)


def remove_blobs(paths: Iterable[str]) -> str | None:
    """Remove blob files that are in a tail now, or that nothing refers to; return what went wrong."""
    left = _unlink(paths)
    return f"{len(left):,} blob files could not be removed from their folder ({left[0]})" if left else None


def fitting_tails(path: str, end: int, last_tid: int) -> list[Tail]:
    """Return the tails beside a database that ends there, by what their headers say, the newest first."""
    found = []
    with suppress(OSError):
        for name in tails_beside(path):
            with suppress(ZodbshError):
                tail = read_tail(name)
                if (tail.header.base_end, tail.header.base_tid) == (end, last_tid):
                    found.append(tail)
    return found


def _free_name(path: str, header: TailHeader, blobs: tuple[TailBlob, ...]) -> str:
    """Return the name for a tail: a free one, or that of the very same tail."""
    for number in count():
        name = tail_name(path, header.first_tid, header.last_tid, number)
        if not os.path.lexists(name):
            return name
        with suppress(ZodbshError):
            tail = read_tail(name)
            if tail.header == header and tail.blobs == blobs and _whole(tail):
                return name
    raise AssertionError


def _whole(tail: Tail) -> bool:
    with DataFile(tail.path) as file:
        check_tail(tail, file)
    names = [(os.path.join(tail.blob_folder, blob.name), blob.size) for blob in tail.blobs]
    return all(os.path.isfile(name) and os.path.getsize(name) == size for name, size in names)


def _link_blobs(tail: Tail, path: str, blobs: Sequence[BlobFile], made: list[str]) -> None:
    if not blobs:
        return
    make_folders(tail.blob_folder, path, 0o700)
    for blob, listed in zip(blobs, tail.blobs, strict=True):
        target = os.path.join(tail.blob_folder, listed.name)
        # A signal may come when the file is there.
        made.append(target)
        try:
            link_or_copy(blob.path, target)
        except FileExistsError:
            # Left by an attempt that was cut off.
            made.remove(target)
            if not filecmp.cmp(blob.path, target, shallow=False):
                raise AlreadyExists(f"{target} exists already") from None
    fsync_folder(tail.blob_folder)
    fsync_folder(os.path.dirname(tail.blob_folder))


def _must_return(blob: TailBlob, source: str, target: str) -> bool:
    """Tell whether a blob's file is not in its place yet. Raises TailDamaged where the tail has lost it."""
    if os.path.isfile(target) and os.path.getsize(target) == blob.size and _equal(source, target):
        return False
    if not os.path.isfile(source) or os.path.getsize(source) != blob.size:
        raise TailDamaged(f"{source} is missing, or not as it was")
    return True


def _equal(source: str, target: str) -> bool:
    """Tell whether a blob's file in the database's folder is the tail's, or all that there is of it."""
    if not os.path.lexists(source):
        return True
    return os.path.samefile(source, target) or filecmp.cmp(source, target, shallow=False)


def _unlink(paths: Iterable[str]) -> list[str]:
    """Remove files; return those that are left."""
    left = []
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
        except OSError:
            left.append(path)
    return left
