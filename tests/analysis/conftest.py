"""A database written by ZODB, and a snapshot that is made of records in memory."""

import sys
import types

import persistent
import pytest
import transaction
import ZODB
from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping

from zodbsh.errors import ObjectNotFound
from zodbsh.record.decode import RecordError, class_text
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot


class FakeSnapshot:
    """A snapshot of decoded records; what is a string in their place is the reason why it cannot be decoded."""

    tid = 1

    def __init__(self, records):
        self.records = records

    def record(self, oid):
        if oid not in self.records:
            raise ObjectNotFound(f"no object {oid}")
        found = self.records[oid]
        if isinstance(found, str):
            raise RecordError(7, found)
        return found

    def class_of(self, oid):
        return class_text(self.records[oid].class_) if oid in self.records else None


@pytest.fixture
def fake():
    return FakeSnapshot


@pytest.fixture
def people(monkeypatch):
    """A module with persistent and plain classes, importable while the database is written."""
    module = types.ModuleType("people")
    module.Person = type("Person", (persistent.Persistent,), {"__module__": "people"})
    module.Address = type("Address", (), {"__module__": "people"})
    module.Folder = type("Folder", (persistent.Persistent,), {"__module__": "people"})
    monkeypatch.setitem(sys.modules, "people", module)
    return module


@pytest.fixture
def store(tmp_path):
    """Write the keys and values of a dict into a new root, and return a snapshot of the file."""
    sources = []

    def write(content):
        path = tmp_path / f"my{len(sources)}.fs"
        db = ZODB.DB(str(path))
        with db.transaction() as connection:
            connection.root().update(content)
        db.close()
        transaction.abort()
        sources.append(FileSource(str(path)))
        return Snapshot(sources[-1])

    yield write
    for source in sources:
        source.close()


@pytest.fixture
def world(store, people):
    """A root with everything a path may lead through."""
    ada = people.Person()
    ada.name, ada.address, ada.tags = "Ada", people.Address(), {"maths", "engine"}
    ada.address.street = "St James's Square"
    setattr(ada, "front-page", PersistentList([1]))
    folder = people.Folder()
    folder._tree = OOBTree({"doc": people.Person(), "7": 7})
    return store({
        "accounts": OOBTree({f"account-{number}": ada if number == 1 else number for number in range(1, 200)}),
        "ada": ada,
        "config": PersistentMapping({"x": [10, {"deep": (1, 2, 3)}], "data": "a key called data"}),
        "class": "a keyword",
        "not an identifier": PersistentList([ada, "b", "c"]),
        "folder": folder,
        "numbers": IOBTree({number: str(number) for number in range(-500, 500, 5)}),
        "set": OOTreeSet(["a", "b"]),
        "odd": PersistentMapping({
            ("a", 1): PersistentMapping(), b"raw": PersistentMapping(), None: PersistentMapping(),
            2.5: PersistentMapping(), True: PersistentMapping(), -3: PersistentMapping(),
            "it's \"so\"\n": PersistentMapping(), float("inf"): PersistentMapping(), str: PersistentMapping(),
        }),
    })  # fmt: skip
