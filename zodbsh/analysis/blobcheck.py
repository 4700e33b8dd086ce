"""Whether every blob has its file, and every blob file its record.

A blob's file is named by the tid of the object's own revision: an undo, whose record points back, gets a copy of the
file under its own tid (``_txn_undo_write`` in ``ZODB/FileStorage/FileStorage.py``). What is in a file is not looked at.

Kinds: ``blob-missing``, ``blob-unreadable`` (there, but not a file that can be opened), ``blob-orphaned`` (a file that
belongs to no revision of a blob), ``blob-folder`` (the folder, or something in it, is not as ZODB makes it).
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from zodbsh.analysis.blobfolder import LAYOUTS, BlobFile, Odd, blob_files, blob_name, holds_blobs
from zodbsh.engine import chosen
from zodbsh.errors import ObjectNotFound, ZodbshError
from zodbsh.findings import Finding
from zodbsh.ids import oid_text, tid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.record.classpart import BLOB_CLASS, class_part
from zodbsh.source.file import FileSource
from zodbsh.times import tid_time

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterator

    from zodbsh.analysis.graph import ObjectGraph


# To find a path costs a millisecond or so; whoever misses more blobs than this looks at oids.
_PATHS = 100
# A blob file is in place before its transaction is: one as young as this may be about to be committed.
_COMMITTING = 3600.0


def check_blobs(graph: ObjectGraph, *, progress: Progress = SILENT) -> Iterator[Finding]:
    """Yield what is wrong with the blobs of a snapshot and, of a file, with its blob folder. Raises StorageIOError."""
    source, oids = graph.snapshot.source, graph.columns.oids
    blobs = [oids[number] for number in _blobs(graph)]
    if not isinstance(source, FileSource):
        yield from _present(graph, blobs, None, {}, progress)
        return
    folder = source.blob_folder()
    if folder is None:
        # Nothing is known to be missing: see `unlocated_blobs`.
        return
    path, layout = folder
    if layout not in LAYOUTS:
        said = f"says {layout!r}, which is neither bushy nor lawn" if layout else "(.layout) cannot be read"
        yield Finding("blob-folder", None, None, None, f"{path}: its layout {said}")
        return
    current: dict[int, int] = {}
    if len(blobs) > 1 and not holds_blobs(path):
        message = f"the database has {len(blobs):,} blobs, but {path} holds no blob file (--blobs DIR)"
        yield Finding("blob-missing", None, None, None, message)
    else:
        yield from _present(graph, blobs, folder, current, progress)
    yield from _Orphans(graph, source, current).find(path, layout, progress)


def unlocated_blobs(graph: ObjectGraph) -> int:
    """Return how many blobs there are whose folder is not known; 0 where it is."""
    source = graph.snapshot.source
    if not isinstance(source, FileSource) or source.blob_folder() is not None:
        return 0
    return len(_blobs(graph))


def _blobs(graph: ObjectGraph) -> array[int]:
    columns = graph.columns
    return chosen.of_classes(columns.classes, bytes(name == BLOB_CLASS for name in columns.class_names))


def _present(
    graph: ObjectGraph, blobs: list[int], folder: tuple[str, str] | None, current: dict[int, int], progress: Progress
) -> Iterator[Finding]:
    """Yield blobs whose current file is missing or cannot be read; note the current tids."""
    source, named = graph.snapshot.source, 0
    progress.start("checking blobs", len(blobs), "blobs")
    for done, oid in enumerate(blobs):
        progress.advance(done)
        try:
            tid = graph.snapshot.load(oid).tid
        except ZodbshError:
            # What is damaged on the way there is a finding of its own.
            continue
        current[oid] = tid
        try:
            path = source.blob_path(oid, tid)
        except ZodbshError as exc:
            yield Finding("blob-unreadable", oid, tid, None, f"its blob file cannot be had: {exc}")
            continue
        expected = os.path.join(folder[0], blob_name(folder[1], oid, tid)) if folder else path
        kind, reason = _look(expected)
        if kind:
            named += 1
            of = _path(graph, oid) if named <= _PATHS else oid_text(oid)
            where = f" {expected}" if expected else ""
            yield Finding(kind, oid, tid, None, f"the blob file{where} of {of} {reason}")
    progress.finish()


def _look(path: str | None) -> tuple[str, str]:
    """Return the kind of finding and what is wrong with a blob file; empty where nothing is."""
    if path is None:
        return "blob-missing", "is missing"
    try:
        # Looking first keeps us from waiting for a FIFO's writer, or waking a device.
        if not stat.S_ISREG(os.stat(path).st_mode):
            return "blob-unreadable", "is no regular file"
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except (FileNotFoundError, NotADirectoryError):
        return "blob-missing", "is a link that leads nowhere" if os.path.islink(path) else "is missing"
    except OSError as exc:
        return "blob-unreadable", f"cannot be read: {exc.strerror or exc}"
    return "", ""


def _path(graph: ObjectGraph, oid: int) -> str:
    try:
        return graph.path(oid)
    except ZodbshError:
        return oid_text(oid)


class _Orphans:
    """The search for blob files that belong to nothing; ``current`` has tids of blobs that are known already."""

    def __init__(self, graph: ObjectGraph, source: FileSource, current: dict[int, int]) -> None:
        self._source, self._current = source, current
        self._last_tid = graph.snapshot.tid
        self._oid: int | None = None
        self._classes: dict[int, str | None] = {}

    def find(self, folder: str, layout: str, progress: Progress) -> Iterator[Finding]:
        """Yield orphans, and what is odd in the folder."""
        newer: list[BlobFile] = []
        progress.start("looking at blob files", None, "files")
        for done, found in enumerate(blob_files(folder, layout)):
            progress.advance(done)
            if isinstance(found, Odd):
                yield Finding("blob-folder", None, None, None, f"{found.path} {found.reason}")
            elif found.tid > self._last_tid:
                newer.append(found)
            elif self._current.get(found.oid) != found.tid and (reason := self._orphaned(found)):
                yield _orphan(found, reason)
        progress.finish()
        if newer:
            yield from self._newer(newer)

    def _newer(self, files: list[BlobFile]) -> Iterator[Finding]:
        """Yield orphans among files newer than the snapshot, as far as the database as of now does not know them."""
        now = time.time()
        try:
            source = FileSource(self._source.path, ignore_damage=True)
        except ZodbshError:
            return
        try:
            self._source, self._oid = source, None
            for found in files:
                begun = tid_time(found.tid) if found.tid > source.last_tid else None
                if begun is not None and begun.timestamp() > now - _COMMITTING:
                    continue
                if reason := self._orphaned(found):
                    yield _orphan(found, reason)
        finally:
            source.close()

    def _orphaned(self, found: BlobFile) -> str:
        """Return why a file belongs to no revision of a blob, "" where it does, or where damage hides that."""
        if self._oid != found.oid:
            self._oid, self._classes = found.oid, {}
            try:
                for revision in self._source.history(found.oid):
                    self._classes[revision.tid] = None if revision.data is None else class_part(revision.data)[0]
            except ObjectNotFound:
                pass
            except ZodbshError:
                self._oid = None
                return ""
        if not self._classes:
            return "there is no such object"
        if found.tid not in self._classes:
            return f"no revision of the object is of transaction {tid_text(found.tid)}"
        class_ = self._classes[found.tid]
        if class_ is None:
            # ZODB's own wrapper for blobs copies the file for an undone creation, too.
            return "" if BLOB_CLASS in self._classes.values() else "the object was never a blob"
        return "" if class_ == BLOB_CLASS else f"the object is no blob, but of class {class_}"


def _orphan(found: BlobFile, reason: str) -> Finding:
    return Finding("blob-orphaned", found.oid, found.tid, None, f"{found.path}: {reason}")
