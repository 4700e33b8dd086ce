"""Committing a stage: each object against the serial it was made to; all of it or nothing."""

from __future__ import annotations

import sys
from dataclasses import replace

import BTrees.OOBTree
import pytest
import transaction
import ZODB
from BTrees.Length import Length
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping
from persistent.wref import WeakRef
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

from zodbsh.db.changes import PROVISIONAL, STAGE_KEY
from zodbsh.db.filestore import CommitUnknown
from zodbsh.db.open import Conflict, open_storage
from zodbsh.db.session import Session
from zodbsh.db.source import open_source
from zodbsh.db.spec import parse_spec
from zodbsh.errors import StorageIOError, Unsupported
from zodbsh.ids import from_bytes
from zodbsh.record.decode import decode_record
from zodbsh.stage import store
from zodbsh.stage.applied import applied_by
from zodbsh.stage.model import make_stage
from zodbsh.stage.replay import StageConflicts, StageDangling, replay


@pytest.fixture
def staged(path):
    """Stage what a function does to a session's root."""

    def stage(change, **options):
        with Session.open(str(path), read_only=True, **options) as session:
            change(session.root)
            return store.save(session.spec, make_stage(session.pending()))

    return stage


def apply(path, stage, **options):
    storage = open_storage(parse_spec(str(path)))
    try:
        return replay(stage, storage, name=str(path), **options)
    finally:
        storage.close()


def refused(path, stage, error):
    """Replay, and see that the database stays as it is."""
    before = path.read_bytes()
    with pytest.raises(error) as caught:
        apply(path, stage)
    assert path.read_bytes() == before
    return caught.value


def test_a_stage_becomes_one_transaction(path, staged, bank, witness):
    def change(root):
        root.account.friend = bank.Account(3)
        root.account.friend.friend = root.account
        root.more = PersistentList([bank.Point(1, 2)])

    done = apply(path, staged(change), note="note", user="carol")
    assert (done.objects, done.resolved, sorted(done.oids.values())) == (5, (), [3, 4, 5])
    with witness(path) as root:
        assert root["account"].friend.friend is root["account"]
        assert (root["more"][0].x, root["more"][0].y) == (1, 2)
        (info,) = root._p_jar.db().undoInfo(0, 1)
        assert (info["user_name"], info["description"]) == ("carol", "note")
        assert from_bytes(root["more"]._p_serial) == done.tid


def test_oids_stay_dense(path, staged, bank):
    """Provisional oids never reach the database."""
    done = apply(path, staged(lambda root: setattr(root, "x", bank.Account())))
    assert done.oids == {PROVISIONAL + 1: 3}
    storage = FileStorage(str(path))
    assert from_bytes(storage.new_oid()) == 4
    storage.close()


def test_others_took_the_oids_meanwhile(path, staged, bank, witness):
    """Both commits' new objects live."""
    stage = staged(lambda root: setattr(root.account, "friend", bank.Account(3)))
    with witness(path) as root:
        root["counter"].friend = bank.Account(4)
    apply(path, stage)
    with witness(path) as root:
        assert (root["account"].friend.balance, root["counter"].friend.balance) == (3, 4)


def test_a_conflict_has_three_sides_and_writes_nothing(path, staged, witness):
    stage = staged(lambda root: root.account.deposit(1))
    base_tid = stage.entries[0].serial
    with witness(path) as root:
        root["account"].balance = 50
    with witness(path) as root:
        their_tid = from_bytes(root._p_jar.db().lastTransaction())
    error = refused(path, stage, StageConflicts)
    (side,) = error.sides
    assert (side.oid, side.base_tid, side.their_tid, error.exit_code) == (1, base_tid, their_tid, 5)
    balances = [decode_record(data).state.get("balance") for data in (side.base, side.theirs, side.ours)]
    assert balances == [10, 50, 11]


def test_all_conflicts_are_reported_at_once(path, staged, witness):
    def change(root):
        root.account.deposit(1)
        root.more = 1

    stage = staged(change)
    with witness(path) as root:
        root["account"].balance = 50
        root["other"] = 1
    assert refused(path, stage, StageConflicts).oids == (1, 0)


def test_a_class_resolves_its_conflict(path, staged, witness):
    """ZODB's own way: the class is imported, and says what the merged state is."""
    stage = staged(lambda root: setattr(root.counter, "value", 5))
    with witness(path) as root:
        root["counter"].value = 3
    done = apply(path, stage)
    assert done.resolved == (2,)
    with witness(path) as root:
        assert root["counter"].value == 8


def test_btrees_and_lengths_resolve(path, witness, staged):
    """Different keys of one bucket; two counts added up."""
    with witness(path) as root:
        root["tree"] = BTrees.OOBTree.OOBTree({"a": 1, "b": 2})
        root["length"] = Length(2)

    def change(root):
        root.tree["c"] = 3
        root.length.change(1)

    stage = staged(change)
    with witness(path) as root:
        root["tree"]["d"] = 4
        root["length"].change(1)
    apply(path, stage)
    with witness(path) as root:
        assert dict(root["tree"]) == {"a": 1, "b": 2, "c": 3, "d": 4}
        assert root["length"]() == 4


def test_the_same_key_of_a_btree_is_a_conflict(path, witness, staged):
    with witness(path) as root:
        root["tree"] = BTrees.OOBTree.OOBTree({"a": 1})
    stage = staged(lambda root: root.tree.__setitem__("a", 2))
    with witness(path) as root:
        root["tree"]["a"] = 3
    refused(path, stage, StageConflicts)


def test_a_bucket_emptied_under_a_change_is_a_conflict(path, witness, staged):
    """The tree's node above the bucket was read: without that check the new key would be lost."""
    with witness(path) as root:
        root["tree"] = BTrees.OOBTree.OOBTree({number: number for number in range(200)})
    stage = staged(lambda root: root.tree.__setitem__(0, "changed"))
    assert stage.reads
    with witness(path) as root:
        first = root["tree"].minKey()
        for key in list(root["tree"].keys(first, 20)):
            del root["tree"][key]
    assert refused(path, stage, Conflict).exit_code == 5


def test_a_deleted_object_is_a_conflict(path, witness, staged, bank):
    """Packed away: a FileStorage alone would take the record without a word."""
    with witness(path) as root:
        root["gone"] = bank.Account(1)

    stage = staged(lambda root: root.gone.deposit(1))
    with witness(path) as root:
        del root["gone"]
    with witness(path) as root:
        root._p_jar.db().pack()
    error = refused(path, stage, StageConflicts)
    assert (error.sides[0].theirs, error.sides[0].their_tid, error.sides[0].base) == (None, None, None)


def test_a_reference_to_what_is_gone_is_refused(path, witness, staged, bank):
    with witness(path) as root:
        root["gone"] = bank.Account(1)
    stage = staged(lambda root: setattr(root.account, "friend", root.gone))
    with witness(path) as root:
        del root["gone"]
    with witness(path) as root:
        root._p_jar.db().pack()
    error = refused(path, stage, StageDangling)
    assert error.message == f"{path}: object 0x01 of the stage refers to 0x03, which is gone"


def test_a_reference_that_dangled_before_is_not_of_the_stages_making(path, witness, staged, bank):
    with witness(path) as root:
        root["account"].friend = root["gone"] = bank.Account(1)
    storage = FileStorage(str(path))
    meta = ZODB.Connection.TransactionMetaData()
    storage.tpc_begin(meta)
    oid = (3).to_bytes(8, "big")
    storage.deleteObject(oid, storage.load(oid)[1], meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    storage.close()
    apply(path, staged(lambda root: root.account.deposit(1)))
    with witness(path) as root:
        assert root["account"].balance == 11


def test_weak_references_follow(path, staged, bank, witness):
    def change(root):
        root.friend = bank.Account(3)
        root.weak = WeakRef(root.friend)

    apply(path, staged(change))
    with witness(path) as root:
        assert root["weak"]() is root["friend"]


def content(blob):
    with blob.open() as file:
        return file.read()


def blob_database(tmp_path, bank):
    path, blobs = tmp_path / "b.fs", tmp_path / "blobs"
    ZODB.DB(FileStorage(str(path), blob_dir=str(blobs))).close()
    return path, blobs


def test_blobs_travel_with_the_stage(tmp_path, bank, witness):
    path, blobs = blob_database(tmp_path, bank)
    with witness(path, blobs) as root:
        root["old"] = Blob(b"one")
    with Session.open(str(path), read_only=True, blobs=str(blobs)) as session:
        session.root.new = Blob(b"new")
        with session.root.old.open("w") as file:
            file.write(b"two")
        stage = store.save(session.spec, make_stage(session.pending()))
    spec = parse_spec(f"file://{path}?blobstorage_dir={blobs}")
    with pytest.raises(Unsupported, match="without its folder of blobs"):
        apply(path, stage)
    storage = open_storage(spec)
    replay(store.load(spec), storage, name="b.fs")
    storage.close()
    with witness(path, blobs) as root:
        assert (content(root["old"]), content(root["new"])) == (b"two", b"new")
    assert store.load(spec) == stage, "the stage keeps its files until it is dropped"


def test_a_failed_commit_keeps_the_blobs(tmp_path, bank, witness, monkeypatch):
    path, blobs = blob_database(tmp_path, bank)
    with Session.open(str(path), read_only=True, blobs=str(blobs)) as session:
        session.root.new = Blob(b"new")
        stage = store.save(session.spec, make_stage(session.pending()))
    spec = parse_spec(f"file://{path}?blobstorage_dir={blobs}")
    before = path.read_bytes()
    storage = open_storage(spec)
    real = FileStorage.tpc_vote
    monkeypatch.setattr(FileStorage, "tpc_vote", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(StorageIOError):
        replay(stage, storage, name="b.fs")
    assert path.read_bytes() == before
    monkeypatch.setattr(FileStorage, "tpc_vote", real)
    replay(store.load(spec), storage, name="b.fs")
    storage.close()
    with witness(path, blobs) as root:
        assert content(root["new"]) == b"new"


def test_a_commit_names_its_stage(path, staged):
    """What a killed process left over is recognised."""
    stage = staged(lambda root: root.account.deposit(1))
    source = open_source(str(path))
    assert applied_by(source, stage) is None
    source.close()
    done = apply(path, stage)
    source = open_source(str(path))
    assert applied_by(source, stage) == done.tid
    (txn,) = source.transactions(done.tid)
    source.close()
    assert STAGE_KEY.encode() in txn.extension


def test_an_error_at_the_very_end_is_unknown(path, staged, monkeypatch):
    stage = staged(lambda root: root.account.deposit(1))
    monkeypatch.setattr(
        sys.modules["ZODB.FileStorage.FileStorage"], "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "I/O error"))
    )
    with pytest.raises(CommitUnknown) as caught:
        apply(path, stage)
    assert caught.value.hint == f"`zodbsh status {path}` tells whether the stage was applied."
    source = open_source(str(path))
    assert applied_by(source, stage) is not None
    source.close()


def test_any_other_storage(bank):
    """Through ZODB's interface alone."""
    storage = MappingStorage()
    database = ZODB.DB(storage)
    with Session.open(":memory:") as session:
        session.root.x = PersistentMapping(y=1)
        stage = make_stage(session.pending())
    root_serial = from_bytes(database.open().root()._p_serial)
    entries = tuple(entry if entry.new else entry._replace(serial=root_serial) for entry in stage.entries)
    replay(replace(stage, entries=entries), storage, name="memory")
    with database.transaction() as connection:
        assert connection.root()["x"]["y"] == 1
    database.close()


# Random graphs: objects by number, edges and values set and removed, in batches.
STEP = st.one_of(
    st.tuples(st.just("value"), st.integers(0, 7), st.integers(0, 3)),
    st.tuples(st.just("link"), st.integers(0, 7), st.integers(0, 7)),
    st.tuples(st.just("unlink"), st.integers(0, 7), st.integers(0, 7)),
    st.tuples(st.just("tree"), st.integers(0, 7), st.integers(0, 60)),
    st.tuples(st.just("root"), st.integers(0, 7), st.just(0)),
    st.tuples(st.just("unroot"), st.integers(0, 7), st.just(0)),
    st.tuples(st.just("savepoint"), st.just(0), st.just(0)),
)
BATCHES = st.lists(st.lists(STEP, min_size=1, max_size=12), min_size=1, max_size=4)


def find(root, number):
    """Return object ``number``, made where it is not reachable."""
    waiting, met = [root[key] for key in sorted(root)], set()
    while waiting:
        found = waiting.pop()
        if id(found) in met:
            continue
        met.add(id(found))
        if found["number"] == number:
            return found
        waiting.extend(found["links"][key] for key in sorted(found["links"]))
    return PersistentMapping(number=number, links=PersistentMapping(), tree=BTrees.OOBTree.OOBTree())


def play(root, batch):
    for verb, one, two in batch:
        subject = find(root, one)
        if verb == "value":
            subject["value"] = two
        elif verb == "link":
            other = subject if one == two else find(root, two)
            subject["links"][str(two)] = other
        elif verb == "unlink":
            subject["links"].pop(str(two), None)
        elif verb == "tree":
            for key in range(two):
                subject["tree"][key] = one
        elif verb == "root":
            root[str(one)] = subject
        elif verb == "unroot":
            root.pop(str(one), None)
        else:
            transaction.savepoint()


def picture(root):
    """Return the graph as plain data, objects numbered as they are met."""
    numbers, result, waiting = {}, [], [root]
    numbers[id(root)] = 0
    while waiting:
        found = waiting.pop(0)
        shown = []
        for key, value in sorted(found.items(), key=lambda pair: str(pair[0])):
            if isinstance(value, PersistentMapping | BTrees.OOBTree.OOBTree):
                if id(value) not in numbers:
                    numbers[id(value)] = len(numbers)
                    waiting.append(value)
                shown.append((key, numbers[id(value)]))
            else:
                shown.append((key, repr(value)))
        result.append(shown)
    return result


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BATCHES)
def test_staged_and_committed_is_as_directly_committed(tmp_path_factory, witness, batches):
    """Whether each batch is committed at once, staged and replayed, or continued from stage to stage."""
    folder = tmp_path_factory.mktemp("graphs")
    direct, replayed, continued = (folder / name for name in ("direct.fs", "replayed.fs", "continued.fs"))
    for path in (direct, replayed, continued):
        ZODB.DB(FileStorage(str(path))).close()
    previous = None
    for number, batch in enumerate(batches):
        with Session.open(str(direct)) as session:
            play(session.root(), batch)
            transaction.commit()
        with Session.open(str(replayed), read_only=bool(number % 2)) as session:
            play(session.root(), batch)
            stage = store.save(session.spec, make_stage(session.pending()))
        apply(replayed, stage)
        store.drop(parse_spec(str(replayed)))
        with Session.open(str(continued), read_only=bool(number % 2)) as session:
            if previous is not None:
                session.restore(store.load(session.spec))
            play(session.root(), batch)
            previous = store.save(
                session.spec, make_stage(session.pending()), replaces=previous.id if previous is not None else ""
            )
    apply(continued, previous)
    pictures = []
    for path in (direct, replayed, continued):
        with witness(path) as root:
            pictures.append(picture(root))
            for oid in root._p_jar.db().storage._index:
                root._p_jar.get(oid)._p_activate()
    assert pictures[0] == pictures[1] == pictures[2]
