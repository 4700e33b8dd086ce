"""A source with uncommitted changes laid over it: what a commit would make of the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from zodbsh.db.changes import Changes
from zodbsh.engine.census import Census
from zodbsh.engine.columns import Columns, Options, TransactionRow
from zodbsh.errors import ObjectNotFound
from zodbsh.ids import MAX_ID, oid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.source.base import Revision, Source, SourceInfo, Transaction


class OverlaySource:
    """A source whose present holds the changes too (implements ``Source``).

    Only a look at the present (``at`` not before the source's last transaction)
    shows them; their revisions carry the serial that they were made to, 0 for a
    new object. History, transactions and the census are the source's own.
    Closing it closes nothing. The objects ``deleted`` are not in its present.
    """

    def __init__(self, source: Source, changes: Changes, *, deleted: Iterable[int] = ()) -> None:
        self._source = source
        self._deleted = frozenset(deleted)
        self._entries = {entry.oid: entry for entry in changes.entries}

    @property
    def last_tid(self) -> int:
        """The source's last transaction."""
        return self._source.last_tid

    def info(self) -> SourceInfo:
        """Return what the source is."""
        return self._source.info()

    def load(self, oid: int, at: int = MAX_ID) -> Revision:
        """Return the uncommitted revision of ``oid`` where there is one, else the source's."""
        if oid in self._deleted and at >= self.last_tid:
            raise ObjectNotFound(f"no object {oid_text(oid)} in {self._source.info().name}")
        entry = self._entries.get(oid) if at >= self.last_tid else None
        if entry is None:
            return self._source.load(oid, at)
        return Revision(oid, entry.serial or 0, entry.data)

    def history(self, oid: int, at: int = MAX_ID) -> Iterator[Revision]:
        """Yield the stored revisions."""
        return self._source.history(oid, at)

    def transactions(self, first: int = 0, last: int = MAX_ID, *, reverse: bool = False) -> Iterator[Transaction]:
        """Yield the stored transactions."""
        return self._source.transactions(first, last, reverse=reverse)

    def records(self, transaction: Transaction) -> Iterator[Revision]:
        """Yield a stored transaction's revisions."""
        return self._source.records(transaction)

    def transaction_of(self, revision: Revision) -> Transaction | None:
        """Return the transaction that wrote a stored revision, None for an uncommitted one."""
        entry = self._entries.get(revision.oid)
        uncommitted = entry is not None and entry.data is revision.data
        return None if uncommitted else self._source.transaction_of(revision)

    def census(self, at: int = MAX_ID, progress: Progress = SILENT) -> Census:
        """Count what is stored."""
        return self._source.census(at, progress)

    def columns(
        self,
        at: int = MAX_ID,
        *,
        options: Options = Options(),  # noqa: B008 - immutable
        progress: Progress = SILENT,
        on_transactions: Callable[[list[TransactionRow]], None] | None = None,
    ) -> Columns:
        """Return the columns of what is stored."""
        return self._source.columns(at, options=options, progress=progress, on_transactions=on_transactions)

    def oids(self, at: int = MAX_ID) -> Iterator[int]:
        """Yield the stored objects, then the new ones."""
        if at < self.last_tid:
            yield from self._source.oids(at)
        else:
            yield from (oid for oid in self._source.oids(at) if oid not in self._deleted)
            yield from (entry.oid for entry in self._entries.values() if entry.new)

    def blob_path(self, oid: int, tid: int) -> str | None:
        """Return the path of an uncommitted blob, else of the stored one."""
        entry = self._entries.get(oid)
        return entry.blob if entry is not None and entry.blob is not None else self._source.blob_path(oid, tid)

    def close(self) -> None:
        """Leave the source to whoever opened it."""
