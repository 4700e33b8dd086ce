"""Whether a BTree's records form a sound tree: told from decoded records, without a class.

What is checked: the keys of every node ascend and lie in the range that the node above gives; keys and values are of
the family's type and range; every child is there, is of the tree's own class or its bucket's, and is met once; all
buckets are equally deep, none is empty; the chain of ``next`` is the buckets from left to right, ``firstbucket`` the
leftmost. Source: ``BTrees/check.py`` and ``_check`` in ``BTrees/BTreeTemplate.c``, which see no more than this.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from zodbsh.analysis.keyorder import KeyOrder, shown
from zodbsh.analysis.trees import MAX_DEPTH
from zodbsh.analysis.treetops import TreeTops
from zodbsh.engine import chosen
from zodbsh.engine.columns import NONE
from zodbsh.errors import ObjectNotFound
from zodbsh.filestorage.damage import FramingDamage
from zodbsh.ids import oid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.record.btrees import (
    BucketState,
    TreeKind,
    TreeState,
    TreeStateError,
    read_tree_state,
    record_tree,
    tree_kind,
)
from zodbsh.record.decode import RecordError, class_text
from zodbsh.record.families import FAMILY_ITEMS, misfit
from zodbsh.record.values import Global, Record, Ref, Value
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot

if TYPE_CHECKING:
    from zodbsh.analysis.graph import ObjectGraph


class TreeFinding(NamedTuple):
    """One thing that is wrong with a BTree: its kind, the oid of the node where it is, a message.

    Kinds: ``tree-record`` (does not decode), ``tree-state`` (no known form), ``tree-missing``, ``tree-class``,
    ``tree-shared``, ``tree-cycle``, ``tree-depth``, ``tree-order``, ``tree-range``, ``tree-type`` (a key or a value
    that the family cannot hold), ``tree-empty``, ``tree-chain``, ``tree-first``.
    """

    kind: str
    oid: int
    message: str


class Tally:
    """What was checked: trees, their nodes (buckets included), and keys whose order only code can tell."""

    def __init__(self) -> None:
        self.trees = self.nodes = self.unordered_keys = 0


Claim = Callable[[int, int], int | None]
"""Takes the node ``oid`` for the tree ``oid``; returns the tree that had it before, None where there was none."""


class _Inner:
    """An inner node on the way down: its oid, its state, which child is next, and the bounds of its keys."""

    __slots__ = ("high", "low", "next", "oid", "state")

    def __init__(self, oid: int, state: TreeState, low: _Bound, high: _Bound) -> None:
        self.oid, self.state, self.low, self.high = oid, state, low, high
        self.next = 0


FORMS = ("", "BTree", "TreeSet", "Bucket", "Set")
"""The forms of trees and buckets, at the numbers by which the native engine knows them."""

_Bound = tuple[Value] | None
"""A key within a tuple; None where there is no bound."""


def check_trees(
    graph: ObjectGraph, *, tally: Tally | None = None, progress: Progress = SILENT
) -> Iterator[TreeFinding]:
    """Yield what is wrong with the BTrees of a snapshot, and with its buckets and sets that are part of none.

    Every node is read once, in the order of the trees; ``tally`` counts what was checked.
    """
    columns, snapshot = graph.columns, graph.snapshot
    python2 = snapshot.source.info().format == "FS21"
    tally = tally or Tally()
    tops = TreeTops(graph)
    owners = array("I", [NONE]) * len(columns)
    unread: set[int] = set()

    def claim(oid: int, top: int) -> int | None:
        number, owner = columns.find(oid), columns.find(top)
        if number is None or owner is None:
            return None
        if owners[number] == NONE:
            owners[number] = owner
        return None if owners[number] == owner else columns.oids[owners[number]]

    progress.start("checking BTrees", len(tops.nodes) + len(tops.buckets), "nodes")
    certifier = certifier_of(graph, tops, owners)
    for number in tops.numbers(lambda number: owners[number] != NONE):
        # Most trees are sound, and most of them have plain keys: the native engine tells those at once.
        nodes = 0 if certifier is None else certifier.certify(number)
        if nodes:
            tally.trees += 1
            tally.nodes += nodes
            progress.advance(tally.nodes)
            continue
        for found in check_tree(snapshot, columns.oids[number], python2=python2, claim=claim, tally=tally):
            # Nobody can claim a node that cannot be read: it is met again, also as a tree of its own.
            if found.kind != "tree-record":
                yield found
            elif found.oid not in unread:
                unread.add(found.oid)
                yield found
        progress.advance(tally.nodes)
    progress.finish()


def certifier_of(graph: ObjectGraph, tops: TreeTops, owners: array[int]) -> Any:
    """Return what knows sound trees without decoding them in Python; None where there is nothing that does."""
    source = graph.snapshot.source
    if chosen.Certifier is None or not isinstance(source, FileSource):
        return None
    forms = bytes(0 if kind is None else FORMS.index(kind.form) for kind in tops.kinds)
    letters = ((b"-", b"-") if kind is None else (kind.key.encode(), kind.value.encode()) for kind in tops.kinds)
    keys, values = (b"".join(part) for part in zip(*letters, strict=True)) if tops.kinds else (b"", b"")
    return chosen.Certifier(source.file.fd, graph.columns, forms, keys, values, owners)


def check_tree(
    snapshot: Snapshot, oid: int, *, python2: bool = False, claim: Claim | None = None, tally: Tally | None = None
) -> list[TreeFinding]:
    """Return what is wrong with the tree (or the single bucket or set) that an object is the top of.

    ``python2`` says whose order of keys holds. ``claim`` finds nodes that several trees share. Nothing for an object
    that is no BTree. Raises ObjectNotFound where there is no such object.
    """
    return _TreeCheck(snapshot, oid, KeyOrder(python2=python2), claim, tally or Tally()).run()


class _TreeCheck:
    """The walk over one tree, depth first, from left to right, every node once."""

    def __init__(self, snapshot: Snapshot, top: int, order: KeyOrder, claim: Claim | None, tally: Tally) -> None:
        self._snapshot = snapshot
        self._top = top
        self._order = order
        self._claim = claim
        self._tally = tally
        self._findings: list[TreeFinding] = []
        self._seen = {top}
        self._way: list[_Inner] = []
        self._classes: dict[Global, bool | None] = {}
        # How deep the first bucket is; the bucket before with its next one, None where that is not known.
        self._depth: int | None = None
        self._before: tuple[int, Ref | None] | None = None
        # Inner nodes whose first bucket is the next bucket to come.
        self._waiting: list[tuple[int, Ref]] = []

    def run(self) -> list[TreeFinding]:
        """Check everything, and return what was found."""
        record = self._read(self._top, self._top)
        if isinstance(record, TreeFinding):
            return [record]
        kind = record_tree(record)
        if kind is None:
            return []
        self._tally.trees += kind.is_tree
        self._kind = kind
        self._bucket_kind = kind._replace(form="Set" if kind.is_set else "Bucket")
        self._class = record.class_
        if self._claim is not None and (other := self._claim(self._top, self._top)) is not None:
            self._add("tree-shared", self._top, f"this tree is also part of the tree {oid_text(other)}")
            return self._findings
        self._visit(self._top, record, kind, None, None)
        if not kind.is_tree:
            return self._findings
        self._descend()
        if self._before is not None:
            self._check_next(None)
        return self._findings

    def _descend(self) -> None:
        way = self._way
        while way:
            node = way[-1]
            place, keys, children = node.next, node.state.keys, node.state.children
            if place == len(children):
                way.pop()
                continue
            node.next += 1
            low = (keys[place - 1],) if place else node.low
            high = (keys[place],) if place < len(keys) else node.high
            self._follow(children[place], node.oid, low, high)

    def _follow(self, child: Ref, holder: int, low: _Bound, high: _Bound) -> None:
        """Go down to one child, if that can be done."""
        found = self._child(child, holder)
        if isinstance(found, TreeFinding):
            self._findings.append(found)
            self._lose_chain()
            return
        is_tree = self._is_tree(found.class_)
        if is_tree is None:
            text = f"has a child {oid_text(child.oid)} that is a {class_text(found.class_)}"
            self._add("tree-class", holder, text)
            self._lose_chain()
            return
        self._visit(child.oid, found, self._kind if is_tree else self._bucket_kind, low, high)

    def _child(self, child: Ref, holder: int) -> Record | TreeFinding:
        """Return a child's record, or why it cannot be part of the tree."""
        oid = child.oid
        text = oid_text(oid)
        if child.weak or child.database is not None:
            how = "only weakly" if child.weak else f"in another database, {shown(child.database)}"
            return TreeFinding("tree-class", holder, f"refers to its child {text} {how}")
        if oid in self._seen:
            if any(node.oid == oid for node in self._way):
                return TreeFinding("tree-cycle", holder, f"has the child {text}, below which it is itself")
            return TreeFinding("tree-shared", holder, f"has the child {text}, which the tree holds elsewhere, too")
        if len(self._way) > MAX_DEPTH:
            return TreeFinding("tree-depth", holder, f"is deeper in its tree than {MAX_DEPTH} nodes")
        self._seen.add(oid)
        if self._claim is not None and (other := self._claim(oid, self._top)) is not None:
            return TreeFinding(
                "tree-shared", holder, f"has the child {text}, which the tree {oid_text(other)} holds, too"
            )
        return self._read(oid, holder)

    def _read(self, oid: int, holder: int) -> Record | TreeFinding:
        try:
            return self._snapshot.record(oid)
        except ObjectNotFound:
            if oid == holder:
                raise
            return TreeFinding("tree-missing", holder, f"has a child {oid_text(oid)}, which does not exist")
        except RecordError as exc:
            return TreeFinding("tree-record", oid, f"cannot be decoded: {exc.reason} (at byte {exc.offset})")
        except FramingDamage as exc:
            return TreeFinding("tree-record", oid, f"cannot be read: {exc.damage}")

    def _lose_chain(self) -> None:
        # What a part that is missing would have said of the buckets is unknown, so nothing is said about it.
        self._before = None
        self._waiting.clear()

    def _is_tree(self, class_: Global | Ref) -> bool | None:
        """Tell whether a child of this class is a tree or a bucket; None where this tree can have no such child."""
        if class_ == self._class:
            return True
        if isinstance(class_, Ref):
            return None
        if class_ not in self._classes:
            # One class has several names: with and without an underscore, and short ones.
            kind, own = tree_kind(class_), tree_kind(self._class)
            same = kind is not None and (kind == self._bucket_kind or kind == own)
            self._classes[class_] = kind.is_tree if kind is not None and same else None
        return self._classes[class_]

    def _visit(self, oid: int, record: Record, kind: TreeKind, low: _Bound, high: _Bound) -> None:
        """Check one node by itself and against what is known of the tree."""
        self._tally.nodes += 1
        try:
            state = read_tree_state(kind, record.state)
        except TreeStateError as exc:
            self._lose_chain()
            self._add("tree-state", oid, exc.message)
            return
        if state.keys:
            self._check_keys(oid, state.keys, low, high)
        if isinstance(state, TreeState):
            if state.first is not None:
                self._waiting.append((oid, state.first))
                self._way.append(_Inner(oid, state, low, high))
            elif self._way:
                self._add("tree-empty", oid, "is an inner node without children")
            return
        if state.values:
            self._check_values(oid, state.values)
        if kind.is_tree and self._way:
            self._add(
                "tree-state", oid, "is an inner node with its bucket embedded, which no chain of buckets leads to"
            )
            self._lose_chain()
            return
        if self._way or kind.is_tree:
            self._check_bucket(oid, state)

    def _check_bucket(self, oid: int, bucket: BucketState) -> None:
        """Check a bucket's place in the tree."""
        if not bucket.keys:
            self._add("tree-empty", oid, "is an empty bucket")
        if self._depth is None:
            self._depth = len(self._way)
        elif self._depth != len(self._way):
            self._add(
                "tree-depth", oid, f"is a bucket {len(self._way)} nodes deep, where the first one is {self._depth}"
            )
        for node, first in self._waiting:
            if not _leads_to(first, oid):
                self._add(
                    "tree-first", node, f"has {oid_text(first.oid)} as first bucket, though that is {oid_text(oid)}"
                )
        self._waiting.clear()
        if self._before is not None:
            self._check_next(oid)
        self._before = oid, bucket.next

    def _check_next(self, oid: int | None) -> None:
        """Check that the bucket before leads to this one, or to none."""
        assert self._before is not None
        before, after = self._before
        if (after is None and oid is None) or (after is not None and oid is not None and _leads_to(after, oid)):
            return
        said = "no next bucket" if after is None else f"the next bucket {oid_text(after.oid)}"
        if oid is not None:
            self._add("tree-chain", before, f"has {said}, though {oid_text(oid)} follows")
        elif after is not None and after.oid in self._seen:
            self._add("tree-chain", before, f"is the last bucket, but has {said}, which leads back into the tree")
        else:
            self._add("tree-chain", before, f"is the last bucket, but has {said}")

    def _check_keys(self, oid: int, keys: tuple[Value, ...], low: _Bound, high: _Bound) -> None:
        letter = self._kind.key
        if (wrong := misfit(letter, keys)) is not None:
            self._add("tree-type", oid, f"holds the key {shown(keys[wrong])}, where {FAMILY_ITEMS[letter]} is to be")
            return
        ascent = self._order.ascent(keys)
        self._tally.unordered_keys += ascent.unknown
        if ascent.broken is not None:
            one, other = shown(keys[ascent.broken]), shown(keys[ascent.broken + 1])
            places = f"{ascent.broken} and {ascent.broken + 1}"
            self._add("tree-order", oid, f"its keys at {places} do not ascend: {one}, {other}")
        # Where all ascend, the ends speak for the rest.
        sure = ascent.broken is None and not ascent.unknown
        if low is not None:
            self._check_bound(oid, keys[:1] if sure else keys, low[0], upper=False)
        if high is not None:
            self._check_bound(oid, keys[-1:] if sure else keys, high[0], upper=True)

    def _check_bound(self, oid: int, keys: tuple[Value, ...], bound: Value, *, upper: bool) -> None:
        for key in keys:
            found = self._order.compare(key, bound)
            if found is None:
                self._tally.unordered_keys += len(keys) == 1
            elif upper and found >= 0:
                self._add("tree-range", oid, f"the key {shown(key)} is not below {shown(bound)}, the bound of its node")
                return
            elif not upper and found not in (0, 1):
                self._add("tree-range", oid, f"the key {shown(key)} is below {shown(bound)}, the bound of its node")
                return

    def _check_values(self, oid: int, values: tuple[Value, ...]) -> None:
        letter = self._kind.value
        if (wrong := misfit(letter, values)) is not None:
            self._add(
                "tree-type", oid, f"holds the value {shown(values[wrong])}, where {FAMILY_ITEMS[letter]} is to be"
            )

    def _add(self, kind: str, oid: int, message: str) -> None:
        self._findings.append(TreeFinding(kind, oid, message))


def _leads_to(ref: Ref, oid: int) -> bool:
    return ref.oid == oid and not ref.weak and ref.database is None
