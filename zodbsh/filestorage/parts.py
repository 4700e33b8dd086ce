"""Reading and writing the data files of a backup: plain or compressed, always with digests."""

from __future__ import annotations

import gzip
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import md5, sha256
from typing import IO, BinaryIO, NamedTuple, Self, cast

from zodbsh.errors import DatabaseNotFound, StorageIOError
from zodbsh.filestorage.backupmanifest import CHUNK
from zodbsh.filestorage.datafile import DataFile, NotFileStorage
from zodbsh.filestorage.repository import BackupDamaged
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import without_signals

# The level that gzip itself chooses: the highest takes three times as long for a percent.
_LEVEL = 6
# So many chunks may wait for their digest.
_AHEAD = 8


class Digests(NamedTuple):
    """Digests of a range of a database: SHA-256 of each chunk, MD5 of the whole; ``size`` is its length."""

    chunks: tuple[str, ...]
    md5: str
    size: int


class Digester:
    """Takes a range of a database in chunks and digests them in other threads."""

    def __init__(self, *, with_md5: bool = True) -> None:
        # A digest holds no lock: two processors do both at once.
        self._many = ThreadPoolExecutor(2, initializer=without_signals)
        self._one = ThreadPoolExecutor(1, initializer=without_signals)
        self._md5 = md5(usedforsecurity=False) if with_md5 else None
        self._waiting: deque[Future[str]] = deque()
        self._in_order: deque[Future[None]] = deque()
        self._chunks: list[str] = []
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._many.shutdown(cancel_futures=True)
        self._one.shutdown(cancel_futures=True)

    def add(self, data: bytes) -> None:
        """Take the next chunk: `CHUNK` bytes, fewer only at the end."""
        self._size += len(data)
        self._waiting.append(self._many.submit(_sha256, data))
        if self._md5 is not None:
            self._in_order.append(self._one.submit(self._md5.update, data))
        while len(self._waiting) > _AHEAD:
            self._settle()

    def finish(self) -> Digests:
        """Return the digests of all that was taken."""
        while self._waiting:
            self._settle()
        return Digests(tuple(self._chunks), "" if self._md5 is None else self._md5.hexdigest(), self._size)

    def _settle(self) -> None:
        self._chunks.append(self._waiting.popleft().result())
        if self._in_order:
            self._in_order.popleft().result()


def copy_range(
    file: DataFile, start: int, end: int, out: BinaryIO, *, compressed: bool, progress: Progress = SILENT
) -> Digests:
    """Write the bytes of a database from ``start`` to ``end``; return their digests. Raises StorageIOError, OSError."""
    target = cast("IO[bytes]", gzip.GzipFile("", "wb", _LEVEL, out, mtime=0)) if compressed else out
    with Digester() as digester:
        for data in read_range(file, start, end):
            digester.add(data)
            target.write(data)
            progress.advance(start + digester._size)
        if compressed:
            target.close()
        return digester.finish()


def read_range(file: DataFile, start: int, end: int, size: int = CHUNK) -> Iterator[bytes]:
    """Yield the bytes from ``start`` to ``end``, so many at a time. Raises StorageIOError where the file is shorter."""
    position = start
    while position < end:
        wanted = min(size, end - position)
        data = file.read(position, wanted)
        if len(data) < wanted:
            raise StorageIOError(f"{file.path} has become shorter while it was read: {position + len(data)} bytes")
        yield data
        position += wanted


def read_part(path: str, *, compressed: bool) -> Iterator[bytes]:
    """Yield a data file's content in chunks of `CHUNK`, the last one shorter.

    Raises BackupDamaged where it is missing, no file, or does not decompress; StorageIOError.
    """
    done = 0
    try:
        with DataFile(path) as plain:
            if not compressed:
                yield from read_range(plain, 0, plain.limit)
                return
            with os.fdopen(os.dup(plain.fd), "rb") as raw, gzip.GzipFile(fileobj=raw, mode="rb") as file:
                while data := _fill(file):
                    done += len(data)
                    yield data
    except (DatabaseNotFound, NotFileStorage) as exc:
        raise _damaged(path, "is missing") from exc
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise _damaged(path, f"is damaged: after {done:,} bytes it does not decompress: {exc}") from exc


def check_part(
    path: str,
    *,
    compressed: bool,
    chunks: tuple[str, ...] | None,
    md5sum: str | None,
    size: int | None,
    also: Callable[[bytes], None] | None = None,
    progress: Progress = SILENT,
    done: int = 0,
) -> Digests:
    """Read a data file and compare it with its digests (None: not known); ``also`` gets its content in order.

    What is compared is handed on before it is known to be right. Raises BackupDamaged with the offset (in the
    database's bytes of this step) of the chunk that is not what it was; StorageIOError.
    """
    with Digester(with_md5=chunks is None) as digester:
        total = 0
        for data in read_part(path, compressed=compressed):
            digester.add(data)
            total += len(data)
            if size is not None and total > size:
                raise _damaged(path, f"is damaged: it holds more than the {size:,} bytes that were written")
            if also is not None:
                also(data)
            progress.advance(done + total)
        found = digester.finish()
    if chunks is not None:
        for number, (digest, wanted) in enumerate(zip(found.chunks, chunks, strict=False)):
            cut_short = number == len(found.chunks) - 1 and size is not None and total < size
            if digest != wanted and not cut_short:
                raise _damaged(
                    path,
                    f"is damaged: bytes {number * CHUNK:,} to {min(number * CHUNK + CHUNK, total):,}"
                    " are not what was written",
                )
    if size is not None and total != size:
        raise _damaged(path, f"is damaged: it holds {total:,} bytes of {size:,}")
    if chunks is None and md5sum is not None and found.md5 != md5sum:
        raise _damaged(path, f"is damaged: its MD5 is {found.md5}, not {md5sum}")
    return found


def _damaged(path: str, what: str) -> BackupDamaged:
    return BackupDamaged(f"{path} {what}", folder=os.path.dirname(path))


def _fill(file: gzip.GzipFile) -> bytes:
    """Return the next whole chunk, less only at the end."""
    data = file.read(CHUNK)
    while 0 < len(data) < CHUNK and (more := file.read(CHUNK - len(data))):
        data += more
    return data


def _sha256(data: bytes) -> str:
    return sha256(data).hexdigest()
