"""A Data.fs put together anew from pieces of files: whole, compared, walked through, and only then given its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import BinaryIO, NamedTuple

from zodbsh.engine.columns import Options
from zodbsh.errors import StorageIOError
from zodbsh.filestorage.damage import Damage, FramingDamage
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.indexsave import drop_indexes, save_index
from zodbsh.filestorage.tail import copy_range, digest_range
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import publish, uninterrupted
from zodbsh.source.columns import FileColumns, file_columns


class Piece(NamedTuple):
    """A part of a file, and the SHA-256 that it has."""

    file: DataFile
    start: int
    length: int
    digest: bytes


def refile(
    path: str,
    pieces: Sequence[Piece],
    *,
    beside: Sequence[str] = (),
    after: Callable[[], object] = bool,
    hold: ExitStack,
    progress: Progress = SILENT,
) -> str | None:
    """Replace the file ``path`` by the pieces, one after the other, and make its saved index that of the new file.

    ``beside`` are further names under which the database is opened. No index that says more than the file has is ever
    there: the old one goes before the new file gets its name. ``after`` is called once it has, and raises nothing.
    From then on signals wait until ``hold`` is left: whoever stops the program hears what was done. Returns what went
    wrong with the index. Have the write lock.

    Raises OSError, StorageIOError, FramingDamage where nothing changed (but the index may be gone), OutcomeUnknown.
    """
    made: list[FileColumns] = []
    size = sum(piece.length for piece in pieces)

    def write(out: BinaryIO) -> None:
        for piece in pieces:
            copy_range(piece.file, piece.start, piece.length, out)

    def verify(temporary: str) -> None:
        with DataFile(temporary) as file:
            if file.limit != size or not _same(file, pieces, progress):
                raise StorageIOError(f"{path}: what was written does not read back the same; nothing changed")
            made.append(_columns(path, file, progress))
        # From here to the end the old file and what belongs to it change hands.
        hold.enter_context(uninterrupted())
        drop_indexes({path, *beside})

    publish(path, write, verify=verify)
    after()
    return save_index(path, made[0].end, made[0].columns)


def _same(file: DataFile, pieces: Sequence[Piece], progress: Progress) -> bool:
    position = 0
    for piece in pieces:
        if digest_range(file, position, piece.length, progress) != piece.digest:
            return False
        position += piece.length
    return True


def _columns(path: str, file: DataFile, progress: Progress) -> FileColumns:
    def damaged(damage: Damage) -> None:
        raise FramingDamage(path, damage, more=0)

    return file_columns(file, damaged, options=Options(references=False), progress=progress)
