"""Any ZODB storage as a source: a ZEO server, RelStorage, a database in memory.

The storage's own methods give the answers, so ZODB must be installed and is
imported here only. Nothing a storage hands over is loaded: records stay bytes,
and so does a transaction's extension.
"""

from __future__ import annotations

import pickle
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

from zodbsh.engine.census import take_census
from zodbsh.engine.columns import Columns, Options, TransactionRow
from zodbsh.errors import DamagedDatabase, ObjectNotFound, StorageIOError, Unsupported, ZodbshError
from zodbsh.ids import MAX_ID, from_bytes, oid_text, tid_text, to_bytes
from zodbsh.progress import SILENT, Progress
from zodbsh.source.base import Revision, SourceInfo, Transaction
from zodbsh.source.columns import source_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zodbsh.engine.census import Census

# A tid counts 2**32 to the minute. Going back in time begins with the last hour and takes ever longer strides.
_FIRST_STRIDE = 60 << 32
_STRIDE_GROWTH = 8


class StorageUnavailable(StorageIOError):
    """The storage does not answer: its server is gone, its connection lost."""

    code = "storage-unavailable"
    hint = "Check that the server runs and can be reached."


class StorageSource:
    """``storage`` as of now, called ``name``; closed with the source unless ``owned`` is False.

    Every method raises Unsupported where the storage lacks what it needs, and
    StorageUnavailable where it does not answer.
    """

    def __init__(self, storage: Any, name: str, *, owned: bool = True) -> None:
        from ZODB.interfaces import IMVCCStorage

        self._name = name
        self._owned = owned
        self._opened = storage
        self._view = None
        if IMVCCStorage.providedBy(storage):
            # Such a storage shows one moment to each of its instances.
            with _translated(name):
                self._view = storage.new_instance()
                self._view.poll_invalidations()
        self._storage = self._view or storage
        with _translated(name):
            last = self._storage.lastTransaction()
        self._last_tid = from_bytes(last) if last else 0

    @property
    def last_tid(self) -> int:
        """The transaction this snapshot ends at; 0 in an empty database."""
        return self._last_tid

    def info(self) -> SourceInfo:
        """Return what this source is."""
        class_ = type(self._opened)
        size: Any = None
        with _translated(self._name):
            if hasattr(self._opened, "getSize"):
                size = self._opened.getSize()
        meaning = f"storage {class_.__module__}.{class_.__qualname__}"
        return SourceInfo(self._name, class_.__name__, meaning, size if isinstance(size, int) else None)

    def load(self, oid: int, at: int = MAX_ID) -> Revision:
        """Return the revision current at ``at``; ``data_tid`` is None. Raises ObjectNotFound."""
        found = self._load_before(oid, min(at, self._last_tid))
        if not isinstance(found, Revision):
            when = "" if at >= self._last_tid else f" at {tid_text(at)}"
            raise ObjectNotFound(f"no object {oid_text(oid)}{when} in {self._name}")
        return found

    def history(self, oid: int, at: int = MAX_ID) -> Iterator[Revision]:
        """Yield the object's revisions, newest first, deletions included."""
        # Storages offer a history, but ZODB's loads each transaction's extension for it.
        at = min(at, self._last_tid)
        while at >= 0:
            found = self._load_before(oid, at)
            if found is _Missing.DELETED:
                yield from self._history_from_transactions(oid, at)
            if not isinstance(found, Revision):
                return
            yield found
            at = found.tid - 1

    def transactions(self, first: int = 0, last: int = MAX_ID, *, reverse: bool = False) -> Iterator[Transaction]:
        """Yield the transactions with first <= tid <= last; storages iterate forward, so ``reverse`` collects."""
        for found in self._iterate(first, last, reverse=reverse):
            yield _transaction(found)

    def records(self, transaction: Transaction) -> Iterator[Revision]:
        """Yield the transaction's revisions in the order the storage gives them."""
        for found in self._iterate(transaction.tid, transaction.tid):
            yield from self._records(found)

    def transaction_of(self, revision: Revision) -> Transaction | None:
        """Return the transaction that wrote a revision."""
        return next(self.transactions(revision.tid, revision.tid), None)

    def census(self, at: int = MAX_ID, progress: Progress = SILENT) -> Census:
        """Count everything once, by walking every transaction."""
        return take_census(self.columns(at, options=Options(references=False), progress=progress))

    def columns(
        self,
        at: int = MAX_ID,
        *,
        options: Options = Options(),  # noqa: B008 - immutable
        progress: Progress = SILENT,
        on_transactions: Callable[[list[TransactionRow]], None] | None = None,
    ) -> Columns:
        """Return every object as of ``at`` in the engine's columns, by walking every transaction."""
        return source_columns(self, options=options, until=at, progress=progress, on_transactions=on_transactions)

    def oids(self, at: int = MAX_ID) -> Iterator[int]:
        """Yield the oid of each object that exists at ``at``, in order."""
        found = (revision for transaction in self._iterate(0, at) for revision in self._records(transaction))
        exists = {revision.oid: revision.data is not None for revision in found}
        yield from (oid for oid in sorted(exists) if exists[oid])

    def blob_path(self, oid: int, tid: int) -> str | None:
        """Return the path of a blob's file, which a remote storage may have to fetch; None where there is none."""
        from ZODB.interfaces import IBlobStorage
        from ZODB.POSException import POSKeyError

        if not IBlobStorage.providedBy(self._storage):
            return None
        with _translated(self._name):
            try:
                return str(self._storage.loadBlob(to_bytes(oid), to_bytes(tid)))
            except POSKeyError:
                return None

    def close(self) -> None:
        """Release the storage; may be called twice."""
        view, self._view = self._view, None
        if view is not None:
            view.release()
        if self._owned:
            self._owned = False
            self._opened.close()

    def _load_before(self, oid: int, at: int) -> Revision | _Missing:
        from ZODB.POSException import POSKeyError

        with _translated(self._name):
            try:
                found = self._storage.loadBefore(to_bytes(oid), to_bytes(at + 1))
            except POSKeyError:
                return _Missing.DELETED
        if found is None:
            return _Missing.NOT_YET
        return Revision(oid, from_bytes(found[1]), found[0]) if found[0] is not None else _Missing.DELETED

    def _history_from_transactions(self, oid: int, at: int) -> Iterator[Revision]:
        if not hasattr(self._storage, "iterator"):
            return
        revisions: list[Revision] = []
        for transaction in self._iterate(0, at):
            revisions += (revision for revision in self._records(transaction) if revision.oid == oid)
        yield from reversed(revisions)

    def _iterate(self, first: int, last: int, *, reverse: bool = False) -> Iterator[Any]:
        """Yield the storage's own transaction objects with first <= tid <= min(last, last_tid)."""
        if not hasattr(self._storage, "iterator"):
            kind = type(self._opened).__name__
            raise Unsupported(
                f"{self._name}: {kind} does not list its transactions",
                hint="Objects can be read by path or oid; counting and history need a storage that iterates.",
            )
        last = min(last, self._last_tid)
        if not reverse:
            yield from self._forward(first, last)
            return
        stride = _FIRST_STRIDE
        while last >= first:
            begin = max(first, last - stride)
            # Far back nobody knows where the storage begins: one last stride takes all that is left.
            if stride > self._last_tid:
                begin = first
            yield from reversed(list(self._forward(begin, last)))
            last, stride = begin - 1, stride * _STRIDE_GROWTH

    def _forward(self, first: int, last: int) -> Iterator[Any]:
        with _translated(self._name):
            found = self._iterator(first, last)
            try:
                for transaction in found:
                    if from_bytes(transaction.tid) > last:
                        return
                    if from_bytes(transaction.tid) >= first:
                        yield transaction
            finally:
                # A FileStorage's iterator holds a file.
                getattr(found, "close", bool)()

    def _iterator(self, first: int, last: int) -> Any:
        stop = to_bytes(last)
        if first:
            try:
                return self._storage.iterator(to_bytes(first), stop)
            except (AttributeError, ValueError):
                # A FileStorage cannot find a start while a transaction is being written.
                pass
        return self._storage.iterator(None, stop)

    def _records(self, transaction: Any) -> Iterator[Revision]:
        with _translated(self._name):
            for record in transaction:
                data_tid = from_bytes(record.data_txn) if record.data_txn else None
                yield Revision(from_bytes(record.oid), from_bytes(record.tid), record.data, data_tid)


class _Missing(Enum):
    """Why there is no revision: it has not begun at that time, or it was deleted (or never was)."""

    NOT_YET = "not yet"
    DELETED = "deleted"


@contextmanager
def _translated(name: str) -> Iterator[None]:
    """Turn what a storage raises into our errors."""
    from ZODB.FileStorage.format import CorruptedError
    from ZODB.POSException import POSError, POSKeyError
    from ZODB.POSException import Unsupported as ZODBUnsupported

    try:
        yield
    except ZodbshError:
        raise
    except (CorruptedError, POSKeyError) as exc:
        raise DamagedDatabase(f"{name} is damaged: {exc}") from exc
    except ZODBUnsupported as exc:
        raise Unsupported(f"{name}: the storage cannot do that: {exc}") from exc
    except (POSError, OSError, EOFError) as exc:
        raise StorageUnavailable(f"{name} does not answer: {exc or type(exc).__name__}") from exc


def _transaction(found: Any) -> Transaction:
    status = found.status
    return Transaction(
        tid=from_bytes(found.tid),
        status=status.decode("latin-1") if isinstance(status, bytes) else status,
        user=_raw(found.user),
        description=_raw(found.description),
        extension=_extension(found),
    )


def _extension(found: Any) -> bytes:
    """Return the extension's pickle without loading it; where a storage keeps a dict, that dict pickled."""
    raw = getattr(found, "extension_bytes", None)
    if raw is not None:
        return bytes(raw)
    extension = getattr(found, "extension", None)
    return pickle.dumps(extension, 3) if extension else b""


def _raw(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else bytes(text)
