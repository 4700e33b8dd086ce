"""Handing blob files to storages, which take away what they are given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ZODB.blob import link_or_copy
from ZODB.utils import mktemp


def store_blob(storage: Any, oid: bytes, serial: bytes, data: bytes, path: str, meta: Any) -> None:
    """Store a blob whose content is the file at ``path``; whoever owns that file keeps it."""
    copy = _own_copy(storage, path)
    with removed_on_failure(copy):
        storage.storeBlob(oid, serial, data, copy, "", meta)


@contextmanager
def removed_on_failure(path: str) -> Iterator[None]:
    """Remove a file, where it is still there, if the block fails."""
    try:
        yield
    except BaseException:
        with suppress(OSError):
            os.remove(path)
        raise


def _own_copy(storage: Any, path: str) -> str:
    """Copy (or link) a blob's file into the storage's temporary folder."""
    folder = storage.temporaryDirectory()
    os.makedirs(folder, exist_ok=True)
    target = str(mktemp(dir=folder, prefix="BUC"))
    with removed_on_failure(target):
        os.remove(target)
        link_or_copy(path, target)
    return target
