"""Whether every blob has its file, and every blob file its record."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING

from zodbsh.engine import chosen
from zodbsh.findings import Finding
from zodbsh.ids import oid_text, tid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.source.file import FileSource

if TYPE_CHECKING:
    from zodbsh.analysis.graph import ObjectGraph

BLOB_CLASS = "ZODB.blob.Blob"

_BYTE = re.compile(r"0x[0-9a-f]{2}")
_LAWN = re.compile(r"0x(?:[0-9a-f]{2}){1,8}")
_FILE = re.compile(r"0x((?:[0-9a-f]{2}){1,8})\.blob")
_LONGEST_WAY = 8


def check_blobs(graph: ObjectGraph, *, progress: Progress = SILENT) -> Iterator[Finding]:
    """Yield blobs whose file is missing or cannot be read, and, of a file's blob folder, what belongs to no record."""
    columns, source = graph.columns, graph.snapshot.source
    wanted = bytes(name == BLOB_CLASS for name in columns.class_names)
    blobs = [columns.oids[number] for number in chosen.of_classes(columns.classes, wanted)]
    folder = source.blob_folder() if isinstance(source, FileSource) else None
    if isinstance(source, FileSource) and folder is None:
        return
    progress.start("checking blobs", len(blobs), "blobs")
    for done, oid in enumerate(blobs):
        tid = graph.snapshot.load(oid).tid
        path = source.blob_path(oid, tid)
        if path is None:
            yield Finding("blob-missing", oid, tid, None, f"{graph.path(oid)} has no blob file")
        elif (reason := _unreadable(path)) is not None:
            yield Finding("blob-unreadable", oid, tid, None, f"{path}: {reason}")
        progress.advance(done + 1)
    progress.finish()
    if folder is not None:
        yield from _orphans(graph, *folder)


def unlocated_blobs(graph: ObjectGraph) -> int:
    """Return how many blobs there are whose folder is not known; 0 where it is."""
    source, columns = graph.snapshot.source, graph.columns
    if not isinstance(source, FileSource) or source.blob_folder() is not None:
        return 0
    wanted = bytes(name == BLOB_CLASS for name in columns.class_names)
    return len(chosen.of_classes(columns.classes, wanted))


def _unreadable(path: str) -> str | None:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "it is no regular file"
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as exc:
        return exc.strerror or str(exc)
    return None


def _orphans(graph: ObjectGraph, folder: str, layout: str) -> Iterator[Finding]:
    """Yield what lies in a blob folder and belongs to no revision of a blob."""
    for path, oid, tid in _files(folder, layout):
        if oid is None:
            yield Finding("blob-folder", None, None, None, f"{path}: {tid}")
        elif isinstance(tid, int) and (reason := _orphaned(graph, oid, tid)) is not None:
            yield Finding("blob-orphaned", oid, tid, None, f"{path}: {reason}")


def _orphaned(graph: ObjectGraph, oid: int, tid: int) -> str | None:
    if tid > graph.snapshot.tid:
        # It was written after what is looked at.
        return None
    number = graph.columns.find(oid)
    if number is None or not any(revision.tid == tid for revision in graph.snapshot.source.history(oid)):
        return f"there is no record of {oid_text(oid)} in {tid_text(tid)}"
    class_ = graph.columns.class_name(number)
    return None if class_ in (BLOB_CLASS, None) else f"{oid_text(oid)} is no blob, but a {class_}"


def _files(folder: str, layout: str) -> Iterator[tuple[str, int | None, int | str]]:
    """Yield each blob file with its oid and tid; a folder that cannot be read with None and why.

    What ZODB keeps there for itself (``tmp``, ``.layout``, lock files) and what it knows nothing of is passed over.
    """
    pattern, depth = (_BYTE, _LONGEST_WAY) if layout == "bushy" else (_LAWN, 1)
    todo: list[tuple[str, tuple[str, ...]]] = [(folder, ())]
    while todo:
        path, way = todo.pop()
        try:
            with os.scandir(path) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as exc:
            yield path, None, exc.strerror or str(exc)
            continue
        for entry in entries:
            if len(way) < depth:
                if pattern.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    todo.append((entry.path, (*way, entry.name)))
            elif match := _FILE.fullmatch(entry.name):
                yield entry.path, int("".join(part[2:] for part in way), 16), int(match[1], 16)
