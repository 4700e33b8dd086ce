"""What the tests of recover share: a small database, damage to it, and what ZODB reads of the result."""

import struct

import transaction
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from ZODB.utils import u64

from zodbsh.db.spec import Spec
from zodbsh.ops.recovery.recover import recover

HEADER, RECORD = struct.Struct(">QQcHHH"), struct.Struct(">QQQQHQ")


def make_database(path):
    """Root with a, b, c; a changed twice, b once; the last change of a undone."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(path))
    with db.transaction("begin") as connection:
        for name in "abc":
            connection.root()[name] = PersistentMapping(text=name * 100)
    for step in range(2):
        with db.transaction(f"change {step}") as connection:
            connection.root()["a"]["step"] = step
    with db.transaction("b") as connection:
        connection.root()["b"]["step"] = "b"
    manager = transaction.TransactionManager()
    db.undo(db.undoInfo(1, 2)[0]["id"], manager.get())
    manager.commit()
    db.close()


class Place:
    """Where the transactions and records of a sound file are."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = bytearray(file.read())
        self.starts, self.records = [], []
        at = 4
        while at < len(self.data):
            _, length, _, *texts = HEADER.unpack_from(self.data, at)
            place = at + 23 + sum(texts)
            found = []
            while place < at + length:
                oid, _, _, _, _, size = RECORD.unpack_from(self.data, place)
                found.append((place, oid, size))
                place += 42 + (size or 8)
            self.starts.append(at)
            self.records.append(found)
            at += length + 8

    def record(self, number, oid):
        return next(place for place, found, _ in self.records[number] if found == oid)


def save(path, data):
    with open(path, "wb") as file:
        file.write(data)


def run(path, out=None, **options):
    with open(path, "rb") as file:
        before = file.read()
    result = recover(Spec(path, "file", path=path), out or f"{path}.new", **options)
    with open(path, "rb") as file:
        assert file.read() == before
    return result


def contents(path):
    """Return what ZODB reads: by tid, status, user, description and records."""
    storage = ZODB.FileStorage.FileStorage(path, read_only=True)
    found = [
        (u64(one.tid), one.status, one.user, one.description, {u64(record.oid): record.data for record in one})
        for one in storage.iterator()
    ]
    storage.close()
    return found


def oid_of(path, name):
    storage = ZODB.FileStorage.FileStorage(path, read_only=True)
    db = ZODB.DB(storage)
    with db.transaction() as connection:
        oid = u64(connection.root()[name]._p_oid)
    db.close()
    return oid


def records(path):
    """Return (oid, data) of each transaction's records, as ZODB reads them."""
    storage = ZODB.FileStorage.FileStorage(path, read_only=True)
    found = [[(u64(record.oid), record.data) for record in one] for one in storage.iterator()]
    storage.close()
    return found
