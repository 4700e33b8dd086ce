"""The ways to an object, beside networkx; through BTrees; what has no path; islands of garbage."""

import random
from itertools import islice, pairwise, product

import networkx as nx
import persistent
import pytest
import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping
from persistent.wref import WeakRef

from zodbsh.analysis.graph import ObjectGraph
from zodbsh.analysis.island import island_of
from zodbsh.analysis.paths import MAX_WAY
from zodbsh.analysis.target import resolve
from zodbsh.analysis.ways import ways_to
from zodbsh.ids import from_bytes, oid_text
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot


@pytest.fixture
def graph(tmp_path):
    """Write what a function makes of a connection, and what it makes of a second one; return the graph of the file."""
    sources = []

    def write(*steps):
        path = str(tmp_path / f"my{len(sources)}.fs")
        db = ZODB.DB(path)
        connection = db.open()
        results = []
        for step in steps:
            results.append(step(connection))
            transaction.commit()
        connection.close()
        db.close()
        sources.append(FileSource(path))
        return ObjectGraph.read(Snapshot(sources[-1])), *results

    yield write
    for source in sources:
        source.close()


def paths(graph, oid, count=1000, **options):
    found = ways_to(graph, oid, count, **options)
    return [place.path for place in found.places], found.complete


def oid_of(obj):
    return from_bytes(obj._p_oid)


def random_objects(seed):
    """Return a function that makes a few mappings with random references, some of them double, some weak."""
    chance = random.Random(seed)

    def make(connection):
        count = chance.randrange(2, 9)
        objects = [PersistentMapping() for _ in range(count)]
        for obj in objects:
            connection.add(obj)
        for number in range(chance.randrange(count, 3 * count)):
            key = f"k{number}"
            value = chance.choice(objects)
            value = chance.choice([value, [value, value], {"x": value}, WeakRef(value)])
            chance.choice([connection.root(), *objects])[key] = value

    return make


def references(graph):
    """Return the strong references between existing objects by (parent, child), each as its steps."""
    from zodbsh.record.shape import edges

    found = {}
    for oid in graph.snapshot.source.oids():
        for step, ref in edges(graph.snapshot.record(oid)):
            if not ref.weak:
                found.setdefault((oid, ref.oid), []).append(step)
    return found


@pytest.mark.parametrize("seed", range(60))
def test_all_ways_are_those_of_networkx_shortest_first(graph, seed):
    """Every loopless way, by every choice of references, once; none longer before one that is shorter."""
    (found, _) = graph(random_objects(seed))
    steps = references(found)
    other = nx.DiGraph(list(steps))
    for oid in found.snapshot.source.oids():
        if oid == 0 or not {0, oid} <= set(other) or not nx.has_path(other, 0, oid):
            continue
        expected = {}
        for way in nx.all_simple_paths(other, 0, oid):
            for choice in product(*(steps[pair] for pair in pairwise(way))):
                expected[resolve(found.snapshot, "root" + "".join(choice)).path] = len(way)
        shown, complete = paths(found, oid, 100_000)
        assert complete
        assert sorted(shown) == sorted(expected)
        lengths = [expected[path] for path in shown]
        assert lengths == sorted(lengths)
        assert {resolve(found.snapshot, path).oid for path in shown} == {oid}


@pytest.mark.parametrize("seed", range(8))
def test_the_first_ways_are_the_shortest_of_networkx(graph, seed):
    """Where there are far too many ways, the first ten have the lengths of the ten shortest."""
    chance = random.Random(seed)

    def make(connection):
        objects = [PersistentMapping() for _ in range(60)]
        for obj in objects:
            connection.add(obj)
        for number in range(240):
            chance.choice([connection.root(), *objects])[f"k{number}"] = chance.choice(objects)
        return [oid_of(obj) for obj in objects]

    found, oids = graph(make)
    other = nx.DiGraph(list(references(found)))
    for oid in oids[:10]:
        if not nx.has_path(other, 0, oid):
            continue
        ways = ways_to(found, oid, 10)
        lengths = [path.path.count("[") + path.path.count(".") for path in ways.places]
        shortest = list(islice(nx.shortest_simple_paths(other, 0, oid), 10))
        assert ways.complete
        # One pair of objects may have several references: those ways count here, and once there.
        assert lengths == sorted(lengths)
        assert all(mine <= len(theirs) - 1 for mine, theirs in zip(lengths, shortest, strict=False))
        assert len({path.path for path in ways.places}) == len(ways.places)


def test_through_a_btree_leads_one_way(graph):
    """However its nodes and buckets are chained, a value is under its key once; a bucket is part of the tree."""

    def make(connection):
        tree = OOBTree({f"k{number:05}": PersistentMapping() for number in range(5_000)})
        connection.root()["tree"] = tree
        transaction.savepoint()
        return oid_of(tree["k00000"]), oid_of(tree["k04999"]), oid_of(tree._firstbucket), oid_of(tree)

    found, (first, last, bucket, tree) = graph(make)
    assert paths(found, first) == (["root.tree['k00000']"], True)
    assert paths(found, last) == (["root.tree['k04999']"], True)
    assert paths(found, tree) == (["root.tree"], True)
    ways = ways_to(found, bucket, 10)
    assert [tuple(place) for place in ways.places] == [("root.tree", True)]


def test_the_root_is_its_own_way(graph):
    """Also where something refers to it."""

    def make(connection):
        connection.root()["self"] = PersistentMapping(up=connection.root())

    found, _ = graph(make)
    assert paths(found, 0) == (["root"], True)


def test_weak_references_are_no_ways(graph):
    """An object that also a weak reference leads to has only the other way."""

    def make(connection):
        shared = PersistentMapping()
        connection.root()["b"] = PersistentMapping(x=shared)
        connection.root()["a"] = WeakRef(shared)
        transaction.savepoint()
        return oid_of(shared)

    found, shared = graph(make)
    assert paths(found, shared) == (["root.b['x']"], True)


class Named(persistent.Persistent):
    """An object that may be a key."""

    def __init__(self, name):
        self.name = name

    def __lt__(self, other):
        return self.name < other.name


def test_a_way_that_can_be_written_comes_before_a_shorter_one_that_cannot(graph):
    """A key that is an object, in a BTree, has no path: the way by which it is written is given, however long."""

    def make(connection):
        key = Named("key")
        key.inner = PersistentMapping()
        connection.root()["tree"] = OOBTree({key: 1})
        connection.root()["a"] = PersistentMapping(b=PersistentMapping(c=key))
        alone = Named("alone")
        alone.inner = PersistentMapping()
        connection.root()["other"] = OOBTree({alone: 1})
        transaction.savepoint()
        return oid_of(key), oid_of(key.inner), oid_of(alone), oid_of(alone.inner)

    found, (key, inner, alone, last) = graph(make)
    assert paths(found, key, 1) == (["root.a['b']['c']"], True)
    assert paths(found, inner, 1) == (["root.a['b']['c'].inner"], True)
    assert paths(found, inner, 5) == (["root.a['b']['c'].inner", f"{oid_text(key)}.inner"], True)
    assert paths(found, alone, 5) == ([oid_text(alone)], True)
    assert paths(found, last, 5) == ([f"{oid_text(alone)}.inner"], True)


def test_a_way_too_long_to_be_read_starts_at_an_oid(graph):
    """A chain of thousands of objects is gone through at once; its path is the end of it, and leads there."""

    def make(connection):
        first = last = PersistentList()
        for _ in range(3_000):
            last.append(PersistentList())
            last = last[0]
        connection.root()["chain"] = first
        transaction.savepoint()
        return oid_of(last)

    found, last = graph(make)
    (path,), complete = paths(found, last, 3)
    assert complete
    assert path.startswith("0x")
    assert path.count("[0]") == MAX_WAY
    assert resolve(found.snapshot, path).oid == last


def test_a_search_that_ends_early_says_so(graph):
    """With a small budget the first way is there, and that there may be more."""

    def make(connection):
        layers = [[PersistentMapping() for _ in range(5)] for _ in range(6)]
        for upper, lower in pairwise(layers):
            for obj in upper:
                obj.update({f"k{number}": child for number, child in enumerate(lower)})
        connection.root().update({f"top{number}": obj for number, obj in enumerate(layers[0])})
        transaction.savepoint()
        return oid_of(layers[-1][0])

    found, oid = graph(make)
    few, complete = paths(found, oid, 10_000, budget=50)
    assert (len(few) >= 1, complete) == (True, False)
    ten, complete = paths(found, oid, 10)
    assert (len(set(ten)), complete) == (10, True)
    everything, complete = paths(found, oid, 10_000)
    assert (len(set(everything)), complete) == (5**5, True)


def test_many_references_from_one_object_are_as_many_ways(graph):
    """The same object under several names."""

    def make(connection):
        shared = PersistentMapping()
        connection.root()["a"] = PersistentMapping(one=shared, two=[shared, (shared,)])
        transaction.savepoint()
        return oid_of(shared)

    found, shared = graph(make)
    assert paths(found, shared) == (["root.a['one']", "root.a['two'][0]", "root.a['two'][1][0]"], True)


def garbage(*links):
    """Return two functions: one makes named objects below the root that refer to each other, one cuts them off."""

    def make(connection):
        objects = {name: PersistentMapping() for link in links for name in link}
        for one, other in links:
            objects[one][other] = objects[other]
        connection.root()["keep"] = objects
        transaction.savepoint()
        return {name: oid_of(obj) for name, obj in objects.items()}

    def cut(connection):
        del connection.root()["keep"]

    return make, cut


def test_the_top_of_an_island_is_what_nothing_else_refers_to(graph):
    """With the way from there, and the garbage that hangs on it."""
    found, oids, _ = graph(*garbage("ab", "bc", "bd", "xy"))
    island = island_of(found, found.columns.find(oids["c"]))
    [top] = island.tops
    assert [member.oid for member in top.members] == [oids["a"]]
    assert top.path == f"{oid_text(oids['a'])}['b']['c']"
    assert resolve(found.snapshot, top.path).oid == oids["c"]
    sizes = [found.columns.sizes[found.columns.find(oids[name])] for name in "abcd"]
    assert (island.objects, island.bytes, island.more_tops) == (4, sum(sizes), False)


def test_a_circle_is_a_top_and_an_object_that_nothing_refers_to_its_own(graph):
    """Garbage in a circle has no single top."""
    found, oids, _ = graph(*garbage("ab", "ba", "bc", "de"))
    [top] = island_of(found, found.columns.find(oids["c"])).tops
    assert {member.oid for member in top.members} == {oids["a"], oids["b"]}
    assert top.path == f"{oid_text(oids['b'])}['c']"
    [alone] = island_of(found, found.columns.find(oids["d"])).tops
    assert ([member.oid for member in alone.members], alone.path) == ([oids["d"]], oid_text(oids["d"]))


@pytest.mark.parametrize("seed", range(25))
def test_islands_are_those_of_networkx(graph, seed):
    """The tops are the sources of the condensation that reach the target; the island what they reach."""
    chance = random.Random(seed)
    names = "abcdefghij"
    links = {chance.choice(names) + chance.choice(names) for _ in range(chance.randrange(5, 25))}
    found, oids, _ = graph(*garbage(*sorted(links)))
    other = nx.DiGraph([(oids[one], oids[two]) for one, two in links])
    parts = nx.condensation(other)
    for oid in other:
        part = parts.graph["mapping"][oid]
        above = nx.ancestors(parts, part) | {part}
        tops = [one for one in above if parts.in_degree(one) == 0]
        below = set().union(*(nx.descendants(parts, one) | {one} for one in tops))
        island = island_of(found, found.columns.find(oid))
        assert sorted(sorted(member.oid for member in top.members) for top in island.tops) == sorted(
            sorted(parts.nodes[one]["members"]) for one in tops
        )
        assert island.objects == sum(len(parts.nodes[one]["members"]) for one in below)
        assert {resolve(found.snapshot, top.path).oid for top in island.tops} == {oid}
