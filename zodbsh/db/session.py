"""The live session of ``run`` and ``shell``: a connection, and what is dirty on it.

Besides the resolution of a conflict this is the one place where classes that a
database names are imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType, TracebackType
from typing import Any, Literal, NamedTuple, Self

import transaction
from ZODB.POSException import ReadConflictError
from ZODB.utils import z64

from zodbsh.db.blobs import write_blobs_whole
from zodbsh.db.changes import STAGE_KEY, Changes, Dirty, MissingClass, Pending
from zodbsh.db.dirty import find_dirty
from zodbsh.db.imports import import_modules, search_first
from zodbsh.db.live import SessionConnection, SessionDB
from zodbsh.db.locks import DatabaseLocked
from zodbsh.db.open import NotWritable, open_storage, translated
from zodbsh.db.readstorage import SnapshotStorage
from zodbsh.db.restore import prime
from zodbsh.db.root import Root
from zodbsh.db.source import open_source
from zodbsh.db.spec import Spec, parse_spec
from zodbsh.db.standins import ClassFinder
from zodbsh.db.writer import collect
from zodbsh.errors import NoPermission, ObjectNotFound, Unsupported, UsageError, ZodbshError
from zodbsh.ids import MAX_ID, from_bytes, tid_text, to_bytes
from zodbsh.source.base import Source
from zodbsh.times import time_text

Mode = Literal["read-write", "read-only"]


class Committed(NamedTuple):
    """A commit's outcome: its tid and how many objects it stored."""

    tid: int
    objects: int


@dataclass(eq=False)
class Session:
    """One live connection to a database, and everything a shell shows of it.

    ``mode_reason`` says in a few words why the session is read-only (who holds
    the lock, ``--read-only``, a time in the past, Python 2's format); it is
    empty in a read-write session. ``mode_error`` is what a commit raises in a
    read-only one (DatabaseLocked, NotWritable, ...). ``modules`` are the names that ``-m`` gives.
    ``stage_id`` is the id of the stage this session goes on with, None from the
    moment its transaction has ended; ``known_stage`` the id of the stage on disk
    as this session knows it, empty for none (``zodbsh.stage.live`` keeps both).
    ``undoing`` are the transactions that the next commit undoes, each with the
    number of its objects (``zodbsh.db.undo``).
    """

    spec: Spec
    mode: Mode
    mode_reason: str
    at: int | None
    db: SessionDB
    connection: SessionConnection
    modules: dict[str, ModuleType]
    mode_error: ZodbshError | None = None
    stage_id: str | None = None
    known_stage: str = ""
    undoing: dict[int, int] = field(default_factory=dict)
    _finder: ClassFinder = field(default_factory=ClassFinder)
    _source: Source | None = None
    _on_commit: Callable[[], None] | None = None
    _watched: Any = None
    _restore_path: Callable[[], None] = lambda: None

    @classmethod
    def open(
        cls,
        spec: Spec | str,
        *,
        read_only: bool = False,
        at: int | None = None,
        import_paths: Iterable[str] = (),
        modules: Iterable[str] = (),
        no_import: bool = False,
        blobs: str | None = None,
    ) -> Session:
        """Open a session: read-write where that is possible and asked for, read-only otherwise.

        ``at`` (a tid) opens the past, read-only. ``import_paths`` go before
        sys.path until ``close``; the current folder is searched only where one
        of them names it. With ``no_import`` every class that is not ZODB's own
        is a stand-in. ``blobs`` is the blob folder of a plain file.

        Raises ModuleFailed where a module of ``modules`` fails to import,
        DatabaseNotFound, DamagedDatabase, StorageIOError, MissingPackage.
        """
        spec = parse_spec(spec) if isinstance(spec, str) else spec
        if blobs is not None:
            spec = replace(spec, blob_dir=blobs)
        write_blobs_whole()
        restore_path = search_first(import_paths)
        try:
            imported = import_modules(modules)
            finder = ClassFinder(no_import=no_import)
            opened = _open(spec, read_only, at)
            try:
                db = SessionDB(opened.storage, finder)
                connection = db.open()
                _require_root(connection, spec)
            except BaseException:
                opened.storage.close()
                raise
        except BaseException:
            restore_path()
            raise
        return cls(
            spec=spec,
            mode="read-only" if opened.error else "read-write",
            mode_reason=opened.reason or (opened.error.message if opened.error else ""),
            mode_error=opened.error,
            at=at,
            db=db,
            connection=connection,
            modules=imported,
            _finder=finder,
            _source=opened.source,
            _restore_path=restore_path,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    @property
    def writable(self) -> bool:
        """Whether this session can commit (edits in another one can be staged)."""
        return self.mode == "read-write"

    @property
    def python2(self) -> bool:
        """Whether the records are Python 2's: nothing can be committed, so nothing is staged."""
        return bool(getattr(self.db.storage, "python2", False))

    @property
    def transaction(self) -> Any:
        """The transaction manager: ``get``, ``begin``, ``commit``, ``abort``, ``savepoint``."""
        return transaction.manager

    @property
    def root(self) -> Root:
        """The root, by attribute and by item; ``root()`` is the mapping itself."""
        return Root(self.connection)

    @property
    def missing(self) -> tuple[MissingClass, ...]:
        """The classes shown as stand-ins so far, in the order they were met."""
        return tuple(self._finder.missing.values())

    @property
    def missing_loaded(self) -> tuple[MissingClass, ...]:
        """Those of ``missing`` of which an instance was loaded, not merely a reference seen."""
        return tuple(self._finder.loaded())

    @property
    def base_tid(self) -> int:
        """The transaction this session's view ends at (0 in an empty database)."""
        start = getattr(self.connection._normal_storage, "_start", None)
        return from_bytes(start) - 1 if start else from_bytes(self.db.lastTransaction() or z64)

    def namespace(self) -> dict[str, Any]:
        """The names a script and the shell start with."""
        names: dict[str, Any] = {"root": self.root, "db": self.db, "connection": self.connection}
        return names | {"transaction": transaction} | self.modules

    def source(self) -> Source:
        """Return a source over the database as this session sees it, without what is uncommitted.

        The session keeps it: do not close it, and ask again after a commit. Raises
        SessionClosed where the user's code has closed the database.
        """
        if self.db.closed:
            raise SessionClosed(f"{self.spec.text}: the database was closed by your code")
        if self._source is not None and (not self.writable or self._source.last_tid == self.base_tid):
            return self._source
        if self._source is not None:
            self._source.close()
        self._source = open_source(self.spec, storage=self.db.storage)
        return self._source

    def load_module(self, name: str) -> ModuleType:
        """Import a module into the session's names (``.load``); raises ModuleFailed."""
        imported = import_modules([name])
        self.modules.update(imported)
        return sys.modules[name]

    def pending(self) -> Pending:
        """Return what is uncommitted, as records; nothing of the session changes by it.

        What a prepared undo would bring back is among it, each object on top of the revision that is undone.
        Objects that only become reachable carry provisional oids, the same ones
        as long as nothing changes. Raises CannotSave where an object cannot be
        written.
        """
        own = self.own_changes()
        if not self.undoing:
            return own
        from zodbsh.db.undo import undone_entries

        taken = {entry.oid for entry in own.entries}
        undone = tuple(entry for entry in undone_entries(self) if entry.oid not in taken)
        return own._replace(entries=own.entries + undone, base_tid=self.base_tid)

    def own_changes(self) -> Pending:
        """Return what ``pending`` does, without what an undo would bring back."""
        if not self.connection.opened:
            # The user's code has closed it; ZODB lets nobody do that with changes on it.
            return Pending(0, ())
        return collect(self.connection, self.base_tid)

    def dirty_count(self) -> int:
        """Count the objects known to be changed or added: counters only, for the toolbar."""
        return self.connection.dirty_count()

    def dirty(self) -> Dirty:
        """Return what a commit would save, and what ZODB would miss.

        Each object's ``path`` is its oid's text here; ``zodbsh.ops.dirty.dirty``
        gives the same with paths. Serialises every loaded object: for the moment
        before a commit, not for a toolbar. Raises CannotSave.
        """
        return find_dirty(self.connection, self.base_tid) if self.connection.opened else Dirty()

    def mark_changed(self, oid: int) -> None:
        """Have a silent mutation saved: mark its object changed."""
        self._loaded(oid)._p_changed = True

    def revert(self, oid: int) -> None:
        """Forget an object's changes, marked or silent: its stored state is loaded again.

        Raises UsageError for a new object, which has no stored state.
        """
        obj = self._loaded(oid)
        if oid in {entry.oid for entry in self.pending().entries if entry.new}:
            raise UsageError("a new object has no stored state to go back to", hint="Remove the reference to it.")
        store = self.connection._savepoint_storage
        if store is not None:
            # What a savepoint (or a stage) holds of it is a change as well.
            store.index.pop(to_bytes(oid), None)
        obj._p_invalidate()

    def restore(
        self, changes: Changes, *, stage_id: str = "", on_commit: Callable[[], None] | None = None
    ) -> Mapping[int, int]:
        """Make a stage this session's uncommitted changes; return real oids by provisional ones.

        A ``transaction.commit()`` typed by hand then commits it too, each object
        against the serial it was staged on. The session must have no changes of
        its own. See ``attach`` for the rest.
        """
        numbers = prime(self.connection, changes, writable=self.writable)
        if stage_id:
            self.attach(stage_id, on_commit)
        return numbers

    def attach(self, stage_id: str, on_commit: Callable[[], None] | None = None) -> None:
        """Say that the uncommitted changes hold the stage of that id.

        Their commit names it in the transaction's extension, and calls
        ``on_commit`` once it is durable. An abort takes the changes out of the
        session, not off the disk.
        """
        current = self.transaction.get()
        current.setExtendedInfo(STAGE_KEY, stage_id)
        self.stage_id, self._on_commit = stage_id, on_commit
        if self._watched is current:
            return
        self._watched = current
        current.addAfterCommitHook(self._ended)
        current.addAfterAbortHook(self._ended, (False,))

    def commit(self, *, note: str = "", user: str = "") -> Committed:
        """Commit the session's transaction.

        Raises ``mode_error`` in a read-only session, Conflict, CannotSave,
        StorageIOError (nothing changed) and CommitUnknown.
        """
        if self.mode_error is not None:
            raise self.mode_error
        objects = len(self.own_changes().entries) + sum(self.undoing.values())
        with translated(self.spec.text):
            if self.undoing:
                from zodbsh.db.undo import commit_undo

                commit_undo(self, note=note, user=user)
            else:
                current = self.transaction.get()
                if note:
                    current.note(note)
                if user:
                    current.user = user
                current.commit()
        return Committed(self.base_tid, objects)

    def abort(self) -> None:
        """Drop what is uncommitted from the session, silent mutations included."""
        self.undoing.clear()
        self.transaction.abort()
        self.connection.cacheMinimize()

    def close(self) -> None:
        """Drop what is uncommitted and close everything; may be called twice."""
        self.transaction.abort()
        if self.connection.opened:
            self.connection.close()
        self.db.close()
        if self._source is not None:
            self._source.close()
        self._restore_path()

    def _ended(self, committed: bool) -> None:
        on_commit, self._on_commit = self._on_commit, None
        self.stage_id = self._watched = None
        if committed and on_commit is not None:
            on_commit()

    def _loaded(self, oid: int) -> Any:
        raw = to_bytes(oid)
        obj = self.connection._cache.get(raw)
        if obj is None:
            obj = self.connection._added.get(raw)
        if obj is None:
            raise UsageError(f"object {oid:#x} is not loaded in this session")
        return obj


class SessionReadOnly(Unsupported):
    """A commit in a session that was opened read-only."""

    code = "session-read-only"
    hint = "Leave the changes staged, and `zodbsh commit` them later."


class SessionClosed(UsageError):
    """The database of the session was closed: ``db.close()``."""

    code = "session-closed"
    hint = "Leave the shell, and open it again."


class _Opened(NamedTuple):
    storage: Any
    source: Source | None
    error: ZodbshError | None
    reason: str = ""


def _open(spec: Spec, read_only: bool, at: int | None) -> _Opened:
    """Open the storage read-write, or say why not and open a snapshot of it."""
    error: ZodbshError | None = None
    reason = ""
    if at is not None:
        reason = f"as of {time_text(at)} ({tid_text(at)})"
        error = SessionReadOnly(
            f"this session shows the past ({reason}): nothing can be committed here",
            hint="`.at now` comes back to the present; `.stage` keeps changes for a later commit.",
        )
    elif read_only:
        reason = "as asked"
        error = SessionReadOnly("this session was opened with --read-only: nothing can be committed here")
    else:
        try:
            storage = open_storage(spec)
            if not storage.isReadOnly():
                return _Opened(storage, None, None)
            storage.close()
            error = SessionReadOnly("the storage is read-only")
        except (DatabaseLocked, NotWritable, NoPermission) as exc:
            error = exc
    source = open_source(spec)
    try:
        _require_as_old(source, spec, at)
    except BaseException:
        source.close()
        raise
    return _Opened(SnapshotStorage(source, MAX_ID if at is None else at, reason=error.message), source, error, reason)


def _require_as_old(source: Source, spec: Spec, at: int | None) -> None:
    """Raise ObjectNotFound where the database begins after the time that is to be looked at."""
    first = None if at is None else next(iter(source.transactions()), None)
    if at is not None and first is not None and at < first.tid:
        raise ObjectNotFound(
            f"{spec.text}: the database is not as old as {time_text(at)}",
            hint=f"Its first transaction: {tid_text(first.tid)} ({time_text(first.tid)}).",
        )


def _require_root(connection: SessionConnection, spec: Spec) -> None:
    """Raise ObjectNotFound where transactions hold no root; an empty database gets one with its first commit."""
    try:
        connection.get(z64)
    except (KeyError, ReadConflictError):
        raise ObjectNotFound(
            f"{spec.text} has no root object", hint="At the time that is looked at, or since it was deleted."
        ) from None
