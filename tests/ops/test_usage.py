"""``usage``'s results, with plain ZODB as the witness of sizes and of what a pack frees."""

import os
import random

import pytest
import transaction
import ZODB
import ZODB.blob
import ZODB.FileStorage
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZODB.Connection import TransactionMetaData
from ZODB.utils import get_pickle_metadata, p64, u64

from zodbsh.engine.columns import TransactionRow
from zodbsh.ids import ROOT_OID
from zodbsh.ops.growth import growth_by_month, growth_by_user, largest_transactions
from zodbsh.ops.usage import ClassesUsage, Garbage, PathsUsage, tool_usage, usage_by_class, usage_by_path
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot
from zodbsh.source.storage import StorageSource
from zodbsh.times import TidRange, parse_time, tid_time

EVERYTHING = 10_000


@pytest.fixture(autouse=True)
def quick(no_fsync, clean_transaction):
    """Nothing need be durable."""


def history(path, seed, steps=30):
    """Write random objects that share one another, some of them in a BTree; returns the open database."""
    rand = random.Random(seed)
    database = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    for step in range(steps):
        with database.transaction(f"step {step}") as connection:
            transaction.get().setUser(f"user{rand.randrange(3)}")
            root = connection.root()
            tree = root.setdefault("tree", OOBTree())
            known = [*root.values(), *tree.values()]
            known = [found for found in known if isinstance(found, PersistentMapping)]
            made = PersistentMapping(text="x" * rand.randrange(200))
            (tree if rand.random() < 0.6 else root)[f"key {rand.randrange(40)}"] = made
            for holder in rand.sample(known, min(len(known), 2)):
                made[f"to {rand.randrange(3)}"] = holder
            for number in range(rand.randrange(60)):
                made[number] = PersistentMapping(n=number) if number % 7 == 0 else None
                tree[f"plain {rand.randrange(500)}"] = number
    return database


def current(database):
    """Return the data of every object that exists, by oid."""
    found = {}
    for trans in database.storage.iterator():
        for record in trans:
            if record.data is None:
                found.pop(u64(record.oid), None)
            else:
                found[u64(record.oid)] = record.data
    return found


def usage(path, function=usage_by_class, **options):
    source = FileSource(str(path))
    try:
        return function(Snapshot(source), **options)
    finally:
        source.close()


def by_path(path, depth=1):
    return usage(path, usage_by_path, depth=depth, top=EVERYTHING)


@pytest.mark.parametrize("seed", range(4))
def test_classes_and_what_a_pack_frees_are_zodb_s(tmp_path, seed):
    """Objects and bytes by class are what ZODB's records say, old and garbage what its pack takes away."""
    path = tmp_path / "my.fs"
    database = history(path, seed)
    with database.transaction() as connection:
        connection.root()["gone"] = PersistentMapping(more=PersistentMapping())
    with database.transaction() as connection:
        del connection.root()["gone"]
    now = current(database)
    written = [record.data for trans in database.storage.iterator() for record in trans]
    found = usage(path)
    expected = {}
    for data in now.values():
        row = expected.setdefault(".".join(get_pickle_metadata(data)), [0, 0])
        row[0] += 1
        row[1] += len(data)
    assert {row.class_: [row.objects, row.bytes] for row in found.classes} == expected
    assert [row.bytes for row in found.classes] == sorted((row.bytes for row in found.classes), reverse=True)
    assert sum(row.old_records for row in found.classes) == len(written) - len(now)
    assert sum(row.old_bytes for row in found.classes) == sum(map(len, written)) - sum(map(len, now.values()))
    database.pack()
    left = current(database)
    assert found.garbage == Garbage(
        len(now) - len(left), sum(map(len, now.values())) - sum(map(len, left.values())), 0
    )  # fmt: skip
    assert found.garbage.objects > 0
    database.close()
    assert usage(path).garbage == Garbage(0, 0, 0)


def forget(database, oid):
    """Take away every reference to an object; returns what a pack then takes away: objects, bytes."""
    before = current(database)
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    for holder in before:
        found = connection.get(p64(holder))
        if isinstance(found, PersistentMapping | OOBTree) and not type(found).__name__.endswith("Bucket"):
            for key, value in list(found.items()):
                if getattr(value, "_p_oid", None) == p64(oid):
                    found[key] = None
    manager.commit()
    connection.close()
    database.pack()
    after = current(database)
    gone = before.keys() - after.keys()
    return len(gone), sum(len(before[oid]) for oid in gone)


@pytest.mark.parametrize("seed", range(6))
def test_retained_is_what_a_pack_frees_when_nothing_refers_to_it_any_more(tmp_path, seed):
    """Objects and bytes, for entries at any level, shared ones among them."""
    path = tmp_path / "my.fs"
    database = history(path, seed, steps=20)
    database.pack()
    database.close()
    entries = by_path(path, depth=EVERYTHING).entries
    picked = [entry for entry in entries if entry.oid != ROOT_OID and not entry.internal]
    large = sorted(picked, key=lambda entry: -entry.retained_objects)[:4]
    for number, entry in enumerate([*large, *random.Random(seed).sample(picked, 3)]):
        copy = tmp_path / f"copy{number}.fs"
        copy.write_bytes(path.read_bytes())
        database = ZODB.DB(str(copy))
        assert forget(database, entry.oid) == (entry.retained_objects, entry.retained_bytes), entry
        database.close()
    assert any(entry.retained_objects > 1 for entry in large[1:])


@pytest.mark.parametrize("seed", range(3))
def test_every_reachable_object_counts_once(tmp_path, seed):
    """All levels together: own bytes add up to what the root retains, and each object is where its dominator is."""
    path = tmp_path / "my.fs"
    history(path, seed).close()
    entries = by_path(path, depth=EVERYTHING).entries
    root = entries[0]
    assert (root.path, root.depth) == ("root", 0)
    assert sum(entry.bytes for entry in entries) == root.retained_bytes
    assert len({entry.oid for entry in entries}) == len(entries)
    garbage = usage(path).garbage
    size = os.path.getsize(path)
    assert root.retained_bytes + garbage.bytes == sum(row.bytes for row in usage(path).classes) < size
    last = None
    for entry in entries:
        assert last is None or entry.depth <= last.depth + 1
        last = entry


def test_a_btree_s_nodes_are_the_tree(tmp_path):
    """Its entries are the values, its own bytes those of all its nodes."""
    path = tmp_path / "my.fs"
    database = ZODB.DB(str(path))
    with database.transaction() as connection:
        tree = connection.root()["tree"] = OOBTree({number: PersistentMapping() for number in range(10_000)})
        tree[77]["big"] = "x" * 1000
    now = current(database)
    sizes = [len(data) for data in now.values() if get_pickle_metadata(data)[0] == "BTrees.OOBTree"]
    assert {get_pickle_metadata(data)[1] for data in now.values()} == {"OOBTree", "OOBucket", "PersistentMapping"}
    database.close()
    found = usage(path, usage_by_path, depth=2, top=3).entries
    assert [(entry.path, entry.depth) for entry in found] == [
        ("root", 0), ("root.tree", 1), ("root.tree[77]", 2), *((entry.path, 2) for entry in found[3:]),
    ]  # fmt: skip
    assert (found[1].bytes, found[1].more, found[1].retained_objects) == (sum(sizes), 9_997, len(now) - 1)
    assert (
        found[1].more_bytes + sum(entry.retained_bytes for entry in found[2:]) + sum(sizes) == found[1].retained_bytes
    )
    shallow = usage(path, usage_by_path, depth=1, top=3).entries
    assert (shallow[1].bytes, shallow[1].more) == (sum(sizes), 0)


def test_a_shared_object_counts_where_its_ways_join(tmp_path):
    """What two entries refer to belongs to neither; what one of them has alone belongs to it."""
    path = tmp_path / "my.fs"
    database = ZODB.DB(str(path))
    with database.transaction() as connection:
        shared = PersistentMapping(text="x" * 500)
        connection.root()["a"] = PersistentMapping(shared=shared, own=PersistentMapping(text="y" * 300))
        connection.root()["b"] = PersistentMapping(shared=shared)
    database.close()
    found = {entry.path: (entry.depth, entry.retained_objects) for entry in by_path(path, depth=2).entries}
    shared_path = min(found.keys() & {"root.a['shared']", "root.b['shared']"})
    assert found == {"root": (0, 5), shared_path: (1, 1), "root.a": (1, 2), "root.b": (1, 1), "root.a['own']": (2, 1)}


def test_a_blob_s_file_counts_for_it(tmp_path):
    """The current revision's file, not an old one's."""
    path, folder = tmp_path / "my.fs", tmp_path / "my.fs.blobs"
    database = ZODB.DB(ZODB.FileStorage.FileStorage(str(path), blob_dir=str(folder)))
    for size in (5_000, 7_000):
        with database.transaction() as connection:
            blob = connection.root().setdefault("blob", ZODB.blob.Blob())
            with blob.open("w") as file:
                file.write(b"b" * size)
    data = sum(map(len, current(database).values()))
    database.close()
    found = by_path(path)
    assert (found.blobs, found.blob_bytes, found.entries[0].retained_bytes) == (1, 7_000, data + 7_000)
    assert found.entries[1].bytes == found.entries[1].retained_bytes > 7_000


def test_any_storage_gives_the_same_answers(tmp_path):
    """A FileStorage that ZODB reads, beside our own reading of the file."""
    path = tmp_path / "my.fs"
    history(path, 1).close()
    storage = ZODB.FileStorage.FileStorage(str(path), read_only=True)
    source, other = FileSource(str(path)), StorageSource(storage, "other")
    for function, options in ((usage_by_class, {}), (usage_by_path, {"depth": 2, "top": 50})):
        assert function(Snapshot(other), **options) == function(Snapshot(source), **options)
    for function, options in ((growth_by_month, {}), (growth_by_user, {}), (largest_transactions, {"top": 5})):
        assert function(other, TidRange(), **options) == function(source, TidRange(), **options)
    source.close()
    storage.close()


def test_as_it_was(tmp_path):
    """At a tid the figures are those of a database that ends there."""
    path, before = tmp_path / "my.fs", tmp_path / "before.fs"
    database = history(path, 2)
    tids = [u64(trans.tid) for trans in database.storage.iterator()]
    database.close()
    source = FileSource(str(path))
    position = next(trans.position for trans in source.transactions(tids[15]))
    before.write_bytes(path.read_bytes()[:position])
    snapshot = Snapshot(source, tids[14])
    assert usage_by_class(snapshot)._replace(past=False) == usage(before)
    assert usage_by_class(snapshot).past
    assert usage_by_path(snapshot, depth=2, top=9) == usage(before, usage_by_path, depth=2, top=9)
    source.close()


def test_a_range_counts_its_records_only(tmp_path):
    """Old is what a later record of the range supersedes; garbage is not known."""
    path = tmp_path / "my.fs"
    database = history(path, 3)
    tids = [u64(trans.tid) for trans in database.storage.iterator()]
    first, last = tids[10], tids[20]
    written = [
        (u64(record.oid), len(record.data)) for trans in database.storage.iterator(p64(first), p64(last))
        for record in trans
    ]  # fmt: skip
    database.close()
    source = FileSource(str(path))
    found = usage_by_class(Snapshot(source, last), since=first)
    assert found.garbage is None
    newest = dict(written)
    assert sum(row.objects for row in found.classes) == len(newest)
    assert sum(row.bytes for row in found.classes) == sum(newest.values())
    assert sum(row.old_records for row in found.classes) == len(written) - len(newest)
    assert sum(row.old_bytes for row in found.classes) == sum(size for _, size in written) - sum(newest.values())
    rows = tool_usage(source, since=first, at=last)
    assert sum(row.total_bytes for row in rows) == sum(size for _, size in written)
    users = growth_by_user(source, TidRange(first, last))
    assert sum(row.transactions for row in users) == 11
    source.close()


def test_an_undo_takes_no_bytes_of_its_own(tmp_path):
    """The data that it points back to is current again; that of what it undid is old."""
    path = tmp_path / "my.fs"
    database = ZODB.DB(str(path))
    for text in ("one", "two, which is longer"):
        with database.transaction() as connection:
            connection.root()["text"] = text
    written = [len(record.data) for trans in database.storage.iterator() for record in trans]
    database.undo(database.undoInfo(0, 1)[0]["id"])
    transaction.commit()
    tid = u64(database.lastTransaction())
    database.close()
    (row,) = usage(path).classes
    assert row[1:] == (1, written[1], 3, written[0] + written[2])
    source = FileSource(str(path))
    (row,) = usage_by_class(Snapshot(source), since=tid).classes
    assert row[1:] == (1, written[1], 0, 0)
    source.close()


def test_nothing_and_no_root(tmp_path):
    """An empty database has no classes; without a root object nothing is called garbage."""
    path = tmp_path / "my.fs"
    ZODB.FileStorage.FileStorage(str(path)).close()
    assert usage(path) == ClassesUsage((), Garbage(0, 0, 0), False)
    assert by_path(path) == PathsUsage((), 0, 0, 0)
    database = ZODB.DB(str(path))
    with database.transaction() as connection:
        connection.root()["a"] = PersistentMapping()
    storage, meta = database.storage, TransactionMetaData()
    storage.tpc_begin(meta)
    storage.deleteObject(p64(0), storage.load(p64(0))[1], meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    database.close()
    assert usage(path).garbage is None
    assert by_path(path).entries == ()


def test_a_record_that_does_not_decode_is_told(tmp_path):
    """What it refers to looks unreachable, so the result says that such a record is there."""
    path = tmp_path / "my.fs"
    database = ZODB.DB(str(path))
    with database.transaction() as connection:
        connection.root()["a"] = PersistentMapping(b=PersistentMapping(), text="marker")
    database.close()
    # A string that claims to be longer than what follows.
    path.write_bytes(path.read_bytes().replace(b"X\x06\x00\x00\x00marker", b"X\xff\x00\x00\x00marker"))
    assert usage(path).garbage[2] == 1
    assert by_path(path).undecodable == 1


def test_growth(tmp_path):
    """By transaction, month and user: each transaction counts once, with the data it wrote."""
    path = tmp_path / "my.fs"
    database = history(path, 5)
    expected = [
        (u64(trans.tid), bytes(trans.user), len(records), sum(map(len, records)))
        for trans in database.storage.iterator() for records in [[record.data for record in trans]]
    ]  # fmt: skip
    database.close()
    source = FileSource(str(path))
    largest = largest_transactions(source, TidRange(), top=7)
    assert list(largest.largest) == sorted(expected, key=lambda row: (-row[3], row[0]))[:7]
    assert (largest.more, largest.more_bytes) == (
        len(expected) - 7, sum(row[3] for row in expected) - sum(row.bytes for row in largest.largest),
    )  # fmt: skip
    (month,) = growth_by_month(source, TidRange())
    moment = tid_time(expected[0][0])
    size = sum(row[3] for row in expected)
    assert month == (moment.year, moment.month, len(expected), sum(row[2] for row in expected), size, size)
    users = growth_by_user(source, TidRange())
    assert [row.bytes for row in users] == sorted((row.bytes for row in users), reverse=True)
    for row in users:
        mine = [found for found in expected if found[1] == row.user]
        assert row[1:] == (len(mine), sum(found[2] for found in mine), sum(found[3] for found in mine), mine[-1][0])
    source.close()


def test_months_are_in_order_with_what_was_there_by_then():
    """Months without transactions are left out; the total grows."""

    class Source:
        def columns(self, at, *, options, progress, on_transactions):
            for text, size in (("2020-12-31T23:59", 5), ("2021-01-01", 7), ("2021-03-05", 1)):
                on_transactions([TransactionRow(parse_time(text), 0, 0, 2, size, b"")] * 2)

    assert growth_by_month(Source(), TidRange()) == (
        (2020, 12, 2, 4, 10, 10), (2021, 1, 2, 4, 14, 24), (2021, 3, 2, 4, 2, 26),
    )  # fmt: skip
