"""Paths: each leads back to its object, none shows the inside of a BTree, none costs more than its budget."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from BTrees.OOBTree import OOBTree
from hypothesis import given, settings
from hypothesis import strategies as st

from zodbsh.analysis.paths import PathFinder, Place, paths_of, places_of
from zodbsh.analysis.target import resolve
from zodbsh.record.decode import record_class
from zodbsh.record.values import Dict, Global, Record, Ref
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot

CORPUS = Path(os.environ.get("ZODBSH_CORPUS", ""))
needs_corpus = pytest.mark.skipif(
    not (os.environ.get("ZODBSH_CORPUS") and CORPUS.is_dir()), reason="ZODBSH_CORPUS names no folder"
)
MAPPING = Global("persistent.mapping", "PersistentMapping")
PERSON = Global("people", "Person")

KEYS = (
    st.text(max_size=4)
    | st.binary(max_size=2)
    | st.integers()
    | st.none()
    | st.tuples(st.integers(), st.text(max_size=2))
)


def record(class_, state):
    """A record with the references that its state holds, as the decoder gives them."""
    found, waiting = [], [state]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Ref):
            found.append(value)
        elif isinstance(value, Dict):
            waiting.extend(part for pair in value.pairs for part in pair)
        elif isinstance(value, list):
            waiting.extend(value)
    return Record(class_, (), state, tuple(found))


@st.composite
def graphs(draw):
    """Twelve objects at most, that refer to each other by attributes, keys, and through embedded containers."""
    size = draw(st.integers(1, 12))
    records = {}
    for oid in range(size):
        weak = st.sampled_from((False, False, True))
        refs = st.builds(lambda oid, weak: Ref(oid, weak=weak), st.integers(0, size - 1), weak)
        values = st.one_of(refs, st.lists(refs, max_size=2), st.integers())
        pairs = [(key, value) for key, value in draw(st.dictionaries(KEYS, values, max_size=4)).items()]
        if oid == 0 or draw(st.booleans()):
            records[oid] = record(MAPPING, Dict([("data", Dict(pairs))]))
        else:
            names = [(key if isinstance(key, str) else f"a{index}", value) for index, (key, value) in enumerate(pairs)]
            records[oid] = record(PERSON, Dict(names))
    return records


@given(graphs())
@settings(max_examples=80, deadline=None)
def test_every_path_leads_to_its_object(records):
    """Whatever is reached by strong references has a path, and a path pasted as a TARGET gives that very object."""
    snapshot = SimpleNamespace(record=records.__getitem__)
    paths = paths_of(snapshot, records)
    assert {oid: resolve(snapshot, path).oid for oid, path in paths.items()} == {oid: oid for oid in paths}
    reached, waiting = {0}, [0]
    while waiting:
        for ref in records[waiting.pop()].references:
            if ref.oid not in reached and not ref.weak:
                reached.add(ref.oid)
                waiting.append(ref.oid)
    assert paths.keys() == reached


def test_paths_are_the_shortest_as_python_writes_them(world):
    """The root's entries are attributes; what is below a shared object is reached by the nearest way."""
    found = paths_of(world, range(200))
    assert {"root", "root.ada", "root.accounts", "root['not an identifier']", "root.ada['front-page']"} <= set(
        found.values()
    )
    assert "root.folder._tree['doc']" in found.values()
    assert {path for path in found.values() if path.startswith("root.odd[")} == {
        "root.odd[('a', 1)]", "root.odd[b'raw']", "root.odd[None]", "root.odd[2.5]", "root.odd[True]", "root.odd[-3]",
        "root.odd['it\\'s \"so\"\\n']", "root.odd[inf]", "root.odd[builtins.str]",
    }  # fmt: skip


def test_the_inside_of_a_btree_is_a_part_of_the_tree(store, people):
    """Buckets and inner nodes have the tree's place and no path; what a bucket holds has a path through the tree."""
    snapshot = store({"tree": OOBTree({f"k{number:04}": people.Person() for number in range(600)})})
    oids = list(snapshot.source.oids())
    classes = {oid: record_class(snapshot.load(oid).data).name for oid in oids}
    places = places_of(snapshot, oids)
    buckets = [oid for oid in oids if classes[oid] == "OOBucket"]
    assert len(buckets) > 15
    assert {places[oid] for oid in buckets} == {Place("root.tree", internal=True)}
    paths = paths_of(snapshot, oids)
    people_paths = {path for oid, path in paths.items() if classes[oid] == "Person"}
    assert people_paths == {f"root.tree['k{number:04}']" for number in range(600)}
    assert not set(buckets) & paths.keys()


def test_a_walk_ends_with_its_budget_and_can_go_on(store, people):
    """What lies beyond the budget is left out; a second question does not walk the same way again."""
    chain = last = people.Person()
    for _ in range(50):
        last.next = people.Person()
        last = last.next
    snapshot = store({"chain": chain})
    assert paths_of(snapshot, [1, 40], budget=10) == {1: "root.chain"}
    finder = PathFinder(snapshot, 45)
    assert finder.places([20])[20].path == "root.chain" + ".next" * 19
    assert finder.places([40])[40].path == "root.chain" + ".next" * 39
    assert finder.places([50]) == {}


def test_broken_and_dangling_records_do_not_end_a_walk(fake):
    """A record that cannot be decoded hides what only it refers to, and nothing else."""
    content = Dict([("data", Dict([("a", Ref(1)), ("b", Ref(2)), ("c", Ref(3)), ("d", Ref(4, None, "other"))]))])
    leaf = Record(PERSON, (), Dict([]), ())
    snapshot = fake(
        {0: record(MAPPING, content), 1: "no pickle", 3: record(PERSON, Dict([("x", Ref(5))])), 4: leaf, 5: leaf}
    )
    assert paths_of(snapshot, [1, 2, 3, 4, 5]) == {3: "root.c", 5: "root.c.x"}


def test_below_a_key_that_cannot_be_written_a_path_starts_at_an_oid(fake):
    """Two keys that look the same cannot be told apart: what they hold has no path, what is below starts there."""
    keys = [record(PERSON, Dict([])), [Ref(9)], [Ref(8)]]
    snapshot = fake({
        0: record(MAPPING, Dict([("data", Dict([(keys[1], Ref(1)), (keys[2], Ref(2))]))])),
        1: record(PERSON, Dict([("x", Ref(3))])), 2: keys[0], 3: keys[0],
    })  # fmt: skip
    found = paths_of(snapshot, [1, 2, 3])
    assert found[3] == "0x01.x"
    assert len(found) == 2


@needs_corpus
@pytest.mark.parametrize("name", ["plone-4.3.fs", "zopache.fs", "wor-large.fs", "wikidocs.fs"])
def test_every_path_of_a_real_database_leads_back(name):
    """On real databases, too, each path gives its object; garbage and a few unwritable keys have none."""
    source = FileSource(str(CORPUS / name))
    snapshot = Snapshot(source)
    oids = list(source.oids())
    paths = paths_of(snapshot, oids)
    step = max(len(paths) // 500, 1)
    for oid, path in list(paths.items())[::step]:
        found = resolve(snapshot, path)
        assert (found.oid, found.embedded) == (oid, False)
    reached = PathFinder(snapshot)
    reached.places([-1])
    assert len(paths) + sum(place.internal for place in places_of(snapshot, oids).values()) > 0.95 * len(
        reached._parents
    )
    source.close()
