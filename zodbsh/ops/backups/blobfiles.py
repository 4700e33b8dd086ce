"""Files of blobs in a folder of backups: their places, links and copies of them, digests."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from hashlib import file_digest
from typing import BinaryIO

from zodbsh.analysis.blobfolder import BlobFile, Odd, blob_files, blob_name
from zodbsh.errors import StorageIOError
from zodbsh.filestorage.repository import BLOBS, LAYOUT, is_leftover
from zodbsh.publish import publish, temporary_name, uninterrupted

_CANNOT_LINK = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


def add_file(path: str, target: str, *, copy: bool, replace: bool = False) -> None:
    """Give a file that nobody changes another name: a link, or a copy where it is asked for or cannot be linked.

    The name is free, or with ``replace`` another file's, which it takes in one step.
    """
    if replace and os.path.islink(target):
        # What it leads to is nobody's to replace.
        os.unlink(target)
    if not copy and not os.path.islink(path):
        try:
            (_link_over if replace else os.link)(path, target)
        except OSError as exc:
            if exc.errno not in _CANNOT_LINK:
                raise
        else:
            return
    _copy_verified(path, target, exclusive=not replace)


def _link_over(path: str, target: str) -> None:
    temporary = temporary_name(target)
    try:
        os.link(path, temporary)
        os.rename(temporary, target)
    finally:
        # Two names of one file are not renamed over each other.
        with uninterrupted(), suppress(FileNotFoundError):
            os.unlink(temporary)


def _copy_verified(path: str, target: str, *, exclusive: bool) -> None:
    """Copy a file that nobody changes, read it back, and give it the same mode. Raises OSError."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())

        def write(out: BinaryIO) -> None:
            while data := file.read(1 << 20):
                out.write(data)

        def verify(temporary: str) -> None:
            if digest_of(temporary) != digest_of(path):
                raise StorageIOError(f"{target} was not written as it was read")

        publish(target, write, verify=verify, exclusive=exclusive, mode=stat.S_IMODE(status.st_mode))


def digest_of(path: str) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def blob_file(folder: str, oid: int, tid: int) -> str:
    """Return the path of a blob's file in a folder of backups."""
    return os.path.join(folder, BLOBS, blob_name(LAYOUT, oid, tid))


def stored_blobs(folder: str) -> Iterator[BlobFile | Odd]:
    """Yield the blob files in a folder of backups."""
    path = os.path.join(folder, BLOBS)
    return blob_files(path, LAYOUT) if os.path.isdir(path) else iter(())


def sweep_blobs(folder: str) -> None:
    """Remove what a killed backup has left among the blobs."""
    for where, _, names in os.walk(os.path.join(folder, BLOBS)):
        for name in names:
            if is_leftover(name):
                os.unlink(os.path.join(where, name))


def prune_blobs(folder: str, keep: set[tuple[int, int]]) -> tuple[int, int]:
    """Remove the blobs that are not kept; return how many, and their bytes. Raises OSError."""
    removed = size = 0
    top = os.path.join(folder, BLOBS)
    for found in list(stored_blobs(folder)):
        if isinstance(found, Odd) or (found.oid, found.tid) in keep:
            continue
        size += os.stat(found.path).st_size
        os.unlink(found.path)
        removed += 1
        remove_empty(os.path.dirname(found.path), top)
    return removed, size


def remove_empty(folder: str, top: str) -> None:
    """Remove a folder if it is empty, and those above it below ``top`` likewise."""
    with suppress(OSError):
        while folder != top:
            os.rmdir(folder)
            folder = os.path.dirname(folder)


def size_of(path: str) -> int | None:
    """Return a regular file's size, None where there is none."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
