"""A tail: the transactions that were taken off a database's end, in a file of their own (docs/formats.md).

A header says which database they belong to (its length, its last transaction, the SHA-256 of all its bytes) and what
follows; then come the bytes as they were, the list of the blob files that went with them, and the SHA-256 of header and
list. All numbers are big-endian. The blob files lie in the folder ``<tail>.blobs``.
"""

from __future__ import annotations

import hashlib
import os
import re
from struct import Struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from zodbsh.errors import DamagedDatabase, DatabaseNotFound
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.structs import FORMATS, MAGIC_SIZE
from zodbsh.ids import oid_text, tid_text
from zodbsh.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Iterable

MAGIC = b"ZODBTL01"
HEADER = Struct(">8s4sQQQQQQQ32s32s")
BLOB = Struct(">QQQ")
_DIGEST = 32
_CHUNK = 4 << 20
# Far above what anyone has, below what would not fit into memory.
_MOST_BLOBS = 10_000_000
_NAME = re.compile(r"\.undone-[0-9a-f]{16}-[0-9a-f]{16}(\.[0-9]+)?")


class TailNotFound(DatabaseNotFound):
    """There is no tail under this name, or none beside the database."""

    code = "tail-not-found"
    hint = "Name a file that `undo --after` has kept: `.undone-FIRST-LAST` is in its name."


class TailDamaged(DamagedDatabase):
    """A file that is no tail, or not as it was written."""

    code = "tail-damaged"
    hint = "Nothing was changed."


class TailBlob(NamedTuple):
    """A blob file that went with the tail."""

    oid: int
    tid: int
    size: int

    @property
    def name(self) -> str:
        """Its name in the tail's folder of blobs."""
        return f"{oid_text(self.oid)}-{tid_text(self.tid)}.blob"


class TailHeader(NamedTuple):
    """What a tail says of itself.

    ``format`` is the database's magic. The database ends at ``base_end`` with the transaction ``base_tid``, and all its
    bytes have the SHA-256 ``base_digest``. The tail has ``transactions`` from ``first_tid`` to ``last_tid`` in
    ``length`` bytes with the SHA-256 ``digest``, and ``blobs`` blob files.
    """

    format: bytes
    base_end: int
    base_tid: int
    first_tid: int
    last_tid: int
    transactions: int
    length: int
    blobs: int
    base_digest: bytes
    digest: bytes


class Tail(NamedTuple):
    """A tail's file: where it is, its header, its blob files. That its bytes are right is for `check_tail` to say."""

    path: str
    header: TailHeader
    blobs: tuple[TailBlob, ...]

    @property
    def start(self) -> int:
        """Where the transactions begin in the file."""
        return HEADER.size

    @property
    def blob_folder(self) -> str:
        """The folder of its blob files."""
        return self.path + ".blobs"


def tail_name(path: str, first_tid: int, last_tid: int, number: int = 0) -> str:
    """Return the name of a tail of the database ``path``; ``number`` makes another one of it."""
    return f"{path}.undone-{tid_text(first_tid)}-{tid_text(last_tid)}" + (f".{number}" if number else "")


def tails_beside(path: str) -> list[str]:
    """Return the files named as tails of the database ``path``, the newest first."""
    folder, name = os.path.split(path)
    found = []
    with os.scandir(folder or ".") as entries:
        for entry in entries:
            rest = entry.name.removeprefix(name)
            if len(rest) < len(entry.name) and _NAME.fullmatch(rest) and entry.is_file():
                found.append((entry.stat().st_mtime_ns, os.path.join(folder, entry.name)))
    return [path for _, path in sorted(found, reverse=True)]


def write_tail(out: BinaryIO, file: DataFile, header: TailHeader, blobs: Iterable[TailBlob]) -> None:
    """Write a tail whose bytes stand in ``file`` from ``header.base_end`` on. Raises StorageIOError, OSError."""
    start = HEADER.pack(MAGIC, *header)
    listed = b"".join(BLOB.pack(*blob) for blob in blobs)
    out.write(start)
    copy_range(file, header.base_end, header.length, out)
    out.write(listed)
    out.write(hashlib.sha256(start + listed).digest())


def read_tail(path: str) -> Tail:
    """Return what a tail says of itself, checked but for its transactions' bytes. Raises TailNotFound, TailDamaged."""
    if not os.path.isfile(path):
        raise TailNotFound(f"{path}: there is no such file")
    with DataFile(path) as file:
        raw = file.read(0, HEADER.size)
        if len(raw) < HEADER.size or raw[: len(MAGIC)] != MAGIC:
            raise TailDamaged(f"{path} is no tail of a database")
        header = TailHeader._make(HEADER.unpack(raw)[1:])
        if header.blobs > _MOST_BLOBS:
            raise TailDamaged(f"{path}: {header.blobs:,} blob files are more than there can be")
        size = HEADER.size + header.length + BLOB.size * header.blobs + _DIGEST
        if size != file.limit:
            raise TailDamaged(f"{path} has {file.limit:,} bytes; by its header there must be {size:,}")
        listed = file.read(HEADER.size + header.length, BLOB.size * header.blobs)
        if hashlib.sha256(raw + listed).digest() != file.read(file.limit - _DIGEST, _DIGEST):
            raise TailDamaged(f"{path}: its header or its list of blobs is not as it was written")
    if header.format not in FORMATS or header.base_end < MAGIC_SIZE or not header.base_tid < header.first_tid:
        raise TailDamaged(f"{path}: its header makes no sense")
    return Tail(path, header, tuple(TailBlob._make(fields) for fields in BLOB.iter_unpack(listed)))


def check_tail(tail: Tail, file: DataFile, progress: Progress = SILENT) -> None:
    """Raise TailDamaged where the tail's bytes, in ``file``, are not those that were written."""
    if digest_range(file, tail.start, tail.header.length, progress) != tail.header.digest:
        raise TailDamaged(f"{tail.path}: its transactions are not as they were written")


def digest_range(file: DataFile, start: int, length: int, progress: Progress = SILENT) -> bytes:
    """Return the SHA-256 of a file's bytes. Raises StorageIOError, TailDamaged where the file ends before."""
    digest = hashlib.sha256()
    progress.start("reading", length, "bytes")
    for done in range(0, length, _CHUNK):
        digest.update(_piece(file, start + done, min(_CHUNK, length - done)))
        progress.advance(done)
    progress.finish()
    return digest.digest()


def copy_range(file: DataFile, start: int, length: int, out: BinaryIO) -> None:
    """Append a file's bytes to ``out``, within the file system where it can do that. Raises StorageIOError, OSError."""
    out.flush()
    begin, position, end = out.tell(), start, start + length
    while position < end:
        try:
            copied = os.copy_file_range(file.fd, out.fileno(), end - position, position)
        except (AttributeError, OSError):
            # Not between these file systems, not on this system; what is really wrong shows in what follows.
            break
        if not copied:
            break
        position += copied
    out.seek(begin + position - start)
    out.writelines(_piece(file, piece, min(_CHUNK, end - piece)) for piece in range(position, end, _CHUNK))


def _piece(file: DataFile, position: int, size: int) -> bytes:
    data = file.read(position, size)
    if len(data) < size:
        raise TailDamaged(f"{file.path} ends at {position + len(data)}, where more was expected")
    return data
