"""The blob files of a recovered database: those of its revisions, in a folder of its own."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from zodbsh.analysis.blobfolder import LAYOUTS, BlobFile, blob_files, blob_name, holds_blobs
from zodbsh.db.beside import leave_to_owner
from zodbsh.errors import DatabaseNotFound
from zodbsh.findings import Finding
from zodbsh.ids import MAX_ID
from zodbsh.publish import AlreadyExists, OutcomeUnknown, fsync_folder, link_or_copy, temporary_name, uninterrupted
from zodbsh.source.file import FileSource, blobs_beside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zodbsh.db.spec import Spec

_LAYOUT_MARKER = ".layout"
_CHUNK = 1 << 20


class BlobsResult(NamedTuple):
    """What became of the blob files: how many were taken (``copied`` of them copied, the others linked), how many
    belong to no kept revision, how many are missing; all are where their folder is not known, ``folder`` None."""

    folder: str | None
    files: int
    copied: int
    left: int
    missing: int


class BlobStage:
    """A folder for blobs that gets its name, ``<out>.blobs``, only with the database; a context manager.

    ``folder`` is None where the damaged database has no blobs, or none are wanted.
    """

    def __init__(self, spec: Spec, out: str, *, wanted: bool) -> None:
        """Raises DatabaseNotFound where the folder that was named is none, AlreadyExists where the new one is there."""
        self.folder: str | None = None
        self.files = self.copied = self.left = 0
        self.unreadable: list[Finding] = []
        self._target, self._wanted = f"{out}.blobs", wanted
        self._published = False
        self._database = spec.path
        self._source = _source_folder(spec) if wanted else None
        if wanted and os.path.lexists(self._target):
            raise AlreadyExists(f"{self._target} exists already")

    def __enter__(self) -> Self:
        return self

    def fill(self, database: str) -> None:
        """Link or copy the blob files of every revision in the file ``database``; ``unreadable`` gets what cannot be.

        Raises OSError where the new folder cannot be filled.
        """
        if self._source is None:
            return
        source = FileSource(database, blob_dir=self._source)
        try:
            _, layout = source.blob_folder() or ("", "")
            if layout not in LAYOUTS:
                return
            self.folder = temporary_name(self._target)
            os.mkdir(self.folder, 0o700)
            for file in _kept(source, self._source, layout, self):
                target = os.path.join(self.folder, blob_name(layout, file.oid, file.tid))
                os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
                try:
                    self.copied += link_or_copy(file.path, target)
                except OSError:
                    if (reason := _unreadable(file.path)) is None:
                        raise
                    # What a folder of blobs has lost is not a reason to save nothing.
                    message = f"{file.path} cannot be read ({reason}), and did not come along"
                    self.unreadable.append(Finding("blob-unreadable", file.oid, file.tid, None, message))
                else:
                    self.files += 1
            with open(os.path.join(self.folder, _LAYOUT_MARKER), "w", encoding="ascii") as marker:
                marker.write(layout)
                marker.flush()
                os.fsync(marker.fileno())
        finally:
            source.close()

    def publish(self) -> None:
        """Give the folder its name. Raises OSError."""
        if self.folder is None:
            return
        leave_to_owner(os.path.join(self.folder, _LAYOUT_MARKER), self._database)
        for where, _, _ in os.walk(self.folder):
            leave_to_owner(where, self._database)
            fsync_folder(where)
        # A folder is renamed only onto nothing, or onto an empty one.
        with uninterrupted():
            os.rename(self.folder, self._target)
            self._published = True
        fsync_folder(os.path.dirname(self._target))

    def named(self, message: str) -> str:
        """Return a sentence about the folder as it is while it is filled, with the name that it gets."""
        return message if self.folder is None else message.replace(self.folder, self._target)

    def result(self, missing: int, unlocated: int) -> BlobsResult | None:
        """Return what became of the files, None where there are none, or none are wanted."""
        if self.folder is None:
            return BlobsResult(None, 0, 0, 0, unlocated) if self._wanted and unlocated else None
        return BlobsResult(self._target, self.files, self.copied, self.left, missing)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with uninterrupted(), suppress(OSError):
            if not self._published and self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)
            elif kind is not None and not isinstance(error, OutcomeUnknown):
                shutil.rmtree(self._target, ignore_errors=True)


def _source_folder(spec: Spec) -> str | None:
    if spec.blob_dir is not None:
        if not os.path.isdir(spec.blob_dir):
            raise DatabaseNotFound(f"there is no folder {spec.blob_dir}", hint="Name the folder of the blob files.")
        return spec.blob_dir
    folder = blobs_beside(spec.path)
    return folder if os.path.isdir(folder) and holds_blobs(folder) else None


def _unreadable(path: str) -> str | None:
    """Return why a file cannot be read to its end, None where it can."""
    if not os.path.isfile(path):
        return "no file"
    try:
        with open(path, "rb") as file:
            while file.read(_CHUNK):
                pass
    except OSError as exc:
        return exc.strerror or str(exc)
    return None


def _kept(source: FileSource, folder: str, layout: str, stage: BlobStage) -> Iterator[BlobFile]:
    """Yield the blob files that belong to a revision of the source."""
    oid, tids = -1, set[int]()
    for file in blob_files(folder, layout):
        if not isinstance(file, BlobFile):
            continue
        # All files of an object come one after the other.
        if file.oid != oid:
            oid, tids = file.oid, {revision.tid for revision in source.history(file.oid, MAX_ID)}
        if file.tid in tids:
            yield file
        else:
            stage.left += 1
