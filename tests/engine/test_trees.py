"""What the native engine certifies is what the check in Python finds nothing wrong with."""

import os
import random
from array import array

import pytest
import ZODB
import ZODB.FileStorage
from BTrees import OOBTree
from BTrees.IIBTree import IIBTree
from BTrees.IOBTree import IOBTree
from BTrees.LFBTree import LFBTree
from BTrees.LLBTree import LLTreeSet
from BTrees.OIBTree import OIBTree
from BTrees.QQBTree import QQBTree

from zodbsh.analysis.graph import ObjectGraph
from zodbsh.analysis.treecheck import FORMS, Tally, certifier_of, check_tree, check_trees
from zodbsh.analysis.treetops import TreeTops
from zodbsh.engine import chosen
from zodbsh.engine.columns import NONE, Options
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot

FLIPS = 20_000 if os.environ.get("ZODBSH_CAMPAIGN") else 600
pytestmark = pytest.mark.skipif(chosen.Certifier is None, reason="the native engine is not built")


@pytest.fixture
def database(tmp_path, no_fsync):
    """Trees and sets of many families, empty, small and of several levels."""
    path = tmp_path / "trees.fs"
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    with db.transaction() as connection:
        for size in (0, 1, 70, 900):
            number = range(size)
            connection.root()[size] = [
                OOBTree.OOBTree({f"key ü {n:04}": n for n in number}),
                OOBTree.OOBTree({b"%04d" % n: n for n in number}),
                OOBTree.OOTreeSet([f"{n:05}" for n in number]), IOBTree({n * 7 - 100: str(n) for n in number}),
                IIBTree({n: -n for n in number}), LFBTree({n << 33: n / 3 for n in number}),
                LLTreeSet([n << 40 for n in number]), OIBTree({f"{n:04}": n for n in number}),
                QQBTree({n: n for n in number}), OOBTree.OOBTree({(n, str(n)): n for n in number}),
            ]  # fmt: skip
    db.close()
    return path


def look(path):
    """Return what the native engine and the check in Python say of each tree: nodes certified, findings, nodes."""
    source = FileSource(str(path), unchecked=True)
    try:
        found = source.survey(options=Options(), on_damage=lambda _: None)
        graph = ObjectGraph(Snapshot(source), found.columns)
        tops = TreeTops(graph)
        owners = array("I", [NONE]) * len(found.columns)
        certifier = certifier_of(graph, tops, owners)

        def claim(oid, top):
            owners[found.columns.find(oid)] = found.columns.find(top)

        for number in tops.numbers(lambda number: owners[number] != NONE):
            if number not in tops.nodes:
                continue
            nodes, tally, top = certifier.certify(number), Tally(), found.columns.oids[number]
            yield nodes, check_tree(graph.snapshot, top, tally=tally, claim=claim), tally.nodes
    finally:
        source.close()


def inside(path):
    """Return the places in a file that are within records' data: what framing says nothing of."""
    source = FileSource(str(path))
    columns = source.columns()
    source.close()
    return [
        place
        for number in range(len(columns))
        for place in range(columns.where[number] + 42, columns.where[number] + 42 + columns.sizes[number])
    ]


def test_sound_trees_with_plain_keys_are_certified(database):
    """All but those with tuples as keys, and with as many nodes."""
    found = list(look(database))
    assert len(found) == 40
    assert all(findings == [] for _, findings, _ in found)
    assert sum(nodes == 0 for nodes, _, _ in found) == 3
    assert all(nodes in (0, wanted) for nodes, _, wanted in found)


def test_nothing_wrong_is_certified(database):
    """Whatever bytes of the file are changed."""
    rand = random.Random(5)
    data, places = database.read_bytes(), inside(database)
    certified = wrong = 0
    for _ in range(FLIPS // 40):
        changed = bytearray(data)
        for _ in range(40):
            changed[rand.choice(places)] = rand.choice((rand.randrange(256), ord("0"), 0))
        database.write_bytes(changed)
        for nodes, findings, wanted in look(database):
            if nodes:
                assert findings == []
                assert nodes == wanted
                certified += 1
            wrong += bool(findings)
    assert certified
    assert wrong


def test_both_ways_find_the_same(database):
    """A database's findings do not depend on the engine."""
    rand = random.Random(6)
    data, places = bytearray(database.read_bytes()), inside(database)
    for _ in range(200):
        data[rand.choice(places)] = ord("0")
    database.write_bytes(data)
    answers = []
    for certifier in (chosen.Certifier, None):
        before, chosen.Certifier = chosen.Certifier, certifier
        source = FileSource(str(database), unchecked=True)
        try:
            found = source.survey(options=Options(), on_damage=lambda _: None)
            tally = Tally()
            answers.append((list(check_trees(ObjectGraph(Snapshot(source), found.columns), tally=tally)), tally.nodes))
        finally:
            chosen.Certifier = before
            source.close()
    assert answers[0] == answers[1]
    assert answers[0][0]


def test_forms_are_numbered_as_the_engine_has_them():
    """BTree 1, TreeSet 2, Bucket 3, Set 4: a bucket is its tree's form and two."""
    assert FORMS == ("", "BTree", "TreeSet", "Bucket", "Set")
