"""The saved index beside a file that gets new content: the old one goes before, a new one comes after."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from zodbsh.engine import chosen
from zodbsh.engine.columns import Columns
from zodbsh.errors import ZodbshError
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.index import index_file
from zodbsh.publish import fsync_folder, publish

_SUFFIX = ".index"


def drop_indexes(names: Iterable[str]) -> None:
    """Remove the saved index of a file under each of its names: ZODB would take it for one of the new content."""
    for name in names:
        with suppress(FileNotFoundError):
            os.unlink(name + _SUFFIX)
            fsync_folder(os.path.dirname(name))


def save_index(path: str, end: int, columns: Columns) -> str | None:
    """Save the index of a file that ends at ``end``; return what went wrong, None for nothing.

    It is a hint: without it, whoever opens the file scans it. Python 2's ZODB reads no index of ours, and gets none.
    """
    try:
        with DataFile(path) as file:
            if file.read(0, 4) != b"FS30":
                return None
        parts = index_file(end, chosen.index_parts(columns))
        publish(path + _SUFFIX, lambda out: out.writelines(parts), like=path)
    except (OSError, ZodbshError) as exc:
        return f"no index could be saved ({exc}): the next one to open the file scans it"
    return None
