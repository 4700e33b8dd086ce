"""What a connection would write, found out without touching its objects.

ZODB's own ObjectWriter gives every new object it meets an oid and a jar: asked
twice, or asked and then aborted, it leaves objects that believe to be stored.
The writer here keeps the new objects' oids in a table of its own.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from typing import Any

from persistent import Persistent
from persistent.wref import WeakRef, WeakRefMarker
from ZODB._compat import PersistentPickler, _protocol
from ZODB.blob import Blob
from ZODB.serialize import ObjectWriter
from ZODB.utils import z64
from zodbpickle import binary

from zodbsh.db.changes import PROVISIONAL, Entry, Pending, Read
from zodbsh.db.imports import UserCodeFailed, describe
from zodbsh.db.standins import PersistentStandIn, StandInError, reference_to
from zodbsh.ids import from_bytes, oid_text, to_bytes
from zodbsh.record.decode import record_class
from zodbsh.record.values import Global

_NO_OID = object()
_PERSISTENT: Any = (Persistent, type, WeakRef)
_CONTAINERS = (list, dict, set, bytearray)
BLOB_CLASS = Global("ZODB.blob", "Blob")


class CannotSave(UserCodeFailed):
    """An uncommitted object cannot be written: it, or something in it, has no record form."""

    code = "cannot-save"


class RecordWriter(ObjectWriter):  # type: ignore[misc]
    """Writes records; new objects get oids from ``first`` on, in this writer only.

    ``containers`` collects the mutable containers that each object's record
    holds, once it is a dict: container's id -> (container, ids of the owners).
    """

    def __init__(self, connection: Any, first: int = PROVISIONAL) -> None:
        super().__init__()
        self._jar = connection
        self._next = first
        self._numbers: dict[int, tuple[Any, bytes]] = {}
        self._new: deque[tuple[int, Any]] = deque()
        self.containers: dict[int, tuple[Any, set[int]]] | None = None
        self._owner = 0

    def persistent_id(self, obj: Any) -> Any:
        """Return what stands for a persistent object in a record, None for any other value."""
        if self.containers is not None and isinstance(obj, _CONTAINERS):
            self.containers.setdefault(id(obj), (obj, set()))[1].add(self._owner)
        if not isinstance(obj, _PERSISTENT):
            return None
        oid = getattr(obj, "_p_oid", _NO_OID)
        if oid is WeakRefMarker and obj.oid is None:
            target = obj()
            number = self._number(target) if target._p_oid is None else target._p_oid
            return ["w", (binary(number),)]
        if oid is not None:
            is_ours = isinstance(obj, PersistentStandIn) and obj._p_jar is self._jar
            return reference_to(self._jar, obj) if is_ours else super().persistent_id(obj)
        number = binary(self._number(obj))
        class_ = type(obj)
        return number if hasattr(class_, "__getnewargs__") else (number, class_)

    def record(self, obj: Any, oid: int) -> bytes:
        """Return an object's record; raises CannotSave."""
        self._owner = oid
        try:
            data = self.serialize(obj)
        except StandInError:
            raise
        except Exception as exc:
            what = f"{type(obj).__module__}.{type(obj).__qualname__} {oid_text(oid)}"
            part = self._culprit(obj)
            raise CannotSave(f"cannot save {what}{part}: {describe(exc)}") from exc
        assert isinstance(data, bytes)
        return data

    def _dump(self, classmeta: Any, state: Any) -> bytes:
        # A pickler that once wrote a large record takes as long to forget it before each small one.
        file = io.BytesIO()
        pickler = PersistentPickler(self.persistent_id, file, _protocol)
        pickler.dump(classmeta)
        pickler.dump(state)
        return file.getvalue()

    def new_objects(self) -> Iterator[tuple[int, Any]]:
        """Yield the new objects met since the last call, those they lead to included."""
        while self._new:
            yield self._new.popleft()

    def _number(self, obj: Any) -> bytes:
        found = self._numbers.get(id(obj))
        if found is None:
            # The table keeps the object, so that its id stays its own.
            found = self._numbers[id(obj)] = (obj, to_bytes(self._next))
            self._new.append((self._next, obj))
            self._next += 1
        return found[1]

    def _culprit(self, obj: Any) -> str:
        """Name the attribute that cannot be written, if it is one of a plain state."""
        try:
            state = obj.__getstate__()
            items = list(state.items()) if isinstance(state, dict) else []
        except Exception:  # noqa: BLE001 - the state itself is what fails
            return ""
        probe = RecordWriter(self._jar)
        for name, value in items:
            try:
                probe._dump(None, value)
            except Exception:  # noqa: BLE001 - this is the one
                return f", attribute {name!r}"
        return ""


def collect(connection: Any, base_tid: int, writer: RecordWriter | None = None) -> Pending:
    """Return a connection's uncommitted changes; neither objects nor transaction change.

    Includes what savepoints hold. Raises CannotSave, also where the transaction
    holds something besides objects (an undo), which only a commit can carry out.
    """
    manager = connection.transaction_manager.get()
    others = [resource for resource in manager._resources if resource is not connection]
    if others:
        raise CannotSave(
            f"the transaction holds more than objects ({type(others[0]).__name__})",
            hint="Commit it in the session, with transaction.commit() or --commit.",
        )
    entries = {entry.oid: entry for entry in _saved(connection)}
    writer = RecordWriter(connection, first_free(connection)) if writer is None else writer
    position = 0
    # A __getstate__ may add objects: the list grows while it is walked.
    while position < len(connection._registered_objects):
        obj = connection._registered_objects[position]
        position += 1
        added = obj._p_oid in connection._added
        if not added and not obj._p_changed:
            continue
        entry = _entry(writer, obj, from_bytes(obj._p_oid), None if added else obj._p_serial)
        if entry is not None:
            entries[entry.oid] = entry
        for oid, new in writer.new_objects():
            entries[oid] = _entry(writer, new, oid, None) or entries[oid]
    reads = (Read(from_bytes(oid), from_bytes(serial)) for oid, serial in connection._readCurrent.items())
    return Pending(base_tid, tuple(entries.values()), tuple(read for read in reads if read.oid not in entries))


def _entry(writer: RecordWriter, obj: Any, oid: int, serial: bytes | None) -> Entry | None:
    data = writer.record(obj, oid)
    base = None if serial is None or serial == z64 else from_bytes(serial)
    if not isinstance(obj, Blob):
        return Entry(oid, base, data)
    if obj.opened() and obj.writers:
        raise CannotSave(f"blob {oid_text(oid)} is still open for writing", hint="Close the file it was opened as.")
    if obj._p_blob_uncommitted is None and obj._p_blob_committed is None:
        # A blob nobody wrote to yet is an empty file as soon as it is opened.
        obj.open("r").close()
    # Marked changed, but with no new content: ZODB does not store it either.
    return Entry(oid, base, data, obj._p_blob_uncommitted) if obj._p_blob_uncommitted else None


def _saved(connection: Any) -> Iterator[Entry]:
    """Yield what savepoints of this transaction hold."""
    store = connection._savepoint_storage
    for oid in () if store is None else sorted(store.index):
        data, serial = store.load(oid)
        blob = store.loadBlob(oid, serial) if record_class(data) == BLOB_CLASS else None
        new = oid in store.creating or serial == z64
        yield Entry(from_bytes(oid), None if new else from_bytes(serial), data, blob)


def first_free(connection: Any) -> int:
    """Return the first provisional oid that nothing in this session has."""
    store = connection._savepoint_storage
    taken = [*connection._added, *(() if store is None else store.index)]
    last: int = max(connection.last_provisional, *(from_bytes(oid) for oid in taken), PROVISIONAL - 1)
    return last + 1
