"""``find``'s results: which objects, in which order, at what cost."""

from __future__ import annotations

from array import array

import pytest
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.Connection import TransactionMetaData

from zodbsh.analysis.expression import parse_expression, parse_shown
from zodbsh.engine import chosen
from zodbsh.engine.columns import DELETED, MISSING
from zodbsh.ids import to_bytes
from zodbsh.ops.find import Criteria, Troubles, find
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot
from zodbsh.source.storage import StorageSource


@pytest.fixture
def snapshot(path):
    source = FileSource(str(path))
    yield Snapshot(source)
    source.close()


def oids(result):
    return [hit.oid for hit in result.hits]


def test_criteria_are_met_together(snapshot):
    """Each alone, and all."""
    where = parse_expression("balance == 10")
    assert oids(find(snapshot)) == [0, 1, 2]
    assert oids(find(snapshot, Criteria(("Account", "*.Counter")))) == [1, 2]
    assert oids(find(snapshot, Criteria(where=where))) == [1]
    assert oids(find(snapshot, Criteria(("Counter",), where=where))) == []
    assert oids(find(snapshot, Criteria(("PersistentMapping",), refers_to="0x01", larger=10))) == [0]
    assert oids(find(snapshot, Criteria(refers_to="0x01", larger=10_000))) == []


def test_more_than_so_many_bytes(snapshot):
    """An object whose record is exactly as large is not larger."""
    size = len(snapshot.load(1).data)
    assert 1 in oids(find(snapshot, Criteria(larger=size - 1)))
    assert 1 not in oids(find(snapshot, Criteria(larger=size)))


def test_a_missing_object_has_its_referrers(path):
    """Which is how one learns who still wants it."""
    storage = ZODB.FileStorage.FileStorage(str(path))
    change = TransactionMetaData()
    storage.tpc_begin(change)
    data, tid = storage.load(to_bytes(0))
    storage.store(to_bytes(0), tid, data.replace(to_bytes(2), to_bytes(0x99)), "", change)
    storage.tpc_vote(change)
    storage.tpc_finish(change)
    storage.close()
    source = FileSource(str(path))
    found = find(Snapshot(source), Criteria(refers_to="0x99"), show=parse_shown("self.counter,self.counter.value"))
    assert [(hit.oid, hit.path) for hit in found.hits] == [(0, "root")]
    (unreachable,) = find(Snapshot(source), Criteria(("Counter",))).hits
    assert unreachable.path == "0x02"
    source.close()


def test_only_what_the_columns_leave_is_decoded(snapshot, monkeypatch):
    """And only up to the limit; nothing at all where no value is asked for."""
    decoded = []
    record = Snapshot.record
    monkeypatch.setattr(Snapshot, "record", lambda self, oid: decoded.append(oid) or record(self, oid))
    where = parse_expression("balance > 1")
    assert oids(find(snapshot, Criteria(("Account",), where=where), paths=False)) == [1]
    assert decoded == [1]
    assert oids(find(snapshot, Criteria(where=parse_expression("_size > 1 and _class ~ 'Acc'")), paths=False)) == [1]
    assert len(list(find(snapshot, limit=2, paths=False).hits)) == 2
    assert decoded == [1]


def test_what_cannot_be_looked_at_is_counted(snapshot, monkeypatch):
    """The search goes on."""
    monkeypatch.setattr("zodbsh.analysis.evaluate.MAX_HOPS", 0)
    troubles = Troubles()
    where = parse_expression("self.account.balance == 10 or balance == 10")
    assert oids(find(snapshot, Criteria(where=where), on_trouble=troubles.add)) == [1]
    assert (troubles.count, troubles.first.oid) == (1, 0)


def test_a_storage_is_searched_like_a_file(bank, clean_transaction):
    """Through its iterator."""
    db = ZODB.DB(None)
    with db.transaction() as connection:
        connection.root()["m"] = PersistentMapping(x=bank.Account(3))
    source = StorageSource(db.storage, ":memory:", owned=False)
    found = find(Snapshot(source), Criteria(where=parse_expression("self['x'].balance == 3")))
    assert [(hit.class_, hit.path) for hit in found.hits] == [("persistent.mapping.PersistentMapping", "root.m")]
    db.close()


def test_selecting_takes_what_exists_of_a_wanted_class_and_size():
    """Ascending; deleted and missing objects are none."""
    classes, sizes = array("I", [0, 1, DELETED, 0, MISSING, 1]), array("Q", [10, 20, 30, 40, 0, 0])
    assert list(chosen.select(classes, sizes, b"\1\0", -1)) == [0, 3]
    assert list(chosen.select(classes, sizes, b"\1\1", -1)) == [0, 1, 3, 5]
    assert list(chosen.select(classes, sizes, b"\1\1", 0)) == [0, 1, 3]
    assert list(chosen.select(classes, sizes, b"\1\1", 20)) == [3]
    assert list(chosen.select(array("I"), array("Q"), b"", -1)) == []


def test_the_keys_of_a_mapping_are_names(tmp_path, no_fsync):
    """As attributes are, where the mapping has no attribute of that name; behind a reference, too."""
    db = ZODB.DB(str(tmp_path / "names.fs"))
    with db.transaction() as connection:
        inner = PersistentMapping(balance=5)
        connection.root()["outer"] = PersistentMapping(balance=20, inner=inner)
    db.close()
    source = FileSource(str(tmp_path / "names.fs"))
    for where, wanted in (
        ("balance > 10", ["root.outer"]),
        ("inner.balance == 5", ["root.outer"]),
        ("nothing > 1", []),
    ):
        found = find(Snapshot(source), Criteria(where=parse_expression(where)))
        assert [hit.path for hit in found.hits] == wanted
    source.close()
