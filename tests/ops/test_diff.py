"""``diff``: attribute by attribute, a BTree by key, text by line."""

from __future__ import annotations

import io
from contextlib import closing

import BTrees.IIBTree
import BTrees.OOBTree
import pytest
from ZODB.blob import Blob

from zodbsh.analysis.compare import ABSENT
from zodbsh.analysis.target import TargetNotFound
from zodbsh.db.session import Session
from zodbsh.db.source import open_source
from zodbsh.errors import UsageError
from zodbsh.ids import oid_text
from zodbsh.ops.diff import diff_changes, diff_range
from zodbsh.render.diff import DiffView
from zodbsh.render.output import Output, emit


@pytest.fixture
def session(path):
    with Session.open(str(path)) as opened:
        yield opened


def difference(session, target=None):
    return diff_changes(session.source(), session.pending(), target=target)


def names(diff):
    return {
        (item.path, item.change): {change.name: (change.old, change.new) for change in item.attributes}
        for item in diff.objects
    }


def shown(diff):
    out = io.StringIO()
    emit(DiffView(diff), Output(stdout=out, color="never"))
    return out.getvalue()


def test_nothing(session):
    assert difference(session).objects == ()
    assert shown(difference(session)) == "nothing changes\n"


def test_attributes(session, bank):
    account = session.root.account
    account.balance = 20
    account.owner = "carol"
    del account.entries
    session.root.fresh = bank.Account(1)
    assert names(difference(session)) == {
        ("root.account", "changed"): {"balance": (10, 20), "owner": (ABSENT, "carol"), "entries": ([], ABSENT)},
        ("root", "changed"): {"['fresh']": (ABSENT, difference(session).objects[1].attributes[0].new)},
        ("root.fresh", "new"): {"balance": (ABSENT, 1), "entries": (ABSENT, [])},
    }


def test_text_by_line(session):
    session.root.text = "one\ntwo\nthree\n"
    session.commit()
    session.root.text = "one\n2\nthree\n"
    assert shown(difference(session)) == (
        "root  persistent.mapping.PersistentMapping 0x00  changed\n"
        "  ~ ['text']:\n"
        "      @@ -1,3 +1,3 @@\n"
        "       one\n"
        "      -two\n"
        "      +2\n"
        "       three\n"
    )


def test_what_a_person_reads(session, bank):
    session.root.account.balance = 20
    session.root.account.entries = [1, "\x1b[31m"]
    session.root.fresh = bank.Account(1)
    fresh = oid_text(difference(session).objects[2].oid)
    assert shown(difference(session)) == (
        "root.account  bank.Account 0x01  changed\n"
        "  ~ balance: 10 -> 20\n"
        "  ~ entries:\n"
        "      + entries[0]: 1\n"
        "      + entries[1]: '\\x1b[31m'\n"
        "\n"
        "root  persistent.mapping.PersistentMapping 0x00  changed\n"
        f"  + ['fresh']: <bank.Account {fresh}>\n"
        "\n"
        f"root.fresh  bank.Account {fresh}  new\n"
        "  + balance: 1\n"
        "  + entries: []\n"
    )


def test_a_tree_by_key_however_many_buckets(session):
    """Keys that only moved from one bucket to another did not change."""
    session.root.tree = BTrees.OOBTree.OOBTree({number: number for number in range(25)})
    session.commit()
    for number in range(25, 200):
        session.root.tree[number] = number
    session.root.tree[3] = "three"
    del session.root.tree[4]
    (item,) = difference(session).objects
    assert (item.path, item.class_, item.change) == ("root.tree", "BTrees.OOBTree.OOBTree", "changed")
    assert item.records > 3
    changes = {change.name: (change.old, change.new) for change in item.attributes}
    assert changes.pop("[3]") == (3, "three")
    assert changes.pop("[4]") == (4, ABSENT)
    assert changes == {f"[{number}]": (ABSENT, number) for number in range(25, 200)}


def test_a_change_in_one_bucket_is_the_trees(session):
    session.root.tree = BTrees.OOBTree.OOBTree({f"{number:03}": number for number in range(200)})
    session.commit()
    session.root.tree["150"] = "x"
    (item,) = difference(session).objects
    assert (item.path, item.oid, item.class_) == ("root.tree", 3, "BTrees.OOBTree.OOBTree")
    assert [(change.name, change.old, change.new) for change in item.attributes] == [("['150']", 150, "x")]


def test_a_set_by_member(session):
    session.root.set = BTrees.OOBTree.OOTreeSet(range(100))
    session.commit()
    session.root.set.add(1000)
    (item,) = difference(session).objects
    assert [(change.name, change.old, change.new) for change in item.attributes] == [("{1000}", ABSENT, 1000)]


@pytest.mark.parametrize(
    ("kind", "content", "again"),
    [
        (BTrees.OOBTree.OOBTree, {f"k{number:03}": number for number in range(2000)}, {"new": 1}),
        (BTrees.OOBTree.OOTreeSet, [f"k{number:03}" for number in range(2000)], ["new"]),
        (BTrees.IIBTree.IITreeSet, range(2000), [9999]),
        (BTrees.OOBTree.OOBTree, {"few": 1}, {"new": 1}),
    ],
)
def test_a_tree_that_is_cleared_loses_every_key(session, kind, content, again):
    """Though no bucket is written: staged, and between two transactions; whoever clears it in whatever way."""
    tree = session.root.tree = kind(content)
    session.commit()
    form = "[{!r}]" if hasattr(tree, "items") else "{{{!r}}}"
    gone = {form.format(key): (tree[key] if hasattr(tree, "items") else key, ABSENT) for key in tree}
    tree.clear()
    assert names(difference(session)) == {("root.tree", "changed"): gone}
    tree.update(again)
    (new,) = tree
    added = {form.format(new): (ABSENT, tree[new] if hasattr(tree, "items") else new)}
    assert names(difference(session)) == {("root.tree", "changed"): {**added, **gone}}
    session.commit()
    assert names(diff_range(session.source(), first=None, last=None)) == {("root.tree", "changed"): {**added, **gone}}


def test_a_tree_that_is_emptied_key_by_key(session):
    """Its buckets, which are written but belong to it no more, are no objects of their own."""
    tree = session.root.tree = BTrees.OOBTree.OOBTree({number: number for number in range(200)})
    session.commit()
    for number in range(200):
        del tree[number]
    assert names(difference(session)) == {
        ("root.tree", "changed"): {f"[{number}]": (number, ABSENT) for number in range(200)}
    }
    tree.update({number: -number for number in range(100, 300)})
    assert names(difference(session)) == {
        ("root.tree", "changed"): {f"[{number}]": (number, ABSENT) for number in range(100)}
        | {f"[{number}]": (number, -number) for number in range(100, 200)}
        | {f"[{number}]": (ABSENT, -number) for number in range(200, 300)}
    }


def test_a_cleared_tree_that_comes_back(session):
    """An undo writes the tree's own record only; its old buckets are its own again."""
    tree = session.root.tree = BTrees.OOBTree.OOBTree({number: number for number in range(100)})
    session.commit()
    tree.clear()
    session.commit()
    db = session.connection.db()
    db.undo(db.undoInfo(0, 1)[0]["id"], session.transaction.get())
    session.transaction.commit()
    found = diff_range(session.source(), first=None, last=None)
    assert names(found) == {("root.tree", "changed"): {f"[{number}]": (ABSENT, number) for number in range(100)}}


def test_a_long_list_of_changes_is_cut_for_people(session):
    session.root.tree = BTrees.IIBTree.IIBTree({number: number for number in range(400)})
    session.commit()
    session.root.tree.clear()
    lines = shown(difference(session)).splitlines()
    assert lines[0] == "root.tree  BTrees.IIBTree.IIBTree 0x03  changed"
    assert lines[300:] == ["  - [299]: 299", "  (... and 100 more: --format json)"]


def test_an_object_that_is_stored_again(session):
    session.root.account._p_changed = True
    assert shown(difference(session)) == (
        "root.account  bank.Account 0x01  changed\n  (stored again, nothing different)\n"
    )


def test_of_a_value_within_an_object(session):
    """Only its own changes, and those of what it lies in."""
    session.root.plain = {"a": [1, 2], "b": 1}
    session.root.tree = BTrees.OOBTree.OOBTree({f"k{number:03}": number for number in range(200)})
    session.commit()
    session.root.plain = {"a": [1, 3], "b": 2}
    session.root.other = 1
    session.root.tree.update({"k100": "x", "k101": "y"})
    assert names(difference(session, "root.plain['a'][1]")) == {("root", "changed"): {"['plain']['a'][1]": (2, 3)}}
    assert names(difference(session, "root.plain['a'][0]")) == {}
    assert names(difference(session, "/other")) == {("root", "changed"): {"['other']": (ABSENT, 1)}}
    assert names(difference(session, "root.tree['k100']")) == {("root.tree", "changed"): {"['k100']": (100, "x")}}
    assert names(difference(session, "root.tree['k102']")) == {}
    del session.root.tree["k102"], session.root.other
    assert names(difference(session, "root.tree['k102']")) == {("root.tree", "changed"): {"['k102']": (102, ABSENT)}}


def test_of_one_target(session):
    session.root.account.deposit(1)
    session.root.counter.value = 1
    assert [item.path for item in difference(session, "root.counter").objects] == ["root.counter"]
    assert [item.path for item in difference(session, "root.counter.value").objects] == ["root.counter"]
    assert [item.path for item in difference(session, "0x01").objects] == ["root.account"]
    assert difference(session, "root").objects == ()
    with pytest.raises(TargetNotFound):
        difference(session, "root.nothing")


def test_a_new_object_by_its_path(session, bank):
    session.root.account.friend = bank.Account()
    assert [item.change for item in difference(session, "root.account.friend").objects] == ["new"]


def test_an_outdated_entry_is_compared_with_what_it_was_made_to(path, witness):
    with Session.open(str(path), read_only=True) as session:
        session.root.account.deposit(1)
        pending = session.pending()
    with witness(path) as root:
        root["account"].balance = 77
    with closing(open_source(str(path))) as source:
        assert names(diff_changes(source, pending)) == {("root.account", "changed"): {"balance": (10, 11)}}


def test_a_blob_by_its_size(tmp_path, bank, witness):
    path, blobs = tmp_path / "b.fs", tmp_path / "blobs"
    with witness(path, blobs) as root:
        root["blob"] = Blob(b"one")
    with Session.open(str(path), blobs=str(blobs)) as session:
        with session.root.blob.open("w") as file:
            file.write(b"three")
        assert names(difference(session)) == {("root.blob", "changed"): {"(blob bytes)": (3, 5)}}
        session.commit()
        found = diff_range(session.source(), first=None, last=None)
        assert names(found) == {("root.blob", "changed"): {"(blob bytes)": (3, 5)}}
        with session.root.blob.open("w") as file:
            file.write(b"seven!!")
        session.root.fresh = Blob(b"four")
        assert names(difference(session))[("root.fresh", "new")] == {"(blob bytes)": (ABSENT, 4)}
        with closing(open_source(str(path))) as source:  # which knows of no blobs
            found = diff_changes(source, session.pending(), target="root.blob")
        assert shown(found) == "root.blob  ZODB.blob.Blob 0x01  changed\n  ~ (blob bytes): (unknown) -> 7\n"


def test_between_two_transactions(path, witness, bank):
    with closing(open_source(str(path))) as source:
        first = source.last_tid
    with witness(path) as root:
        root["account"].balance = 11
        root["late"] = bank.Account(1)
    with closing(open_source(str(path))) as source:
        second = source.last_tid
    with witness(path) as root:
        root["account"].balance = 12
    with closing(open_source(str(path))) as source:
        third = source.last_tid
        assert names(diff_range(source, first=first, last=second))[("root.account", "changed")] == {"balance": (10, 11)}
        assert names(diff_range(source, first=first, last=None))[("root.account", "changed")] == {"balance": (10, 12)}
        assert names(diff_range(source, first=None, last=second)) == names(diff_range(source, first=first, last=second))
        only = diff_range(source, first=None, last=None)
        assert (only.old_tid, only.new_tid) == (second, third)
        assert names(only) == {("root.account", "changed"): {"balance": (11, 12)}}
        everything = diff_range(source, first=0, last=None)
        assert {(item.path, item.change) for item in everything.objects} == {
            ("root", "new"), ("root.account", "new"), ("root.counter", "new"), ("root.late", "new"),
        }  # fmt: skip
        assert diff_range(source, first=third, last=third).objects == ()
        with pytest.raises(UsageError):
            diff_range(source, first=third, last=first)


def test_what_is_undone_did_not_change(path, witness):
    """Only the states at both ends count; an undone creation is a deletion."""
    with closing(open_source(str(path))) as source:
        first = source.last_tid
    with witness(path) as root:
        root["account"].balance = 11
    with witness(path) as root:
        root["account"].balance = 10
    with closing(open_source(str(path))) as source:
        assert diff_range(source, first=first, last=None).objects == ()


def test_a_deleted_object(path, witness, bank):
    with witness(path) as root:
        root["late"] = bank.Account(1)
    with closing(open_source(str(path))) as source:
        second = source.last_tid
    with witness(path) as root:
        db = root._p_jar.db()
        db.undo(db.undoInfo(0, 1)[0]["id"], root._p_jar.transaction_manager.get())
    with closing(open_source(str(path))) as source:
        found = names(diff_range(source, first=second, last=None))
        assert found[("root.late", "deleted")] == {"balance": (1, ABSENT), "entries": ([], ABSENT)}
        assert found[("root", "changed")]["['late']"][1] is ABSENT
