"""Comparing a database with a chain of steps, byte for byte: by the recorded digests, and with the data files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from hashlib import md5, sha256
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.errors import DatabaseNotFound, StorageIOError
from zodbsh.filestorage.backupmanifest import CHUNK
from zodbsh.filestorage.datafile import AccessDenied, DataFile, NotFileStorage
from zodbsh.filestorage.parts import check_part, read_range
from zodbsh.filestorage.repository import BackupDamaged
from zodbsh.ops.backups.chain import Piece, check_piece
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import without_signals

if TYPE_CHECKING:
    from collections.abc import Sequence

# Large enough to be quick, and so small that the memory of the last one is used again.
_STRIDE = 1 << 16


class Comparison(NamedTuple):
    """``changed`` is where the database begins to differ from what was recorded (to a chunk), None where it holds all.

    ``damage`` says what is wrong with the first data file that is not what was written, "" for nothing.
    """

    changed: int | None
    damage: str


def compare(file: DataFile, chain: list[Piece], *, contents: bool, progress: Progress = SILENT) -> Comparison:
    """Compare a database with a chain, with ``contents`` also the chain's data files with what was written.

    What no manifest or ``.dat`` vouches for is read from its data file in any case. Raises BackupDamaged where that is
    not possible, StorageIOError.
    """
    progress.start("comparing with the last backup", chain[-1].end, "bytes")
    damage = ""
    with ExitStack() as stack:
        stack.callback(progress.finish)
        pool = ThreadPoolExecutor(2, initializer=without_signals)
        stack.callback(pool.shutdown, cancel_futures=True)
        for piece in chain:
            changed, found = _compare(file, piece, pool, contents=contents and not damage, progress=progress)
            damage = damage or found
            if changed is not None:
                return Comparison(changed, damage)
    return Comparison(None, damage)


def _compare(
    file: DataFile, piece: Piece, pool: ThreadPoolExecutor, *, contents: bool, progress: Progress
) -> Comparison:
    digests, end = piece.chunks, piece.end
    if digests is None and (piece.md5 is None or end is None):
        found = check_part(piece.path, compressed=piece.step.compressed, chunks=None, md5sum=None, size=piece.size)
        digests, end, contents = found.chunks, piece.start + found.size, False
    assert end is not None
    if end > file.limit:
        return Comparison(file.limit, "")
    if digests is None:
        changed = _by_md5(file, piece, end, progress)
    elif contents and not piece.step.compressed:
        return _side_by_side(file, piece, digests, pool, progress)
    else:
        changed = _by_digests(file, piece.start, end, digests, pool, progress)
    if changed is not None or not contents:
        return Comparison(changed, "")
    return Comparison(None, _trouble_of(piece))


def _by_md5(file: DataFile, piece: Piece, end: int, progress: Progress) -> int | None:
    whole = md5(usedforsecurity=False)
    for data in read_range(file, piece.start, end):
        whole.update(data)
        progress.advance(end)
    return None if whole.hexdigest() == piece.md5 else piece.start


def _by_digests(
    file: DataFile, start: int, end: int, digests: Sequence[str], pool: ThreadPoolExecutor, progress: Progress
) -> int | None:
    starts = range(start, end, CHUNK)
    for place, digest, wanted in zip(starts, pool.map(partial(_digest, file, end=end), starts), digests, strict=True):
        if digest != wanted:
            return place
        progress.advance(place)
    return None


def _side_by_side(
    file: DataFile, piece: Piece, digests: Sequence[str], pool: ThreadPoolExecutor, progress: Progress
) -> Comparison:
    """Compare a plain data file with the database: where that has the recorded digests, equal bytes have them, too."""
    start, end = piece.start, piece.start + (piece.size or 0)
    starts = range(start, end, CHUNK)
    damage = ""
    try:
        data = DataFile(piece.path)
    except AccessDenied:
        raise
    except (DatabaseNotFound, NotFileStorage, StorageIOError) as exc:
        return Comparison(_by_digests(file, start, end, digests, pool, progress), exc.message)
    with data:
        both = pool.map(partial(_digest_and_sameness, file, data, piece), starts)
        for place, (digest, trouble), wanted in zip(starts, both, digests, strict=True):
            if digest != wanted:
                return Comparison(place, damage)
            damage = damage or trouble
            progress.advance(place)
    return Comparison(None, damage)


def _digest_and_sameness(file: DataFile, data: DataFile, piece: Piece, place: int) -> tuple[str, str]:
    """Return the digest of a chunk of the database, and what is wrong with the data file's, "" for nothing."""
    end = min(place + CHUNK, piece.start + (piece.size or 0))
    first, last = place - piece.start, end - piece.start
    digest, trouble = sha256(), ""
    for ours in read_range(file, place, end, _STRIDE):
        digest.update(ours)
        try:
            same = bool(trouble) or data.read(place - piece.start, len(ours)) == ours
        except StorageIOError as exc:
            same, trouble = True, exc.message
        if not same:
            trouble = f"{piece.path} is damaged: bytes {first:,} to {last:,} are not what was written"
        place += len(ours)
    return digest.hexdigest(), trouble


def _trouble_of(piece: Piece) -> str:
    """Read a step; return what is wrong with it, "" for nothing."""
    try:
        check_piece(piece)
    except AccessDenied:
        raise
    except (BackupDamaged, StorageIOError) as exc:
        return exc.message
    return ""


def _digest(file: DataFile, place: int, *, end: int) -> str:
    digest = sha256()
    for data in read_range(file, place, min(place + CHUNK, end), _STRIDE):
        digest.update(data)
    return digest.hexdigest()
