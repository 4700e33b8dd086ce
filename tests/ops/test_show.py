"""``show``'s results: one transaction and every object in it."""

import pytest
import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping

from zodbsh.errors import ExitCode, UsageError
from zodbsh.ids import from_bytes, tid_text
from zodbsh.ops.show import TransactionNotFound, show
from zodbsh.record.values import Dict
from zodbsh.source.file import FileSource
from zodbsh.times import time_text


@pytest.fixture
def database(tmp_path):
    """Four transactions: a root, content with metadata, a change in a bucket, the undoing of a creation."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)
    tids = [from_bytes(db.lastTransaction())]
    connection = db.open()
    root = connection.root()
    root["t"] = OOBTree({f"k{n:02}": PersistentMapping() if n == 1 else n for n in range(40)})
    root["kept"] = PersistentMapping(x="a" * 100)
    transaction.get().setUser("ann", "/site")
    transaction.get().note("content")
    transaction.get().setExtendedInfo("where", {"request": [1, 2]})
    transaction.commit()
    tids.append(from_bytes(db.lastTransaction()))
    root["t"]["k39"], root["t"]["k01"]["y"], root["kept"]["x"] = -1, 1, ""
    transaction.commit()
    tids.append(from_bytes(db.lastTransaction()))
    root["new"] = PersistentMapping()
    transaction.commit()
    tids.append(from_bytes(db.lastTransaction()))
    db.undo(db.undoInfo(0, 1)[0]["id"])
    transaction.commit()
    tids.append(from_bytes(db.lastTransaction()))
    db.close()
    source = FileSource(path)
    yield source, tids
    source.close()


def shown(result):
    return {
        (one.path, one.part_of): (one.class_ and one.class_.rpartition(".")[2], one.change, one.bytes, one.old_bytes)
        for one in result.shown
    }


def test_metadata_is_shown_and_the_extension_decoded(database):
    """User, description, and what the application put into the extension, as inert values."""
    source, tids = database
    result = show(source, tid_text(tids[1]))
    assert (result.transaction.tid, result.transaction.user, result.transaction.description) == (
        tids[1], b"/site ann", b"content",
    )  # fmt: skip
    assert isinstance(result.extension, Dict)
    assert isinstance(result.extension.get("where"), Dict)
    assert result.extension.get("where").get("request") == [1, 2]
    assert result.extension_trouble is None


def test_each_object_has_path_class_size_and_change(database):
    """New and changed objects; a bucket is part of its tree; sizes before and after."""
    source, tids = database
    first = shown(show(source, tid_text(tids[1])))
    assert {path: found[:2] for path, found in first.items() if not path[1]} == {
        ("root", False): ("PersistentMapping", "changed"), ("root.t", False): ("OOBTree", "new"),
        ("root.t['k01']", False): ("PersistentMapping", "new"), ("root.kept", False): ("PersistentMapping", "new"),
    }  # fmt: skip
    assert first["root.t", True][:2] == ("OOBucket", "new")
    second = shown(show(source, tid_text(tids[2])))
    assert second.keys() == {("root.t", True), ("root.t['k01']", False), ("root.kept", False)}
    kept = second["root.kept", False]
    assert (kept[:2], kept[2] - kept[3]) == (("PersistentMapping", "changed"), -100)


def test_undone_creations_are_deletions_with_their_old_path(database):
    """The object is shown where it was, with the class it had; the root as it was before, with its bytes."""
    source, tids = database
    result = show(source, tid_text(tids[4]))
    found = shown(result)
    assert found["root.new", False][:3] == ("PersistentMapping", "deleted", 0)
    assert found["root", False][1] == "undone"
    assert [one.restored_tid for one in result.shown if one.path == "root"] == [tids[1]]
    assert (result.objects, result.bytes) == (2, found["root", False][2])
    assert result.bytes == len(source.load(0).data)


def test_the_objects_shown_are_bounded(database):
    """A transaction of many objects is counted whole, and shown in part."""
    source, tids = database
    result = show(source, tid_text(tids[1]), limit=2)
    assert (len(result.shown), result.objects) == (2, len(show(source, tid_text(tids[1])).shown))


def test_beyond_the_budget_an_object_is_its_oid(database):
    """No path is better than a long wait."""
    source, tids = database
    assert {one.path for one in show(source, tid_text(tids[2]), budget=0).shown} <= {
        f"0x{one.oid:02x}" for one in show(source, tid_text(tids[2])).shown
    }


def test_a_time_means_the_last_transaction_not_after_it(database):
    """`now` is the last one; the moment before the second is the first."""
    source, tids = database
    assert show(source, "now").transaction.tid == tids[4]
    assert show(source, f"0x{tids[1]:016x}").transaction.tid == tids[1]


def test_a_tid_that_is_not_there_offers_the_nearest(database):
    """The ones before and after, with their times; exit status 3."""
    source, tids = database
    with pytest.raises(TransactionNotFound) as caught:
        show(source, tid_text(tids[1] + 1))
    assert caught.value.message == f"{source.path}: no transaction {tid_text(tids[1] + 1)}"
    near = [f"{tid_text(tid)} ({time_text(tid)})" for tid in tids[1:3]]
    assert caught.value.hint == f"The nearest: {near[0]} and {near[1]}."
    assert caught.value.exit_code == ExitCode.NOT_FOUND
    with pytest.raises(TransactionNotFound, match="no transaction at or before 2001-01-01"):
        show(source, "2001-01-01")
    with pytest.raises(UsageError):
        show(source, "yesteryear")


def test_a_hostile_extension_is_not_run(tmp_path):
    """An extension that would call something is shown as the call that it is."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)

    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    with db.transaction() as connection:
        connection.root()["x"] = 1
        transaction_ = connection.transaction_manager.get()
        transaction_.setExtendedInfo("bomb", Payload())
    db.close()
    source = FileSource(path)
    result = show(source, "now")
    assert list(result.extension) == ["bomb"]
    assert result.extension.get("bomb").class_.name == "open"
    assert not (tmp_path / "written").exists()
    source.close()
