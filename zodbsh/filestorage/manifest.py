"""A manifest: digests of every transaction of a Data.fs, to be compared later (docs/formats.md).

A line a transaction: tid, position, length, SHA-256 of its bytes, and for each
record ``oid:length:checksum``, the length of its data and the CRC-32 of oid,
tid, length and data (a back-pointer's eight bytes are not data: a pack may turn
them into data). So a changed record is named even where the file's own lengths
are damaged, and what a pack has moved can still be compared.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, Protocol

from zodbsh.errors import DatabaseNotFound, StorageIOError, UsageError
from zodbsh.filestorage.damage import Damage
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.framing import Examined, Verdict, examine, walk
from zodbsh.filestorage.structs import (
    DATA_HEADER,
    MAGIC_SIZE,
    NUMBER,
    PACKED,
    TRANSACTION_HEADER,
    UNDONE,
    DataHeader,
    TransactionHeader,
)
from zodbsh.findings import Finding
from zodbsh.ids import tid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import publish

_FORMAT = "zodbsh-manifest 1"
_LONGEST_LINE = 1 << 28
_CHUNK = 4 << 20
_LINE = re.compile(
    rb"([0-9a-f]{16}) ([0-9]{1,19}) ([0-9]{1,19}) ([0-9a-f]{64})((?: [0-9a-f]{1,16}:[0-9]{1,19}:[0-9a-f]{8})*+)\n"
)
_END = re.compile(rb"sha256 ([0-9a-f]{64})\n")


class ManifestDamaged(UsageError):
    """A file that is no manifest, not as it was written, or that of another database."""

    code = "manifest-damaged"
    hint = "A manifest is written by `zodbsh verify --write-manifest FILE`."


class ManifestNotFound(DatabaseNotFound):
    """There is no manifest under this name."""

    code = "manifest-not-found"
    hint = "`zodbsh verify --write-manifest FILE` writes one."


class ManifestSummary(NamedTuple):
    """What was written."""

    transactions: int
    records: int
    bytes: int


class _Record(NamedTuple):
    oid: int
    length: int
    checksum: int


class _Line(NamedTuple):
    """One transaction of a manifest; ``at`` is where its line begins."""

    tid: int
    position: int
    length: int
    digest: str
    fields: bytes
    at: int

    @property
    def records(self) -> Iterator[_Record]:
        """The transaction's records."""
        for field in self.fields.split():
            oid, length, checksum = field.split(b":")
            yield _Record(int(oid, 16), int(length), int(checksum, 16))


def write_manifest(file: DataFile, end: int, path: str, *, progress: Progress = SILENT) -> ManifestSummary:
    """Write the manifest of the sound transactions before ``end`` to the new file ``path``.

    Raises AlreadyExists, StorageIOError, and OutcomeUnknown as `publish` does.
    """
    summary = [0, 0]

    def write(out: BinaryIO) -> None:
        whole = hashlib.sha256()

        def put(line: str) -> None:
            raw = line.encode("ascii") + b"\n"
            whole.update(raw)
            out.write(raw)

        put(f"{_FORMAT} {file.read(0, MAGIC_SIZE).decode('latin-1')} {tid_text(_packed(file).last)}")
        position = MAGIC_SIZE
        while position < end:
            header = _header(file, position)
            length = header.length + NUMBER.size
            # One read for everything that is to be known of most transactions.
            bytes_ = _Held(position, file.read(position, length)) if length <= _CHUNK else file
            records = [] if header.status == UNDONE else list(_records(bytes_, file.path, position, header))
            fields = "".join(f" {oid:x}:{length:d}:{checksum:08x}" for oid, length, checksum in records)
            put(f"{tid_text(header.tid)} {position} {length} {_digest(bytes_, position, length)}{fields}")
            summary[0] += 1
            summary[1] += len(records)
            position += length
            progress.advance(position)
        out.write(b"sha256 " + whole.hexdigest().encode("ascii") + b"\n")

    progress.start("writing the manifest", end, "bytes")
    try:
        publish(path, write, exclusive=True)
    except OSError as exc:
        raise StorageIOError(f"cannot write {path}: {exc.strerror or exc}. Nothing was written.") from exc
    progress.finish()
    return ManifestSummary(summary[0], summary[1], os.path.getsize(path))


class _Bytes(Protocol):
    """What can be read by position."""

    def read(self, position: int, size: int) -> bytes:
        """Return bytes, fewer only at the end."""


class _Held(NamedTuple):
    """A part of a file, in memory."""

    base: int
    data: bytes

    def read(self, position: int, size: int) -> bytes:
        """Return bytes, fewer only at the end of the part."""
        return self.data[position - self.base : position - self.base + size]


class Comparison:
    """A file held against a manifest: iterate for what is wrong; then ``packed`` counts transactions that a pack took.

    Raises ManifestNotFound, ManifestDamaged and StorageIOError on the way.
    """

    def __init__(self, file: DataFile, path: str, *, progress: Progress = SILENT) -> None:
        self._file, self._path, self._progress = file, path, progress
        self.packed = 0
        self._packed_then = 0

    def check_manifest(self) -> None:
        """Look at the manifest alone. Raises ManifestNotFound, ManifestDamaged and StorageIOError."""
        with self._open() as manifest:
            for _ in self._lines(manifest):
                pass

    def _open(self) -> BinaryIO:
        try:
            # Looking first keeps us from waiting for a FIFO's writer.
            if not stat.S_ISREG(os.stat(self._path).st_mode):
                raise ManifestDamaged(f"{self._path} is no manifest: it is no regular file")
            return open(self._path, "rb")
        except FileNotFoundError as exc:
            raise ManifestNotFound(f"no such file: {self._path}") from exc
        except (OSError, ValueError) as exc:
            raise StorageIOError(f"cannot read {self._path}: {exc}") from exc

    def __iter__(self) -> Iterator[Finding]:
        with self._open() as manifest:
            odd, met = self._odd(manifest)
            if odd:
                if len(odd) == met:
                    self._check_owner(manifest, odd)
                yield from self._look_closely(manifest, odd)

    def _check_owner(self, manifest: BinaryIO, odd: list[int]) -> None:
        """Raise ManifestDamaged where nothing of any transaction is in this file."""
        tids = {step.header.tid for step in walk(self._file, lambda _: None) if step.header is not None}
        for at in odd:
            line = self._line_at(manifest, at)
            if line.tid in tids or self._stands(line):
                return
        raise ManifestDamaged(f"{self._path} is the manifest of another database, or of what a pack has removed whole")

    def _line_at(self, manifest: BinaryIO, at: int) -> _Line:
        manifest.seek(at)
        match = _LINE.fullmatch(manifest.readline(_LONGEST_LINE))
        if match is None:
            raise ManifestDamaged(f"{self._path} has changed meanwhile")
        return _line(match, at)

    def _odd(self, manifest: BinaryIO) -> tuple[list[int], int]:
        """Return where the lines are whose transactions are not as they say, and how many lines there are.

        The whole manifest is checked first.
        """
        met = sum(1 for _ in self._lines(manifest))
        odd = []
        self._progress.start("comparing", self._file.limit, "bytes")
        for line in self._lines(manifest):
            if line.position + line.length > self._file.limit or (
                _digest(self._file, line.position, line.length) != line.digest
            ):
                odd.append(line.at)
            self._progress.advance(line.position)
        self._progress.finish()
        return odd, met

    def _lines(self, manifest: BinaryIO) -> Iterator[_Line]:
        """Yield every line. Raises ManifestDamaged for whatever is not as it was written."""
        manifest.seek(0)
        whole = hashlib.sha256()
        first = manifest.readline(64)
        begins = re.fullmatch(rb"%s FS(?:21|30) ([0-9a-f]{16})\n" % _FORMAT.encode(), first)
        if begins is None:
            raise ManifestDamaged(f"{self._path} is no manifest")
        self._packed_then = int(begins[1], 16)
        whole.update(first)
        number, at, last_tid = 1, len(first), 0
        while raw := manifest.readline(_LONGEST_LINE):
            number += 1
            match = _LINE.fullmatch(raw)
            if match is None:
                break
            line = _line(match, at)
            if line.tid <= last_tid or line.length < TRANSACTION_HEADER.size or line.position < MAGIC_SIZE:
                raise ManifestDamaged(f"{self._path} is damaged in line {number}")
            last_tid = line.tid
            whole.update(raw)
            at += len(raw)
            yield line
        match = _END.fullmatch(raw)
        if match is None or match[1].decode() != whole.hexdigest() or manifest.read(1):
            raise ManifestDamaged(f"{self._path} is damaged in line {number}: it is not what was written")

    def _look_closely(self, manifest: BinaryIO, odd: list[int]) -> Iterator[Finding]:
        # Where transactions are now, and up to which one the file was packed since.
        now: dict[int, tuple[int, int]] = {}
        damages: list[Damage] = []
        for step in walk(self._file, damages.append):
            if step.header is not None and step.verdict is not Verdict.TAIL:
                now[step.header.tid] = step.position, step.header.length + NUMBER.size
        run = _packed(self._file)
        # A damaged file does not tell whether it was packed; then nothing is forgiven.
        packed = run.border if run.last != self._packed_then and not damages else 0
        for at in odd:
            line = self._line_at(manifest, at)
            position, length = now.get(line.tid, (None, 0))
            lossy = line.tid <= packed
            if position is not None and (position != line.position or (lossy and length != line.length)):
                self.packed += 1
                yield from self._moved(line, examine(self._file, position, 0), lossy=lossy)
            elif position is None and not self._stands(line):
                if lossy:
                    self.packed += 1
                else:
                    message = "the transaction is not in the file any more: it was cut off, or a pack took it"
                    yield Finding("manifest-missing", None, line.tid, None, message)
            else:
                yield from self._in_place(line, rewritten=lossy)

    def _stands(self, line: _Line) -> bool:
        """Tell whether anything of a transaction is where it was."""
        return any(self._same(line, place, record) for place, record in self._places(line))

    def _in_place(self, line: _Line, *, rewritten: bool) -> Iterator[Finding]:
        changed = 0
        for place, record in self._places(line):
            if not self._same(line, place, record):
                changed += 1
                message = "its bytes are not those that the manifest recorded"
                yield Finding("manifest-changed", record.oid, line.tid, place, message)
        if not changed and rewritten:
            # A pack sets the status and takes the pointers to earlier records.
            self.packed += 1
        elif not changed:
            message = "the transaction's header, its texts or its pointers are not those that the manifest recorded"
            yield Finding("manifest-changed", None, line.tid, line.position, message)

    def _moved(self, line: _Line, step: Examined, *, lossy: bool) -> Iterator[Finding]:
        """Compare the records of a transaction that stands elsewhere, as far as they are there."""
        there = {record.oid: record for record in step.records}
        for recorded in line.records:
            record = there.get(recorded.oid)
            if record is None:
                if not lossy:
                    message = "the manifest has a record of it in this transaction, the file has none"
                    yield Finding("manifest-missing", recorded.oid, line.tid, step.position, message)
            elif (
                recorded.length
                and record.length
                and (
                    record.length != recorded.length
                    or _checksum(self._file, record.position, recorded.oid, line.tid, record.length)
                    != recorded.checksum
                )
            ):
                message = "its bytes are not those that the manifest recorded"
                yield Finding("manifest-changed", recorded.oid, line.tid, record.position, message)

    def _places(self, line: _Line) -> Iterator[tuple[int, _Record]]:
        """Yield each record's place, told by the manifest alone: the last one ends where the transaction does."""
        records = list(line.records)
        total = sum(DATA_HEADER.size + (record.length or NUMBER.size) for record in records)
        place = line.position + line.length - NUMBER.size - total
        for record in records:
            yield place, record
            place += DATA_HEADER.size + (record.length or NUMBER.size)

    def _same(self, line: _Line, place: int, record: _Record) -> bool:
        """Tell whether the record at ``place`` is the one that was recorded, its header's numbers included."""
        raw = self._file.read(place, DATA_HEADER.size)
        if len(raw) < DATA_HEADER.size:
            return False
        header = DataHeader._make(DATA_HEADER.unpack(raw))
        if (header.oid, header.tid, header.length) != (record.oid, line.tid, record.length) or header.version:
            return False
        return _checksum(self._file, place, record.oid, line.tid, record.length) == record.checksum


def _line(match: re.Match[bytes], at: int) -> _Line:
    return _Line(int(match[1], 16), int(match[2]), int(match[3]), match[4].decode(), match[5], at)


class _PackedRun(NamedTuple):
    """The packed transactions that a file begins with.

    ``last`` is the tid of the last one, ``border`` the greatest that a transaction can have had which the pack took; 0
    where there are none.
    """

    last: int = 0
    border: int = 0


def _packed(file: DataFile) -> _PackedRun:
    position, last = MAGIC_SIZE, 0
    while len(raw := file.read(position, TRANSACTION_HEADER.size)) == TRANSACTION_HEADER.size:
        header = TransactionHeader._make(TRANSACTION_HEADER.unpack(raw))
        if header.tid <= last or header.length < TRANSACTION_HEADER.size:
            break
        if header.status != PACKED:
            # The last ones before this may be gone whole.
            return _PackedRun(last, header.tid - 1 if last else 0)
        position, last = position + header.length + NUMBER.size, header.tid
    return _PackedRun(last, last)


def _header(file: DataFile, position: int) -> TransactionHeader:
    raw = file.read(position, TRANSACTION_HEADER.size)
    if len(raw) < TRANSACTION_HEADER.size:
        raise StorageIOError(f"cannot read {file.path}: it has become shorter")
    return TransactionHeader._make(TRANSACTION_HEADER.unpack(raw))


def _records(file: _Bytes, path: str, position: int, header: TransactionHeader) -> Iterator[_Record]:
    """Yield the records of a sound transaction."""
    end = position + header.length
    place = position + header.header_length
    while place < end:
        raw = file.read(place, DATA_HEADER.size)
        if len(raw) < DATA_HEADER.size:
            raise StorageIOError(f"cannot read {path}: it has become shorter")
        record = DataHeader._make(DATA_HEADER.unpack(raw))
        yield _Record(record.oid, record.length, _checksum(file, place, record.oid, header.tid, record.length))
        place += record.record_length


def _checksum(file: _Bytes, place: int, oid: int, tid: int, length: int) -> int:
    checksum = zlib.crc32(b"".join(map(NUMBER.pack, (oid, tid, length))))
    place += DATA_HEADER.size
    while length > 0:
        data = file.read(place, min(length, _CHUNK))
        if not data:
            break
        checksum = zlib.crc32(data, checksum)
        place, length = place + len(data), length - len(data)
    return checksum


def _digest(file: _Bytes, position: int, length: int) -> str:
    digest = hashlib.sha256()
    while length > 0:
        data = file.read(position, min(length, _CHUNK))
        if not data:
            break
        digest.update(data)
        position, length = position + len(data), length - len(data)
    return digest.hexdigest()
