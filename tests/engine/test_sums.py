"""Sums by class and the dominator tree's children: the engine that runs and its Python twin agree with plain loops."""

import random
from array import array

import pytest

from zodbsh.engine import chosen, graph
from zodbsh.engine.columns import DELETED, MISSING, NONE


@pytest.mark.parametrize("engine", [chosen, graph], ids=["chosen", "twin"])
@pytest.mark.parametrize("seed", range(5))
def test_sums_by_class(engine, seed):
    """What does not exist counts nowhere; what has no parent is garbage; without parents nothing is."""
    rand = random.Random(seed)
    size = rand.choice([0, 1, 500])
    classes = array("I", (rand.choice([0, 1, 2, 5, DELETED, MISSING]) for _ in range(size)))
    sizes = array("Q", (rand.choice([0, 7, 1 << 40]) for _ in range(size)))
    parents = array("I", (rand.choice([0, NONE]) for _ in range(size)))
    found = engine.sums(classes, sizes, parents, 6)
    for class_ in range(6):
        mine = [number for number in range(size) if classes[number] == class_]
        gone = [number for number in mine if parents[number] == NONE]
        assert [column[class_] for column in found] == [
            len(mine), sum(sizes[number] for number in mine), len(gone), sum(sizes[number] for number in gone),
        ]  # fmt: skip
    whole = engine.sums(classes, sizes, None, 6)
    assert (list(whole.objects), list(whole.bytes)) == (list(found.objects), list(found.bytes))
    assert list(whole.garbage_objects) == list(whole.garbage_bytes) == [0] * 6
    assert [len(column) for column in found] == [6] * 4


@pytest.mark.parametrize("engine", [chosen, graph], ids=["chosen", "twin"])
@pytest.mark.parametrize("seed", range(5))
def test_children(engine, seed):
    """Ascending; the root is not its own child; who dominates nothing has no entry."""
    rand = random.Random(seed)
    dominator = array("I", [0, *(rand.choice([NONE, rand.randrange(number)]) for number in range(1, 300))])
    wanted = {0, *rand.sample(range(300), 40)}
    expected = {}
    for number, above in enumerate(dominator):
        if above in wanted and number:
            expected.setdefault(above, []).append(number)
    assert {number: list(found) for number, found in engine.children(dominator, wanted).items()} == expected
    assert engine.children(dominator, []) == {}
    assert engine.children(array("I"), [0]) == {}
