"""``log``'s results: transactions newest first, and the life of one object."""

import pytest
import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping

from zodbsh.analysis.compare import ABSENT, AttributeChange
from zodbsh.analysis.history import History
from zodbsh.errors import ObjectNotFound
from zodbsh.ids import from_bytes
from zodbsh.ops.log import log, log_object
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot
from zodbsh.times import TidRange


class Written:
    """A database with a history, as it is written: ``tids`` of its transactions, by note."""

    def __init__(self, path):
        self.path = str(path)
        self.db = ZODB.DB(self.path)
        self.tids = {"": from_bytes(self.db.lastTransaction())}

    def commit(self, note, change):
        with self.db.transaction(note) as connection:
            change(connection.root())
        self.tids[note] = from_bytes(self.db.lastTransaction())

    def undo(self, note):
        self.db.undo(self.db.undoInfo(0, 1)[0]["id"])
        transaction.get().note(note)
        transaction.commit()
        self.tids[note] = from_bytes(self.db.lastTransaction())

    def close(self):
        self.db.close()
        return FileSource(self.path)


@pytest.fixture
def written(tmp_path):
    """An object that is made, changed twice, taken back once; one whose creation is undone."""
    made = Written(tmp_path / "my.fs")
    made.commit("make", lambda root: root.update(a=PersistentMapping(x=1), n=0))
    made.commit("change", lambda root: root["a"].update(x=2, y=[1, 2]))
    made.commit("elsewhere", lambda root: root.update(n=1))
    made.commit("again", lambda root: root["a"].update(x=3))
    made.undo("back")
    made.commit("short-lived", lambda root: root.update(b=PersistentMapping()))
    made.undo("gone")
    return made


def test_transactions_come_newest_first(written):
    """Each with the number of its objects and the bytes of their data; what an undo brings back has its bytes, too."""
    source = written.close()
    entries = list(log(source))
    notes = [entry.transaction.description.decode() for entry in entries]
    assert notes == ["gone", "short-lived", "back", "again", "elsewhere", "change", "make", "initial database creation"]
    assert [entry.objects for entry in entries] == [2, 2, 1, 1, 1, 1, 2, 1]
    sizes = [entry.bytes for entry in entries]
    assert sizes == [sum(len(r.data or b"") for r in source.records(entry.transaction)) for entry in entries]
    assert min(sizes) > 0
    source.close()


def test_a_log_is_bounded_by_number_and_range(written):
    """Both ends of a range count; nothing beyond the limit is read."""
    source, tids = written.close(), written.tids
    assert [entry.transaction.tid for entry in log(source, limit=2)] == [tids["gone"], tids["short-lived"]]
    within = TidRange(tids["change"], tids["again"])
    assert [entry.transaction.tid for entry in log(source, within=within)] == [
        tids["again"], tids["elsewhere"], tids["change"],
    ]  # fmt: skip
    assert list(log(source, within=TidRange(tids["gone"] + 1))) == []
    read = []
    records = source.records
    source.records = lambda found: read.append(found.tid) or records(found)
    next(log(source))
    assert read == [tids["gone"]]
    source.close()


def test_an_object_has_its_revisions_with_what_changed(written):
    """Only the transactions in which it changed; each compared with the revision before, also beyond the range."""
    source, tids = written.close(), written.tids
    found = log_object(Snapshot(source), "root.a")
    entries = list(found.revisions)
    assert (found.path, found.followed) == ("root.a", 0)
    assert [(entry.tid, entry.change, entry.restored_tid) for entry in entries] == [
        (tids["back"], "undone", tids["change"]), (tids["again"], "changed", None), (tids["change"], "changed", None),
        (tids["make"], "new", None),
    ]  # fmt: skip
    assert [entry.changes for entry in entries] == [
        (AttributeChange("['x']", 3, 2),), (AttributeChange("['x']", 2, 3),),
        (AttributeChange("['x']", 1, 2), AttributeChange("['y']", ABSENT, [1, 2])),
        (AttributeChange("['x']", ABSENT, 1),),
    ]  # fmt: skip
    assert [entry.transaction.description for entry in entries] == [b"back", b"again", b"change", b"make"]
    within = TidRange(tids["change"], tids["elsewhere"])
    assert [entry.changes for entry in log_object(Snapshot(source), "root.a", within=within).revisions] == [
        entries[2].changes
    ]
    assert [entry.tid for entry in log_object(Snapshot(source), "root.a", limit=1).revisions] == [tids["back"]]
    assert [entry.tid for entry in log_object(Snapshot(source), "root.a['y'][0]").revisions] == [tids["change"]]
    source.close()


def test_an_object_that_is_gone_still_has_a_log(written):
    """By its oid: its creation, and that this was undone. What never was is not found."""
    source, tids = written.close(), written.tids
    before = Snapshot(source, tids["short-lived"])
    oid = log_object(before, "root.b").oid
    entries = list(log_object(Snapshot(source), str(oid)).revisions)
    assert [(entry.tid, entry.change, entry.class_, entry.bytes) for entry in entries] == [
        (tids["gone"], "deleted", None, 0),
        (tids["short-lived"], "new", "persistent.mapping.PersistentMapping", len(before.load(oid).data)),
    ]
    with pytest.raises(ObjectNotFound, match="there never was an object 0xffff"):
        log_object(Snapshot(source), "0xffff")
    source.close()


def test_changes_in_buckets_are_changes_of_the_btree(tmp_path):
    """One entry a transaction, by key, though the tree's own record is not written; a split moves no key."""
    made = Written(tmp_path / "my.fs")
    made.commit("make", lambda root: root.update(t=OOBTree({f"k{n:03}": n for n in range(20)})))
    made.commit("grow", lambda root: root["t"].update({f"k{n:03}": n for n in range(20, 100)}))
    made.commit("touch", lambda root: root["t"].update({"k005": -5, "k095": -95}))
    made.commit("insert", lambda root: root["t"].update({f"k050{n}": n for n in range(30)}))
    made.commit("other", lambda root: root.update(n=1))
    source, tids = made.close(), made.tids
    found = log_object(Snapshot(source), "root.t")
    assert found.followed > 4
    entries = {entry.tid: entry for entry in found.revisions}
    assert list(entries) == [tids["insert"], tids["touch"], tids["grow"], tids["make"]]
    assert entries[tids["touch"]].changes == (AttributeChange("['k005']", 5, -5), AttributeChange("['k095']", 95, -95))
    assert {(change.name, change.old, change.new) for change in entries[tids["insert"]].changes} == {
        (f"['k050{n}']", ABSENT, n) for n in range(30)
    }
    assert {change.name for change in entries[tids["grow"]].changes} == {f"['k{n:03}']" for n in range(20, 100)}
    assert len(entries[tids["make"]].changes) == 20
    source.close()


def test_a_revision_that_cannot_be_decoded_does_not_end_the_log(written):
    """The comparison says why there is none; the other revisions are compared."""
    tid = written.tids["change"]
    source = written.close()
    data = Snapshot(source, tid).load(log_object(Snapshot(source), "root.a").oid).data
    source.close()
    with open(written.path, "rb+") as file:
        file.seek(file.read().index(data))
        file.write(b"\xff")
    source = FileSource(written.path)
    entries = list(log_object(Snapshot(source), "root", limit=1).revisions)
    assert entries[0].trouble is None
    troubles = {entry.tid: entry.trouble for entry in log_object(Snapshot(source), "0x01").revisions}
    assert [tid for tid, trouble in troubles.items() if trouble] == [
        written.tids["back"], written.tids["again"], written.tids["change"],
    ]  # fmt: skip
    assert (
        troubles[tid] == "the record of 0x01 cannot be decoded: byte 0xff is no instruction (at byte 0 of the record)"
    )
    source.close()


def test_buckets_that_a_tree_had_earlier_count_as_its_own(tmp_path):
    """A tree that is cleared and filled again, its clearing undone: each key in the transaction that changed it."""
    made = Written(tmp_path / "my.fs")
    made.commit("make", lambda root: root.update(t=OOBTree({f"k{n:03}": n for n in range(100)})))
    made.commit("touch", lambda root: root["t"].update({"k050": "x"}))
    made.commit("clear", lambda root: root["t"].clear())
    made.undo("back")
    made.commit("again", lambda root: (root["t"].clear(), root["t"].update({"k050": "y"})))
    source, tids = made.close(), made.tids
    entries = list(log_object(Snapshot(source), "root.t").revisions)
    assert [(entry.tid, entry.change, entry.class_) for entry in entries] == [
        (tids[note], change, "BTrees.OOBTree.OOBTree")
        for note, change in (
            ("again", "changed"), ("back", "undone"), ("clear", "changed"), ("touch", "changed"), ("make", "new"),
        )
    ]  # fmt: skip
    full = {f"['k{n:03}']": n if n != 50 else "x" for n in range(100)}
    found = [{change.name: (change.old, change.new) for change in entry.changes} for entry in entries]
    assert found == [
        {name: (value, "y" if name == "['k050']" else ABSENT) for name, value in full.items()},
        {name: (ABSENT, value) for name, value in full.items()},
        {name: (value, ABSENT) for name, value in full.items()},
        {"['k050']": (50, "x")},
        {name: (ABSENT, value if name != "['k050']" else 50) for name, value in full.items()},
    ]
    value = log_object(Snapshot(source), "root.t['k050']")
    assert (value.path, value.owner_path) == ("root.t['k050']", "root.t")
    assert [(entry.tid, entry.changes) for entry in value.revisions] == [
        (tids["again"], (AttributeChange("['k050']", "x", "y"),)),
        (tids["back"], (AttributeChange("['k050']", ABSENT, "x"),)),
        (tids["clear"], (AttributeChange("['k050']", "x", ABSENT),)),
        (tids["touch"], (AttributeChange("['k050']", 50, "x"),)),
        (tids["make"], (AttributeChange("['k050']", ABSENT, 50),)),
    ]
    source.close()


def test_a_large_tree_is_followed(tmp_path):
    """A change of one of 20,000 keys is the tree's; where the limit leaves out buckets, the entries say so."""
    made = Written(tmp_path / "my.fs")
    made.commit("make", lambda root: root.update(t=OOBTree({n: n for n in range(20_000)})))
    made.commit("last", lambda root: root["t"].update({19_999: "x"}))
    source, tids = made.close(), made.tids
    found = log_object(Snapshot(source), "root.t")
    newest, oldest = found.revisions
    assert (newest.tid, newest.changes, newest.partial) == (
        tids["last"], (AttributeChange("[19999]", 19_999, "x"),), False,
    )  # fmt: skip
    assert (len(oldest.changes), oldest.objects, oldest.partial) == (20_000, found.followed + 1, False)
    history = History(source, found.oid, source.last_tid, limit=10)
    assert (history.followed, history.partial) == (10, True)
    source.close()
