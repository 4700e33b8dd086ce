"""Databases that ZODB makes at random, and what ZODB itself says of them."""

import random
import sys

import pytest
import transaction
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from ZODB.POSException import POSError, POSKeyError, UndoError
from ZODB.TimeStamp import TimeStamp
from ZODB.utils import p64, u64


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch):
    """ZODB's commits need not be durable here."""
    # The class hides its module's name.
    monkeypatch.setattr(sys.modules["ZODB.FileStorage.FileStorage"], "fsync", lambda _: None)


def make_history(path, seed, steps=14, *, packs=True):
    """Make a FileStorage by so many random commits, undos, deletions and packs; return it open."""
    rand = random.Random(seed)
    storage = ZODB.FileStorage.FileStorage(str(path), pack_keep_old=False)
    database = ZODB.DB(storage)
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    root = connection.root()
    tids = []
    for step in range(steps):
        action = rand.choices(["store", "undo", "remove", "delete", "pack"], [8, 4, 2, 1, 1 if packs else 0])[0]
        try:
            if action == "pack" and tids:
                database.pack(TimeStamp(p64(rand.choice(tids))).timeTime())
            elif action == "undo":
                # Without a root there is no database to go on with.
                found = [info for info in database.undoInfo(0, 6) if "initial" not in info["description"]]
                if found:
                    database.undo(rand.choice(found)["id"], manager.get())
            elif action == "remove" and len(root):
                del root[rand.choice(list(root))]
            elif action == "delete":
                delete_object(storage, rand)
            else:
                for _ in range(rand.randrange(1, 4)):
                    key = f"key {rand.randrange(6)}"
                    if key in root and rand.random() < 0.7:
                        root[key]["value"] = rand.randrange(1000)
                    else:
                        root[key] = PersistentMapping(value="x" * rand.randrange(300))
                manager.get().note(f"step {step}")
                manager.get().setUser(f"user {rand.randrange(3)}")
                if rand.random() < 0.3:
                    manager.get().setExtendedInfo("key", rand.randrange(100))
            manager.commit()
        except (POSError, UndoError, AssertionError, KeyError):
            manager.abort()
        last = u64(storage.lastTransaction())
        if not tids or tids[-1] != last:
            tids.append(last)
        connection.sync()
        root = connection.root()
    connection.close()
    return storage


def delete_object(storage, rand):
    """Delete an object that is not the root, as an external garbage collection does."""
    oids = [oid for oid in storage._index if u64(oid)]
    if oids:
        oid = rand.choice(oids)
        from ZODB.Connection import TransactionMetaData

        meta = TransactionMetaData()
        storage.tpc_begin(meta)
        try:
            storage.deleteObject(oid, storage.getTid(oid), meta)
            storage.tpc_vote(meta)
            storage.tpc_finish(meta)
        except POSError:
            storage.tpc_abort(meta)


def zodb_load(storage, oid, at):
    """Return (data, tid) as ZODB loads the object at a tid, None where it does not exist."""
    try:
        found = storage.loadBefore(p64(oid), p64(at + 1))
    except POSKeyError:
        return None
    return None if found is None else (found[0], u64(found[1]))


def zodb_history(storage, oid):
    """Return [(tid, data)] newest first as ZODB gives an object's history."""
    revisions = []
    for entry in storage.history(p64(oid), size=1000):
        try:
            data = storage.loadSerial(p64(oid), entry["tid"])
        except POSKeyError:
            data = None
        revisions.append((u64(entry["tid"]), data))
    return revisions


def zodb_transactions(storage):
    """Return every transaction with its records as ZODB's iterator gives them."""
    iterator = storage.iterator()
    found = [
        (
            u64(entry.tid), entry.status, entry.user, entry.description, entry.extension_bytes,
            [(u64(r.oid), u64(r.tid), r.data, u64(r.data_txn) if r.data_txn else None) for r in entry],
        )
        for entry in iterator
    ]  # fmt: skip
    iterator.close()
    return found


class Witness:
    """What ZODB says; handed to tests as one object."""

    make_history = staticmethod(make_history)
    load = staticmethod(zodb_load)
    history = staticmethod(zodb_history)
    transactions = staticmethod(zodb_transactions)


@pytest.fixture
def witness():
    return Witness
