"""What a pack keeps: ZODB's own meaning of reachability, computed on any source.

The meaning is that of ``ZODB/FileStorage/fspack.py``. Up to the pack time, the
revision of an object that is current then is kept if the root reaches it; a
revision that a later one points back to is kept too. What follows the pack time
is kept whole. Without garbage collection every current revision is kept.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.errors import ObjectNotFound
from zodbsh.ids import MAX_ID, ROOT_OID
from zodbsh.progress import SILENT, Progress
from zodbsh.record.decode import RecordError, class_text, record_class, references

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zodbsh.source.base import Revision, Source, Transaction

# The layout of FileStorage: fixed parts of a transaction, a record, a back-pointer.
_TRANSACTION_FRAME = 23 + 8
_RECORD_HEADER = 42
_POINTER = 8
BLOB_CLASS = "ZODB.blob.Blob"


class ClassRemoval(NamedTuple):
    """What a pack takes from one class: objects, revisions, bytes of records with their headers."""

    class_: str
    objects: int
    revisions: int
    bytes: int


class Dangling(NamedTuple):
    """A reference that leads nowhere, or (``target`` None) a record that cannot be read.

    ``oid`` is the object whose record holds it (None: the database has no
    root), ``class_`` the object's class, ``reason`` one sentence.
    """

    oid: int | None
    class_: str
    target: int | None
    reason: str


class PackPlan(NamedTuple):
    """What a pack would do.

    ``bytes_removed`` is the exact shrinking of a FileStorage (negative where
    undone changes get their data written out). ``redundant`` says that ZODB
    takes the database for packed already. ``dangling`` lists what ZODB's pack
    stops at; where it is not empty, the other figures are estimates.
    """

    tid: int
    transactions_removed: int
    objects_removed: int
    revisions_removed: int
    bytes_removed: int
    blobs_removed: int
    blob_bytes_removed: int
    classes: tuple[ClassRemoval, ...]
    dangling: tuple[Dangling, ...]
    redundant: bool


def plan_pack(source: Source, tid: int, *, collect: bool = True, progress: Progress = SILENT) -> PackPlan:
    """Compute what a pack to ``tid`` (inclusive) would remove; reads the source only.

    ``collect`` is garbage collection. Memory grows with the number of objects,
    not with their revisions.
    """
    scan = _Scan(source, tid, progress)
    if scan.redundant:
        return PackPlan(tid, 0, 0, 0, 0, 0, 0, (), (), True)
    dangling = scan.keep_reachable() if collect else scan.keep_current()
    return scan.count(dangling)


def check_references(source: Source, *, progress: Progress = SILENT) -> list[Dangling]:
    """Return each reference of a current record that resolves to no object, and each undecodable record.

    Weak references and references into other databases are allowed to dangle.
    """
    exists = set(source.oids())
    found: list[Dangling] = []
    progress.start("Checking references", len(exists), "objects")
    for done, oid in enumerate(sorted(exists)):
        data = _data(source.load(oid))
        try:
            targets = set(strong_references(data))
        except RecordError as exc:
            found.append(Dangling(oid, _class_of(data), None, f"its record cannot be read: {exc.message}"))
        else:
            found += (Dangling(oid, _class_of(data), target, "no such object") for target in sorted(targets - exists))
        progress.advance(done + 1)
    progress.finish()
    return found


def strong_references(data: bytes) -> Iterable[int]:
    """Yield the oids that keep other objects of this database alive. Raises RecordError."""
    return (ref.oid for ref in references(data) if not ref.weak and ref.database is None)


class _Scan:
    """One pass over the database, and the sets that grow from it."""

    def __init__(self, source: Source, tid: int, progress: Progress) -> None:
        self.source, self.tid, self.progress = source, tid, progress
        # What is current at the pack time: oid -> where (a position, or a tid where there are none).
        self.current: dict[int, int] = {}
        # What stays of the time up to the pack: one revision mostly, more where later ones point back.
        self.kept: dict[int, int] = {}
        self.kept_too: dict[int, set[int]] = {}
        self.later: dict[int, bool] = {}
        self.pointers: list[Revision] = []
        self._read()

    def _read(self) -> None:
        packed, next_packed = True, True
        self.progress.start("Reading transactions", self.source.info().bytes, "bytes")
        for transaction in self.source.transactions(0, self.tid):
            packed = packed and transaction.status == "p"
            for revision in self.source.records(transaction):
                if revision.data is None and revision.data_tid is None:
                    self.current.pop(revision.oid, None)
                else:  # to ZODB's pack, one that points back to a deletion is an object, too
                    self.current[revision.oid] = _where(revision)
            self.progress.advance(transaction.position or 0)
        for number, transaction in enumerate(self.source.transactions(self.tid + 1, MAX_ID)):
            if number == 0:
                next_packed = transaction.status == "p"
            for revision in self.source.records(transaction):
                self.later[revision.oid] = revision.data is not None
                if revision.data_tid is not None and revision.data_tid <= self.tid:
                    self.pointers.append(revision)
            self.progress.advance(transaction.position or 0)
        self.progress.finish()
        self.redundant = packed and next_packed

    def keep_current(self) -> list[Dangling]:
        self.kept = self.current
        return []

    def keep_reachable(self) -> list[Dangling]:
        dangling: list[Dangling] = []
        self.progress.start("Finding what is reachable", len(self.current), "objects")
        if self.current:
            self._follow(None, [ROOT_OID], dangling)
        sources = []
        for revision in self.pointers:
            where = self._where_back(revision)
            if revision.oid not in self.kept:
                # ZODB keeps this revision, not what it refers to.
                self.kept[revision.oid] = where
            elif where != self.kept[revision.oid] and where not in self.kept_too.get(revision.oid, ()):
                self.kept_too.setdefault(revision.oid, set()).add(where)
                sources.append(revision)
        for revision in sources:
            self._follow(revision, self._targets(revision, dangling), dangling)
        self.progress.finish()
        return dangling

    def _follow(self, referrer: Revision | None, oids: Iterable[int], dangling: list[Dangling]) -> None:
        todo: list[tuple[Revision | None, int]] = [(referrer, oid) for oid in oids]
        while todo:
            referrer, oid = todo.pop()
            if oid in self.kept:
                continue
            if oid not in self.current:
                by = None if referrer is None else referrer.oid
                class_ = "" if referrer is None else _class_of(_data(referrer))
                dangling.append(Dangling(by, class_, oid, "no such object at the pack time"))
                continue
            self.kept[oid] = self.current[oid]
            try:
                revision = self.source.load(oid, self.tid)
            except ObjectNotFound:
                continue
            todo += ((revision, target) for target in self._targets(revision, dangling) if target not in self.kept)
            self.progress.advance(len(self.kept))

    def _targets(self, revision: Revision, dangling: list[Dangling]) -> list[int]:
        data = revision.data
        if data is None:
            return []
        try:
            return list(strong_references(data))
        except RecordError as exc:
            reason = f"its record cannot be read: {exc.message}"
            dangling.append(Dangling(revision.oid, _class_of(data), None, reason))
            return []

    def _where_back(self, pointer: Revision) -> int:
        """Return where the revision stands that a later one points back to."""
        for revision in self.source.history(pointer.oid, self.tid):
            if revision.tid == pointer.data_tid:
                return _where(revision)
        return -1

    def _is_kept(self, revision: Revision) -> bool:
        where = _where(revision)
        return self.kept.get(revision.oid) == where or where in self.kept_too.get(revision.oid, ())

    def count(self, dangling: list[Dangling]) -> PackPlan:
        """Walk the time up to the pack once more and count what goes."""
        classes: dict[str, list[int]] = {}
        before = after = transactions_removed = blobs = blob_bytes = 0
        for transaction in self.source.transactions(0, self.tid):
            old, new = _TRANSACTION_FRAME + _texts(transaction), 0
            for revision in self.source.records(transaction):
                length = _RECORD_HEADER + (_POINTER if revision.data_tid is not None else _written(revision))
                old += length
                if self._is_kept(revision):
                    new += _RECORD_HEADER + _written(revision)
                    continue
                name = self._class_of_revision(revision)
                figures = classes.setdefault(name, [0, 0, 0])
                figures[0] += self._removes_object(revision)
                figures[1] += 1
                figures[2] += length
                if name == BLOB_CLASS and (size := self._blob_size(revision)) is not None:
                    blobs, blob_bytes = blobs + 1, blob_bytes + size
            before += old
            if new:
                after += new + _TRANSACTION_FRAME + _texts(transaction)
            else:
                transactions_removed += 1
        removals = [ClassRemoval(name, *figures) for name, figures in classes.items()]
        removals.sort(key=lambda removal: (-removal.bytes, removal.class_))
        return PackPlan(
            self.tid,
            transactions_removed,
            sum(removal.objects for removal in removals),
            sum(removal.revisions for removal in removals),
            before - after,
            blobs,
            blob_bytes,
            tuple(removals),
            tuple(dangling),
            False,
        )

    def _removes_object(self, revision: Revision) -> bool:
        oid = revision.oid
        if revision.data is None:
            return False
        return oid not in self.later and oid not in self.kept and self.current.get(oid) == _where(revision)

    def _class_of_revision(self, revision: Revision) -> str:
        if revision.data is not None:
            return _class_of(revision.data)
        # A deletion has no class of its own: it counts for that of what it deleted.
        for older in self.source.history(revision.oid, revision.tid):
            if older.data is not None:
                return _class_of(older.data)
        return class_text(None)

    def _blob_size(self, revision: Revision) -> int | None:
        path = self.source.blob_path(revision.oid, revision.tid)
        try:
            return None if path is None else os.stat(path).st_size
        except OSError:
            return None


def _where(revision: Revision) -> int:
    return revision.tid if revision.position is None else revision.position


def _data(revision: Revision) -> bytes:
    return b"" if revision.data is None else revision.data


def _written(revision: Revision) -> int:
    return _POINTER if revision.data is None else len(revision.data)


def _texts(transaction: Transaction) -> int:
    return len(transaction.user) + len(transaction.description) + len(transaction.extension)


def _class_of(data: bytes) -> str:
    try:
        return class_text(record_class(data))
    except RecordError:
        return "(unreadable)"
