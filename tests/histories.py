"""Databases with a history: of linking, unlinking, changing, undoing; and what ZODB reads in them."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.FileStorage import FileIterator
from ZODB.POSException import UndoError
from ZODB.utils import u64

Record = tuple[int, int]


def records(path: Path) -> list[Record]:
    """Return (oid, tid) of every record in the file, in order, as ZODB reads them."""
    return [(u64(record.oid), u64(record.tid)) for txn in FileIterator(str(path)) for record in txn]


def contents(path: Path) -> list[tuple[int, int, bytes | None]]:
    """Return (oid, tid, data) of every record."""
    return [(u64(record.oid), u64(record.tid), record.data) for txn in FileIterator(str(path)) for record in txn]


def tids(path: Path) -> list[int]:
    return [u64(txn.tid) for txn in FileIterator(str(path))]


def random_history(path: Path, seed: int, *, packed_before: bool = False) -> None:
    """Write a history of linking, unlinking, changing and undoing."""
    rng = random.Random(seed)
    db = ZODB.DB(str(path))
    connection = db.open()
    root = connection.root()
    known = [root]
    for step in range(rng.randrange(8, 30)):
        deed = rng.random()
        try:
            if deed < 0.2 and step > 2:
                db.undo(rng.choice(db.undoInfo(0, 10))["id"])
            else:
                place = rng.choice(known)
                for key in rng.sample("abcdefgh", rng.randrange(1, 4)):
                    if deed < 0.5:
                        place[key] = PersistentMapping(x="y" * rng.randrange(50))
                        known.append(place[key])
                    elif deed < 0.7:
                        place.pop(key, None)
                    elif deed < 0.8:
                        place[key] = rng.choice(known)
                    else:
                        place["n"] = rng.random()
            transaction.commit()
        except (UndoError, KeyError, IndexError):
            transaction.abort()
        # An object whose creation was undone is no place to go on from.
        known = [obj for obj in known if obj is root or (obj._p_oid is not None and obj._p_jar is connection)]
        known = [obj for obj in known if exists(connection, obj)]
        if packed_before and step == 6:
            with suppress(KeyError):  # the creation of something still referred to was undone
                db.pack()
    connection.close()
    db.close()


def exists(connection, obj) -> bool:
    try:
        connection._storage.load(obj._p_oid)
    except KeyError:
        return False
    return True
