"""One step of a path: an attribute, a key, an index, within a record or a value that a record embeds."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from typing import NamedTuple, TypeAlias
from weakref import WeakKeyDictionary

from zodbsh.analysis.keys import (
    Attribute,
    Item,
    Key,
    Segment,
    ShownKey,
    Step,
    is_attribute_name,
    key_text,
    literal_text,
)
from zodbsh.analysis.records import dangling, read_record
from zodbsh.analysis.trees import Entry, Tree, find_key
from zodbsh.errors import ObjectNotFound
from zodbsh.ids import ROOT_OID, oid_text
from zodbsh.record.decode import class_text
from zodbsh.record.shape import attribute_step, attributes, content_name, mapping_items, python_key_text, sequence_items
from zodbsh.record.values import Dict, Global, Instance, Record, Ref, Set, Value
from zodbsh.source.snapshot import Snapshot

Subject: TypeAlias = "Record | Value"

_LARGE = 64
_INDEXED = (str, int, bytes)
_KEPT_INDEXES = 4
_INDEXES: WeakKeyDictionary[Snapshot, list[tuple[list[tuple[Value, Value]], dict[tuple[type, object], int]]]]
_INDEXES = WeakKeyDictionary()

CONTAINERS = ("_tree", "data", "__data__", "_SampleContainer__data", "_container")
"""Attributes in which container classes keep their items, so that a key of the container is a key of theirs."""

NEAR_LIMIT = 2_000
"""How many keys are looked at for near ones."""

_MAX_NEAR_LENGTH = 200
_MAX_INDEX_DIGITS = 19


class ForeignReference(ObjectNotFound):
    """A path that leads into another database of a multi-database."""

    code = "foreign-reference"
    hint = "Open that database, and look there."


class Found(NamedTuple):
    """Where a step leads: a value, the record (oid) that holds it, and the step as Python writes it."""

    value: Value
    holder: int
    text: str


class View:
    """A record or an embedded value, seen as what a step can be taken from.

    ``oid`` is the object whose record it is or lies in; ``record`` is None for an embedded value.
    """

    def __init__(self, snapshot: Snapshot, oid: int, subject: Subject) -> None:
        self.snapshot = snapshot
        self.oid = oid
        self.subject = subject
        self.record = subject if isinstance(subject, Record) else None
        self.is_root = oid == ROOT_OID and self.record is not None
        self.tree = None if self.record is None else Tree.of(snapshot, oid, self.record)

    def take(self, step: Step) -> Found | None:
        """Return where a step leads, None where there is nothing."""
        if isinstance(step, Attribute):
            # The root object is a mapping whose keys are written as attributes.
            return (self._key(step.name) if self.is_root else None) or self._attribute(step.name)
        if isinstance(step, Item):
            # A name that is no identifier is an attribute first: so is it written.
            plain = not isinstance(step.key, str) or is_attribute_name(step.key)
            named = None if plain else self._named(step.key)
            return self._key(step.key) or named or self._contained(step) or self._named(step.key)
        return self._segment(step)

    def take_item(self, step: Item | Segment) -> Found | None:
        """Return where a key, or a segment taken for one, leads; attributes do not count."""
        if isinstance(step, Item):
            return self._key(step.key)
        return self._key(step.text) or self._whole_number(step.text)

    def pairs(self) -> list[tuple[Value, Value]] | None:
        """Return the keys and values of a mapping that is no BTree; None for anything else."""
        if self.record is not None:
            return mapping_items(self.record)
        if isinstance(self.subject, Dict):
            return self.subject.pairs
        if isinstance(self.subject, Instance) and self.subject.pairs:
            return self.subject.pairs
        return None

    def sequence(self) -> list[Value] | tuple[Value, ...] | None:
        """Return the items of a list, a tuple or a set; None for anything else."""
        subject = self.subject
        if self.record is not None:
            return sequence_items(self.record)
        if isinstance(subject, Set | Instance):
            return subject.items if isinstance(subject, Set) or subject.items else None
        if isinstance(subject, list) or type(subject) is tuple:
            return subject
        return None

    def named(self) -> list[tuple[str, Value]]:
        """Return the attributes, those that Python cannot name last."""
        subject = self.subject
        if isinstance(subject, Record | Instance):
            return attributes(subject)
        if isinstance(subject, Dict) and isinstance(subject.state, Dict):
            return [(key, value) for key, value in subject.state.pairs if isinstance(key, str)]
        return []

    def steps(self) -> Iterator[str]:
        """Yield what may follow the path here, each as a step in text."""
        hidden = None if self.record is None else content_name(self.record)
        for name, _ in self.named():
            if name != hidden:
                yield attribute_step(name)
        keys = (key for key, _ in self.pairs() or ())
        if self.tree is not None:
            keys = (entry.key for entry in self.tree.entries())
        for key in keys:
            if self.is_root and isinstance(key, str):
                yield attribute_step(key)
            else:
                yield f"[{literal_text(key) or python_key_text(key)}]"
        for index in range(len(self.sequence() or ())):
            yield f"[{index}]"

    def completions(self, begun: str) -> Iterator[str]:
        """Yield what a begun step (``.na``, ``['ke``, ``/na``) may become; of a large mapping, some."""
        if begun.startswith("/"):
            for step in islice(chain(self._neighbours(begun[1:]), self.steps()), NEAR_LIMIT):
                name = step.strip(".[]") if step[1] not in "'\"" else step[2:-2]
                if "/" not in name and "\\" not in name:
                    yield f"/{name}"
            return
        double = begun.startswith('["')
        around = self._neighbours(begun[2:]) if begun[1:2] in ("'", '"') else iter(())
        for step in islice(chain(around, self.steps()), NEAR_LIMIT):
            if double and step.startswith("['") and '"' not in step and "\\" not in step:
                step = f'["{step[2:-2]}"]'  # noqa: PLW2901
            yield step

    def near(self, wanted: Key) -> list[str]:
        """Return at most three steps that resemble a missing one; of a large mapping only some are looked at."""
        text = wanted if isinstance(wanted, str) else key_text(wanted)
        if len(text) > _MAX_NEAR_LENGTH:
            return []
        from zodbsh.near import near_names

        candidates: dict[str, str] = {}
        for step in chain(self._neighbours(wanted), islice(self.steps(), NEAR_LIMIT)):
            if len(step) <= _MAX_NEAR_LENGTH:
                candidates.setdefault(step.strip(".[]'\""), step)
        if text in candidates:
            return [candidates[text]]  # the same key, of another type
        return [candidates[name] for name in near_names(text, candidates)]

    def _neighbours(self, wanted: Key) -> Iterator[str]:
        """Yield the keys of a tree from where the wanted one would be."""
        if self.tree is None or isinstance(wanted, ShownKey):
            return
        try:
            for entry in islice(self.tree.entries(wanted), NEAR_LIMIT // 20):
                if (text := literal_text(entry.key)) is not None:
                    yield f"[{text}]"
        except TypeError:
            # Keys of another type are not ordered with the wanted one.
            return

    def _segment(self, step: Segment) -> Found | None:
        text = step.text
        first, second = self._attribute, self._key
        # What the record calls `data` is no attribute that users of a mapping know.
        if self.is_root or self.tree is not None or self.pairs() is not None:
            first, second = second, first  # type: ignore[assignment]
        return first(text) or second(text) or self._whole_number(text) or self._contained(step)

    def _whole_number(self, text: str) -> Found | None:
        digits = text.removeprefix("-")
        if digits.isdecimal() and digits.isascii() and len(digits) <= _MAX_INDEX_DIGITS:
            return self._key(int(text))
        return None

    def _attribute(self, name: str) -> Found | None:
        found = None
        for other, value in self.named():
            if other == name:
                found = Found(value, self.oid, attribute_step(name))
        return found or self._special(name)

    def _special(self, name: str) -> Found | None:
        """Return what shape.py names though Python does not: the arguments an object was made with, and so on."""
        subject = self.subject
        found: Value = None
        if isinstance(subject, Record):
            found = {"__class__": subject.class_, "__args__": subject.class_args, "__state__": subject.state}.get(name)
        elif isinstance(subject, Instance):
            special: dict[str, Value] = {
                "__class__": subject.class_, "__args__": subject.args, "__kwargs__": subject.kwargs,
                "__state__": subject.state,
            }  # fmt: skip
            found = special.get(name)
        elif isinstance(subject, Dict):
            found = {"__args__": subject.args, "__state__": subject.state}.get(name)
        if name == "keys()" and (pairs := self.pairs()) is not None:
            found = [key for key, _ in pairs]
        return None if found is None else Found(found, self.oid, f".{name}")

    def _key(self, key: Key) -> Found | None:
        entry = self._entry(key)
        if entry is not None:
            return Found(entry.value, entry.holder, self._key_step(entry.key, key))
        items = self.sequence()
        if items is not None and type(key) is int and -len(items) <= key < len(items):
            return Found(items[key], self.oid, f"[{key % len(items)}]")
        return None

    def _entry(self, key: Key) -> Entry | None:
        if self.tree is not None:
            entry = self.tree.find(key)
            # A set's member is the value.
            return entry._replace(value=entry.key) if entry is not None and self.tree.is_set else entry
        pairs = self.pairs()
        if pairs is not None and len(pairs) > _LARGE and type(key) in _INDEXED:
            place = _index(self.snapshot, pairs).get((type(key), key))
            if place is not None:
                return Entry(pairs[place][0], pairs[place][1], self.oid)
        # As in a dict, the last value under a key is the one that counts.
        entries = (Entry(other, value, self.oid) for other, value in reversed(pairs or []))
        return find_key(entries, key)

    def _key_step(self, stored: Value, wanted: Key) -> str:
        if self.is_root and isinstance(stored, str):
            return attribute_step(stored)
        text = literal_text(stored)
        return f"[{key_text(wanted) if text is None else text}]"

    def _named(self, key: Key) -> Found | None:
        """Return the attribute under a name in brackets: what Python has no identifier for is written so."""
        return self._attribute(key) if isinstance(key, str) and self.named() else None

    def _contained(self, step: Item | Segment) -> Found | None:
        if not isinstance(self.subject, Record | Instance) or self.tree is not None or self.pairs() is not None:
            return None
        for name, value in self.named():
            if name in CONTAINERS:
                found = follow(self.snapshot, self.oid, value).take_item(step)
                if found is not None:
                    return found._replace(text=f".{name}{found.text}")
        return None


def _index(snapshot: Snapshot, pairs: list[tuple[Value, Value]]) -> dict[tuple[type, object], int]:
    """Return where the keys of a large mapping stand; a few mappings' are remembered, for paths by the thousand."""
    known = _INDEXES.setdefault(snapshot, [])
    for other, index in known:
        if other is pairs:
            return index
    made: dict[tuple[type, object], int] = {
        (type(key), key): place for place, (key, _) in enumerate(pairs) if type(key) in _INDEXED
    }
    known[:] = [(pairs, made), *known[: _KEPT_INDEXES - 1]]
    return made


def follow(snapshot: Snapshot, holder: int, value: Value, place: str = "") -> View:
    """Return what a value in the record ``holder`` is: the object a reference leads to, or the value itself.

    ``place`` is the path to the value. Raises DanglingReference, ForeignReference or BrokenRecord.
    """
    if not isinstance(value, Ref):
        return View(snapshot, holder, value)
    if value.database is not None:
        raise ForeignReference(
            f"{place or 'a reference in ' + oid_text(holder)} leads to {oid_text(value.oid)} "
            f"in another database, {value.database!r}"
        )
    try:
        record = read_record(snapshot, value.oid)
    except ObjectNotFound as exc:
        raise dangling(value, holder, place) from exc
    return View(snapshot, value.oid, record)


def kind_text(subject: Subject) -> str:
    """Return the name of a record's class, or of an embedded value's type."""
    if isinstance(subject, Record | Instance):
        class_ = subject.class_
        return class_text(class_) if isinstance(class_, Global | Ref) else "object"
    if isinstance(subject, Ref):
        return class_text(subject.class_)
    if isinstance(subject, Dict):
        return "dict" if subject.class_ is None else subject.class_.dotted
    if isinstance(subject, Set):
        return "frozenset" if subject.frozen else "set"
    return "None" if subject is None else "class" if isinstance(subject, Global) else type(subject).__name__
