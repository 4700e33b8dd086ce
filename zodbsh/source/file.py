"""A FileStorage as a source, read by ourselves: no ZODB, no lock, nothing written."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zodbsh.engine.census import take_census
from zodbsh.engine.columns import Columns, Options, TransactionRow
from zodbsh.errors import ObjectNotFound
from zodbsh.filestorage.damage import Damage, FramingDamage
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.lookup import Bounds
from zodbsh.filestorage.reader import FileStorageReader, StoredRecord, StoredTransaction
from zodbsh.ids import MAX_ID, oid_text, tid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.source.base import Revision, SourceInfo, Transaction
from zodbsh.source.columns import FileColumns, file_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from zodbsh.engine.census import Census

LAYOUT_MARKER = ".layout"
_MARKER_SIZE = 64


class FileSource:
    """The Data.fs at ``path`` as of now.

    Blobs are looked for in ``blob_dir``, or in the folder `blobs_beside` it where
    there is one. Raises DatabaseNotFound, EmptyFile, NotFileStorage,
    AccessDenied, StorageIOError, and FramingDamage where the file is damaged;
    with ``ignore_damage`` the source ends at the last sound transaction before
    the damage instead. In a large file damage may show only when it is met. With
    ``unchecked`` the file is only opened: `survey` must be the first call.
    """

    def __init__(
        self, path: str, *, blob_dir: str | None = None, ignore_damage: bool = False, unchecked: bool = False
    ) -> None:
        self.path = path
        self._unchecked = unchecked
        self._reader = FileStorageReader(path, ignore_damage=ignore_damage)
        self._lookup = self._reader.lookup
        self._census: Census | None = None
        self._blob_dir = blob_dir
        self._layout: str | None = None
        try:
            if unchecked:
                self._bounds = Bounds(self._reader.size, MAX_ID)
                return
            if self._lookup.wants_scan:
                self._census = take_census(self._lookup.scan())
            self._bounds = self._lookup.bounds
        except BaseException:
            self.close()
            raise

    @property
    def last_tid(self) -> int:
        """The transaction this snapshot ends at; 0 in an empty database."""
        return self._bounds.last_tid

    @property
    def end(self) -> int:
        """The position after the last transaction of this snapshot."""
        return self._bounds.end

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
            return take_census(self.columns(at, options=Options(references=False), progress=progress))
        if self._census is None:
            self._census = take_census(self._lookup.scan(progress))
        return self._census

    def columns(
        self,
        at: int = MAX_ID,
        *,
        options: Options = Options(),  # noqa: B008 - immutable
        progress: Progress = SILENT,
        on_transactions: Callable[[list[TransactionRow]], None] | None = None,
    ) -> Columns:
        """Return every object as of ``at`` in the engine's columns. Raises FramingDamage."""
        found = file_columns(
            self._reader.file, self._damaged,
            options=options, until=at, progress=progress, on_transactions=on_transactions,
        )  # fmt: skip
        if at >= self.last_tid and not options.since:
            # Whoever asks about objects next finds them without the saved index.
            self._lookup.adopt(found.columns)
        return found.columns

    def revision_at(self, position: int, oid: int) -> Revision:
        """Return the revision of ``oid`` whose record is at a position. Raises FramingDamage where there is none."""
        return self._revision(self._reader.record(position, oid))

    @property
    def file(self) -> DataFile:
        """The file that is read."""
        return self._reader.file

    def survey(
        self, *, options: Options, on_damage: Callable[[Damage], None], at: int = MAX_ID, progress: Progress = SILENT
    ) -> FileColumns:
        """Read the whole file up to tid ``at``, past all damage, which is told to ``on_damage``.

        From then on this source reads what lies behind the damage, too, as far as it is sound.
        """
        file = self._reader.file
        file.limit = self._reader.size
        found = file_columns(file, on_damage, options=options, until=at, progress=progress)
        if self._unchecked:
            last_tid = found.last_tid
            self._lookup.fix(file.limit - found.tail, last_tid, found.tail)
            self._bounds = self._lookup.bounds
            self._unchecked = False
        file.limit = self._bounds.end
        if at >= self.last_tid:
            self._lookup.adopt(found.columns)
        return found

    def oids(self, at: int = MAX_ID) -> Iterator[int]:
        """Yield the oid of each object that exists at ``at``, in order. Raises FramingDamage."""
        positions = self._lookup.positions(at)
        return (oid for oid in sorted(positions) if self._reader.exists(oid, positions[oid]))

    def positions(self) -> Mapping[int, int]:
        """Return where each object's newest record is, deletions included. Raises FramingDamage."""
        return self._lookup.positions()

    def blob_folder(self) -> tuple[str, str] | None:
        """Return the folder of blob files and its layout, None where there is no such folder.

        The layout is ``bushy`` or ``lawn``, something else where its marker says so, "" where that cannot be read.
        """
        folder = self._blob_dir or blobs_beside(self.path)
        if self._layout is None:
            self._layout = blob_layout(folder)
        return (folder, self._layout) if self._layout or os.path.lexists(folder) else None

    def blob_path(self, oid: int, tid: int) -> str | None:
        """Return the path of the blob file of this revision, None where there is none."""
        found = self.blob_folder()
        if found is None:
            return None
        folder, layout = found
        if layout == "bushy":
            parts = [f"0x{byte:02x}" for byte in oid.to_bytes(8, "big")]
        elif layout == "lawn":
            parts = [oid_text(oid)]
        else:
            return None
        path = os.path.join(folder, *parts, f"{oid_text(tid)}.blob")
        return path if os.path.isfile(path) else None

    def close(self) -> None:
        """Release the descriptor; may be called twice."""
        self._reader.close()

    def _damaged(self, damage: Damage) -> None:
        raise FramingDamage(self.path, damage)

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


def blobs_beside(path: str) -> str:
    """Return the folder ``<path>.blobs``; of a symlink that has none beside it, the one beside the file itself."""
    folder = f"{path}.blobs"
    if os.path.islink(path) and not os.path.lexists(folder):
        return f"{os.path.realpath(path)}.blobs"
    return folder


def blob_layout(folder: str) -> str:
    """Return the layout of a blob folder by ZODB's rules (``ZODB/blob.py``), "" where there is no such folder."""
    try:
        names = os.listdir(folder)
        if LAYOUT_MARKER in names:
            with open(os.path.join(folder, LAYOUT_MARKER), "rb") as marker:
                return marker.read(_MARKER_SIZE).decode("latin-1").strip()
    except OSError:
        return ""
    # Blobs without a marker date from before there were layouts.
    return "lawn" if any(not name.startswith(".") for name in names) else "bushy"
