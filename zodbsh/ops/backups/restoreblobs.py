"""Putting blobs back: a new folder, made whole beside its place, that takes the place of the old one."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from shlex import quote
from typing import Self

from zodbsh.analysis.blobfolder import LAYOUTS, BlobFile, blob_files, blob_name
from zodbsh.db.beside import leave_to_owner
from zodbsh.filestorage.backupmanifest import Blob
from zodbsh.filestorage.repository import LAYOUT, BackupDamaged
from zodbsh.findings import Finding
from zodbsh.ids import oid_text, tid_text
from zodbsh.ops.backups.blobfiles import add_file, blob_file, digest_of, remove_empty, size_of
from zodbsh.ops.backups.blobrevisions import Wanted
from zodbsh.ops.backups.restoreplace import OLD, is_empty_folder
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import OutcomeUnknown, exchange, fsync_folder, temporary_name, uninterrupted
from zodbsh.source.file import blob_layout


class NewBlobs:
    """The folder of blobs that is to be ``target``; a context manager.

    `fill` makes it beside its place, `put` gives it its name. Where the block then ends well, what was there before
    stays as ``.old``, in the place of an earlier one; where it fails, all is as it was. Until then the new folder has
    the old one's files, too: whatever ends this early, the database that is there finds its blobs.
    """

    def __init__(self, target: str, database: str) -> None:
        self._database = database
        self.target = os.path.realpath(target)
        self.blobs = self.bytes = 0
        self.findings: list[Finding] = []
        self._staged = temporary_name(self.target)
        self._old = self.target + OLD
        self._aside = temporary_name(self._old)
        self._extra: list[str] = []
        self._replaces = self._fills = False
        self._put = self._exchanged = False

    @property
    def old(self) -> str | None:
        """Where what was there before stays, None where nothing was."""
        return self._old if self._put and self._replaces else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: object) -> None:
        with uninterrupted():
            if self._put:
                if exc is None or isinstance(exc, OutcomeUnknown):
                    self._settle()
                else:
                    self._take_back_or_tell(exc)
            shutil.rmtree(self._staged, ignore_errors=True)

    def fill(
        self,
        backup: str,
        wanted: Iterable[Wanted],
        recorded: Mapping[tuple[int, int], Blob],
        *,
        copy: bool,
        progress: Progress = SILENT,
    ) -> None:
        """Link or copy the wanted blobs, each compared with its manifest. Raises BackupDamaged, OSError."""
        os.mkdir(self._staged, 0o700)
        with open(os.path.join(self._staged, ".layout"), "w", encoding="ascii") as marker:
            marker.write(f"{LAYOUT}\n")
            marker.flush()
            os.fsync(marker.fileno())
        folders = {self._staged}
        progress.start("restoring blobs", None, "blobs")
        for done, (oid, tid, certain) in enumerate(wanted):
            progress.advance(done)
            path, blob = blob_file(backup, oid, tid), recorded.get((oid, tid))
            size = size_of(path)
            if size is None and blob is None:
                if certain:
                    self.findings.append(Finding("blob-missing", oid, tid, None, "its file is not in the backup"))
                continue
            if blob is not None and (size != blob.size or digest_of(path) != blob.sha256):
                raise _bad_blob(backup, path, blob, missing=size is None)
            target = os.path.join(self._staged, blob_name(LAYOUT, oid, tid))
            _make_folders(os.path.dirname(target), self._staged, folders)
            add_file(path, target, copy=copy)
            self.blobs += 1
            self.bytes += size or 0
        # An empty folder is renamed over, and nothing of it stays.
        self._fills = is_empty_folder(self.target)
        self._replaces = os.path.lexists(self.target) and not self._fills
        if self._replaces:
            self._extra = _add_old(self._staged, self.target, folders)
        if self._fills or self._replaces:
            _dress(self._staged, self.target)
        for folder in sorted(folders, reverse=True):
            fsync_folder(folder)
        progress.finish()

    def put(self) -> None:
        """Give the folder its name. Raises OSError; all is as it was then."""
        self._put = True
        if self._replaces:
            if os.path.lexists(self._old):
                os.rename(self._old, self._aside)
            # So there is no moment without a folder, where the system knows such a step.
            self._exchanged = exchange(self._staged, self.target)
            os.rename(self._staged if self._exchanged else self.target, self._old)
        if not self._exchanged:
            os.rename(self._staged, self.target)
        fsync_folder(os.path.dirname(self.target))

    def _settle(self) -> None:
        shutil.rmtree(self._aside, ignore_errors=True)
        for path in self._extra:
            with suppress(OSError):
                place = path.replace(self._staged, self.target, 1)
                os.unlink(place)
                remove_empty(os.path.dirname(place), self.target)

    def _take_back_or_tell(self, failed: BaseException) -> None:
        try:
            self._take_back()
        except OSError as exc:
            raise OutcomeUnknown(
                f"{self.target} could not be put back ({exc.strerror or exc}), after: {failed}",
                hint=f"The database is as it was; `zodbsh verify {quote(self._database)}` says whether it lacks blobs."
                f" If it does, they are in {self._old} or {self._staged}.",
            ) from failed

    def _take_back(self) -> None:
        if not (self._replaces or self._fills):
            # A full disk may refuse to give it its old name back.
            if not os.path.lexists(self._staged):
                shutil.rmtree(self.target, ignore_errors=True)
            return
        if self._exchanged:
            if not os.path.lexists(self._staged):
                os.rename(self._old, self._staged)
            exchange(self._staged, self.target)
        elif not os.path.lexists(self._staged):
            os.rename(self.target, self._staged)
        if self._replaces and not os.path.lexists(self.target) and os.path.lexists(self._old):
            os.rename(self._old, self.target)
        if self._fills and not os.path.lexists(self.target):
            os.mkdir(self.target, stat.S_IMODE(os.stat(self._staged).st_mode))
        if os.path.lexists(self._aside):
            os.rename(self._aside, self._old)


def _bad_blob(folder: str, path: str, blob: Blob, *, missing: bool) -> BackupDamaged:
    what = "missing" if missing else "damaged: it is not what its manifest says"
    return BackupDamaged(
        f"{path} (the blob {oid_text(blob.oid)} of {tid_text(blob.tid)}) is {what}",
        folder=folder,
        hint="`--no-blobs` restores the database without its blobs.",
    )


def _make_folders(folder: str, top: str, made: set[str]) -> None:
    if folder == top or folder in made:
        return
    _make_folders(os.path.dirname(folder), top, made)
    made.add(folder)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)


def _dress(staged: str, old: str) -> None:
    """Give the new folder the old one's mode and, with all that was made for it, owner."""
    shutil.copymode(old, staged)
    for where, _, files in os.walk(staged):
        leave_to_owner(where, old)
        for name in files:
            leave_to_owner(os.path.join(where, name), old)


def _add_old(staged: str, old: str, made: set[str]) -> list[str]:
    """Link the old folder's files into the new one; return their paths there."""
    layout = blob_layout(old)
    added: list[str] = []
    if layout not in LAYOUTS:
        return added
    for found in blob_files(old, layout):
        if not isinstance(found, BlobFile):
            continue
        path = os.path.join(staged, blob_name(LAYOUT, found.oid, found.tid))
        if os.path.lexists(path):
            continue
        _make_folders(os.path.dirname(path), staged, made)
        with suppress(OSError):
            os.link(found.path, path)
            added.append(path)
    return added
