"""ZODB's DB and Connection, as a session needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from persistent.mapping import PersistentMapping
from ZODB._compat import PersistentPickler, _protocol
from ZODB.Connection import Connection
from ZODB.DB import DB
from ZODB.POSException import POSKeyError, ReadConflictError
from ZODB.utils import z64

from zodbsh.db.python2 import Python2Reader
from zodbsh.db.standins import ClassFinder, PersistentStandIn, reference_to
from zodbsh.ids import from_bytes

# ZConfig's default; DB()'s own 400 makes a session reload what it just showed.
_CACHE_SIZE = 5000


class SessionConnection(Connection):  # type: ignore[misc]
    """A connection that knows which object it is loading, and counts what is dirty."""

    def __init__(self, db: Any, *args: Any, **options: Any) -> None:
        super().__init__(db, *args, **options)
        self._restored: tuple[Any, dict[bytes, int]] = None, {}
        if getattr(db.storage, "python2", False):
            self._reader = Python2Reader(self, self._cache, db.classFactory)

    def setstate(self, obj: Any) -> None:
        """Load an object's state, noting whose record names a class that is missing."""
        finder = self._db.finder
        if obj._p_oid == z64 and self.lacks_root():
            obj.__setstate__({"data": {}})
            obj._p_serial = z64
            return
        before, finder.loading = finder.loading, from_bytes(obj._p_oid)
        try:
            super().setstate(obj)
        finally:
            finder.loading = before

    def lacks_root(self) -> bool:
        """Tell whether there is no root yet: the database has no transaction, and no savepoint holds one."""
        saved = self._savepoint_storage is not None and z64 in self._savepoint_storage.index
        return not saved and (self._db.lastTransaction() or z64) == z64

    def get(self, oid: bytes) -> Any:
        """Return an object; an empty database's root is a mapping that becomes a change with what is put into it."""
        try:
            return super().get(oid)
        except (POSKeyError, ReadConflictError):
            if oid != z64 or not self.lacks_root():
                raise
        root = PersistentMapping.__new__(PersistentMapping)
        self._cache.new_ghost(z64, root)
        return root

    def add(self, obj: Any) -> None:
        """Add an object; the first commit of a database holds its root too."""
        super().add(obj)
        if self.lacks_root():
            self.get(z64)._p_changed = True

    def _store_objects(self, writer: Any, transaction: Any) -> None:
        """Store objects; references to stand-ins keep their class."""

        def persistent_id(obj: Any) -> Any:
            if isinstance(obj, PersistentStandIn) and obj._p_jar is self:
                return reference_to(self, obj)
            return writer.persistent_id(obj)

        writer._p = PersistentPickler(persistent_id, writer._file, _protocol)
        super()._store_objects(writer, transaction)

    @property
    def last_provisional(self) -> int:
        """The last provisional oid that a read-only session's storage gave out, 0 without any."""
        return getattr(self._db.storage, "last_provisional", 0)

    def dirty_count(self) -> int:
        """Count the objects registered as changed or added, and those in savepoints."""
        oids = {obj._p_oid for obj in self._registered_objects if obj._p_changed or obj._p_oid in self._added}
        if self._savepoint_storage is not None:
            oids.update(self._savepoint_storage.index)
        return len(oids)

    def remember_restored(self) -> None:
        """Note that what the savepoint's store holds now is on disk as a stage, too."""
        store = self._savepoint_storage
        self._restored = store, dict(store.index)

    def droppable_count(self) -> int:
        """Count what ``dirty_count`` does, less what is on disk as a stage."""
        store, restored = self._restored
        if store is None or store is not self._savepoint_storage:
            return self.dirty_count()
        changed = {obj._p_oid for obj in self._registered_objects if obj._p_changed or obj._p_oid in self._added}
        changed.update(oid for oid, position in store.index.items() if restored.get(oid) != position)
        return len(changed)


class SessionDB(DB):  # type: ignore[misc]
    """A DB that finds classes through a ClassFinder and never writes on its own account.

    The user's code may close it, as most scripts do at their end: ``closed`` then,
    and ``dropped`` counts the uncommitted objects that went with it.
    """

    klass = SessionConnection
    closed = False
    dropped = 0

    def __init__(self, storage: Any, finder: ClassFinder, **options: Any) -> None:
        self.finder = finder
        self._ready = False
        options.setdefault("cache_size", _CACHE_SIZE)
        super().__init__(storage, class_factory=finder.find, **options)
        self._ready = True

    def transaction(self, note: str | None = None) -> Any:
        """Execute a block as a transaction; not the one that would create a root on opening."""
        return super().transaction(note) if self._ready else _nothing()

    def close(self) -> None:
        """Close the database and its storage, dropping what is uncommitted; may be called twice."""
        if not self.closed:
            self._last_tid = super().lastTransaction()
            counts: list[int] = []
            self._connectionMap(lambda connection: counts.append(connection.droppable_count()))
            self.dropped = sum(counts)
            self.closed = True
        super().close()

    def lastTransaction(self) -> bytes:  # noqa: N802 - ZODB's name
        """Return the storage's last tid; of a closed one, what it was then."""
        last: bytes = self._last_tid if self.closed else super().lastTransaction()
        return last


@contextmanager
def _nothing() -> Iterator[_HasRoot]:
    yield _HasRoot()


class _HasRoot:
    def get(self, oid: bytes) -> None:
        """DB asks whether there is a root; the session sees to that, uncommitted."""
