"""The revisions of an object together with those of all nodes and buckets it ever had as a BTree, newest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.records import decode_revision
from zodbsh.analysis.treediff import node_state
from zodbsh.errors import ZodbshError
from zodbsh.record.btrees import TreeState, tree_kind

if TYPE_CHECKING:
    from zodbsh.record.values import Record, Ref
    from zodbsh.source.base import Revision, Source

FOLLOWED_NODES = 20_000
"""How many nodes and buckets of a BTree are followed by default: those of some 300,000 keys."""


class RevisionStep(NamedTuple):
    """A revision, and the one before it."""

    new: Revision
    old: Revision | None


class History:
    """The revisions of ``oid`` not after ``at``; iterate once.

    ``followed`` counts the nodes and buckets known so far; ``partial`` tells that the limit has left some out. Those of
    an earlier time are found on the way, where a revision of a node leads to them.
    """

    def __init__(self, source: Source, oid: int, at: int, *, limit: int = FOLLOWED_NODES) -> None:
        self.partial = False
        self._source = source
        self._limit = limit
        self._inner: dict[int, bool] = {}
        self._waiting: list[tuple[int, int, RevisionStep, Iterator[RevisionStep]]] = []
        self._follow(oid, at, inner=True)
        self._look_below(self._load(oid, at), at)

    @property
    def followed(self) -> int:
        """How many nodes and buckets are looked at besides the object itself."""
        return len(self._inner) - 1

    def __iter__(self) -> Iterator[list[RevisionStep]]:
        """Yield what one transaction did, the newest first. Raises FramingDamage."""
        while self._waiting:
            tid = -self._waiting[0][0]
            steps = []
            while self._waiting and self._waiting[0][0] == -tid:
                _, oid, step, rest = heappop(self._waiting)
                steps.append(step)
                self._push(oid, rest)
                if self._inner[oid]:
                    self._look_below(_decoded(step.old), tid)
            yield steps

    def _look_below(self, record: Record | None, at: int) -> None:
        """Follow the nodes and buckets that a node leads to, and those below them, as they were at ``at``."""
        waiting = list(_children(record))
        while waiting:
            ref = waiting.pop()
            if ref.oid in self._inner:
                continue
            if len(self._inner) > self._limit:
                self.partial = True
                return
            kind = tree_kind(ref.class_)
            # A reference that does not say its class: an application's own kind of tree.
            inner = kind is None or kind.is_tree
            self._follow(ref.oid, at, inner=inner)
            if inner:
                waiting.extend(_children(self._load(ref.oid, at)))

    def _follow(self, oid: int, at: int, *, inner: bool) -> None:
        self._inner[oid] = inner
        self._push(oid, _steps(self._source.history(oid, at)))

    def _push(self, oid: int, steps: Iterator[RevisionStep]) -> None:
        step = next(steps, None)
        if step is not None:
            heappush(self._waiting, (-step.new.tid, oid, step, steps))

    def _load(self, oid: int, at: int) -> Record | None:
        try:
            return _decoded(self._source.load(oid, at))
        except ZodbshError:
            return None


def _steps(revisions: Iterable[Revision]) -> Iterator[RevisionStep]:
    newer: Revision | None = None
    for revision in revisions:
        if newer is not None:
            yield RevisionStep(newer, revision)
        newer = revision
    if newer is not None:
        yield RevisionStep(newer, None)


def _decoded(revision: Revision | None) -> Record | None:
    """Return a record, None where there is none or where it is broken: whoever compares it says so."""
    try:
        return decode_revision(revision)
    except ZodbshError:
        return None


def _children(record: Record | None) -> tuple[Ref, ...]:
    state = node_state(record)
    return state.children if isinstance(state, TreeState) else ()
