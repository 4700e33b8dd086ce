"""What goes with what: the dominator tree from the root, level by level, with BTrees seen through."""

from __future__ import annotations

import os
from array import array
from heapq import nlargest
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.engine import chosen
from zodbsh.errors import ZodbshError
from zodbsh.record.btrees import TreeState, read_tree_state, record_tree
from zodbsh.record.classpart import BLOB_CLASS
from zodbsh.record.decode import RecordError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zodbsh.analysis.graph import ObjectGraph
    from zodbsh.engine.columns import Column, Columns
    from zodbsh.engine.graph import Retained
    from zodbsh.source.base import Source


class Branch(NamedTuple):
    """An object in the dominator tree, ``depth`` levels below the root.

    ``own`` are its bytes, of a BTree those of all its nodes. ``more`` objects of the level below, which retain
    ``more_bytes``, are left out.
    """

    number: int
    depth: int
    own: int
    more: int
    more_bytes: int


class Blobs(NamedTuple):
    """Blob files of current objects: how many, their bytes, and the bytes by the object's number."""

    files: int
    bytes: int
    by_number: dict[int, int]


def branches(graph: ObjectGraph, sizes: Column, retained: Retained, *, depth: int, top: int) -> list[Branch]:
    """Return the root, and below it ``depth`` levels of the dominator tree, each object followed by what it dominates.

    Of what one object dominates, the ``top`` that retain most are given, largest first. The inner nodes and buckets
    of a BTree are the tree itself.
    """
    if graph.root is None:
        return []
    found: dict[int, Branch] = {}
    below: dict[int, list[int]] = {}
    level = [graph.root]
    for down in range(depth + 1):
        expanded = _expand(graph, sizes, level, whole=down < depth)
        level = []
        for number, (own, members) in expanded.items():
            largest = nlargest(top, chain.from_iterable(members), key=retained.bytes.__getitem__)
            more = sum(map(len, members)) - len(largest)
            left = sum(map(retained.bytes.__getitem__, chain.from_iterable(members))) if more else 0
            if more:
                left -= sum(map(retained.bytes.__getitem__, largest))
            found[number] = Branch(number, down, own, more, left)
            below[number] = largest
            level += largest
    return list(_in_order(graph.root, found, below))


def sizes_with_blobs(columns: Columns, blobs: Blobs) -> Column:
    """Return the sizes of the records, those of blobs with their files."""
    if not blobs.by_number:
        return columns.sizes
    sizes = array("Q")
    sizes.frombytes(memoryview(columns.sizes).cast("B"))  # type: ignore[arg-type]  # a column is a buffer
    for number, size in blobs.by_number.items():
        sizes[number] += size
    return sizes


def blob_files(source: Source, columns: Columns, tid: int) -> Blobs:
    """Return the blob files of the objects that exist at ``tid``."""
    by_number: dict[int, int] = {}
    files = 0
    for number in chosen.of_classes(columns.classes, bytes(name == BLOB_CLASS for name in columns.class_names)):
        oid = columns.oids[number]
        try:
            path = source.blob_path(oid, source.load(oid, tid).tid)
            size = None if path is None else os.stat(path).st_size
        except OSError:
            continue
        if size is not None:
            files += 1
            by_number[number] = size
    return Blobs(files, sum(by_number.values()), by_number)


def undecodable_now(columns: Columns) -> int:
    """Return how many current records do not decode, so that what they refer to is not known."""
    count = 0
    for record in columns.undecodable:
        number = columns.find(record.oid)
        count += number is not None and columns.exists(number) and columns.position(number) == record.where
    return count


def _expand(
    graph: ObjectGraph, sizes: Column, level: Sequence[int], *, whole: bool
) -> dict[int, tuple[int, list[array[int]]]]:
    """Return for each object its own bytes, and (with ``whole``) in pieces what it dominates."""
    nodes = {number: _tree_nodes(graph, number) for number in level}
    own = {number: sizes[number] for number in level}
    members: dict[int, list[array[int]]] = {number: [] for number in level}
    owners = {number: number for number in level if whole or nodes[number]}
    while owners:
        inner: dict[int, int] = {}
        for node, dominated in chosen.children(graph.dominators, owners).items():
            owner = owners[node]
            tree = nodes[owner]
            if not tree.isdisjoint(dominated):
                parts = [number for number in dominated if number in tree]
                own[owner] += sum(map(sizes.__getitem__, parts))
                inner.update(dict.fromkeys(parts, owner))
                dominated = array("I", (number for number in dominated if number not in tree))  # noqa: PLW2901
            if whole:
                members[owner].append(dominated)
        owners = inner
    return {number: (own[number], members[number]) for number in level}


def _tree_nodes(graph: ObjectGraph, number: int) -> set[int]:
    """Return the inner nodes and buckets of the BTree that an object is the top of; none for any other object."""
    columns = graph.columns
    nodes: set[int] = set()
    waiting = [number]
    kind = None
    while waiting:
        node = waiting.pop()
        try:
            record = graph.snapshot.record(columns.oids[node])
            kind = record_tree(record) if node == number else kind
            if kind is None or not kind.is_tree:
                return nodes
            state = read_tree_state(kind, record.state)
        except (ZodbshError, RecordError):
            # Finding what is broken is not the matter here: what it holds is then shown as what it is.
            continue
        if isinstance(state, TreeState):
            for ref in (*state.children, state.first):
                child = None if ref is None or ref.database is not None or ref.weak else columns.find(ref.oid)
                if child is None or child == number or child in nodes or not columns.exists(child):
                    continue
                nodes.add(child)
                # An inner node has the class of its tree; a bucket need not be opened.
                if columns.classes[child] == columns.classes[number]:
                    waiting.append(child)
    return nodes


def _in_order(root: int, found: dict[int, Branch], below: dict[int, list[int]]) -> Iterable[Branch]:
    waiting = [root]
    while waiting:
        number = waiting.pop()
        yield found[number]
        waiting += reversed(below[number])
