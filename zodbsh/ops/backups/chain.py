"""What is known of the steps of a backup: from their manifests, else from repozo's ``.dat``, else from the files."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from zodbsh.filestorage.backupmanifest import BackupManifest, Blob, read_backup_manifest
from zodbsh.filestorage.parts import check_part, read_part
from zodbsh.filestorage.repository import BackupDamaged, Chain, Folder, Line, Step
from zodbsh.filestorage.stream import TransactionStream
from zodbsh.ids import MAX_ID
from zodbsh.progress import SILENT, Progress


class Piece(NamedTuple):
    """One step of a chain.

    ``end`` is None where neither a manifest nor a ``.dat`` line says it: then the data file alone does. ``trouble``
    says what is wrong with the manifest, which then counts as missing.
    """

    step: Step
    path: str
    start: int
    end: int | None
    manifest: BackupManifest | None
    line: Line | None
    trouble: str = ""

    @property
    def size(self) -> int | None:
        """How many bytes of the database it holds, None where that is not recorded."""
        return None if self.end is None else self.end - self.start

    @property
    def chunks(self) -> tuple[str, ...] | None:
        """The digests of its chunks, None where they are not recorded."""
        return None if self.manifest is None else self.manifest.chunks

    @property
    def md5(self) -> str | None:
        """Its MD5, None where that is not recorded."""
        return self.line.md5 if self.line is not None else None

    @property
    def is_vouched(self) -> bool:
        """Whether anything tells rot in its content: a digest, or gzip's checksum."""
        return self.manifest is not None or self.line is not None or self.step.compressed


class Facts(NamedTuple):
    """What the content up to the end of a step holds: its first and last transaction, the last one a pack went over."""

    end: int
    first_tid: int
    last_tid: int
    packed_tid: int


def pieces(folder: Folder, chain: Chain) -> list[Piece]:
    """Return what is known of a chain's steps, without reading their data. Raises StorageIOError."""
    found: list[Piece] = []
    end: int | None = 0
    for step in chain.steps:
        manifest, trouble = None, ""
        try:
            manifest = read_backup_manifest(folder.path, step)
        except BackupDamaged as exc:
            trouble = exc.message
        line = chain.lines.get(step.name)
        path = folder.join(step.name)
        if manifest is not None and manifest.full != chain.full.name:
            trouble = f"{path} belongs to {manifest.full}, which is not the full backup before it"
            manifest = None
        start = manifest.start if manifest is not None else line.start if line is not None else end or 0
        end = manifest.end if manifest is not None else line.end if line is not None else None
        if end is None:
            try:
                end = start + _content_size(path, step)
            except BackupDamaged as exc:
                trouble = trouble or exc.message
        found.append(Piece(step, path, start, end, manifest, line, trouble))
    return found


def check_order(chain: list[Piece]) -> None:
    """Raise BackupDamaged where the recorded ranges of a chain do not continue one another."""
    end: int | None = 0
    for piece in chain:
        if end is not None and piece.start != end:
            what = "a step before it is missing" if piece.start > end else "it repeats a step before it"
            raise damaged(piece, f"begins at byte {piece.start:,}, but {end:,} come before it: {what}")
        end = piece.end


def check_files(chain: list[Piece]) -> str:
    """Return what a look at names and sizes says against continuing a chain, "" for nothing."""
    try:
        check_order(chain)
    except BackupDamaged as exc:
        return exc.message
    for piece in chain:
        if piece.trouble:
            return piece.trouble
        try:
            size = os.stat(piece.path).st_size
        except OSError as exc:
            return f"{piece.path} cannot be read: {exc.strerror or exc}"
        recorded = piece.manifest.size if piece.manifest is not None else None
        if recorded is None and not piece.step.compressed:
            recorded = piece.size
        if recorded is not None and size != recorded:
            return f"{piece.path} has {size:,} bytes, not {recorded:,}"
    return ""


def check_piece(piece: Piece, stream: TransactionStream | None = None, progress: Progress = SILENT) -> int:
    """Read a step and compare it with what is recorded; return its size.

    ``stream`` checks its framing, too. Raises BackupDamaged, StorageIOError.
    """
    found = check_part(
        piece.path,
        compressed=piece.step.compressed,
        chunks=piece.chunks,
        md5sum=piece.md5,
        size=piece.size,
        also=None if stream is None else stream.feed,
        progress=progress,
        done=piece.start,
    )
    if stream is not None and stream.damage is not None:
        raise damaged(piece, f"is damaged at {stream.damage}")
    return found.size


def check_chain(chain: list[Piece], progress: Progress = SILENT) -> Facts:
    """Read a whole chain: digests, lengths, framing. Raises BackupDamaged, StorageIOError."""
    check_order(chain)
    progress.start("verifying the backup", chain[-1].end, "bytes")
    stream = TransactionStream()
    for piece in chain:
        check_piece(piece, stream, progress)
        close_step(piece, stream)
    progress.finish()
    return Facts(stream.end, stream.first_tid, stream.last_tid, stream.packed_tid)


def close_step(piece: Piece, stream: TransactionStream) -> None:
    """Raise BackupDamaged where a step ends within a transaction, or is not what its manifest says."""
    if stream.stopped:
        return
    if stream.fed != stream.end:
        raise damaged(piece, f"is damaged: it ends within a transaction, at byte {stream.fed:,}")
    manifest = piece.manifest
    if manifest is not None and (stream.end, stream.last_tid) != (manifest.end, manifest.last_tid):
        raise damaged(piece, "is damaged: its last transaction is not the one its manifest says")


def facts(chain: list[Piece], *, until: int = MAX_ID) -> Iterator[Facts]:
    """Yield what the content up to the end of each step holds; reads the data where there are no manifests.

    Raises BackupDamaged, StorageIOError.
    """
    stream: TransactionStream | None = None
    known = Facts(0, 0, 0, 0)
    for number, piece in enumerate(chain):
        if piece.manifest is not None:
            manifest = piece.manifest
            known = Facts(manifest.end, manifest.first_tid, manifest.last_tid, manifest.packed_tid)
            stream = None
        else:
            if stream is None:
                stream = TransactionStream(known.end, known.last_tid)
                stream.first_tid, stream.packed_tid = known.first_tid, known.packed_tid
            check_piece(piece, stream)
            close_step(chain[number], stream)
            known = Facts(stream.end, stream.first_tid, stream.last_tid, stream.packed_tid)
        yield known
        if known.last_tid >= until:
            return


def has_any(chain: list[Piece], wanted: Callable[[int], bool], progress: Progress = SILENT) -> bool:
    """Tell whether a chain, as far as it can be read, has a transaction that is wanted. Raises StorageIOError."""
    manifests = [piece.manifest for piece in chain if piece.manifest is not None]
    if any(wanted(tid) for manifest in manifests for tid in (manifest.first_tid, manifest.last_tid) if tid):
        return True
    found = False

    def look(tid: int) -> None:
        nonlocal found
        found = found or wanted(tid)

    stream = TransactionStream(on_transaction=look)
    progress.start("looking for common transactions", chain[-1].end, "bytes")
    for piece in chain:
        try:
            for data in read_part(piece.path, compressed=piece.step.compressed):
                stream.feed(data)
                progress.advance(stream.fed)
                if found or stream.damage is not None:
                    break
        except BackupDamaged:
            break
        if found:
            break
    progress.finish()
    return found


def recorded_blobs(chain: list[Piece]) -> dict[tuple[int, int], Blob]:
    """Return the blobs that the manifests of a chain name, by oid and tid."""
    return {
        (blob.oid, blob.tid): blob for piece in chain if piece.manifest is not None for blob in piece.manifest.blobs
    }


def damaged(piece: Piece, what: str, *, hint: str | None = None) -> BackupDamaged:
    """Return the error that says what is wrong with a step."""
    return BackupDamaged(f"{piece.path} {what}", folder=os.path.dirname(piece.path), hint=hint)


def end_of(chain: list[Piece]) -> int:
    """Return where the content of a chain ends."""
    return (chain[-1].end or 0) if chain else 0


def _content_size(path: str, step: Step) -> int:
    if step.compressed:
        return sum(map(len, read_part(path, compressed=True)))
    try:
        return os.stat(path).st_size
    except OSError as exc:
        raise BackupDamaged(f"{path} cannot be read: {exc.strerror or exc}", folder=os.path.dirname(path)) from exc
