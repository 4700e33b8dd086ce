"""Handing blob files to storages, which take away what they are given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from typing import Any

from ZODB.blob import BlobFile, link_or_copy

from zodbsh.publish import uninterrupted


def store_blob(storage: Any, oid: bytes, serial: bytes, data: bytes, path: str, meta: Any) -> None:
    """Store a blob whose content is the file at ``path``; whoever owns that file keeps it."""
    folder = storage.temporaryDirectory()
    os.makedirs(folder, exist_ok=True)
    copy = os.path.join(folder, f"BUC{os.urandom(16).hex()}")
    with removed_on_failure(copy):
        link_or_copy(path, copy)
        storage.storeBlob(oid, serial, data, copy, "", meta)


@contextmanager
def removed_on_failure(path: str) -> Iterator[None]:
    """Remove a file, where it is there, if the block fails."""
    try:
        yield
    except BaseException:
        with uninterrupted(), suppress(OSError):
            os.remove(path)
        raise


def write_blobs_whole() -> None:
    """Have a blob that is open for writing take all it is given, or raise.

    ZODB writes it with a single system call, and passes over that a full disk or a quota took a part only.
    """
    BlobFile.write = _write_whole


def _write_whole(file: Any, data: Any) -> int:
    with memoryview(data).cast("B") as content:
        done = 0
        while done < len(content):
            done += FileIO.write(file, content[done:]) or 0
        return done
