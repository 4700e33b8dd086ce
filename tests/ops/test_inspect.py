"""``inspect``'s results: what a database is, what an object is."""

import sys
import types

import persistent
import pytest
import transaction
import ZODB
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping
from ZODB.MappingStorage import MappingStorage

from zodbsh.analysis.records import BrokenRecord
from zodbsh.analysis.target import TargetNotFound
from zodbsh.errors import ObjectNotFound
from zodbsh.ops.inspect import inspect, raw_record
from zodbsh.ops.overview import RootEntry, overview
from zodbsh.record.values import Dict
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot
from zodbsh.source.storage import StorageSource


@pytest.fixture
def account(monkeypatch):
    """A module with a persistent class and a plain one, importable while the database is written."""
    module = types.ModuleType("account")
    module.Account = type("Account", (persistent.Persistent,), {"__module__": "account"})
    module.Money = type("Money", (), {"__module__": "account"})
    monkeypatch.setitem(sys.modules, "account", module)
    return module


def fill(db, account):
    """Two transactions: a root with a tree of 200 accounts, then one changed."""
    with db.transaction() as connection:
        root = connection.root()
        accounts = [account.Account() for _ in range(200)]
        for number, one in enumerate(accounts):
            one.balance, one.next = number, accounts[number - 1] if number else None
        accounts[7].limit = account.Money()
        accounts[7].limit.amount = 5
        accounts[7].tags = {"b", "a"}
        accounts[7].log = PersistentList(["x", "y"])
        root["accounts"] = OOBTree({f"account-{number:03}": one for number, one in enumerate(accounts)})
        root["names"] = OOTreeSet(["c", "a", "b"])
        root["config"] = PersistentMapping({"rate": 0.5, "nested": [1, [2]]})
        root["version"] = 3
    with db.transaction() as connection:
        connection.root()["accounts"]["account-007"].balance = 700
    transaction.abort()


@pytest.fixture(params=["file", "storage"])
def snapshot(request, tmp_path, account):
    """The same database as a file read by zodbsh, and as a storage opened by ZODB."""
    storage = str(tmp_path / "my.fs") if request.param == "file" else MappingStorage()
    db = ZODB.DB(storage)
    fill(db, account)
    if request.param == "file":
        db.close()
    source = FileSource(storage) if request.param == "file" else StorageSource(storage, ":memory:")
    yield Snapshot(source)
    source.close()


def oid_of(snapshot, target):
    return inspect(snapshot, target).oid


def test_an_overview_counts_and_lists_the_root(snapshot):
    """Counts of the whole database, the root's entries in its order, embedded values among them."""
    found = overview(snapshot)
    census = found.census
    assert (census.transactions, census.records, census.objects) == (
        3,
        census.objects + 2,
        200 + 1 + 1 + 1 + 1 + 1 + 13,
    )
    assert [(entry.key, entry.class_) for entry in found.root] == [
        ("accounts", "BTrees.OOBTree.OOBTree"), ("names", "BTrees.OOBTree.OOTreeSet"),
        ("config", "persistent.mapping.PersistentMapping"), ("version", "int"),
    ]  # fmt: skip
    assert found.root[3] == RootEntry("version", None, "int", None)
    assert found.root[2].bytes == len(snapshot.load(found.root[2].oid).data)
    assert (found.root_more, found.root_trouble, found.past) == (0, None, False)
    assert (overview(snapshot, limit=1).root, overview(snapshot, limit=1).root_more) == (found.root[:1], 3)


def test_an_overview_of_the_past_counts_what_was_there(snapshot):
    """At the first transaction there is an empty root, and the second is not counted."""
    first = next(snapshot.source.transactions())
    found = overview(Snapshot(snapshot.source, first.tid))
    assert (found.past, found.tid, found.root, found.census.transactions) == (True, first.tid, (), 1)


def test_a_database_without_a_root_has_an_overview(tmp_path):
    """The counts are shown, and why the root is not."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)
    data, _ = db.storage.load(b"\0" * 8)
    db.close()
    with open(path, "rb+") as file:
        content = file.read()
        place = content.index(data)
        file.seek(place)
        file.write(b"\xff")
    found = overview(Snapshot(FileSource(path)))
    assert found.root == ()
    assert found.root_trouble == (
        "the record of 0x00 cannot be decoded: byte 0xff is no instruction (at byte 0 of the record)"
    )  # fmt: skip
    assert found.census.objects == 1


def test_an_object_is_shown_with_its_attributes_and_references(snapshot):
    """Class, transaction, size, attributes as they are stored, what is embedded, where the references lead."""
    found = inspect(snapshot, "root.accounts['account-007']")
    assert (found.class_, found.path, found.embedded) == ("account.Account", "root.accounts['account-007']", False)
    assert found.revision.tid == snapshot.tid
    assert found.bytes == len(snapshot.load(found.oid).data)
    nodes = {node.entry.key: node for node in found.inside.attributes}
    assert {name: node.class_ for name, node in nodes.items()} == {
        "balance": "int", "next": "account.Account", "limit": "account.Money", "tags": "set",
        "log": "persistent.list.PersistentList",
    }  # fmt: skip
    assert nodes["balance"].entry.value == 700
    assert {name for name, node in nodes.items() if node.embedded} == {"limit", "tags"}
    assert nodes["next"].oid == oid_of(snapshot, "root.accounts['account-006']")
    assert [(link.step, link.class_, link.exists) for link in found.links] == [
        (".next", "account.Account", True), (".log", "persistent.list.PersistentList", True),
    ]  # fmt: skip


def test_an_object_of_the_past_is_shown_as_it_was(snapshot):
    """The revision current at that time, not the newest."""
    past = Snapshot(snapshot.source, snapshot.tid - 1)
    [balance] = [
        node.entry.value
        for node in inspect(past, "root.accounts['account-007']").inside.attributes
        if node.entry.key == "balance"
    ]
    assert balance == 7


def test_a_btree_is_one_mapping(snapshot):
    """Items across buckets in order, the first N, and the exact count of the others; its nodes are no references."""
    found = inspect(snapshot, "root.accounts", limit=3)
    content = found.inside.content
    assert (content.kind, content.more, content.exact) == ("tree", 197, True)
    assert [node.entry.step for node in found.inside.items] == [f"['account-00{number}']" for number in range(3)]
    assert (found.links, found.nodes > 10) == ((), True)
    everything = inspect(snapshot, "root.accounts").inside
    assert [node.entry.key for node in everything.items] == [f"account-{number:03}" for number in range(200)]
    assert everything.content.more == 0


def test_a_tree_set_and_a_persistent_list_show_members(snapshot):
    """Members of a set in order, items of a list by index."""
    names = inspect(snapshot, "root.names").inside
    assert (names.content.kind, [node.entry.value for node in names.items]) == ("set", ["a", "b", "c"])
    log = inspect(snapshot, "/accounts/account-007/log").inside
    assert [(node.entry.step, node.entry.value) for node in log.items] == [("[0]", "x"), ("[1]", "y")]
    assert log.attributes == ()


def test_an_embedded_value_says_in_which_record_it_lies(snapshot):
    """The record's oid and size, the owner's path; references are those within the value."""
    found = inspect(snapshot, "root.config['nested'][1]")
    assert (found.embedded, found.value, found.class_) == (True, [2], "list")
    assert (found.oid, found.owner_path) == (oid_of(snapshot, "root.config"), "root.config")
    limit = inspect(snapshot, "root.accounts['account-007'].limit")
    assert [(node.entry.key, node.entry.value) for node in limit.inside.attributes] == [("amount", 5)]
    assert limit.links == ()


def test_depth_opens_what_is_inside(snapshot):
    """Referenced and embedded objects level by level; an object above itself is not opened again."""
    found = inspect(snapshot, "root.accounts['account-002']", depth=3)
    [one] = [node for node in found.inside.attributes if node.entry.key == "next"]
    [zero] = [node for node in one.inside.attributes if node.entry.key == "next"]
    assert [(node.entry.key, node.entry.value) for node in zero.inside.attributes] == [("balance", 0), ("next", None)]
    shallow = inspect(snapshot, "root.accounts['account-002']", depth=2).inside.attributes
    assert [node.inside.attributes[1].inside for node in shallow if node.entry.key == "next"] == [None]


def test_depth_ends_at_cycles(tmp_path, account):
    """Two objects that refer to each other are opened once each."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)
    with db.transaction() as connection:
        one, other = account.Account(), account.Account()
        one.other, other.other = other, one
        connection.root()["one"] = one
    db.close()
    found = inspect(Snapshot(FileSource(path)), "root.one", depth=50)
    [back] = found.inside.attributes[0].inside.attributes
    assert (back.inside, back.note) == (None, f"see 0x{found.oid:02x} above")


def test_an_object_given_by_its_oid_has_its_path(snapshot):
    """The path from the root is found; a bucket says of which tree it is a part."""
    oid = oid_of(snapshot, "root.accounts['account-007'].log")
    assert inspect(snapshot, f"{oid}").path == "root.accounts['account-007'].log"
    assert inspect(snapshot, f"0x{oid:02x}[1]").path == "root.accounts['account-007'].log[1]"
    bucket = inspect(snapshot, "root.accounts['account-007'].balance")
    assert inspect(snapshot, str(bucket.oid)).path == "root.accounts['account-007']"
    node = next(ref.oid for ref in inspect(snapshot, "root.accounts").record.references)
    assert (inspect(snapshot, str(node)).part_of, inspect(snapshot, str(node)).path) == (
        "root.accounts",
        f"0x{node:02x}",
    )


def test_a_raw_record_is_its_bytes(snapshot):
    """By path and by oid, of an embedded value those of the record it lies in."""
    whole = raw_record(snapshot, "root.config")
    assert whole.data == snapshot.load(whole.oid).data
    assert raw_record(snapshot, "root.config['nested']").data == whole.data
    assert raw_record(snapshot, str(whole.oid)).data == whole.data


def test_what_is_not_there_is_an_error(snapshot):
    """A key, an oid, a time before the database: each is not found."""
    with pytest.raises(TargetNotFound, match=r"root\.accounts has no key 'account-7'"):
        inspect(snapshot, "root.accounts['account-7']")
    with pytest.raises(ObjectNotFound, match="no object 0xffff in "):
        inspect(snapshot, "0xffff")
    with pytest.raises(ObjectNotFound, match="no root object at this time"):
        inspect(Snapshot(snapshot.source, 1), "root")


def test_a_broken_record_can_be_had_raw(tmp_path, account):
    """What cannot be decoded says where, and its bytes are given all the same."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)
    fill(db, account)
    db.close()
    source = FileSource(path)
    oid = oid_of(Snapshot(source), "root.config")
    data = Snapshot(source).load(oid).data
    source.close()
    with open(path, "rb+") as file:
        file.seek(file.read().index(data) + len(data) - 1)
        file.write(b"\xfe")
    broken = Snapshot(FileSource(path))
    with pytest.raises(BrokenRecord) as caught:
        inspect(broken, "root.config['rate']")
    assert (caught.value.oid, caught.value.offset) == (oid, len(data) - 1)
    assert raw_record(broken, "root.config").data == data[:-1] + b"\xfe"
    assert inspect(broken, "root").inside.items[2].entry.key == "config"


def test_dicts_in_mappings_keep_their_order(snapshot):
    """What is shown of a mapping is in the record's order."""
    found = inspect(snapshot, "root.config")
    assert isinstance(found.record.state, Dict)
    assert [node.entry.key for node in found.inside.items] == ["rate", "nested"]
