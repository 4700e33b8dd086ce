"""The files in a folder of blobs, in both of ZODB's layouts (``ZODB/blob.py``).

``bushy``: a folder for each byte of the oid, ``0x00/0x00/0x00/0x00/0x00/0x00/0x00/0x2a/0x<tid>.blob``.
``lawn``: a folder for each oid, ``0x2a/0x<tid>.blob``. What ZODB keeps there for itself (``.layout``, ``.removed``,
lock files, ``tmp`` with the files of savepoints) and what has another name altogether is passed over, as ZODB does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from zodbsh.ids import oid_text, to_bytes

LAYOUTS = {"bushy": 8, "lawn": 1}
"""How many folders deep the blob files are."""

_SUFFIX = ".blob"
_BYTE = re.compile("0x[0-9a-f]{2}")
_NUMBER = re.compile("0x(?:[0-9a-f]{2}){1,8}")
# Deeper than this no layout goes.
_DEEPEST = 8


class BlobFile(NamedTuple):
    """A file named as the blob of an object's revision."""

    path: str
    oid: int
    tid: int


class Odd(NamedTuple):
    """What cannot be looked at, or what ZODB will never find: a path, and what is the matter with it."""

    path: str
    reason: str


class _Folder(NamedTuple):
    """A folder to look into; ``way`` are the names that led there from the top."""

    path: str
    way: tuple[str, ...]


def blob_name(layout: str, oid: int, tid: int) -> str:
    """Return where the file of a blob's revision is within its folder."""
    names = [f"0x{byte:02x}" for byte in to_bytes(oid)] if layout == "bushy" else [oid_text(oid)]
    return os.path.join(*names, oid_text(tid) + _SUFFIX)


def holds_blobs(folder: str) -> bool:
    """Tell whether a folder has anything named as ZODB names folders of blobs; True where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return any(_NUMBER.fullmatch(entry.name) for entry in entries)
    except OSError:
        return True


def blob_files(folder: str, layout: str) -> Iterator[BlobFile | Odd]:
    """Yield every blob file, all of an object's after each other, and what is odd. Never raises for what is there.

    Links to folders are followed, as ZODB does, each once, and none into the folder itself.
    """
    yield from _walk([_Folder(folder, ())], layout, [os.path.realpath(folder)])


def lies_within(path: str, folder: str) -> bool:
    """Tell whether a path is a folder's or leads into it; neither has links or dots in it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _walk(todo: list[_Folder], layout: str, seen: list[str]) -> Iterator[BlobFile | Odd]:
    links: list[_Folder] = []
    while todo or links:
        if todo:
            folder = todo.pop()
        else:
            # Links come last, so that what a link repeats was seen under its own name.
            folder = links.pop()
            real = os.path.realpath(folder.path)
            if any(lies_within(real, other) or lies_within(other, real) for other in seen):
                yield Odd(folder.path, "is a link into a folder that is looked at already")
                continue
            seen.append(real)
        try:
            with os.scandir(folder.path) as entries:
                found = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as exc:
            yield Odd(folder.path, f"cannot be read: {exc.strerror or exc}")
            continue
        for entry in found:
            if entry.name.endswith(_SUFFIX):
                yield _file(entry, folder.way, layout)
            elif len(folder.way) < _DEEPEST and _NUMBER.fullmatch(entry.name):
                further = _Folder(entry.path, (*folder.way, entry.name))
                if _is_folder(entry, follow=False):
                    todo.append(further)
                elif _is_folder(entry, follow=True):
                    links.append(further)


def _file(entry: os.DirEntry[str], way: tuple[str, ...], layout: str) -> BlobFile | Odd:
    """Return what a name that ends as a blob file's does stands for."""
    if len(way) != LAYOUTS[layout]:
        return Odd(entry.path, f"is a blob file at a place where the {layout} layout has none")
    name = entry.name.removesuffix(_SUFFIX)
    if layout == "bushy":
        oid = int("".join(part[2:] for part in way), 16) if all(map(_BYTE.fullmatch, way)) else None
    else:
        oid = int(way[0], 16)
    tid = int(name, 16) if _NUMBER.fullmatch(name) else None
    if oid is None or tid is None or not entry.path.endswith(os.sep + blob_name(layout, oid, tid)):
        return Odd(entry.path, "is named in a way that ZODB never looks for")
    return BlobFile(entry.path, oid, tid)


def _is_folder(entry: os.DirEntry[str], *, follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False
