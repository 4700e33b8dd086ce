"""A ZODB storage over a source of ours: read-only, fixed in time, of any format.

It serves sessions that may not write (a locked file, a time in the past,
Python 2's format). Edits made on it get provisional oids, so they can be staged.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from typing import Any

from ZODB.blob import BlobFile
from ZODB.interfaces import IBlobStorage, IStorage
from ZODB.POSException import POSKeyError, ReadOnlyError
from ZODB.utils import z64
from zope.interface import implementer

from zodbsh.db.changes import PROVISIONAL
from zodbsh.errors import ObjectNotFound
from zodbsh.ids import MAX_ID, from_bytes, to_bytes
from zodbsh.source.base import Source


@implementer(IStorage, IBlobStorage)
class SnapshotStorage:
    """What ZODB needs of a storage to read; whatever writes raises ReadOnlyError.

    Shows the source as of tid ``at``. Closing it closes the source. ``reason``
    goes with each ReadOnlyError.
    """

    def __init__(self, source: Source, at: int = MAX_ID, *, reason: str = "") -> None:
        self.source = source
        self.reason = reason
        self.tid = min(at, source.last_tid)
        # Its records hold Python 2's strings (``zodbsh.db.python2``).
        self.python2 = source.info().format == "FS21"
        self.last_provisional = PROVISIONAL - 1
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def load(self, oid: bytes, version: str = "") -> tuple[bytes, bytes]:
        """Return an object's record and serial."""
        return self._revision(oid, self.tid)

    def loadBefore(self, oid: bytes, tid: bytes) -> tuple[bytes, bytes, bytes | None] | None:  # noqa: N802
        """Return record, serial and the following serial (None for the current one); None before its creation."""
        number, limit = from_bytes(oid), min(from_bytes(tid) - 1, self.tid)
        if limit == self.tid:
            return (*self._revision(oid, limit), None)
        newer = None
        for revision in self.source.history(number, self.tid):
            if revision.tid > limit:
                newer = to_bytes(revision.tid)
                continue
            if revision.data is None:
                raise POSKeyError(oid)
            return revision.data, to_bytes(revision.tid), newer
        if newer is None:
            raise POSKeyError(oid)
        return None

    def loadSerial(self, oid: bytes, serial: bytes) -> bytes:  # noqa: N802
        """Return the record that an object had in one transaction."""
        data, found = self._revision(oid, min(from_bytes(serial), self.tid))
        if found != serial:
            raise POSKeyError(oid)
        return data

    def getTid(self, oid: bytes) -> bytes:  # noqa: N802
        """Return an object's serial."""
        return self._revision(oid, self.tid)[1]

    def lastTransaction(self) -> bytes:  # noqa: N802
        """Return the tid this storage ends at."""
        return to_bytes(self.tid) if self.tid else z64

    def new_oid(self) -> bytes:
        """Return a provisional oid: staging may need one though nothing is ever stored here."""
        self.last_provisional += 1
        return to_bytes(self.last_provisional)

    def reserve(self, oids: Iterable[int]) -> None:
        """Give out no oid up to the largest of these."""
        self.last_provisional = max([self.last_provisional, *oids])

    def loadBlob(self, oid: bytes, serial: bytes) -> str:  # noqa: N802
        """Return the path of a blob's file."""
        path = self.source.blob_path(from_bytes(oid), from_bytes(serial))
        if path is None or not os.path.exists(path):
            raise POSKeyError("no blob file", oid, serial)
        return path

    def openCommittedBlobFile(self, oid: bytes, serial: bytes, blob: Any = None) -> Any:  # noqa: N802
        """Open a blob's file for reading."""
        path = self.loadBlob(oid, serial)
        return open(path, "rb") if blob is None else BlobFile(path, "r", blob)

    def temporaryDirectory(self) -> str:  # noqa: N802
        """Return a folder for uncommitted blobs, which goes when the storage closes."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="zodbsh-")
        return self._folder.name

    def history(self, oid: bytes, size: int = 1, **_options: Any) -> list[dict[str, Any]]:
        """Return an object's latest revisions the way ``DB.history`` shows them."""
        found: list[dict[str, Any]] = []
        for revision in self.source.history(from_bytes(oid), self.tid):
            if len(found) >= size:
                break
            (txn,) = self.source.transactions(revision.tid, revision.tid)
            entry = {"tid": to_bytes(revision.tid), "user_name": txn.user, "description": txn.description}
            found.append(entry | {"size": len(revision.data or b""), "time": _seconds(revision.tid)})
        return found

    def isReadOnly(self) -> bool:  # noqa: N802
        """Tell that nothing can be stored."""
        return True

    def supportsUndo(self) -> bool:  # noqa: N802
        """Tell that nothing can be undone."""
        return False

    def undoLog(self, *_args: Any, **_options: Any) -> list[Any]:  # noqa: N802
        """Return nothing: nothing can be undone here."""
        return []

    undoInfo = undoLog  # noqa: N815

    def getName(self) -> str:  # noqa: N802
        """Return the source's name."""
        return self.source.info().name

    sortKey = getName  # noqa: N815

    def getSize(self) -> int:  # noqa: N802
        """Return the size in bytes, 0 where it is not known."""
        return self.source.info().bytes or 0

    def __len__(self) -> int:
        return sum(1 for _ in self.source.oids(self.tid))

    def sync(self, force: bool = True) -> None:
        """A snapshot has nothing to catch up with."""

    def registerDB(self, _db: Any) -> None:  # noqa: N802
        """Nothing here ever invalidates an object."""

    def close(self) -> None:
        """Close the source and remove uncommitted blobs."""
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None
        self.source.close()

    def _refuse(self, *_args: Any, **_options: Any) -> Any:
        raise ReadOnlyError(*(part for part in (self.reason,) if part))

    tpc_begin = store = tpc_vote = tpc_finish = pack = undo = _refuse
    storeBlob = checkCurrentSerialInTransaction = deleteObject = _refuse  # noqa: N815

    def tpc_abort(self, _transaction: Any) -> None:
        """A transaction that could not begin is aborted all the same."""

    def _revision(self, oid: bytes, at: int) -> tuple[bytes, bytes]:
        try:
            revision = self.source.load(from_bytes(oid), at)
        except ObjectNotFound as exc:
            raise POSKeyError(oid) from exc
        assert revision.data is not None
        return revision.data, to_bytes(revision.tid)


def _seconds(tid: int) -> float:
    from zodbsh.times import tid_time

    moment = tid_time(tid)
    return 0.0 if moment is None else moment.timestamp()
