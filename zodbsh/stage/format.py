"""The stage's file: written whole, parsed strictly.

All numbers are big-endian. The layout (docs/formats.md has it too):

    magic "ZODBSTG1", id (16), base tid (8), created (8),
    bytes of user (4), bytes of note (4), number of entries (4), number of reads (4)
    user, note (UTF-8)
    per read: oid (8), serial (8)
    per entry: oid (8), serial (8), flags (1), bytes of path (2), bytes of data (8), bytes of the blob (8), path, data
    SHA-256 of all that comes before (32)

Flag 1: a new object (its serial is 0). Flag 2: a blob, whose content is a file
of its own beside the stage. Flag 4: an inner node of the BTree at the path. The
path (UTF-8, may be empty) is where the object was when it was staged.
"""

from __future__ import annotations

import hashlib
from struct import Struct
from typing import Any, NamedTuple

from zodbsh.db.changes import PROVISIONAL, Entry, Read
from zodbsh.errors import ExitCode, ZodbshError
from zodbsh.ids import ROOT_OID
from zodbsh.stage.model import Stage, StagePlace

MAGIC = b"ZODBSTG1"
HEADER = Struct(">8s16sQQIIII")
READ = Struct(">QQ")
ENTRY = Struct(">QQBHQQ")
NEW, BLOB, INTERNAL = 1, 2, 4
_DIGEST = 32
# Data of one object beyond this could not be stored in a FileStorage either.
_MAX_TEXT = 65_535


class StageDamaged(ZodbshError):
    """The stage's file is not what was written."""

    code, exit_code = "stage-damaged", ExitCode.DAMAGED
    hint = "The database itself is not concerned. `zodbsh abort` drops the stage."


class StoredEntry(NamedTuple):
    """One entry as the file has it; ``blob_size`` is None for an object that is no blob."""

    oid: int
    serial: int | None
    data: bytes
    blob_size: int | None
    place: StagePlace | None = None


class StoredStage(NamedTuple):
    """A parsed file: the stage without the paths of its blobs, and the entries with their sizes."""

    stage: Stage
    entries: tuple[StoredEntry, ...]


def encode(stage: Stage, blob_sizes: dict[int, int]) -> bytes:
    """Return the file's content; ``blob_sizes`` are the blobs' bytes by oid."""
    user, note = _text(stage.user), _text(stage.note)
    parts = [
        HEADER.pack(
            MAGIC, bytes.fromhex(stage.id), stage.base_tid, stage.created,
            len(user), len(note), len(stage.entries), len(stage.reads),
        ),
        user,
        note,
    ]  # fmt: skip
    parts += [READ.pack(*read) for read in stage.reads]
    places = {place.oid: place for place in stage.places}
    for entry in stage.entries:
        place = places.get(entry.oid, StagePlace(entry.oid, ""))
        path = place.path.encode("utf-8", "replace")
        if len(path) > _MAX_TEXT:
            path = b""
        flags = (
            (NEW if entry.new else 0) | (BLOB if entry.blob is not None else 0) | (INTERNAL if place.internal else 0)
        )
        sizes = len(path), len(entry.data), blob_sizes.get(entry.oid, 0)
        parts += [ENTRY.pack(entry.oid, entry.serial or 0, flags, *sizes), path, entry.data]
    content = b"".join(parts)
    return content + hashlib.sha256(content).digest()


def decode(content: bytes, path: str) -> StoredStage:
    """Parse a file's content; raises StageDamaged for anything ``encode`` would not have written."""
    if len(content) < HEADER.size + _DIGEST or not content.startswith(MAGIC):
        raise StageDamaged(f"{path}: is no stage, or was cut short")
    body = content[:-_DIGEST]
    if hashlib.sha256(body).digest() != content[-_DIGEST:]:
        raise StageDamaged(f"{path}: its content does not match its checksum")
    reader = _Reader(body, path)
    _, id_, base_tid, created, user_size, note_size, entry_count, read_count = reader.struct(HEADER)
    user, note = reader.text(user_size), reader.text(note_size)
    reader.expect(read_count * READ.size + entry_count * ENTRY.size)
    reads = tuple(Read(*reader.struct(READ)) for _ in range(read_count))
    entries = tuple(_entry(reader) for _ in range(entry_count))
    reader.end()
    if len({entry.oid for entry in entries}) != len(entries):
        raise reader.damaged("an object comes twice")
    bare = tuple(Entry(entry.oid, entry.serial, entry.data) for entry in entries)
    places = tuple(entry.place for entry in entries if entry.place is not None)
    return StoredStage(Stage(base_tid, bare, reads, note, user, created, id_.hex(), places), entries)


def _entry(reader: _Reader) -> StoredEntry:
    oid, serial, flags, path_size, size, blob_size = reader.struct(ENTRY)
    new = bool(flags & NEW)
    if flags & ~(NEW | BLOB | INTERNAL) or (new and serial) or (new and oid != ROOT_OID and oid < PROVISIONAL):
        raise reader.damaged("an entry that no stage has")
    if (oid >= PROVISIONAL and not new) or (blob_size and not flags & BLOB):
        raise reader.damaged("an entry that no stage has")
    path = reader.take(path_size).decode("utf-8", "replace")
    place = StagePlace(oid, path, bool(flags & INTERNAL)) if path else None
    return StoredEntry(oid, None if new else serial, reader.take(size), blob_size if flags & BLOB else None, place)


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogateescape")
    if len(encoded) > _MAX_TEXT:
        raise StageDamaged(f"a note or a user's name has at most {_MAX_TEXT} bytes")
    return encoded


class _Reader:
    """Takes a content apart from the front, never beyond its end."""

    def __init__(self, content: bytes, path: str) -> None:
        self._content = content
        self._path = path
        self._position = 0

    def struct(self, layout: Struct) -> tuple[Any, ...]:
        return layout.unpack(self.take(layout.size))

    def text(self, size: int) -> str:
        return self.take(min(size, _MAX_TEXT + 1)).decode("utf-8", "surrogateescape")

    def take(self, size: int) -> bytes:
        self.expect(size)
        taken = self._content[self._position : self._position + size]
        self._position += size
        return taken

    def expect(self, size: int) -> None:
        """Raise StageDamaged where fewer bytes are left."""
        left = len(self._content) - self._position
        if size > left:
            raise self.damaged(f"{size} bytes are wanted, {left} are there")

    def end(self) -> None:
        if self._position != len(self._content):
            raise self.damaged("bytes are left over")

    def damaged(self, reason: str) -> StageDamaged:
        return StageDamaged(f"{self._path}: at byte {self._position}: {reason}")
