"""Which nodes are compared: changed ones, and those that only one state of the tree leads to."""

from zodbsh.analysis.treediff import NodePair, tree_changes
from zodbsh.record.values import Global, Record, Ref

TREE = Global("BTrees.OOBTree", "OOBTree")
BUCKET = Global("BTrees.OOBTree", "OOBucket")


def inner(*oids):
    parts = [part for oid in oids for part in (f"k{oid}", Ref(oid))][1:]
    return Record(TREE, (), (tuple(parts), Ref(oids[0])), ())


def bucket(**items):
    return Record(BUCKET, (), (tuple(part for pair in items.items() for part in pair),), ())


EMPTY = Record(TREE, (), None, ())


def test_only_what_one_side_leads_to_is_loaded():
    """Of two children, the one that is dropped is loaded; the one that stays and did not change is not."""
    loaded = []
    gone = bucket(b=2)
    changed = {1: NodePair(1, inner(2, 3), inner(2))}
    found = tree_changes(changed, lambda oid: loaded.append(oid) or gone, loaded.append)
    assert (found.pairs, found.partial) == ({1: [changed[1], NodePair(3, gone, None)]}, False)
    assert loaded == [3]


def test_a_changed_bucket_below_an_unchanged_node_that_was_dropped_belongs_to_the_tree():
    """What it holds now is no part of the tree any more."""
    before, after = bucket(a=1), bucket(a=2)
    changed = {4: NodePair(4, before, after), 1: NodePair(1, inner(2, 3), EMPTY)}
    stored = {2: inner(4), 3: inner(5), 5: bucket(b=1)}
    found = tree_changes(changed, stored.get, stored.get)
    assert list(found.pairs) == [1]
    assert sorted(found.pairs[1][1:], key=lambda pair: pair.oid) == [
        NodePair(2, stored[2], None), NodePair(3, stored[3], None), NodePair(4, before, None),
        NodePair(5, stored[5], None),
    ]  # fmt: skip


def test_a_child_that_moves_below_a_new_node_is_no_difference():
    """A node that is split: its children are compared only where they changed."""
    changed = {1: NodePair(1, inner(2, 3), inner(8, 9)), 8: NodePair(8, None, inner(2)), 9: NodePair(9, None, inner(3))}
    found = tree_changes(changed, {}.__getitem__, {}.__getitem__)
    assert found.pairs == {1: [changed[1], changed[8], changed[9]]}


def test_a_limit_says_that_it_left_something_out():
    stored = {2: bucket(a=1), 3: bucket(b=1)}
    found = tree_changes({1: NodePair(1, inner(2, 3), EMPTY)}, stored.get, stored.get, limit=1)
    assert found.partial
    assert [pair.old for pair in found.pairs[1][1:]] == [stored[2], None]


def test_nodes_that_lead_to_each_other_are_still_shown():
    changed = {1: NodePair(1, inner(2), inner(2)), 2: NodePair(2, inner(1), inner(1))}
    assert tree_changes(changed, {}.get, {}.get).pairs == {1: [changed[1]], 2: [changed[2]]}
