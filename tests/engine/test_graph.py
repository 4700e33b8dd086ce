"""Graph answers are those of networkx, by each engine."""

import random
import sys
from array import array
from pathlib import Path

import networkx as nx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from engines import graphs

from zodbsh.engine.columns import DELETED, MISSING, NONE, WEAK

SEEDS = range(40)


@pytest.fixture(params=sorted(graphs()))
def engine(request):
    return graphs()[request.param]


def made(seed):
    """Return columns of a random graph, and the graph that they stand for: objects that exist, ordinary references."""
    rand = random.Random(seed)
    size = rand.randrange(1, 60)
    classes = array("I", [rand.choice((0, 1, 2, 1, 2, rand.choice((DELETED, MISSING, 0)))) for _ in range(size)])
    classes[0] = 0
    starts, counts, targets = array("Q"), array("I"), array("I")
    graph = nx.DiGraph()
    graph.add_nodes_from(number for number in range(size) if classes[number] < DELETED)
    for number in range(size):
        found = [rand.randrange(size) for _ in range(rand.choice((0, 1, 2, 2, 5)))]
        starts.append(len(targets))
        counts.append(len(found))
        for target in found:
            weak = rand.random() < 0.1
            targets.append(target | (WEAK if weak else 0))
            if not weak and classes[number] < DELETED and classes[target] < DELETED:
                graph.add_edge(number, target)
    return (classes, starts, counts, targets), graph


@pytest.mark.parametrize("seed", SEEDS)
def test_reach(engine, seed):
    """What is reachable, nearest first; each by a shortest way."""
    columns, graph = made(seed)
    reached = engine.reach(*columns, [0])
    lengths = nx.single_source_shortest_path_length(graph, 0)
    assert set(reached.order) == set(lengths)
    assert [lengths[number] for number in reached.order] == sorted(lengths.values())
    distances = engine.distances(reached.order, reached.parents)
    for number in range(len(columns[0])):
        if number not in lengths:
            assert reached.parents[number] == NONE == distances[number]
        else:
            assert distances[number] == lengths[number]
            assert number == 0 or graph.has_edge(reached.parents[number], number)


@pytest.mark.parametrize("seed", SEEDS)
def test_references_turned_around(engine, seed):
    """Who refers to whom, weak references and missing targets included."""
    (classes, starts, counts, targets), _ = made(seed)
    turned = engine.reverse(starts, counts, targets)
    wanted = [[] for _ in classes]
    for number in range(len(classes)):
        for target in targets[starts[number] : starts[number] + counts[number]]:
            wanted[target & ~WEAK].append(number | (target & WEAK))
    for number, sources in enumerate(wanted):
        found = list(turned.sources[turned.starts[number] : turned.starts[number + 1]])
        assert sorted(found) == sorted(sources)
        assert list(engine.referrers(starts, counts, targets, number)) == found


@pytest.mark.parametrize("seed", SEEDS)
def test_components(engine, seed):
    """Strongly connected components, numbered so that no edge leads to a higher number."""
    columns, graph = made(seed)
    component = engine.components(*columns, array("I", [NONE]) * len(columns[0]))
    found = {}
    for number, name in enumerate(component):
        if name != NONE:
            found.setdefault(name, set()).add(number)
    assert sorted(map(sorted, found.values())) == sorted(map(sorted, nx.strongly_connected_components(graph)))
    assert all(component[target] <= component[source] for source, target in graph.edges)


@pytest.mark.parametrize("seed", SEEDS)
def test_dominators_and_what_they_retain(engine, seed):
    """Immediate dominators; what is retained is what cannot be reached without the object."""
    columns, graph = made(seed)
    sizes = array("Q", [random.Random(seed).randrange(1000) + number for number in range(len(columns[0]))])
    dominator = engine.dominators(*columns, 0)
    wanted = dict(nx.immediate_dominators(graph, 0))
    wanted[0] = 0
    assert {number: above for number, above in enumerate(dominator) if above != NONE} == wanted
    order = engine.reach(*columns, [0]).order
    retained = engine.retained(order, dominator, sizes)
    alive = set(order)
    for number in range(len(columns[0])):
        if number not in alive:
            assert (retained.bytes[number], retained.objects[number]) == (0, 0)
            continue
        without = graph.copy()
        without.remove_node(number)
        left = set() if number == 0 else {0} | nx.descendants(without, 0)
        assert retained.objects[number] == len(alive - left)
        assert retained.bytes[number] == sum(sizes[gone] for gone in alive - left)
    below = engine.children(dominator, range(len(columns[0])))
    assert {child: above for above, found in below.items() for child in found} == {
        number: above for number, above in wanted.items() if number
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_and_selections(engine, seed):
    """By class; what dangles; what is larger."""
    (classes, starts, counts, targets), graph = made(seed)
    sizes = array("Q", range(10, 10 + len(classes)))
    parents = engine.reach(classes, starts, counts, targets, [0]).parents
    found = engine.sums(classes, sizes, parents, 3)
    for class_ in range(3):
        members = [number for number in graph if classes[number] == class_]
        lost = [number for number in members if parents[number] == NONE]
        assert (found.objects[class_], found.bytes[class_]) == (len(members), sum(sizes[n] for n in members))
        assert (found.garbage_objects[class_], found.garbage_bytes[class_]) == (len(lost), sum(sizes[n] for n in lost))
    flags = bytes((1, 0, 1))
    assert list(engine.select(classes, sizes, flags, 20)) == [
        number for number in sorted(graph) if classes[number] != 1 and sizes[number] > 20
    ]
    assert list(engine.select(classes, sizes, flags, 2**70)) == []
    assert list(engine.of_classes(classes, flags)) == list(engine.select(classes, sizes, flags, -1))
    dangling = [
        (number, target)
        for number in sorted(graph)
        for target in targets[starts[number] : starts[number] + counts[number]]
        if target < WEAK and classes[target] >= DELETED
    ]
    assert engine.dangling(classes, starts, counts, targets) == dangling


def test_an_empty_graph(engine):
    """Nothing is asked of nothing."""
    none = (array("I"), array("Q"), array("I"), array("I"))
    assert list(engine.reach(*none, []).order) == []
    assert list(engine.reverse(*none[1:]).starts) == [0]
    assert list(engine.components(*none, array("I"))) == []
    assert engine.dangling(*none) == []


def test_columns_from_elsewhere_are_checked():
    """The native engine reads no memory that is not the columns'."""
    native = graphs().get("native")
    if native is None:
        pytest.skip("the native engine is not built")
    classes, starts, counts = array("I", [0]), array("Q", [0]), array("I", [5])
    with pytest.raises(ValueError, match="fit"):
        native.reach(classes, starts, counts, array("I", [0]), [0])
    with pytest.raises(ValueError, match="fit"):
        native.reach(classes, starts, array("I", [1]), array("I", [7]), [0])
    with pytest.raises(ValueError, match="fit"):
        native.reach(classes, array("Q", [2**63]), array("I", [1]), array("I", [0]), [0])
    with pytest.raises(ValueError, match="fit"):
        native.retained(array("I", [3]), array("I", [0]), array("Q", [1]))
