"""Graph questions over columns, in Python: the twin of the native engine's.

Every function takes the columns of a snapshot as buffers (docs/internals.md):
``classes``, ``starts``, ``counts``, ``targets``. An edge is an ordinary
reference between objects that exist; weak references are no edges.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import NamedTuple

from zodbsh.engine.columns import DELETED, NONE, WEAK, Column


class Reach(NamedTuple):
    """What is reachable, breadth first.

    ``order`` (I) lists it, roots first. ``parents`` (I) has for each object the
    one before it on a shortest way (itself for a root), `NONE` where there is no way.
    """

    order: Column
    parents: Column


class Reverse(NamedTuple):
    """References turned around: who refers to object n is ``sources[starts[n] : starts[n + 1]]``.

    ``starts`` (Q) has one number more than there are objects. A source (I) has the bit `WEAK`
    where its reference is weak; one that refers twice stands there twice. Targets that do not exist have sources, too.
    """

    starts: Column
    sources: Column


class Retained(NamedTuple):
    """What would go with each object: bytes (Q) and objects (I), itself included; 0 for what is not reachable."""

    bytes: Column
    objects: Column


class Sums(NamedTuple):
    """What exists, by class number (Q each): objects and their bytes, and of these what is garbage."""

    objects: Column
    bytes: Column
    garbage_objects: Column
    garbage_bytes: Column


def sums(classes: Column, sizes: Column, parents: Column | None, class_count: int) -> Sums:
    """Return objects and ``sizes`` summed up by class; ``class_count`` is how many classes there are.

    Garbage is what has no parent (`NONE`) in the ``parents`` of a `Reach`; without them nothing is.
    """
    objects, total, garbage_objects, garbage_bytes = (array("Q", [0]) * class_count for _ in Sums._fields)
    for number in range(len(classes)):
        class_ = classes[number]
        if class_ < DELETED:
            objects[class_] += 1
            total[class_] += sizes[number]
            if parents is not None and parents[number] == NONE:
                garbage_objects[class_] += 1
                garbage_bytes[class_] += sizes[number]
    return Sums(objects, total, garbage_objects, garbage_bytes)


def reach(classes: Column, starts: Column, counts: Column, targets: Column, roots: Iterable[int]) -> Reach:
    """Return what can be reached from ``roots``, breadth first."""
    parents = array("I", [NONE]) * len(classes)
    order = array("I")
    for root in roots:
        if classes[root] < DELETED and parents[root] == NONE:
            parents[root] = root
            order.append(root)
    for number in order:  # grows while it is walked
        start = starts[number]
        for index in range(start, start + counts[number]):
            target = targets[index]
            if target < WEAK and parents[target] == NONE and classes[target] < DELETED:
                parents[target] = number
                order.append(target)
    return Reach(order, parents)


def reverse(starts: Column, counts: Column, targets: Column) -> Reverse:
    """Return every reference turned around, sources in ascending order."""
    size = len(starts)
    ends = array("Q", [0]) * (size + 1)
    for number in range(size):
        start = starts[number]
        for index in range(start, start + counts[number]):
            ends[(targets[index] & ~WEAK) + 1] += 1
    for number in range(size):
        ends[number + 1] += ends[number]
    sources = array("I", [0]) * ends[size]
    places = array("Q", ends)
    for number in range(size):
        start = starts[number]
        for index in range(start, start + counts[number]):
            target = targets[index] & ~WEAK
            sources[places[target]] = number | (targets[index] & WEAK)
            places[target] += 1
    return Reverse(ends, sources)


def referrers(starts: Column, counts: Column, targets: Column, target: int) -> array[int]:
    """Return who refers to one object, ascending, each once for each reference; `WEAK` marks a weak one."""
    found = array("I")
    for number in range(len(starts)):
        start = starts[number]
        for index in range(start, start + counts[number]):
            if targets[index] & ~WEAK == target:
                found.append(number | (targets[index] & WEAK))
    return found


def select(classes: Column, sizes: Column, wanted: bytes, larger: int) -> array[int]:
    """Return the objects that exist, whose class number is not 0 in ``wanted`` and whose size is more than ``larger``.

    ``wanted`` has a byte for each class number; ``larger`` -1 takes every size. Ascending.
    """
    found = array("I")
    for number in range(len(classes)):
        class_ = classes[number]
        if class_ < DELETED and wanted[class_] and sizes[number] > larger:
            found.append(number)
    return found


def components(classes: Column, starts: Column, counts: Column, targets: Column, skip: Column) -> array[int]:
    """Return the strongly connected component of each object that exists and whose ``skip`` is `NONE`; else `NONE`.

    Components are numbered so that an edge never leads to a higher number. Source: Tarjan (1972), without recursion.
    ``skip`` is the ``parents`` of a `Reach`: what it reached is left out.
    """
    size = len(classes)
    component = array("I", [NONE]) * size
    low = array("I", [NONE]) * size
    stack: list[int] = []
    way: list[list[int]] = []
    found = 0
    time = 0
    for begin in range(size):
        if low[begin] != NONE or skip[begin] != NONE or classes[begin] >= DELETED:
            continue
        low[begin] = time
        time += 1
        stack.append(begin)
        way.append([begin, starts[begin], low[begin]])
        while way:
            number, index, entered = way[-1]
            if index < starts[number] + counts[number]:
                way[-1][1] += 1
                target = targets[index]
                if target >= WEAK or skip[target] != NONE or classes[target] >= DELETED:
                    continue
                if low[target] == NONE:
                    low[target] = time
                    way.append([target, starts[target], time])
                    time += 1
                    stack.append(target)
                elif component[target] == NONE:
                    low[number] = min(low[number], low[target])
                continue
            way.pop()
            if low[number] == entered:
                while True:
                    member = stack.pop()
                    component[member] = found
                    if member == number:
                        break
                found += 1
            if way:
                low[way[-1][0]] = min(low[way[-1][0]], low[number])
    return component


def dominators(classes: Column, starts: Column, counts: Column, targets: Column, root: int) -> array[int]:
    """Return for each object the last one that every way from ``root`` to it passes (`NONE`: no way; root: itself).

    Source: the semi-NCA algorithm of Georgiadis and Tarjan (2005).
    """
    numbers, vertices, parents = _preorder(classes, starts, counts, targets, root)
    turned = reverse(starts, counts, targets)
    count = len(vertices)
    semi, label = array("I", range(count)), array("I", range(count))
    idom = array("I", parents)
    ancestor = array("I", parents)

    def evaluate(vertex: int, last: int) -> int:
        """Return the smallest label on the forest's way up from ``vertex``, of vertices above ``last``."""
        if vertex <= last:
            return label[vertex]
        passed = []
        while ancestor[vertex] > last:
            passed.append(vertex)
            vertex = ancestor[vertex]
        top = vertex
        for vertex in reversed(passed):
            if label[ancestor[vertex]] < label[vertex]:
                label[vertex] = label[ancestor[vertex]]
            ancestor[vertex] = ancestor[top]
        return label[passed[0]] if passed else label[top]

    for vertex in range(count - 1, 0, -1):
        best = parents[vertex]
        object_ = vertices[vertex]
        for index in range(turned.starts[object_], turned.starts[object_ + 1]):
            source = turned.sources[index]
            if source < WEAK and numbers[source] != NONE:
                best = min(best, evaluate(numbers[source], vertex))
        semi[vertex] = label[vertex] = best
    result = array("I", [NONE]) * len(classes)
    for vertex in range(count):
        above = idom[vertex]
        while above > semi[vertex]:
            above = idom[above]
        idom[vertex] = above
        result[vertices[vertex]] = vertices[above]
    return result


def retained(order: Column, dominator: Column, sizes: Column) -> Retained:
    """Return what each object keeps alive alone; ``order`` is a `Reach`'s, ``sizes`` bytes by object."""
    total = array("Q", [0]) * len(dominator)
    objects = array("I", [0]) * len(dominator)
    for index in range(len(order) - 1, -1, -1):
        # A dominator is nearer to the root, so it comes earlier in the order.
        number = order[index]
        total[number] += sizes[number]
        objects[number] += 1
        above = dominator[number]
        if above != number:
            total[above] += total[number]
            objects[above] += objects[number]
    return Retained(total, objects)


def of_classes(classes: Column, wanted: Column) -> array[int]:
    """Return the objects that exist and whose class number ``wanted`` (a byte for each) marks, ascending."""
    return array("I", (n for n in range(len(classes)) if classes[n] < DELETED and wanted[classes[n]]))


def referring_to_classes(
    classes: Column, starts: Column, counts: Column, targets: Column, sources: Column, wanted: Column
) -> array[int]:
    """Return the objects of classes in ``sources`` that have an edge to one of a class in ``wanted``, ascending.

    Both have a byte for each class number.
    """
    found = array("I")
    for number in range(len(classes)):
        class_ = classes[number]
        if class_ >= DELETED or not sources[class_]:
            continue
        start = starts[number]
        for index in range(start, start + counts[number]):
            target = targets[index]
            if target < WEAK and classes[target] < DELETED and wanted[classes[target]]:
                found.append(number)
                break
    return found


def within_groups(classes: Column, starts: Column, counts: Column, targets: Column, groups: Column) -> bytearray:
    """Return a byte for each object: 1 where an edge leads to it from an object (maybe itself) of its own group.

    ``groups`` (I) has a group for each class number, `NONE` for what is in none.
    """
    found = bytearray(len(classes))
    for number in range(len(classes)):
        class_ = classes[number]
        if class_ >= DELETED or groups[class_] == NONE:
            continue
        start = starts[number]
        for index in range(start, start + counts[number]):
            target = targets[index]
            if target < WEAK and classes[target] < DELETED and groups[classes[target]] == groups[class_]:
                found[target] = 1
    return found


def children(dominator: Column, wanted: Iterable[int]) -> dict[int, array[int]]:
    """Return the objects (I, ascending) that each of the ``wanted`` ones is the dominator of; none has no entry.

    ``dominator`` is what `dominators` returns; its root is nobody's child.
    """
    found: dict[int, array[int]] = {}
    asked = frozenset(wanted)
    for number in range(len(dominator)):
        above = dominator[number]
        if above in asked and above != number:
            found.setdefault(above, array("I")).append(number)
    return found


def _preorder(
    classes: Column, starts: Column, counts: Column, targets: Column, root: int
) -> tuple[array[int], array[int], array[int]]:
    """Walk depth first: each object's number in the order of the walk, objects and parents (as numbers) by number."""
    size = len(classes)
    numbers = array("I", [NONE]) * size
    vertices = array("I")
    parents = array("I")
    way = [[root, starts[root]]] if classes[root] < DELETED else []
    if way:
        numbers[root] = 0
        vertices.append(root)
        parents.append(0)
    while way:
        number, index = way[-1]
        if index >= starts[number] + counts[number]:
            way.pop()
            continue
        way[-1][1] += 1
        target = targets[index]
        if target < WEAK and numbers[target] == NONE and classes[target] < DELETED:
            numbers[target] = len(vertices)
            vertices.append(target)
            parents.append(numbers[number])
            way.append([target, starts[target]])
    return numbers, vertices, parents


def distances(order: Column, parents: Column) -> array[int]:
    """Return how many references each object is away from the roots of a `Reach`, `NONE` for what is not reached."""
    found = array("I", [NONE]) * len(parents)
    for number in order:
        found[number] = 0 if parents[number] == number else found[parents[number]] + 1
    return found


def dangling(classes: Column, starts: Column, counts: Column, targets: Column) -> list[tuple[int, int]]:
    """Return each ordinary reference of an object to what does not exist, as (source, target), sources ascending."""
    found = []
    for number in range(len(classes)):
        if classes[number] >= DELETED:
            continue
        for index in range(starts[number], starts[number] + counts[number]):
            target = targets[index]
            if target < WEAK and classes[target] >= DELETED:
                found.append((number, target))
    return found
