"""Random histories written by ZODB, and random damage to their bytes, so that a test knows what is left of them."""

from __future__ import annotations

import contextlib
import os
import random
import struct
from typing import NamedTuple

import transaction
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.POSException import POSError, UndoError
from ZODB.serialize import referencesf
from ZODB.utils import p64, u64

HEADER, RECORD = struct.Struct(">QQcHHH"), struct.Struct(">QQQQHQ")


class Record(NamedTuple):
    """A record as it was written: ``data`` is what it holds or points back to, None where it deletes."""

    start: int
    end: int
    oid: int
    tid: int
    data: bytes | None
    back: int
    length: int
    transaction: int


class Made(NamedTuple):
    """A file's bytes, its records by position, and its transactions by position: tid, first record, end."""

    data: bytes
    records: dict
    transactions: dict


def read(data):
    """Take a sound file apart."""
    records, transactions, at = {}, {}, 4
    while at < len(data):
        tid, length, _, user, description, extension = HEADER.unpack_from(data, at)
        place, end = at + 23 + user + description + extension, at + length
        transactions[at] = tid, place, end + 8
        while place < end:
            oid, _, _, start, _, size = RECORD.unpack_from(data, place)
            back = 0
            if size:
                content = data[place + 42 : place + 42 + size]
            else:
                (back,) = struct.unpack_from(">Q", data, place + 42)
                content = records[back].data if back else None
            following = place + 42 + (size or 8)
            records[place] = Record(place, following, oid, tid, content, back, size, start)
            place = following
        at = end + 8
    return Made(data, records, transactions)


def history(path, dice, *, steps=12, blobs=None):
    """Write a random history of a small database: changes, undo, deletions, packs, blobs, small and large records."""
    storage = ZODB.FileStorage.FileStorage(path, blob_dir=blobs)
    database = ZODB.DB(storage)
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    root = connection.root()
    for number in range(dice.randint(1, 4)):
        root[f"m{number}"] = PersistentMapping()
    _commit(manager, dice)
    for _ in range(dice.randint(1, steps)):
        # What an undo or a deletion has taken away is missed by some of what comes later.
        with contextlib.suppress(POSError):
            _step(storage, database, manager, root, dice, blobs)
        manager.abort()
        connection.sync()
    connection.close()
    database.close()
    for suffix in (".index", ".lock", ".tmp", ".old"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
    with open(path, "rb") as file:
        return read(file.read())


def _step(storage, database, manager, root, dice, blobs):
    kind = dice.random()
    if kind < 0.15:
        _undo(database, manager, dice)
    elif kind < 0.22:
        _delete(storage, root, dice)
    elif kind < 0.25:
        storage.pack(2e9, referencesf, gc=False)
    else:
        for _ in range(dice.choice((1, 1, 2, 5, 20))):
            _change(root, dice, blobs)
        _commit(manager, dice)


def _commit(manager, dice):
    if dice.random() < 0.3:
        manager.get().note("n" * dice.choice((1, 30, 300)))
        manager.get().setUser("somebody")
        manager.get().setExtendedInfo("what", dice.random())
    manager.commit()


def _change(root, dice, blobs):
    target = root
    for _ in range(dice.randint(0, 3)):
        inner = [value for value in target.values() if isinstance(value, PersistentMapping)]
        if not inner:
            break
        target = dice.choice(inner)
    kind = dice.random()
    key = f"k{dice.randint(0, 8)}"
    if kind < 0.4:
        target[key] = dice.randbytes(dice.choice((0, 3, 40, 300, 3000, 20000)))
    elif kind < 0.7:
        target[key] = PersistentMapping(a=dice.random())
    elif kind < 0.8 and blobs:
        target[key] = Blob(dice.randbytes(50))
    elif target is not root and target:
        target.pop(dice.choice(sorted(target)))
    else:
        target[key] = "text" * dice.randint(0, 50)


def _undo(database, manager, dice):
    infos = database.undoInfo(0, 10)
    if not infos:
        return
    try:
        database.undo(dice.choice(infos)["id"], manager.get())
        manager.commit()
    except (UndoError, POSError, KeyError):
        manager.abort()


def _delete(storage, root, dice):
    """Let an object cease to exist that is still referred to, as a garbage collector in error does."""
    found = [value for value in root.values() if isinstance(value, PersistentMapping) and value._p_oid]
    if not found:
        return
    oid = dice.choice(found)._p_oid
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    try:
        storage.deleteObject(oid, storage.load(oid)[1], meta)
        storage.tpc_vote(meta)
        storage.tpc_finish(meta)
    except POSError:
        storage.tpc_abort(meta)


__all__ = ["Made", "Record", "history", "p64", "random", "read", "u64"]
