"""BTrees over records: every key, in order, and no way for a damaged tree to hold the reader."""

from types import SimpleNamespace

import pytest
from BTrees.IIBTree import IISet
from BTrees.OOBTree import OOBTree, OOTreeSet
from hypothesis import given, settings
from hypothesis import strategies as st

from zodbsh.analysis.records import DanglingReference
from zodbsh.analysis.trees import Tree, TreeDamaged
from zodbsh.errors import ExitCode
from zodbsh.record.values import Global, Record, Ref

TREE = Global("BTrees.OOBTree", "OOBTree")
BUCKET = Global("BTrees.OOBTree", "OOBucket")


def tree_of(snapshot, oid=0):
    return Tree.of(snapshot, oid, snapshot.record(oid))


def bucket(*pairs, after=None):
    state = (tuple(part for pair in pairs for part in pair),)
    return Record(BUCKET, (), state if after is None else (*state, Ref(after)), ())


def node(*inside, first):
    return Record(TREE, (), (tuple(Ref(part) if i % 2 == 0 else part for i, part in enumerate(inside)), Ref(first)), ())


@given(st.dictionaries(st.one_of(st.text(max_size=3)), st.integers(), min_size=1, max_size=60), st.data())
@settings(max_examples=60, deadline=None)
def test_descent_finds_what_is_there_and_nothing_else(content, data):
    """Any shape of tree over sorted keys: each key gives its value, any other None, and the order is the tree's."""
    keys = sorted(content)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(keys)), max_size=6)) | {len(keys)})
    records, starts = {}, [0, *cuts[:-1]]
    for number, (start, stop) in enumerate(zip(starts, cuts, strict=True), 1):
        after = number + 1 if number < len(cuts) else None
        records[number] = bucket(*((key, content[key]) for key in keys[start:stop]), after=after)
    inside = [1]
    for number, start in enumerate(starts[1:], 2):
        inside += [keys[start], number]
    snapshot = SimpleNamespace(record=records.__getitem__)
    records[0] = node(*inside, first=1)
    tree = tree_of(snapshot)
    assert [(entry.key, entry.value) for entry in tree.entries()] == sorted(content.items())
    assert all(tree.find(key).value == content[key] for key in keys)
    absent = data.draw(st.text(max_size=3).filter(lambda key: key not in content))
    assert tree.find(absent) is None
    assert [entry.key for entry in tree.entries(absent)][-1] == keys[-1]


def test_a_tree_is_read_lazily(store):
    """The first entries of a tree cost its top, the way down, and one bucket."""
    snapshot = store({"tree": OOBTree({number: number for number in range(5_000)})})
    read = []
    record = snapshot.record
    snapshot.record = lambda oid: read.append(oid) or record(oid)
    tree = tree_of(snapshot, 1)
    assert next(tree.entries()).key == 0
    assert len(read) < 8
    assert tree.find(4_321).value == 4_321
    assert len(read) < 16
    assert tree.count(10) == (150, False)
    assert tree.count(10_000) == (5_000, True)


def test_a_set_has_keys_only(store):
    """TreeSets and sets give keys without values, and say that they are sets."""
    snapshot = store({"set": OOTreeSet("abc"), "numbers": IISet([3, 1])})
    found = {oid: tree_of(snapshot, oid) for oid in (1, 2)}
    assert all(tree.is_set for tree in found.values())
    shown = sorted(str([entry.key for entry in tree.entries()]) for tree in found.values())
    assert shown == ["['a', 'b', 'c']", "[1, 3]"]


def test_a_tree_that_comes_back_to_itself_is_damage(fake):
    """A cycle among the nodes ends with an error that names the node; exit status 6."""
    snapshot = fake({0: node(1, first=1), 1: node(2, first=2), 2: node(1, first=1)})
    with pytest.raises(TreeDamaged) as caught:
        list(tree_of(snapshot).entries())
    assert caught.value.message == "the tree 0x00 comes back to its node 0x01"
    assert caught.value.exit_code == ExitCode.DAMAGED


def test_a_chain_of_buckets_that_comes_back_is_damage(fake):
    """A bucket whose next one lies before it ends with an error; what comes first is read, and a key is still found."""
    snapshot = fake({0: node(1, "m", 2, first=1), 1: bucket(("a", 1), after=2), 2: bucket(("m", 2), after=1)})
    entries = tree_of(snapshot).entries()
    assert [next(entries).key, next(entries).key] == ["a", "m"]
    with pytest.raises(TreeDamaged, match="the tree 0x00 comes back to its node 0x01: it is next to 0x02"):
        next(entries)
    assert tree_of(snapshot).find("m").value == 2


def test_a_child_that_comes_twice_is_damage(fake):
    """A node that hangs in two places of a tree is read once, and named."""
    snapshot = fake({0: node(1, "m", 1, first=1), 1: bucket(("a", 1))})
    with pytest.raises(TreeDamaged, match="the tree 0x00 comes back to its node 0x01"):
        list(tree_of(snapshot).entries())


def test_a_tree_deeper_than_any_is_damage(fake):
    """A chain of nodes without end is not followed for ever."""
    snapshot = fake({oid: node(oid + 1, first=1) for oid in range(10_000)})
    with pytest.raises(TreeDamaged):
        tree_of(snapshot).find("x")


def test_a_missing_bucket_names_its_node(fake):
    """A BTree with a bucket that is gone says which, and where it hung."""
    snapshot = fake({0: node(1, "m", 2, first=1), 1: bucket(("a", 1))})
    with pytest.raises(DanglingReference, match="the record of 0x00 refers to 0x02, which does not exist"):
        list(tree_of(snapshot).entries())
    assert tree_of(snapshot).find("a").value == 1


def test_a_node_of_another_class_is_damage(fake):
    """A child that is no part of a tree is named with its class."""
    snapshot = fake({0: node(1, first=1), 1: Record(Global("people", "Person"), (), None, ())})
    with pytest.raises(TreeDamaged, match=r"the tree 0x00 has a node 0x01 that is a people\.Person"):
        list(tree_of(snapshot).entries())


def test_a_state_of_no_known_form_is_damage(fake):
    """A tree's record that holds no tree says whose it is."""
    with pytest.raises(TreeDamaged, match="0x00: a BTree whose state is no tuple of tuples"):
        tree_of(fake({0: Record(TREE, (), [1], ())}))


def test_references_and_classes_as_keys_are_not_compared(fake):
    """A key that only looks like a tuple to Python is not found by comparison with one."""
    snapshot = fake({0: node(1, first=1), 1: bucket((Ref(7), "ref"), (Global("m", "C"), "class"))})
    tree = tree_of(snapshot)
    assert tree.find(("m", "C")) is None
    assert [entry.value for entry in tree.entries()] == ["ref", "class"]
