"""Completing what a folder of backups lacks: files of blobs, lines of ``.dat``, indexes.

Digests in manifests say what each has to be, so that nothing is made good that was not so before.
"""

from __future__ import annotations

from contextlib import closing, nullcontext, suppress
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.errors import StorageIOError
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.repository import Chain, Line, dat_bytes, dat_name, read_folder
from zodbsh.findings import Finding
from zodbsh.ops.backups.blobs import heal_blobs
from zodbsh.ops.backups.chain import Piece, pieces, recorded_blobs
from zodbsh.ops.backups.scan import Scan, SourceDamaged, scan_source
from zodbsh.ops.backups.step import fill, write_index

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from zodbsh.ops.backups.step import Job


class Mended(NamedTuple):
    """What was made good: ``findings`` of blobs, ``notes`` on other files; ``bad`` is what stays so, "" for nothing."""

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    bad: str


class _OtherIndexError(Exception):
    """An index is not the one that was written."""


def mend(job: Job, scan: Scan, *, contents: bool) -> Mended:
    """Complete what a folder's backups lack, the newest of which has all of a database's content that was scanned.

    Files of blobs are the newest backup's; with ``contents`` they are read, else missing ones and other sizes count.
    Raises StorageIOError.
    """
    folder = read_folder(job.path)
    chains = [pieces(folder, chain) for chain in folder.chains]
    findings, bad = _mend_blobs(job, chains[-1], contents=contents)
    notes = []
    for chain, found in zip(folder.chains, chains, strict=True):
        of_database = scan if found is chains[-1] else None
        lacking = [
            piece for piece in found if piece.manifest is not None and piece.step.stamp + ".index" not in folder.beside
        ]
        try:
            if lines := _lines_to_write(chain, found):
                name = dat_name(chain.full)
                with job.staged(name) as path:
                    fill(path, [dat_bytes(job.path, lines)])
                notes.append(f"{chain.trouble or f'{name} did not say what manifests say'}: it was written anew")
            notes += [
                f"{piece.step.stamp}.index was missing: it was written anew"
                for piece in lacking
                if _write_index(job, piece, of_database)
            ]
        except (OSError, StorageIOError) as exc:
            why = exc.message if isinstance(exc, StorageIOError) else exc.strerror or exc
            message = f"what {chain.full.name} lacks beside it could not be written: {why}"
            findings.append(Finding("not-completed", None, None, None, message))
    return Mended(tuple(findings), tuple(notes), bad)


def _mend_blobs(job: Job, chain: list[Piece], *, contents: bool) -> tuple[list[Finding], str]:
    try:
        healed, failed, beside = heal_blobs(
            job.source, recorded_blobs(chain).values(), job.path, contents=contents, copy=job.copy_blobs,
            progress=job.progress,
        )  # fmt: skip
    except OSError as exc:
        message = f"blobs could not be made good: {exc.strerror or exc}"
        return [Finding("not-completed", None, None, None, message)], message
    done = "its file in the backup was missing or damaged; the database's took its place"
    findings = [Finding("blob-replaced", blob.oid, blob.tid, None, done) for blob in healed]
    findings += [
        Finding("blob-damaged", blob.oid, blob.tid, None, f"its file in the backup is missing or damaged, and {why}")
        for blob, _, why in failed
    ]
    findings += [
        Finding("blob-damaged", blob.oid, blob.tid, None, f"{why}; the backup keeps the one that it has")
        for blob, _, why in beside
    ]
    return findings, f"{failed[0].path} is missing or damaged" if failed else ""


def _lines_to_write(chain: Chain, found: list[Piece]) -> list[Line]:
    """Return the lines that a ``.dat`` should have, none where it has them or where nothing tells what they are.

    Those of steps that are gone stay: they tell that something is missing.
    """
    lines = dict(chain.lines)
    for piece in found:
        manifest = piece.manifest
        if manifest is not None:
            lines[piece.step.name] = Line(piece.step.name, manifest.start, manifest.end, manifest.md5)
    if not all(piece.step.name in lines for piece in found) or (not chain.trouble and lines == chain.lines):
        return []
    return [lines[name] for name in sorted(lines)]


def _write_index(job: Job, piece: Piece, scan: Scan | None) -> bool:
    """Write the index of a step anew; False where its content is at hand in no file, or gives another one.

    ``scan`` is of the database that holds the step, None where none does.
    """
    manifest = piece.manifest
    assert manifest is not None
    if scan is None and (piece.step.increment or piece.step.compressed):
        return False
    at_hand: AbstractContextManager[DataFile | None] = nullcontext()
    if scan is None or scan.end != manifest.end:
        at_hand = closing(DataFile(piece.path if scan is None else job.file.path))
    with suppress(_OtherIndexError, SourceDamaged), at_hand as file, job.staged(piece.step.stamp + ".index") as path:
        found = scan if file is None else scan_source(file, until=manifest.last_tid, progress=job.progress)
        if found is None or write_index(path, found) != manifest.index_sha256:
            raise _OtherIndexError
        return True
    return False
