"""Making changes kept as records a connection's uncommitted changes again.

They are put where a savepoint would have put them. ZODB then reads these
objects from there, commits them with the serials given here, and forgets them
on abort, all by itself and without a class being loaded now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ZODB.Connection import TmpStore
from ZODB.utils import z64

from zodbsh.db.blobs import store_blob
from zodbsh.db.changes import PROVISIONAL, Changes
from zodbsh.db.renumber import renumber
from zodbsh.ids import from_bytes, to_bytes


def prime(connection: Any, changes: Changes, *, writable: bool) -> Mapping[int, int]:
    """Put changes into a connection that has none of its own; return the new oids by provisional ones.

    New objects get oids from the storage where the session can commit; in a
    read-only one they keep their provisional oids.
    """
    assert connection._savepoint_storage is None
    assert not connection._registered_objects
    new = [entry.oid for entry in changes.entries if entry.new and entry.oid >= PROVISIONAL]
    numbers = {oid: from_bytes(connection.new_oid()) for oid in new} if writable else {}
    if not writable:
        connection._db.storage.reserve(new)
    # Renumbering may fail: nothing has been touched until here.
    entries = renumber(changes.entries, numbers)

    connection._register()
    store = TmpStore(connection._normal_storage)
    connection._storage = connection._savepoint_storage = store
    for entry in entries:
        oid = to_bytes(entry.oid)
        serial = z64 if entry.serial is None else to_bytes(entry.serial)
        if entry.blob is None:
            store.store(oid, serial, entry.data, "", None)
        else:
            store_blob(store, oid, serial, entry.data, entry.blob, None)
        if entry.new:
            store.creating[oid] = True
    connection._cache.invalidate([to_bytes(entry.oid) for entry in entries])
    connection.remember_restored()
    for read in changes.reads:
        connection._readCurrent[to_bytes(read.oid)] = to_bytes(read.serial)
    return numbers
