"""Undo: what is shown is what ZODB's own undo makes of a copy; what is in the way is explained, the way out works."""

from __future__ import annotations

import base64
import random
import shutil
import sys
from contextlib import closing
from pathlib import Path

import pytest
import transaction
import ZEO
import ZODB
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileIterator, FileStorage
from ZODB.POSException import POSKeyError, UndoError
from ZODB.utils import p64, u64

from zodbsh.db.filestore import CommitUnknown, SoundFileStorage
from zodbsh.db.locks import DatabaseLocked
from zodbsh.db.open import Conflict, NotWritable
from zodbsh.db.session import Session
from zodbsh.db.source import open_source
from zodbsh.db.spec import parse_spec
from zodbsh.db.undo import NothingToUndo, prepare_undo
from zodbsh.errors import Unsupported, UsageError
from zodbsh.ops.log import log
from zodbsh.ops.show import TransactionNotFound, show
from zodbsh.ops.undoing.conflict import require_blobs_kept
from zodbsh.ops.undoing.undo import UndoConflicts, UndoDangling, UndoesRoot, plan_undo, undo


def tids(path) -> list[int]:
    return [u64(txn.tid) for txn in FileIterator(str(path))]


def plan(path, *wanted, blobs=None):
    with closing(open_source(str(path), blob_dir=blobs and str(blobs))) as source:
        return plan_undo(source, wanted, spec=parse_spec(str(path)))


def undone(path, *wanted, **options):
    return undo(parse_spec(str(path)), plan(path, *wanted), **options)


def state(path) -> dict[int, bytes | None]:
    """Return the current record of every object, as ZODB loads it."""
    found: dict[int, bytes | None] = {}
    for txn in FileIterator(str(path)):
        found.update((u64(record.oid), record.data) for record in txn)
    return found


def undo_by_zodb(path, *wanted) -> Exception | None:
    """Undo with nothing but ZODB, newest first; return what stopped it."""
    db = ZODB.DB(FileStorage(str(path)))
    try:
        ids = {entry["id"]: entry for entry in db.undoInfo(0, -1_000)}
        chosen = [id_ for id_ in ids if u64(base64.decodebytes(id_ + b"\n")) in wanted]
        manager = transaction.TransactionManager()
        db.undoMultiple(chosen, manager.get())
        try:
            manager.commit()
        except UndoError as exc:
            manager.abort()
            return exc
    finally:
        db.close()
    return None


def changes(path, witness, *functions) -> list[int]:
    """Run each in a transaction of its own, and return the tids."""
    before = len(tids(path))
    for function in functions:
        with witness(path) as root:
            function(root)
    return tids(path)[before:]


def balance(value):
    return lambda root: setattr(root["account"], "balance", value)


def entries(value):
    return lambda root: setattr(root["account"], "entries", value)


def test_the_state_before_is_back(path, witness):
    """A new transaction gives the object the state it had; its description is the user's, or says what was undone."""
    (tid,) = changes(path, witness, balance(20))
    (diff,) = plan(path, tid).diff.objects
    (change,) = diff.attributes
    assert (diff.path, diff.change, change) == ("root.account", "changed", ("balance", 20, 10, ()))
    result = undone(path, tid, note="sorry", user="carol")
    last = list(FileIterator(str(path)))[-1]
    assert (result.tid, last.description, last.user) == (u64(last.tid), b"sorry", b"carol")
    undone(path, result.tid)
    assert list(FileIterator(str(path)))[-1].description.decode() == f"undo of {result.tid:016x}"
    with witness(path) as root:
        assert root["account"].balance == 20


def test_looking_writes_and_imports_nothing(path, witness):
    """A plan leaves the file and its folder as they are, and the application's module alone."""
    (tid,) = changes(path, witness, balance(20))
    sys.modules.pop("bank")
    before = {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir() if file.is_file()
    }
    plan(path, tid)
    assert before == {
        file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.parent.iterdir() if file.is_file()
    }
    assert "bank" not in sys.modules


def test_several_are_one_transaction(path, witness):
    """Transactions on top of each other are undone in one, whatever the order they are named in."""
    first, second = changes(path, witness, balance(20), balance(30))
    count = len(tids(path))
    undone(path, first, second)
    assert len(tids(path)) == count + 1
    with witness(path) as root:
        assert root["account"].balance == 10


def test_a_later_change_is_explained_by_attribute(path, witness):
    """Before, after and now of each attribute, who changed it since, and what can be undone together."""
    first, second = changes(path, witness, balance(20), balance(30))
    with pytest.raises(UndoConflicts) as caught:
        undone(path, first)
    (clash,) = caught.value.clashes
    assert (clash.path, clash.class_, clash.tid, clash.both) == ("root.account", "bank.Account", first, ("balance",))
    assert [found.tid for found in clash.later] == [second]
    assert clash.attributes == (("balance", 10, 30, 20),)
    assert clash.reason == (
        "was changed by a later transaction; its class bank.Account has no _p_resolveConflict that would merge that"
    )
    assert caught.value.hint == (
        f"Nothing was written. To undo also what came after: `zodbsh undo {path} {second:016x} {first:016x}`."
    )
    assert tids(path)[-1] == second
    undone(path, *caught.value.together)
    with witness(path) as root:
        assert root["account"].balance == 10


def test_what_is_undone_too_is_not_in_the_way(path, witness):
    """Of three changes the first and the last are undone: only the one between them is named."""
    first, second, third = changes(path, witness, balance(20), balance(30), balance(40))
    (clash,) = plan(path, first, third).clashes
    assert (clash.tid, [found.tid for found in clash.later]) == (first, [second])


def test_attributes_that_do_not_overlap(path, witness):
    """ZODB undoes whole records: that no attribute was changed by both is said, and does not help."""
    first, _ = changes(path, witness, balance(20), entries([1]))
    with pytest.raises(UndoConflicts) as caught:
        undone(path, first)
    (clash,) = caught.value.clashes
    assert (clash.both, [side.name for side in clash.attributes]) == ((), ["balance", "entries"])


def test_a_class_that_cannot_be_imported(path, witness, monkeypatch):
    """Where the class might merge, but is not there, that is what is said; with its folder it merges."""
    first, _ = changes(
        path, witness,
        lambda root: setattr(root["counter"], "value", 5), lambda root: setattr(root["counter"], "value", 7),
    )  # fmt: skip
    from ZODB import ConflictResolution

    sys.modules.pop("bank")
    ConflictResolution._class_cache.clear()
    folder = str(path.parent / "src")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != folder])
    with pytest.raises(UndoConflicts, match="cannot be imported"):
        undone(path, first)
    ConflictResolution._class_cache.clear()
    result = undone(path, first, import_paths=[folder])
    assert len(result.resolved) == 1
    with witness(path) as root:
        assert root["counter"].value == 2


def test_what_is_undone_already(path, witness):
    """A transaction whose objects are all as they were before writes nothing."""
    (tid,) = changes(path, witness, balance(20))
    undone(path, tid)
    count = len(tids(path))
    assert plan(path, tid).undoing.restored
    assert undone(path, tid).tid is None
    assert len(tids(path)) == count


def test_an_undo_is_undone(path, witness):
    """The undo's own transaction can be undone like any other; then the first one can be undone again."""
    (tid,) = changes(path, witness, balance(20))
    again = undone(path, tid).tid
    undone(path, again)
    with witness(path) as root:
        assert root["account"].balance == 20
    undone(path, tid)
    with witness(path) as root:
        assert root["account"].balance == 10


def test_the_root_stays(path):
    """The transaction that created the root is not undone."""
    with pytest.raises(UndoesRoot):
        undone(path, tids(path)[0])


def test_what_was_packed(path, witness):
    """A packed transaction says so; one that never was is not found."""
    (tid,) = changes(path, witness, balance(20))
    changes(path, witness, balance(30))
    with closing(ZODB.DB(str(path))) as db:
        db.pack()
    with pytest.raises(NothingToUndo, match="packed"):
        plan(path, tids(path)[-1])
    with pytest.raises(TransactionNotFound):
        plan(path, tid)


def test_references_that_would_dangle(path, witness, bank):
    """An object that is still referred to is not taken away, unless that is forced; the referrer is named."""
    (made,) = changes(path, witness, lambda root: root.__setitem__("new", bank.Account(1)))
    changes(path, witness, lambda root: setattr(root["account"], "friend", root["new"]))
    (finding,) = plan(path, made).findings
    assert finding.message == "root.account refers to 0x03, which would be gone"
    with pytest.raises(UndoDangling, match="which would be gone"):
        undone(path, made)
    undone(path, made, force=True)
    with witness(path) as root:
        assert "new" not in root
        with pytest.raises(POSKeyError):
            _ = root["account"].friend.balance


def test_a_reference_that_comes_back_to_nothing(path, witness, bank):
    """What an undo brings back may refer to what a later pack has collected."""
    changes(path, witness, lambda root: root.__setitem__("old", bank.Account(1)))
    (gone,) = changes(path, witness, lambda root: root.__delitem__("old"))
    oid = max(state(path))
    assert plan(path, gone).findings == ()
    # As if the object had been elsewhere all the time.
    path.write_bytes(path.read_bytes().replace(b"\x08" + p64(oid), b"\x08" + p64(99)))
    assert [finding.message for finding in plan(path, gone).findings] == ["root refers to 0x63, which does not exist"]
    with pytest.raises(UndoDangling, match="refers to 0x63"):
        undone(path, gone)


def grown(path, witness, count=5) -> list[int]:
    """Add a BTree, then so many mappings to it; return the tids of these."""
    adds = [lambda root, n=n: root["tree"].__setitem__(f"key {n}", PersistentMapping(n=n)) for n in range(count)]
    return changes(path, witness, lambda root: root.__setitem__("tree", OOBTree()), *adds)[1:]


def test_what_a_btree_merges_does_not_dangle(path, witness):
    """A key that was added to a BTree goes with its object: what later transactions added stays."""
    adds = grown(path, witness)
    found = plan(path, adds[1])
    assert (found.findings, len(found.undoing.deleted), len(found.clashes)) == ((), 1, 1)
    undone(path, adds[1])
    undone(path, adds[2], adds[3])
    with witness(path) as root:
        assert [(key, dict(value)) for key, value in root["tree"].items()] == [
            ("key 0", {"n": 0}), ("key 4", {"n": 4}),
        ]  # fmt: skip


def test_a_btree_in_buckets_merges(path, witness):
    """The bucket that holds the key is the one that is merged."""
    adds = grown(path, witness, 40)
    assert plan(path, adds[33]).findings == ()
    undone(path, adds[33])
    with witness(path) as root:
        assert len([value["n"] for value in root["tree"].values()]) == 39


def test_a_btree_that_refers_elsewhere_to_what_goes(path, witness):
    """What is referred to by another key, which stays, would dangle; nothing is written."""
    adds = grown(path, witness)
    changes(path, witness, lambda root: root["tree"].__setitem__("again", root["tree"]["key 1"]))
    (finding,) = plan(path, adds[1]).findings
    assert (finding.kind, "root.tree refers to" in finding.message) == ("dangling", True)
    with pytest.raises(UndoDangling) as caught:
        undone(path, adds[1])
    assert [clash.path for clash in caught.value.clashes] == ["root.tree"]


def test_a_class_of_ones_own_is_asked_first(path, witness, bank):
    """Whether a class's own merge leaves a dangling reference is seen in what it merged, before that is written."""

    def add(value, friend=False):
        def change(root):
            root["counter"].value += value
            if friend:
                root["counter"].friend = bank.Account(1)

        return change

    first, later = changes(path, witness, add(1, friend=True), add(2))
    assert [finding.kind for finding in plan(path, first).findings] == ["may-dangle"]
    count = len(tids(path))
    undone(path, first)
    assert len(tids(path)) == count + 1
    with witness(path) as root:
        assert not hasattr(root["counter"], "friend")
    first, later = changes(path, witness, add(1), add(2, friend=True))
    friend, merge = max(state(path)), bank.Counter._p_resolveConflict
    changes(path, witness, lambda root: setattr(root["counter"], "value", 7))
    assert plan(path, later).findings[0].kind == "may-dangle"
    try:
        bank.Counter._p_resolveConflict = lambda self, base, theirs, ours: theirs
        with pytest.raises(UndoDangling, match=f"root.counter refers to 0x{friend:02x}, which would be gone$"):
            undone(path, later)
    finally:
        bank.Counter._p_resolveConflict = merge
    undone(path, later)


def test_what_cannot_merge_is_a_conflict(path, witness, bank):
    """Where the class does not merge, that is what is said, not what would dangle if it did."""
    first, _ = changes(
        path, witness, lambda root: setattr(root["account"], "friend", bank.Account(1)), balance(30)
    )  # fmt: skip
    with pytest.raises(UndoConflicts, match="no _p_resolveConflict"):
        undone(path, first)


@pytest.fixture
def photos(tmp_path, bank, no_fsync, clean_transaction):
    """A database with a blob of three contents, each of one transaction."""
    path = tmp_path / "photos.fs"
    db = ZODB.DB(FileStorage(str(path), blob_dir=f"{path}.blobs"))
    for content in (b"first", b"second", b"third"):
        with db.transaction() as connection:
            root = connection.root()
            if "photo" not in root:
                root["photo"] = Blob()
            with root["photo"].open("w") as file:
                file.write(content)
    db.close()
    return path


def content(path) -> bytes:
    db = ZODB.DB(FileStorage(str(path), blob_dir=f"{path}.blobs"))
    try:
        with db.transaction() as connection, connection.root()["photo"].open("r") as file:
            return file.read()
    finally:
        db.close()


def test_a_blob_comes_back(photos):
    """The content before is there again; the folder beside the database is found."""
    third = tids(photos)[-1]
    (diff,) = plan(photos, third).diff.objects
    assert diff.attributes == (("(blob bytes)", 5, 6, ()),)
    undone(photos, third)
    assert content(photos) == b"second"


def test_a_blob_of_a_database_behind_a_link(photos, tmp_path):
    """The folder beside the file itself is found, for the look and for the undo."""
    link = tmp_path / "linked" / "other.fs"
    link.parent.mkdir()
    link.symlink_to(photos)
    undone(link, tids(photos)[-1])
    assert content(photos) == b"second"
    assert not (tmp_path / "linked" / "other.fs.blobs").exists()


def test_a_blob_that_was_stored_as_it_was(photos):
    """The undo's record of a blob has a file, also where the content is the same."""
    for name in ("same", "more"):
        db = ZODB.DB(FileStorage(str(photos), blob_dir=f"{photos}.blobs"))
        with db.transaction() as connection:
            connection.root()[name] = 1
            with connection.root()["photo"].open("w") as file:
                file.write(b"third")
        db.close()
    same, more = tids(photos)[-2:]
    undone(photos, more)
    assert content(photos) == b"third"
    undone(photos, same)
    assert content(photos) == b"third"


def test_a_later_content_of_a_blob_is_in_the_way(photos):
    """A blob's record is always the same, so ZODB would take the later content away without a word; this does not."""
    _, second, third = tids(photos)[-3:]
    with pytest.raises(UndoConflicts, match="blob whose content a later transaction replaced") as caught:
        undone(photos, second)
    assert caught.value.together == (third, second)
    assert content(photos) == b"third"
    undone(photos, second, third)
    assert content(photos) == b"first"


def records(path) -> list[tuple[int, int]]:
    """Return each record of the last transaction, as its object and the length of its pickle (0: none)."""
    return [(u64(record.oid), len(record.data or b"")) for txn in FileIterator(str(path))
            if u64(txn.tid) == tids(path)[-1] for record in txn]  # fmt: skip


def test_one_record_an_object(photos):
    """Several changes of one object, undone together, leave one record of it; ZODB's history and pack agree."""
    _, second, third = tids(photos)[-3:]
    found = undone(photos, second, third)
    assert [oid for oid, _ in records(photos)] == [1]
    storage = FileStorage(str(photos), blob_dir=f"{photos}.blobs")
    with closing(storage):
        assert [u64(entry["tid"]) for entry in storage.history(p64(1), 9)][:3] == [found.tid, third, second]
        assert storage.loadBefore(p64(1), p64(found.tid))[1] == p64(third)
    undone(photos, found.tid)
    assert content(photos) == b"third"
    with closing(ZODB.DB(FileStorage(str(photos), blob_dir=f"{photos}.blobs"))) as db:
        db.pack()
    assert content(photos) == b"third"


def test_a_blob_that_an_undo_takes_away(photos):
    """Where its creation is undone with what followed, the transaction has one record and no file of it."""
    made, second, third = tids(photos)[-3:]
    before = set(Path(f"{photos}.blobs").rglob("*.blob"))
    undone(photos, made, second, third)
    assert [length for oid, length in records(photos) if oid == 1] == [0]
    assert set(Path(f"{photos}.blobs").rglob("*.blob")) == before
    with closing(ZODB.DB(FileStorage(str(photos), blob_dir=f"{photos}.blobs"))) as db, db.transaction() as connection:
        assert "photo" not in connection.root()


def test_a_session_writes_one_record_an_object(photos):
    """What the shell undoes together, too, is one record an object."""
    second, third = tids(photos)[-2:]
    with Session.open(str(photos), blobs=f"{photos}.blobs") as session:
        prepare_undo(session, third)
        prepare_undo(session, second)
        session.commit()
    assert [oid for oid, _ in records(photos)] == [1]
    assert content(photos) == b"first"


def test_an_object_written_twice_by_zodb_is_one(photos):
    """ZODB's own undo of several writes an object once for each; `log` and `show` count one, in its last state."""
    second, third = tids(photos)[-2:]
    db = ZODB.DB(FileStorage(str(photos), blob_dir=f"{photos}.blobs"))
    manager = transaction.TransactionManager()
    db.undoMultiple([base64.encodebytes(p64(tid)).rstrip() for tid in (third, second)], manager.get())
    manager.commit()
    db.close()
    last = tids(photos)[-1]
    assert [oid for oid, _ in records(photos)] == [1, 1]
    with closing(open_source(str(photos))) as source:
        assert next(log(source)).objects == 1
        found = show(source, f"{last:016x}")
        assert (found.objects, [entry.oid for entry in found.shown]) == (1, [1])
        assert found.shown[0].restored_tid == tids(photos)[-4]


def test_a_session_keeps_blobs(photos):
    """In the shell, too, a later content is not taken back without a word, nor a record written without its file."""
    second, third = tids(photos)[-2:]
    marker = Path(f"{photos}.blobs") / ".layout"
    layout = marker.read_text()
    marker.unlink()
    with Session.open(str(photos)) as session, pytest.raises(Unsupported, match="without its folder of blobs"):
        require_blobs_kept(session, third)
    marker.write_text(layout)
    with Session.open(str(photos)) as session:
        with pytest.raises(Conflict, match="content of blob 0x01 was replaced"):
            require_blobs_kept(session, second)
        for tid in (third, second):
            require_blobs_kept(session, tid)
            prepare_undo(session, tid)
        session.commit()
    assert content(photos) == b"first"


def test_blobs_in_an_unknown_folder(photos, tmp_path):
    """Without the blobs' folder nothing is written that would have no content."""
    second, third = tids(photos)[-2:]
    (tmp_path / "photos.fs.blobs").rename(tmp_path / "elsewhere")
    for tid in (second, third):
        with pytest.raises(Unsupported, match="content of blobs is not found"):
            undone(photos, tid)
    assert tids(photos)[-1] == third


def test_a_file_that_is_locked(path, witness):
    """While another process writes, nothing is undone, and what is in the way is told all the same."""
    (tid,) = changes(path, witness, balance(20))
    found = plan(path, tid)
    with closing(FileStorage(str(path))), pytest.raises(DatabaseLocked):
        undo(parse_spec(str(path)), found)


def test_the_database_changed_meanwhile(path, witness):
    """What was shown is what is written: a change in between ends it, one elsewhere does not."""
    (tid,) = changes(path, witness, balance(20))
    found = plan(path, tid)
    changes(path, witness, lambda root: setattr(root["counter"], "value", 3))
    assert undo(parse_spec(str(path)), found).tid is not None
    (tid,) = changes(path, witness, balance(20))
    found = plan(path, tid)
    changes(path, witness, balance(30))
    with pytest.raises(Conflict, match="changed while the undo was looked at"):
        undo(parse_spec(str(path)), found)


def test_python_2_is_only_looked_at(path, witness):
    """A file of Python 2 shows what an undo would change, and is not written to."""
    (tid,) = changes(path, witness, balance(20))
    path.write_bytes(b"FS21" + path.read_bytes()[4:])
    assert len(plan(path, tid).diff.objects) == 1
    with pytest.raises(NotWritable):
        undone(path, tid)


def test_an_unknown_outcome_names_the_command(path, witness, monkeypatch):
    """An error while the undo is made final is not told as a failure."""
    (tid,) = changes(path, witness, balance(20))

    def fail(_storage, _tid):
        raise OSError(5, "broken")

    monkeypatch.setattr(SoundFileStorage, "_finish_finish", fail)
    with pytest.raises(CommitUnknown) as caught:
        undone(path, tid)
    assert caught.value.hint == f"`zodbsh show {path} {caught.value.tid:016x}` tells whether it is there."


def test_an_extension_is_not_loaded(path, witness, tmp_path):
    """ZODB's list of what can be undone loads each transaction's extension; none is loaded here."""
    (tid,) = changes(path, witness, balance(20))
    target = tmp_path / "canary"
    payload = b"cos\nsystem\n(V" + f"touch {target}".encode() + b"\ntR."
    with closing(FileStorage(str(path))) as storage:
        meta = TransactionMetaData()
        meta.extension_bytes = payload
        storage.tpc_begin(meta)
        storage.tpc_vote(meta)
        storage.tpc_finish(meta)
    assert payload in path.read_bytes()
    undone(path, tid)
    assert not target.exists()


def test_texts_too_long(path, witness):
    """A note or a user that the file cannot hold is refused before anything begins."""
    (tid,) = changes(path, witness, balance(20))
    with pytest.raises(UsageError):
        undone(path, tid, note="x" * 70_000)


@pytest.mark.parametrize("seed", range(30))
def test_as_zodb_does_it(tmp_path, no_fsync, seed):
    """Over random histories: where ZODB undoes, so do we, to the same state; where it refuses, we say why."""
    rng = random.Random(seed)
    path, copy = tmp_path / "my.fs", tmp_path / "copy.fs"
    db = ZODB.DB(str(path))
    with db.transaction() as connection:
        for name in "abc":
            connection.root()[name] = PersistentMapping(n=0)
    for step in range(12):
        with db.transaction() as connection:
            root = connection.root()
            for name in rng.sample("abc", rng.randrange(1, 3)):
                if rng.random() < 0.2:
                    root[name + str(step)] = PersistentMapping(n=step)
                else:
                    root[name]["n"] = rng.randrange(4)
    db.close()
    for _ in range(6):
        wanted = rng.sample(tids(path)[2:], rng.randrange(1, 4))
        found = plan(path, *wanted)
        shutil.copy(path, copy)
        stopped = undo_by_zodb(copy, *wanted)
        try:
            result = undo(parse_spec(str(path)), found, force=True)
        except UndoConflicts as exc:
            assert stopped is not None
            assert exc.clashes  # noqa: PT017 - not every undo ends so
            if exc.together:
                undone(path, *exc.together, force=True)
            continue
        if result.tid is None:
            continue
        assert stopped is None
        assert state(path) == state(copy)
        after = state(path)
        for entry in found.undoing.entries:
            assert after[entry.oid] == entry.data
        assert all(after[oid] is None for oid in found.undoing.deleted)


def test_path_is_a_link(path, witness, tmp_path):
    """A database under a symbolic link is undone under both names' locks."""
    (tid,) = changes(path, witness, balance(20))
    link = Path(tmp_path / "a link.fs")
    link.symlink_to(path)
    undone(link, tid)
    with witness(path) as root:
        assert root["account"].balance == 10


def test_over_zeo(path, witness):
    """A server undoes as a file does: what is shown, what is written, and what is in the way."""
    first, second = changes(path, witness, balance(20), balance(30))
    address, stop = ZEO.server(str(path))
    try:
        spec = parse_spec(f"zeo://{address[0]}:{address[1]}")
        with closing(open_source(spec)) as source:
            planned, refused = plan_undo(source, [second], spec=spec), plan_undo(source, [first], spec=spec)
        with pytest.raises(UndoConflicts) as caught:
            undo(spec, refused)
        assert caught.value.together == (second, first)
        result = undo(spec, planned, note="over ZEO")
    finally:
        stop()
    assert tids(path)[-1] == result.tid
    with witness(path) as root:
        assert root["account"].balance == 20


def test_a_storage_without_history():
    """A database in memory keeps nothing that could be undone."""
    spec = parse_spec(":memory:")
    with closing(open_source(spec)) as source, pytest.raises((UndoesRoot, TransactionNotFound)):
        plan_undo(source, [source.last_tid], spec=spec)


def test_what_does_not_decode(path, witness, monkeypatch):
    """A record that nobody can read is undone like any other: that may be the very reason to."""
    with closing(FileStorage(str(path))) as storage:
        meta = TransactionMetaData()
        storage.tpc_begin(meta)
        storage.store(p64(1), storage.load(p64(1))[1], b"no pickle", "", meta)
        storage.tpc_vote(meta)
        tid = u64(storage.tpc_finish(meta))
    (diff,) = plan(path, tid).diff.objects
    assert (diff.oid, diff.class_, diff.attributes) == (1, "(undecodable)", ())
    undone(path, tid)
    with witness(path) as root:
        assert root["account"].balance == 10
