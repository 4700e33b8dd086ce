"""A FileStorage as a source, read by ourselves: no ZODB, no lock, nothing written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zodbsh.engine.bulk import BulkPass, bulk_pass
from zodbsh.errors import DamagedDatabase, ObjectNotFound
from zodbsh.filestorage.datafile import read_error
from zodbsh.filestorage.reader import FileStorageReader, StoredRecord, StoredTransaction
from zodbsh.ids import MAX_ID, oid_text, tid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.source.base import Revision, SourceInfo, Transaction
from zodbsh.source.classes import class_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zodbsh.engine.census import Census

# A writer may finish a transaction just between seeing it in flight and looking closely.
_PASSES = 20
_LAYOUT_MARKER = ".layout"
_MARKER_SIZE = 64


class FileSource:
    """The Data.fs at ``path`` as of now.

    Blobs are looked for in ``blob_dir``, or in the folder ``<path>.blobs`` where
    there is one. Raises DatabaseNotFound, EmptyFile, NotFileStorage,
    AccessDenied, StorageIOError, and FramingDamage where the file is damaged;
    with ``ignore_damage`` the source ends at the last sound transaction before
    the damage instead. In a large file damage may show only when it is met.
    """

    def __init__(self, path: str, *, blob_dir: str | None = None, ignore_damage: bool = False) -> None:
        self.path = path
        self._reader = FileStorageReader(path, ignore_damage=ignore_damage)
        self._lookup = self._reader.lookup
        self._bulk: BulkPass | None = None
        self._census: Census | None = None
        self._blob_dir = blob_dir
        self._layout: str | None = None
        try:
            if self._lookup.wants_scan:
                self._take_bulk(SILENT)
            self._bounds = self._lookup.bounds
        except BaseException:
            self.close()
            raise

    @property
    def last_tid(self) -> int:
        """The transaction this snapshot ends at; 0 in an empty database."""
        return self._bounds.last_tid

    def info(self) -> SourceInfo:
        """Return what this source is; ``bytes`` is the file's size, the tail included."""
        reader = self._reader
        damage = None if self._bounds.damage is None else str(self._bounds.damage)
        return SourceInfo(self.path, reader.format, reader.meaning, reader.size, self._bounds.tail, damage)

    def load(self, oid: int, at: int = MAX_ID) -> Revision:
        """Return the revision current at ``at``. Raises ObjectNotFound, FramingDamage."""
        for record in self._reader.revisions(oid, at):
            revision = self._revision(record)
            if revision.data is None:
                break
            return revision
        when = "" if at >= self.last_tid else f" at {tid_text(at)}"
        raise ObjectNotFound(f"no object {oid_text(oid)}{when} in {self.path}")

    def history(self, oid: int, at: int = MAX_ID) -> Iterator[Revision]:
        """Yield the object's revisions, newest first, deletions included. Raises FramingDamage."""
        return map(self._revision, self._reader.revisions(oid, at))

    def transactions(self, first: int = 0, last: int = MAX_ID, *, reverse: bool = False) -> Iterator[Transaction]:
        """Yield the transactions with first <= tid <= last. Raises FramingDamage."""
        found = self._reader.transactions_back if reverse else self._reader.transactions
        return map(_transaction, found(first, last))

    def records(self, transaction: Transaction) -> Iterator[Revision]:
        """Yield the transaction's revisions in the order of the file. Raises FramingDamage."""
        position = transaction.position
        if position is None:
            for found in self._reader.transactions_back(transaction.tid, transaction.tid):
                position = found.position
        return map(self._revision, self._reader.records(position)) if position is not None else iter(())

    def transaction_of(self, revision: Revision) -> Transaction | None:
        """Return the transaction that wrote a revision of this source. Raises FramingDamage."""
        if revision.position is None:
            return next(self.transactions(revision.tid, revision.tid, reverse=True), None)
        record = self._reader.record(revision.position, revision.oid)
        return _transaction(self._reader.transaction(record.header.transaction))

    def census(self, at: int = MAX_ID, progress: Progress = SILENT) -> Census:
        """Count everything once. Raises FramingDamage."""
        if at < self.last_tid:
            return self._pass(self._bounds.end, at, progress).census()
        if self._census is None:
            if self._bulk is None:
                self._take_bulk(progress)
            assert self._bulk is not None
            self._census = self._bulk.census()
            # The positions live on in the lookup; the rest has served.
            self._bulk = None
        return self._census

    def oids(self, at: int = MAX_ID) -> Iterator[int]:
        """Yield the oid of each object that exists at ``at``, in order. Raises FramingDamage."""
        positions = self._lookup.positions(at)
        return (oid for oid in sorted(positions) if self._reader.exists(oid, positions[oid]))

    def blob_path(self, oid: int, tid: int) -> str | None:
        """Return the path of the blob file of this revision, None where there is none."""
        folder = self._blob_dir or f"{self.path}.blobs"
        if self._layout is None:
            self._layout = _blob_layout(folder)
        if self._layout == "bushy":
            parts = [f"0x{byte:02x}" for byte in oid.to_bytes(8, "big")]
        elif self._layout == "lawn":
            parts = [oid_text(oid)]
        else:
            return None
        path = os.path.join(folder, *parts, f"{oid_text(tid)}.blob")
        return path if os.path.isfile(path) else None

    def close(self) -> None:
        """Release the descriptor; may be called twice."""
        self._reader.close()

    def _take_bulk(self, progress: Progress) -> None:
        """Walk the whole file once, for the overview and the newest positions together."""
        for _ in range(_PASSES):
            self._bulk = found = self._pass(self._reader.file.limit, MAX_ID, progress)
            if self._lookup.settle(found.end, found.totals.last_tid or 0, found.positions, found.pointers):
                return
        # Each time a writer would have had to finish, in the same instant, what the pass saw in flight.
        raise DamagedDatabase(f"{self.path} changes in ways a database does not", hint="Try again.")

    def _pass(self, limit: int, until: int, progress: Progress) -> BulkPass:
        try:
            return bulk_pass(self._reader.file.fd, limit, class_part, until=until, progress=progress)
        except OSError as exc:
            raise read_error(self.path, exc) from exc

    def _revision(self, record: StoredRecord) -> Revision:
        data, data_tid = record.data, None
        if data is None and record.back:
            data, data_tid = self._reader.data(record), self._reader.data_tid(record)
        return Revision(record.header.oid, record.header.tid, data, data_tid, record.position)


def _transaction(found: StoredTransaction) -> Transaction:
    header = found.header
    return Transaction(
        tid=header.tid,
        status=header.status.decode("latin-1"),
        user=found.user,
        description=found.description,
        extension=found.extension,
        length=header.length + 8,
        position=found.position,
    )


def _blob_layout(folder: str) -> str:
    """Return the layout of a blob folder by ZODB's rules (``ZODB/blob.py``), "" where there is no such folder."""
    try:
        names = os.listdir(folder)
        if _LAYOUT_MARKER in names:
            with open(os.path.join(folder, _LAYOUT_MARKER), "rb") as marker:
                return marker.read(_MARKER_SIZE).decode("latin-1").strip()
    except OSError:
        return ""
    # Blobs without a marker date from before there were layouts.
    return "lawn" if any(not name.startswith(".") for name in names) else "bushy"
