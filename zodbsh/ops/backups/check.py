"""``zodbsh backup --verify``: is everything there that was written, as it was written, and nothing else?"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from typing import NamedTuple

from zodbsh.analysis.blobfolder import Odd
from zodbsh.errors import StorageIOError
from zodbsh.filestorage.backupmanifest import Blob
from zodbsh.filestorage.index import IndexDoubt, parse_index
from zodbsh.filestorage.repository import (
    BLOBS,
    LARGEST_INDEX,
    LAYOUT,
    BackupDamaged,
    BackupNotFound,
    Folder,
    read_folder,
    read_regular,
)
from zodbsh.filestorage.stream import TransactionStream
from zodbsh.findings import Finding
from zodbsh.ids import oid_text, tid_text
from zodbsh.ops.backups.blobfiles import blob_file, digest_of, size_of, stored_blobs
from zodbsh.ops.backups.chain import Piece, check_piece, close_step, pieces
from zodbsh.ops.backups.lock import is_busy
from zodbsh.progress import SILENT, Progress
from zodbsh.source.file import blob_layout

MISSING, CHANGED, EXTRA = "missing", "changed", "extra"


class BackupCheck(NamedTuple):
    """What was found: ``findings`` are of the kinds ``missing``, ``changed`` and ``extra``.

    ``not_checked`` says in sentences what this check cannot tell.
    """

    folder: str
    steps: int
    bytes: int
    blobs: int
    blob_bytes: int
    findings: tuple[Finding, ...]
    not_checked: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def check_backups(path: str, *, progress: Progress = SILENT) -> BackupCheck:
    """Read everything in a folder of backups. Raises BackupNotFound, StorageIOError; never for what is found."""
    # Asked first: a backup that ends meanwhile has left nothing half done.
    busy = is_busy(path)
    folder = read_folder(path)
    if not folder.chains and not folder.lost:
        raise BackupNotFound(f"there is no backup in {path}")
    return _Check(folder, busy, progress).run()


class _Check:
    def __init__(self, folder: Folder, busy: bool, progress: Progress) -> None:
        self._folder, self._busy, self._progress = folder, busy, progress
        self._findings: list[Finding] = []
        self._bytes = self._blob_bytes = 0
        self._by_md5 = self._by_nothing = self._missing_then = 0

    def run(self) -> BackupCheck:
        folder = self._folder
        chains = [pieces(folder, chain) for chain in folder.chains]
        for step in folder.lost:
            self._find(MISSING, f"{folder.join(step.name)} is an increment, but there is no full backup before it")
        self._progress.start("verifying the backups", None, "bytes")
        for number, chain in enumerate(folder.chains):
            self._check_dat(number)
            self._check_chain(chains[number], newest=chain is folder.chains[-1])
        self._progress.finish()
        self._check_names()
        blobs = self._check_blobs([piece for chain in chains for piece in chain])
        steps = sum(map(len, chains)) + len(folder.lost)
        return BackupCheck(
            folder.path, steps, self._bytes, blobs, self._blob_bytes, tuple(self._findings), tuple(self._not_checked())
        )

    def _check_dat(self, number: int) -> None:
        chain = self._folder.chains[number]
        if chain.trouble:
            kind = MISSING if chain.trouble.endswith("missing") else CHANGED
            newest = number == len(self._folder.chains) - 1 and len(chain.steps) == 1
            if not (self._busy and newest):
                self._find(kind, self._folder.join(chain.trouble))
        names = {step.name for step in chain.steps}
        for name in chain.lines:
            if name not in names:
                self._find(MISSING, f"{self._folder.join(name)} is missing")

    def _check_chain(self, chain: list[Piece], *, newest: bool) -> None:
        """Read a chain's steps one after another; what follows a bad one is looked at all the same."""
        stream = TransactionStream()
        end: int | None = 0
        have = {piece.step.name for piece in chain if piece.manifest is not None or piece.trouble}
        had = {name for piece in chain if piece.manifest is not None for name in piece.manifest.previous}
        for name in sorted(had - have):
            self._find(MISSING, f"{self._folder.join(name)}: its manifest is missing, or the step itself")
        for piece in chain:
            if newest and self._busy and piece is chain[-1] and piece.manifest is None:
                continue
            if piece.trouble:
                self._find(CHANGED, piece.trouble)
            if piece.manifest is None and piece.line is None:
                self._find(EXTRA, f"{piece.path}: neither a manifest nor a line in .dat is of it")
            if end is not None and piece.start != end:
                what = "a step before it is missing" if piece.start > end else "it repeats what is before it"
                self._find(MISSING, f"{piece.path} begins at byte {piece.start:,}, but {end:,} come before it: {what}")
            self._check_records(piece)
            if stream.damage is not None or piece.start != stream.end:
                stream = TransactionStream(piece.start)
            try:
                self._bytes += check_piece(piece, stream, self._progress)
                close_step(piece, stream)
            except (BackupDamaged, StorageIOError) as exc:
                kind = MISSING if exc.message.endswith("is missing") else CHANGED
                self._find(kind, exc.message)
                manifest = piece.manifest
                # What follows is measured by what was written.
                stream = TransactionStream(piece.end or 0, 0 if manifest is None else manifest.last_tid)
            self._check_index(piece)
            end = piece.end

    def _check_records(self, piece: Piece) -> None:
        """Compare what a manifest and ``.dat`` say of a step."""
        manifest, line = piece.manifest, piece.line
        if manifest is None:
            self._by_md5 += line is not None
            self._by_nothing += line is None
            return
        self._missing_then += len(manifest.missing)
        if line is None:
            self._find(MISSING, f"{piece.path}: it has no line in the .dat of its full backup")
        elif (line.start, line.end, line.md5) != (manifest.start, manifest.end, manifest.md5):
            self._find(CHANGED, f"{piece.path}: its line in the .dat is not what its manifest says")
        size = size_of(piece.path)
        if size is not None and size != manifest.size:
            self._find(CHANGED, f"{piece.path} has {size:,} bytes, not {manifest.size:,}")

    def _check_index(self, piece: Piece) -> None:
        name = piece.step.stamp + ".index"
        path = self._folder.join(name)
        try:
            raw = read_regular(path, LARGEST_INDEX)
        except FileNotFoundError:
            if piece.manifest is not None:
                self._find(MISSING, f"{path} is missing")
            return
        except OSError as exc:
            self._find(CHANGED, f"{path} cannot be read: {exc.strerror or exc}")
            return
        if piece.manifest is not None:
            if sha256(raw).hexdigest() != piece.manifest.index_sha256:
                self._find(CHANGED, f"{path} is not what was written")
            return
        index = parse_index(raw)
        if isinstance(index, IndexDoubt):
            self._find(CHANGED, f"{path} cannot be used: {index.reason}")
        elif index.end != piece.end:
            self._find(CHANGED, f"{path} ends at byte {index.end:,}, its step at {piece.end}")

    def _check_names(self) -> None:
        folder = self._folder
        steps = {step.stamp: step for chain in folder.chains for step in chain.steps}
        steps.update((step.stamp, step) for step in folder.lost)
        for name in sorted(folder.beside):
            stamp, _, suffix = name.partition(".")
            step = steps.get(stamp)
            if step is not None and not (suffix == "dat" and step.increment):
                continue
            if self._busy and stamp >= max(steps, default=""):
                continue
            if suffix == "manifest":
                self._find(MISSING, f"{folder.join(name)}: the data file of this manifest is missing")
            else:
                self._find(EXTRA, f"{folder.join(name)} belongs to no step")
        if not self._busy:
            for name in folder.leftovers:
                self._find(EXTRA, f"{folder.join(name)} is left over from a backup that was killed")
        for name in folder.foreign:
            self._find(EXTRA, f"{folder.join(name)} is no part of a backup")

    def _check_blobs(self, chain: list[Piece]) -> int:
        folder = self._folder.path
        recorded: dict[tuple[int, int], Blob] = {}
        for piece in chain:
            for blob in piece.manifest.blobs if piece.manifest is not None else ():
                if recorded.setdefault((blob.oid, blob.tid), blob) != blob:
                    self._blob(CHANGED, blob.oid, blob.tid, f"two manifests say different things of {_name(blob)}")
        self._progress.start("verifying blobs", len(recorded), "blobs")
        for done, blob in enumerate(recorded.values()):
            self._progress.advance(done)
            path = blob_file(folder, blob.oid, blob.tid)
            try:
                size = size_of(path)
                same = size == blob.size and digest_of(path) == blob.sha256
            except OSError as exc:
                self._blob(CHANGED, blob.oid, blob.tid, f"{path} cannot be read: {exc.strerror or exc}")
                continue
            self._blob_bytes += size or 0
            if size is None:
                self._blob(MISSING, blob.oid, blob.tid, f"{path} is missing")
            elif not same:
                self._blob(CHANGED, blob.oid, blob.tid, f"{path} is not what was written")
        self._progress.finish()
        if not self._busy and not any(piece.trouble for piece in chain):
            self._check_blob_names(recorded)
        return len(recorded)

    def _check_blob_names(self, recorded: dict[tuple[int, int], Blob]) -> None:
        if os.path.isdir(self._folder.join(BLOBS)) and blob_layout(self._folder.join(BLOBS)) != LAYOUT:
            self._find(CHANGED, f"{os.path.join(self._folder.join(BLOBS), '.layout')} does not say {LAYOUT}")
        for found in stored_blobs(self._folder.path):
            if isinstance(found, Odd):
                self._find(EXTRA, f"{found.path} {found.reason}")
            elif (found.oid, found.tid) not in recorded:
                self._blob(EXTRA, found.oid, found.tid, f"{found.path}: no manifest names it")

    def _not_checked(self) -> Iterator[str]:
        if self._by_md5:
            yield f"the blobs of {self._by_md5:,} steps that have no manifest (repozo's), and more than their MD5"
        if self._by_nothing:
            more = "more than their framing (of compressed ones, and gzip's checksum)"
            yield f"the blobs of {self._by_nothing:,} steps of which neither a manifest nor a .dat is, and {more}"
        if self._missing_then:
            yield f"{self._missing_then:,} blobs: their files were missing when the backup was made"
        if self._busy:
            yield "what a backup is writing now"
        yield "whether the database was sound inside its records (`zodbsh verify` of a restored one)"

    def _find(self, kind: str, message: str) -> None:
        self._findings.append(Finding(kind, None, None, None, message))

    def _blob(self, kind: str, oid: int, tid: int, message: str) -> None:
        self._findings.append(Finding(kind, oid, tid, None, message))


def _name(blob: Blob) -> str:
    return f"the blob {oid_text(blob.oid)} of {tid_text(blob.tid)}"
