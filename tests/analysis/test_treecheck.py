"""BTrees checked from their records: everything that BTrees' own checks find, and nothing in a sound tree."""

import importlib
import sys
import types
from types import SimpleNamespace

import BTrees.check
import pytest
import transaction
import ZODB
from BTrees.OOBTree import OOBTree, OOBucket, OOTreeSet
from hypothesis import given, settings
from hypothesis import strategies as st
from persistent.mapping import PersistentMapping
from ZODB.MappingStorage import MappingStorage
from ZODB.utils import p64, u64

from zodbsh.analysis.graph import ObjectGraph
from zodbsh.analysis.treecheck import Tally, TreeFinding, check_tree, check_trees
from zodbsh.record.decode import decode_record
from zodbsh.record.values import Global, Record, Ref
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot

FAMILIES = sorted(BTrees.check._FAMILIES)
TREE = Global("BTrees.OOBTree", "OOBTree")
BUCKET = Global("BTrees.OOBTree", "OOBucket")


def bucket(*keys, after=None, class_=BUCKET):
    state = (tuple(part for key in keys for part in (key, None)),)
    return Record(class_, (), state if after is None else (*state, Ref(after)), ())


def node(*inside, first, class_=TREE):
    parts = tuple(Ref(part) if place % 2 == 0 else part for place, part in enumerate(inside))
    return Record(class_, (), (parts, Ref(first)), ())


def found(snapshot, oid=0, **options):
    return [(finding.kind, finding.oid) for finding in check_tree(snapshot, oid, **options)]


def sound():
    """Return the records of a tree of two inner nodes and four buckets."""
    return {
        0: node(1, "m", 2, first=3),
        1: node(3, "f", 4, first=3),
        2: node(5, "s", 6, first=5),
        3: bucket("a", "b", after=4),
        4: bucket("f", "g", after=5),
        5: bucket("m", "n", after=6),
        6: bucket("s", "t"),
    }


def test_a_sound_tree_has_no_findings(fake):
    """Seven nodes, each read once; nothing to say."""
    tally = Tally()
    assert check_tree(fake(sound()), 0, tally=tally) == []
    assert (tally.trees, tally.nodes, tally.unordered_keys) == (1, 7, 0)


@pytest.mark.parametrize(("changed", "expected"), [
    ({3: bucket("b", "a", after=4)}, [("tree-order", 3)]),
    ({3: bucket("a", "a", after=4)}, [("tree-order", 3)]),
    ({4: bucket("a", "g", after=5)}, [("tree-range", 4)]),
    ({4: bucket("f", "m", after=5)}, [("tree-range", 4)]),
    ({1: node(3, "z", 4, first=3)}, [("tree-range", 1), ("tree-range", 4)]),
    ({0: node(1, "m", 2, first=4)}, [("tree-first", 0)]),
    ({2: node(5, "s", 6, first=6)}, [("tree-first", 2)]),
    ({3: bucket("a", "b", after=5)}, [("tree-chain", 3)]),
    ({4: bucket("f", "g")}, [("tree-chain", 4)]),
    ({6: bucket("s", "t", after=3)}, [("tree-chain", 6)]),
    ({6: bucket("s", "t", after=99)}, [("tree-chain", 6)]),
    ({5: bucket(after=6)}, [("tree-empty", 5)]),
    ({2: Record(TREE, (), None, ())}, [("tree-empty", 2), ("tree-chain", 4)]),
    ({4: None}, [("tree-missing", 1)]),
    ({3: None}, [("tree-missing", 1)]),
    ({4: "a reason"}, [("tree-record", 4)]),
    ({4: Record(BUCKET, (), [], ())}, [("tree-state", 4)]),
    ({4: Record(BUCKET, (), (("f",),), ())}, [("tree-state", 4)]),
    ({1: Record(TREE, (), ((),), ())}, [("tree-state", 1)]),
    ({4: bucket("f", after=5, class_=Global("app", "Bucket"))}, [("tree-class", 1)]),
    ({4: bucket("f", after=5, class_=Global("BTrees.OIBTree", "OIBucket"))}, [("tree-class", 1)]),
    ({1: node(3, "f", 0, first=3)}, [("tree-cycle", 1)]),
    ({1: node(3, "f", 3, first=3)}, [("tree-shared", 1)]),
    ({2: node(1, "s", 6, first=3)}, [("tree-shared", 2)]),
    ({0: node(1, "m", 5, first=3)}, [("tree-depth", 5), ("tree-chain", 5)]),
    ({2: Record(TREE, (), ((((("m", 1)),),),), ())}, [("tree-state", 2)]),
])  # fmt: skip
def test_what_is_wrong_is_found_where_it_is(fake, changed, expected):
    """One change to a sound tree is one finding, or what follows from it directly."""
    records = {oid: record for oid, record in {**sound(), **changed}.items() if record is not None}
    assert found(fake(records)) == expected


def test_a_finding_says_what_is_wrong(fake):
    """Keys stand as Python writes them, long ones cut; nodes by their oids."""
    snapshot = fake({**sound(), 3: bucket("b" * 50, "a", after=5)})
    assert check_tree(snapshot, 0) == [
        TreeFinding("tree-order", 3, f"its keys at 0 and 1 do not ascend: '{'b' * 40}'..., 'a'"),
        TreeFinding("tree-chain", 3, "has the next bucket 0x05, though 0x04 follows"),
    ]


def test_a_chain_of_nodes_without_end_ends(fake):
    """A tree deeper than any is not followed for ever."""
    snapshot = fake({oid: node(oid + 1, first=1) for oid in range(10_000)})
    assert found(snapshot) == [("tree-depth", 64)]


@pytest.mark.parametrize(("keys", "expected", "python2"), [
    ((None, 1, 2.5, 3), [], []),
    ((1, "a"), ["tree-order"], []),
    (("a", 1), ["tree-order"], ["tree-order"]),
    (("a", b"b"), ["tree-order"], []),
    (("é".encode(), "z"), ["tree-order"], ["tree-order"]),
    (((1, "a"), (1, "b"), (2,), (2, "a")), [], []),
    (((2, "a"), (1, "b")), ["tree-order"], ["tree-order"]),
    (((None, 1), (None, 2)), [], []),
    (((None,), ("a",)), ["tree-order"], []),
    ((1.0, float("nan")), ["tree-order"], ["tree-order"]),
    ((Ref(7), Ref(5)), [], []),
    ((Ref(7), Ref(7)), ["tree-order"], ["tree-order"]),
    (((1, Ref(7)), (2, Ref(5))), [], []),
    ((2**70, True), ["tree-order"], ["tree-order"]),
])  # fmt: skip
def test_keys_are_ordered_as_btrees_order_them(fake, keys, expected, python2):
    """None first, numbers by value, tuples by their parts; Python 2 puts numbers first and has one kind of text."""
    snapshot = fake({0: node(1, first=1), 1: bucket(*keys)})
    assert [finding.kind for finding in check_tree(snapshot, 0)] == expected
    assert [finding.kind for finding in check_tree(snapshot, 0, python2=True)] == python2


def test_keys_that_only_code_can_order_are_counted(fake):
    """Persistent objects as keys are no finding; how many were not compared is told."""
    tally = Tally()
    assert check_tree(fake({0: node(1, first=1), 1: bucket(Ref(9), Ref(8), Ref(7))}), 0, tally=tally) == []
    assert tally.unordered_keys == 2


def test_tuples_that_share_their_parts_are_no_trap(fake):
    """Keys that would unfold into 2**200 parts are compared as far as is sensible, and counted."""
    one, other = (1,), (1,)
    for _ in range(200):
        one, other = (one, one), (other, other)
    tally = Tally()
    assert check_tree(fake({0: node(1, first=1), 1: bucket(one, other)}), 0, tally=tally) == []
    assert tally.unordered_keys == 1


@pytest.mark.parametrize(("module", "keys", "values", "expected"), [
    ("IIBTree", (1, 2), (2**31 - 1, -(2**31)), []),
    ("IIBTree", (1, 2**31), (1, 1), ["tree-type"]),
    ("IIBTree", (1, "a"), (1, 1), ["tree-type"]),
    ("IIBTree", (1, 2), (1, 1.5), ["tree-type"]),
    ("UUBTree", (-1, 2), (1, 2**32), ["tree-type", "tree-type"]),
    ("LQBTree", (-(2**63),), (2**64 - 1,), []),
    ("LFBTree", (2**63,), ("a",), ["tree-type", "tree-type"]),
    ("LFBTree", (1,), (1.5,), []),
    ("fsBTree", (b"ab",), (b"abcdef",), []),
    ("fsBTree", (b"abc",), (b"abcde",), ["tree-type", "tree-type"]),
])  # fmt: skip
def test_keys_and_values_are_what_the_family_holds(fake, module, keys, values, expected):
    """Numbers of 32 or 64 bits with or without a sign, floats, 2 and 6 bytes."""
    tree, leaf = (Global(f"BTrees.{module}", module.removesuffix("BTree") + form) for form in ("BTree", "Bucket"))
    state = (tuple(part for pair in zip(keys, values, strict=True) for part in pair),)
    snapshot = fake({0: node(1, first=1, class_=tree), 1: Record(leaf, (), state, ())})
    assert [finding.kind for finding in check_tree(snapshot, 0)] == expected


def test_a_subclass_is_checked(fake):
    """A tree of an application's class is known by its first bucket; its inner nodes are of that class."""
    folder = Global("app", "Folder")
    records = {oid: record._replace(class_=folder) if oid < 3 else record for oid, record in sound().items()}
    records = {
        oid: record._replace(state=(record.state[0], Ref(record.state[1].oid, BUCKET))) if oid < 3 else record
        for oid, record in records.items()
    }
    assert found(fake(records)) == []
    assert found(fake({**records, 4: bucket("g", "f", after=5)})) == [("tree-order", 4)]
    assert found(fake({**records, 2: sound()[2]})) == [("tree-class", 0)]


# Against BTrees' own checks.


def content(family, numbers, *, is_set):
    """Return keys (and values) of a family for some numbers."""
    keys = [number.to_bytes(2, "big") if family == "fs" else f"k{number:05}" if family[0] == "O" else number
            for number in numbers]  # fmt: skip
    value = b"value6" if family == "fs" else "v" if family[1] == "O" else 7
    return keys if is_set else dict.fromkeys(keys, value)


class World:
    """A tree in a storage: its records, and BTrees' own opinion of it."""

    def __init__(self, family, form, numbers, removed=()):
        self.storage = MappingStorage()
        self.db = ZODB.DB(self.storage)
        class_ = getattr(importlib.import_module(f"BTrees.{family}BTree"), family + form)
        with self.db.transaction() as connection:
            connection.root()["tree"] = tree = class_(content(family, numbers, is_set=form == "TreeSet"))
        with self.db.transaction() as connection:
            tree = connection.root()["tree"]
            for key in content(family, removed, is_set=True):
                tree.remove(key) if form == "TreeSet" else tree.pop(key)
            self.top = u64(tree._p_oid)

    def records(self):
        """Return the decoded records of the tree's nodes."""
        oids = sorted(u64(oid) for oid in self.storage._data)
        return {oid: decode_record(self.storage.load(p64(oid))[0]) for oid in oids if oid}

    def complaint(self):
        """Return what BTrees in C says of the tree."""
        connection = self.db.open()
        try:
            tree = connection.root()["tree"]
            tree._check()
            BTrees.check.check(tree)
        except AssertionError as exc:
            return str(exc)
        finally:
            transaction.abort()
            connection.close()
        return None


def complaint_python(records, top):
    """Return what BTrees in Python says of records, which may be broken: its twin in C would crash.

    A tree that it cannot even load, or walk to an end, is one that it complains about.
    """
    nodes = {}
    for oid, record in records.items():
        module = importlib.import_module(record.class_.module)
        nodes[oid] = getattr(module, f"{record.class_.name}Py")()
    try:
        for oid, record in records.items():
            nodes[oid].__setstate__(_resolve(record.state, nodes))
        nodes[top]._check()
        BTrees.check.check(nodes[top])
    except Exception as exc:  # noqa: BLE001 - whatever it says, it complains
        return f"{type(exc).__name__}: {exc}"
    return None


def _resolve(value, nodes):
    if isinstance(value, Ref):
        return nodes[value.oid]
    return tuple(_resolve(part, nodes) for part in value) if type(value) is tuple else value


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("form", ["BTree", "TreeSet"])
@pytest.mark.parametrize("size", [0, 1, 10, 3_000])
def test_healthy_trees_of_every_family_are_sound(family, form, size):
    """Empty, embedded, flat and deep; with a part removed again: neither BTrees nor we complain."""
    world = World(family, form, range(size), range(size // 3, size // 2))
    records = world.records()
    assert world.complaint() is None
    assert complaint_python(records, world.top) is None
    assert check_tree(SimpleNamespace(record=records.__getitem__), world.top) == []


@st.composite
def _mutations(draw, records):
    """Draw one change of one node's state."""
    oid = draw(st.sampled_from(sorted(records)))
    state = records[oid].state
    others = st.sampled_from(sorted(records)).map(Ref)
    scalar = st.one_of(st.integers(-5, 70_000), st.just(2**40), st.just("k00100"), st.just(b"ab"), st.none())
    if state is None:
        return oid, ((), draw(others))
    inside = list(state[0])
    how = draw(st.sampled_from(["swap", "drop", "double", "set", "point", "next", "cut", "empty"]))
    if how in ("swap", "drop", "double", "set", "point") and not inside:
        how = "next"
    place = draw(st.integers(0, max(0, len(inside) - 1)))
    if how == "swap":
        other = draw(st.integers(0, len(inside) - 1).map(lambda n: n - (n - place) % 2))
        inside[place], inside[other] = inside[other], inside[place]
    elif how == "drop":
        del inside[place : place + 2]
    elif how == "double":
        inside[place:place] = inside[place : place + 2]
    elif how == "set":
        inside[place] = draw(scalar)
    elif how == "point":
        inside[place] = draw(others)
    elif how == "next":
        return oid, (tuple(inside), draw(others))
    elif how == "cut":
        return oid, (tuple(inside),)
    else:
        inside = []
    return oid, (tuple(inside), *state[1:])


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_whatever_btrees_complain_about_is_found(data):
    """One random change of one node of a random tree: where BTrees complain, so do we, or say what we cannot tell."""
    family = data.draw(st.sampled_from(FAMILIES))
    form = data.draw(st.sampled_from(["BTree", "TreeSet"]))
    numbers = data.draw(st.sampled_from([range(20), range(200), range(2_500), range(0, 60_000, 25)]))
    world = World(family, form, numbers)
    records = world.records()
    oid, state = data.draw(_mutations(records))
    records[oid] = records[oid]._replace(state=state)
    complaint = complaint_python(records, world.top)
    tally = Tally()
    ours = check_tree(SimpleNamespace(record=records.__getitem__), world.top, tally=tally)
    assert ours or tally.unordered_keys or complaint is None, complaint


# Which trees there are.


def graph_of(path):
    return ObjectGraph.read(Snapshot(FileSource(str(path))))


def test_every_tree_of_a_database_is_checked_once(store):
    """Trees as values of trees, embedded or not, sets and buckets by themselves: each is a top, its nodes are not."""
    inner = OOBTree({number: number for number in range(500)})
    snapshot = store({
        "nested": OOBTree({"one": inner, "two": OOBTree()}), "set": OOTreeSet(range(300)), "bucket": OOBucket({"a": 1}),
        "other": PersistentMapping(),
    })  # fmt: skip
    tally = Tally()
    assert list(check_trees(ObjectGraph.read(snapshot), tally=tally)) == []
    assert tally.trees == 4
    assert tally.nodes == sum("BTrees" in snapshot.class_of(oid) for oid in snapshot.source.oids())


def broken_store(tmp_path, change):
    """Write two trees of two buckets each, whose states ``change`` may set before they are written."""
    db = ZODB.DB(str(tmp_path / "my.fs"))
    with db.transaction() as connection:
        trees = [OOBTree({number: number for number in range(40)}) for _ in range(2)]
        connection.root().update(one=trees[0], other=trees[1])
    with db.transaction() as connection:
        trees = [connection.root()["one"], connection.root()["other"]]
        for tree, state in zip(trees, change(*(tree.__getstate__() for tree in trees), *trees), strict=True):
            tree.__setstate__(state)
            tree._p_changed = True
        oids = [u64(tree._p_oid) for tree in trees]
    db.close()
    return graph_of(tmp_path / "my.fs"), oids


def test_a_bucket_of_two_trees_is_found(tmp_path):
    """The second tree that has it says so, and names the first."""
    graph, oids = broken_store(tmp_path, lambda one, other, *_: (one, one))
    first, second = sorted(oids)
    findings = list(check_trees(graph))
    assert {(finding.kind, finding.oid) for finding in findings} == {("tree-shared", second)}
    assert f"which the tree 0x{first:02x} holds, too" in findings[0].message


def test_a_tree_within_itself_is_found(tmp_path):
    """Trees that are each other's children have no top, and are checked all the same."""
    graph, oids = broken_store(tmp_path, lambda one, two, tree, other: (((other,), one[1]), ((tree,), one[1])))
    assert ("tree-cycle", max(oids)) in {(finding.kind, finding.oid) for finding in check_trees(graph)}


def test_subclasses_are_found_by_their_buckets(tmp_path, monkeypatch):
    """A class of an application's that is a BTree by its records is checked like any other."""
    module = types.ModuleType("shelf")
    module.Shelf = type("Shelf", (OOBTree,), {"__module__": "shelf"})
    monkeypatch.setitem(sys.modules, "shelf", module)
    db = ZODB.DB(str(tmp_path / "my.fs"))
    with db.transaction() as connection:
        connection.root()["shelf"] = module.Shelf({number: number for number in range(5_000)})
    db.close()
    tally = Tally()
    assert list(check_trees(graph_of(tmp_path / "my.fs"), tally=tally)) == []
    assert (tally.trees, tally.nodes > 160) == (1, True)


def test_a_node_that_cannot_be_read_is_named_once(tmp_path):
    """However often the search for trees meets it."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)
    with db.transaction() as connection:
        connection.root()["tree"] = OOBTree({"key": "value of the tree"})
    db.close()
    with open(path, "rb") as file:
        data = file.read()
    assert data.count(b"X\x11\x00\x00\x00value of the tree") + data.count(b"\x8c\x11value of the tree") == 1
    place = data.index(b"value of the tree")
    # The length of the string goes far beyond the record's end.
    short = data[place - 2 : place - 1] == b"\x8c"
    where = place - 1 if short else place - 3
    with open(path, "r+b") as file:
        file.seek(where)
        file.write(b"\xff")
    source = FileSource(path)
    try:
        graph = ObjectGraph.read(Snapshot(source))
        kinds = [(finding.kind, finding.oid) for finding in check_trees(graph) if finding.kind == "tree-record"]
    finally:
        source.close()
    assert len(kinds) == 1
