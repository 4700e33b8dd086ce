"""ZODB's DB and Connection, as a session needs them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ZODB._compat import PersistentPickler, _protocol
from ZODB.Connection import Connection
from ZODB.DB import DB

from zodbsh.db.python2 import Python2Reader
from zodbsh.db.standins import ClassFinder, PersistentStandIn, reference_to
from zodbsh.ids import from_bytes

# ZConfig's default; DB()'s own 400 makes a session reload what it just showed.
_CACHE_SIZE = 5000


class SessionConnection(Connection):  # type: ignore[misc]
    """A connection that knows which object it is loading, and counts what is dirty."""

    def __init__(self, db: Any, *args: Any, **options: Any) -> None:
        super().__init__(db, *args, **options)
        if getattr(db.storage, "python2", False):
            self._reader = Python2Reader(self, self._cache, db.classFactory)

    def setstate(self, obj: Any) -> None:
        """Load an object's state, noting whose record names a class that is missing."""
        finder = self._db.finder
        before, finder.loading = finder.loading, from_bytes(obj._p_oid)
        try:
            super().setstate(obj)
        finally:
            finder.loading = before

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


class SessionDB(DB):  # type: ignore[misc]
    """A DB that finds classes through a ClassFinder and never writes on its own account."""

    klass = SessionConnection

    def __init__(self, storage: Any, finder: ClassFinder, **options: Any) -> None:
        self.finder = finder
        self._ready = False
        options.setdefault("cache_size", _CACHE_SIZE)
        super().__init__(storage, class_factory=finder.find, **options)
        self._ready = True

    def transaction(self, note: str | None = None) -> Any:
        """Execute a block as a transaction; not the one that would create a root on opening."""
        return super().transaction(note) if self._ready else _nothing()


@contextmanager
def _nothing() -> Iterator[_HasRoot]:
    yield _HasRoot()


class _HasRoot:
    def get(self, oid: bytes) -> None:
        """DB asks whether there is a root; the session sees to that, uncommitted."""
