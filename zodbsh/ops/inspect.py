"""``zodbsh inspect DATABASE TARGET``: one object, or a value that a record embeds."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.content import Content, Entry, content_of
from zodbsh.analysis.lookup import View, follow, kind_text
from zodbsh.analysis.paths import places_of
from zodbsh.analysis.records import DanglingReference, read_record
from zodbsh.analysis.target import locate, parse_target, resolve
from zodbsh.errors import ZodbshError
from zodbsh.ids import oid_text
from zodbsh.record.classpart import BLOB_CLASS
from zodbsh.record.decode import class_text
from zodbsh.record.shape import INTERNAL, edges, edges_within
from zodbsh.record.values import Record, Ref, Value
from zodbsh.record.walk import is_container

if TYPE_CHECKING:
    from zodbsh.analysis.lookup import Subject
    from zodbsh.source.base import Revision
    from zodbsh.source.snapshot import Snapshot

PATH_BUDGET = 10_000
"""How many objects are looked at to find the path of an object that is given by its oid."""

MAX_NODES = 100_000
"""How many lines an expansion has at most, however deep and however wide it was asked to be."""


class Node(NamedTuple):
    """One attribute or item, and with ``--depth`` what is in it.

    ``oid`` is set where it is an object with a record of its own; ``class_`` names its class or its type, None where a
    referred object is missing. ``inside`` is None where it is not expanded; ``note`` says why, where there is a reason.
    """

    entry: Entry
    oid: int | None
    class_: str | None
    inside: Inside | None = None
    note: str = ""

    @property
    def embedded(self) -> bool:
        """Whether it is an object or container within the record."""
        return self.oid is None and is_container(self.entry.value)


class Inside(NamedTuple):
    """What an object or value holds: ``content``, and its attributes and items as nodes."""

    content: Content
    attributes: tuple[Node, ...]
    items: tuple[Node, ...]


class Link(NamedTuple):
    """A reference of the record: the way to it, what it leads to, and whether that exists.

    ``exists`` is None where it leads into another database.
    """

    step: str
    ref: Ref
    class_: str | None
    exists: bool | None


class Blob(NamedTuple):
    """The file of a blob, and its size."""

    path: str
    bytes: int


class ObjectView(NamedTuple):
    """One object, or (``embedded``) a value within its record.

    ``oid``, ``revision``, ``record`` are those of the record; ``value`` is the embedded value, ``class_`` its type or
    the object's class. ``path`` is the oid's text where no path is known. A value in a large BTree lies in the record
    of a bucket: ``owner`` is then the tree. ``part_of`` is the path of the tree that an object is a node of.
    ``links`` holds the first references, ``links_more`` counts the others; ``nodes`` counts those that a BTree's record
    has to its own nodes and buckets, which are not among them.
    """

    oid: int
    path: str
    class_: str
    revision: Revision
    record: Record
    embedded: bool
    value: Value
    owner: int
    owner_path: str
    inside: Inside
    links: tuple[Link, ...]
    links_more: int
    nodes: int
    part_of: str | None = None
    blob: Blob | None = None

    @property
    def bytes(self) -> int:
        """The size of the record's data."""
        return len(self.revision.data or b"")


class RawRecord(NamedTuple):
    """A record as it is stored, not decoded."""

    oid: int
    path: str
    revision: Revision

    @property
    def data(self) -> bytes:
        """The record's bytes."""
        return self.revision.data or b""


def inspect(snapshot: Snapshot, target: str, *, limit: int | None = None, depth: int = 1) -> ObjectView:
    """Return what a target leads to: at most ``limit`` items of everything, opened ``depth`` levels deep.

    Raises what ``zodbsh.analysis.target.resolve`` raises, and what reading a broken BTree raises.
    """
    found = resolve(snapshot, target)
    record = read_record(snapshot, found.oid)
    subject: Subject = found.value if found.embedded else record
    view = View(snapshot, found.oid, subject)
    revision = snapshot.load(found.oid)
    path, owner_path, part_of = found.path, found.owner_path, None
    if not path.startswith("root"):
        place = places_of(snapshot, (found.owner,), budget=PATH_BUDGET).get(found.owner)
        if place is not None and place.internal:
            part_of = place.path
        elif place is not None:
            path = place.path + path.removeprefix(owner_path)
            owner_path = place.path
    class_ = kind_text(subject)
    all_edges = list(edges_within(found.value) if found.embedded else edges(record))
    outside = [(step, ref) for step, ref in all_edges if step != INTERNAL]
    links = tuple(_link(snapshot, step, ref) for step, ref in outside[:limit])
    return ObjectView(
        found.oid, path, class_, revision, record, found.embedded, found.value, found.owner, owner_path,
        _Expansion(snapshot, limit).inside(view, depth, (found.oid,)),
        links, len(outside) - len(links), len(all_edges) - len(outside),
        part_of,
        _blob(snapshot, revision) if class_ == BLOB_CLASS else None,
    )  # fmt: skip


def raw_record(snapshot: Snapshot, target: str) -> RawRecord:
    """Return the record that a target is or lies in, which need not be decodable. Raises what ``locate`` raises."""
    oid, path = locate(snapshot, parse_target(target))
    return RawRecord(oid, path, snapshot.load(oid))


def _link(snapshot: Snapshot, step: str, ref: Ref) -> Link:
    said = None if ref.class_ is None else class_text(ref.class_)
    if ref.database is not None:
        return Link(step, ref, said, None)
    class_ = snapshot.class_of(ref.oid)
    return Link(step, ref, class_ or said, class_ is not None)


def _blob(snapshot: Snapshot, revision: Revision) -> Blob | None:
    # A blob's file has the tid of the transaction that wrote its data.
    path = snapshot.source.blob_path(revision.oid, revision.data_tid or revision.tid)
    try:
        return None if path is None else Blob(path, os.path.getsize(path))
    except OSError:
        return None


class _Expansion:
    """What is in an object, level by level, with one budget for all of it."""

    def __init__(self, snapshot: Snapshot, limit: int | None) -> None:
        self._snapshot = snapshot
        self._limit = limit
        self._left = MAX_NODES

    def inside(self, view: View, depth: int, above: tuple[int, ...]) -> Inside:
        """Return a view's content, opened ``depth`` levels deep; ``above`` are the objects it lies in."""
        content = content_of(view, self._limit)
        self._left -= len(content.attributes) + len(content.items)
        attributes = tuple(self._node(view, entry, depth, above) for entry in content.attributes)
        return Inside(content, attributes, tuple(self._node(view, entry, depth, above) for entry in content.items))

    def _node(self, view: View, entry: Entry, depth: int, above: tuple[int, ...]) -> Node:
        value = entry.value
        ref = value if isinstance(value, Ref) and value.database is None else None
        oid = None if ref is None else ref.oid
        class_ = kind_text(value) if oid is None else self._snapshot.class_of(oid)
        node = Node(entry, oid, class_, note="missing" if oid is not None and class_ is None else "")
        if depth <= 1 or node.note or not (ref is not None or node.embedded):
            return node
        if oid in above:
            return node._replace(note=f"see {oid_text(oid or 0)} above")
        if self._left <= 0:
            return node._replace(note="not opened: there is too much")
        try:
            inner = follow(self._snapshot, view.oid, value)
            return node._replace(inside=self.inside(inner, depth - 1, above if oid is None else (*above, oid)))
        except DanglingReference:
            return node._replace(note="missing")
        except ZodbshError as exc:
            return node._replace(note=exc.message)
