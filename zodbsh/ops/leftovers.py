"""What interrupted commands, ours or ZODB's, left beside a database.

Nothing is removed here, no lock is taken. While somebody holds the write lock
nothing is a leftover: what looks like one may be at work.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.db.locks import is_held, other_name

if TYPE_CHECKING:
    from zodbsh.db.spec import Spec
    from zodbsh.source.file import FileSource
    from zodbsh.stage.model import Stage

# As publish.temporary_name makes them, of the database or of what lies beside it.
_TEMPORARY = re.compile(r"(\.[^.].*)?\.[0-9a-f]{32}\.new")
_CUT_OFF = re.compile(r"\.tr[0-9]+")
_BLOB = re.compile(r"0x([0-9a-f]{1,16})\.blob")
# So many folders take a fraction of a second; beyond them `verify` finds the blobs of no transaction.
_MAX_FOLDERS = 20_000

_REMOVE = "remove it"
_BESIDE = {
    ".pack": ("a pack that was not finished", _REMOVE),
    ".packed-blobs": ("what a pack has yet to remove of the blobs", "pack again: it goes on with that"),
    ".old-before-pack": ("the .old of before a pack that was interrupted", "keep it as .old, or remove it"),
    ".index.index_tmp": ("a saved index that was not finished", _REMOVE),
}


class Leftover(NamedTuple):
    """A file or folder that nobody needs any more: what it is, and what to do about it."""

    path: str
    what: str
    advice: str


def find_leftovers(spec: Spec, source: FileSource, stage: Stage | None) -> tuple[Leftover, ...]:
    """Return what lies beside a file and its blobs without a process that works on it, sorted by path."""
    names = [spec.path, other] if (other := other_name(spec.path)) else [spec.path]
    if any(is_held(f"{name}.lock") for name in names):
        return ()
    found: dict[str, Leftover] = {}
    for item in _all(names, spec, source, stage):
        found.setdefault(item.path, item)
    return tuple(found[path] for path in sorted(found))


def _all(names: list[str], spec: Spec, source: FileSource, stage: Stage | None) -> Iterator[Leftover]:
    blobs = source.blob_folder()
    for name in names:
        yield from _beside(name)
    if blobs is not None:
        yield from _beside(blobs[0])
        yield from _in_blobs(blobs[0], source.last_tid)
    yield from _of_stage(spec, stage)


def _beside(path: str) -> Iterator[Leftover]:
    """Yield what carries a database's, or a blob folder's, name and an ending that only lasts while somebody writes."""
    folder, name = os.path.split(path)
    for entry in _names(folder or "."):
        found = None
        if entry.startswith(f".{name}") and _TEMPORARY.fullmatch(entry[1 + len(name) :]):
            found = ("not finished, and never in use", _REMOVE)
        elif entry.startswith(name):
            ending = entry[len(name) :]
            found = _BESIDE.get(ending)
            if _CUT_OFF.fullmatch(ending):
                found = ("what ZODB cut off the end of the database", "look whether it is needed, then remove it")
        if found is not None:
            yield Leftover(os.path.join(folder, entry), *found)


def _in_blobs(folder: str, last_tid: int) -> Iterator[Leftover]:
    """Yield blob files that were not finished, and those of a transaction that did not come about."""
    for name in _names(os.path.join(folder, "tmp")):
        yield Leftover(os.path.join(folder, "tmp", name), "a blob that was not committed", _REMOVE)
    removed = os.path.join(folder, ".removed")
    if os.path.lexists(removed):
        yield Leftover(removed, "the list of blobs that an interrupted pack was to remove", _REMOVE)
    for where, name in _files(folder):
        blob = _BLOB.fullmatch(name)
        if blob is not None and int(blob[1], 16) > last_tid:
            yield Leftover(os.path.join(where, name), "the blob of a transaction that was not committed", _REMOVE)
        elif name.endswith(".new") and _TEMPORARY.search(name):
            yield Leftover(os.path.join(where, name), "a copy of a blob that was not finished", _REMOVE)


def _of_stage(spec: Spec, stage: Stage | None) -> Iterator[Leftover]:
    # A stage lies beside the file itself.
    path = f"{other_name(spec.path) or spec.path}.stage"
    lock = f"{path}.lock"
    if os.path.lexists(lock):
        if is_held(lock):
            return
        yield Leftover(lock, "the lock of a stage, which nobody holds", _REMOVE)
    yield from _beside(path)
    for name in _names(f"{path}.blobs"):
        if stage is None or not name.startswith(f"{stage.id}-"):
            yield Leftover(os.path.join(f"{path}.blobs", name), "the blob of a stage that is gone", _REMOVE)


def _files(folder: str) -> Iterator[tuple[str, str]]:
    for seen, (where, folders, files) in enumerate(os.walk(folder)):
        if seen >= _MAX_FOLDERS:
            return
        if where == folder and "tmp" in folders:
            folders.remove("tmp")
        for name in files:
            yield where, name


def _names(folder: str) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder)
    return []
