"""What differs between two records of one object: attribute by attribute, key by key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import SequenceMatcher
from itertools import islice
from typing import Final, NamedTuple, TypeAlias

from zodbsh.analysis.identity import Identities
from zodbsh.analysis.keys import literal_text
from zodbsh.record.btrees import BucketState, TreeState, TreeStateError, read_tree_state, record_tree
from zodbsh.record.shape import attribute_step, attributes, content_name, mapping_items, python_key_text, sequence_items
from zodbsh.record.values import Dict, Instance, Record, Set, Value
from zodbsh.record.walk import is_container

MAX_PARTS = 1_000
"""How many differences within one attribute are named; the attribute itself is always given whole."""

_MAX_ALIGNED = 2_000
_INSIDE = ("__children__", "__keys__")


class Absent:
    """Stands where one side has nothing, or nothing that is known; ``text`` says which."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


ABSENT: Final = Absent("(nothing)")
UNKNOWN: Final = Absent("(unknown)")

Side: TypeAlias = "Value | Absent"


class Part(NamedTuple):
    """One difference within an attribute: ``path`` leads there from the object (``config['x'][3]``)."""

    path: str
    old: Side
    new: Side


class AttributeChange(NamedTuple):
    """One attribute, key or member that differs.

    ``name`` is an attribute's name; a key or an index in brackets, as Python writes it (``['account-1']``, ``[3]``);
    ``{7}`` for a member of a set; ``__class__``, ``__args__`` or ``__state__`` where that is what differs. ABSENT
    stands for a side that lacks it. ``parts`` says where inside a container the two differ; it is empty where the
    change is the whole value.
    """

    name: str
    old: Side
    new: Side
    parts: tuple[Part, ...] = ()


def compare_records(old: Record | None, new: Record | None) -> list[AttributeChange]:
    """Return what differs, in the order of the new record, what is gone last; None is an object that does not exist.

    Of a BTree's node, what its own record holds is compared: a large tree's keys are in its buckets' records.
    """
    comparison = _Comparison()
    changes: list[AttributeChange] = []
    if old is not None and new is not None:
        for name, before, after in (
            ("__class__", old.class_, new.class_), ("__args__", old.class_args, new.class_args),
        ):  # fmt: skip
            if not comparison.same(before, after):
                changes.append(AttributeChange(name, before, after))
    fields = [_fields(record) for record in (old, new)]
    if old is not None and new is not None and fields[0].kind != fields[1].kind:
        return [*changes, AttributeChange("__state__", old.state, new.state)]
    changes.extend(comparison.fields(fields[0], fields[1]))
    return changes


def compare_nodes(pairs: Iterable[tuple[Record | None, Record | None]]) -> list[AttributeChange]:
    """Return what differs in a BTree of which several nodes and buckets changed, given as they were and as they are.

    A key that moved from one bucket to another (a bucket that is split, a tree that outgrows its record) does not
    differ. What is no part of a BTree is left out.
    """
    old: list[tuple[str, Value]] = []
    new: list[tuple[str, Value]] = []
    for before, after in pairs:
        for record, named in ((before, old), (after, new)):
            fields = _fields(record)
            if fields.kind == "tree":
                named.extend(pair for pair in fields.named if pair[0] not in _INSIDE)
    return list(_Comparison().fields(_Fields("tree", old), _Fields("tree", new)))


class _Fields(NamedTuple):
    """A record as named values; ``kind`` tells records apart that cannot be compared part by part."""

    kind: str
    named: list[tuple[str, Value]]
    items: list[Value] | None = None


def _fields(record: Record | None) -> _Fields:
    if record is None:
        return _Fields("", [])
    kind = record_tree(record)
    if kind is not None:
        try:
            return _Fields("tree", _tree_fields(read_tree_state(kind, record.state)))
        except TreeStateError:
            return _Fields("state", [("__state__", record.state)])
    content = content_name(record)
    named = [(name, value) for name, value in attributes(record) if name != content]
    pairs = mapping_items(record)
    if pairs is not None:
        return _Fields("attributes", named + [(f"[{_key_text(key)}]", value) for key, value in pairs])
    items = sequence_items(record)
    if items is not None or named or isinstance(record.state, Dict):
        return _Fields("attributes", named, items)
    return _Fields("state", [("__state__", record.state)] if record.state is not None else [])


def _tree_fields(state: TreeState | BucketState) -> list[tuple[str, Value]]:
    if isinstance(state, TreeState):
        # The inside of a large tree: its keys are those of its buckets, and change there.
        inside: tuple[list[Value], list[Value]] = list(state.children), list(state.keys)
        return list(zip(_INSIDE, inside, strict=True)) if state.children else []
    if state.values is None:
        return [(f"{{{_key_text(key)}}}", key) for key in state.keys]
    return [(f"[{_key_text(key)}]", value) for key, value in zip(state.keys, state.values, strict=True)]


def _key_text(key: Value) -> str:
    return literal_text(key) or python_key_text(key)


class _Comparison:
    def __init__(self) -> None:
        self._identities = Identities()

    def same(self, old: Value, new: Value) -> bool:
        return self._identities.same(old, new)

    def fields(self, old: _Fields, new: _Fields) -> Iterator[AttributeChange]:
        """Yield what differs between two records of one kind, or between one and nothing."""
        for name, before, after in _paired(old.named, new.named):
            if isinstance(before, Absent) or isinstance(after, Absent):
                yield AttributeChange(name, before, after)
            elif not self.same(before, after):
                yield AttributeChange(name, before, after, self.parts(name, before, after))
        if old.items is not None or new.items is not None:
            for part in self._sequence("", old.items or [], new.items or []):
                inner: tuple[Part, ...] = ()
                if not isinstance(part.old, Absent) and not isinstance(part.new, Absent):
                    inner = self.parts(part.path, part.old, part.new)
                yield AttributeChange(part.path, part.old, part.new, inner)

    def parts(self, name: str, old: Value, new: Value) -> tuple[Part, ...]:
        """Return where two values that differ do so; nothing where they differ as a whole."""
        return tuple(islice((part for part in self._descend(name, old, new) if part.path != name), MAX_PARTS))

    def _descend(self, path: str, old: Value, new: Value) -> Iterator[Part]:
        """Yield the innermost differences, without recursion: values may be deep, and may hold themselves."""
        waiting: list[Part] = [Part(path, old, new)]
        met: set[tuple[int, int]] = set()
        while waiting:
            part = waiting.pop()
            if isinstance(part.old, Absent) or isinstance(part.new, Absent):
                yield part
            elif self.same(part.old, part.new):
                continue
            elif (id(part.old), id(part.new)) in met or not is_container(part.old):
                yield part
            else:
                met.add((id(part.old), id(part.new)))
                inner = self._inside(part.path, part.old, part.new)
                # The first difference is on top of the stack.
                waiting.extend(reversed(inner)) if inner else None
                if not inner:
                    yield part

    def _inside(self, path: str, old: Value, new: Value) -> list[Part]:
        """Return the differing parts of two containers of one type; nothing where they cannot be taken apart."""
        if isinstance(old, Dict) and isinstance(new, Dict) and old.class_ == new.class_:
            return self._named(path, _dict_steps(old), _dict_steps(new))
        if isinstance(old, Instance) and isinstance(new, Instance) and self._alike(old, new):
            return self._named(path, _instance_steps(old), _instance_steps(new))
        if isinstance(old, Set) and isinstance(new, Set) and old.frozen == new.frozen:
            return list(self._members(path, old.items, new.items))
        if (isinstance(old, list) and isinstance(new, list)) or (type(old) is tuple and type(new) is tuple):
            return list(self._sequence(path, list(old), list(new)))
        return []

    def _alike(self, old: Instance, new: Instance) -> bool:
        """Tell whether two instances differ in nothing but what can be named."""
        named = all(isinstance(part.state, Dict) or not part.has_state for part in (old, new))
        return (
            named and self.same(old.class_, new.class_) and self.same(list(old.args), list(new.args))
            and self.same(old.kwargs, new.kwargs) and self.same(old.items, new.items)
        )  # fmt: skip

    def _named(self, path: str, old: list[tuple[str, Value]], new: list[tuple[str, Value]]) -> list[Part]:
        found = []
        for step, before, after in _paired(old, new):
            if isinstance(before, Absent) or isinstance(after, Absent) or not self.same(before, after):
                found.append(Part(path + step, before, after))
        return found

    def _members(self, path: str, old: list[Value], new: list[Value]) -> Iterator[Part]:
        before = {self._identities.number(item): item for item in old}
        after = {self._identities.number(item): item for item in new}
        for number, item in after.items():
            if number not in before:
                yield Part(f"{path}{{{_key_text(item)}}}", ABSENT, item)
        for number, item in before.items():
            if number not in after:
                yield Part(f"{path}{{{_key_text(item)}}}", item, ABSENT)

    def _sequence(self, path: str, old: list[Value], new: list[Value]) -> Iterator[Part]:
        """Yield the items that differ, by index: the old one of what is gone, the new one of everything else."""
        before, after = [[self._identities.number(item) for item in items] for items in (old, new)]
        if len(before) == len(after) or max(len(before), len(after)) > _MAX_ALIGNED:
            yield from _by_index(path, before, after, old, new)
            return
        for tag, first, last, new_first, new_last in SequenceMatcher(None, before, after, False).get_opcodes():
            if tag == "equal":
                continue
            pairs = min(last - first, new_last - new_first)
            for step in range(pairs):
                yield Part(f"{path}[{new_first + step}]", old[first + step], new[new_first + step])
            for index in range(new_first + pairs, new_last):
                yield Part(f"{path}[{index}]", ABSENT, new[index])
            for index in range(first + pairs, last):
                yield Part(f"{path}[{index}]", old[index], ABSENT)


def _by_index(path: str, before: list[int], after: list[int], old: list[Value], new: list[Value]) -> Iterator[Part]:
    for index, (left, right) in enumerate(zip(before, after, strict=False)):
        if left != right:
            yield Part(f"{path}[{index}]", old[index], new[index])
    for index in range(len(old), len(new)):
        yield Part(f"{path}[{index}]", ABSENT, new[index])
    for index in range(len(new), len(old)):
        yield Part(f"{path}[{index}]", old[index], ABSENT)


def _paired(old: list[tuple[str, Value]], new: list[tuple[str, Value]]) -> Iterator[tuple[str, Side, Side]]:
    """Yield each name with both values: in the new order, and what is gone after that."""
    before, after = dict(old), dict(new)
    for name, value in after.items():
        yield name, before.get(name, ABSENT), value
    for name, value in before.items():
        if name not in after:
            yield name, value, ABSENT


def _dict_steps(value: Dict) -> list[tuple[str, Value]]:
    extra: list[tuple[str, Value]] = [(".__args__", value.args)] if value.args else []
    if value.state is not None:
        extra.append((".__state__", value.state))
    return [(f"[{_key_text(key)}]", item) for key, item in value.pairs] + extra


def _instance_steps(value: Instance) -> list[tuple[str, Value]]:
    named = [(attribute_step(name), item) for name, item in attributes(value)]
    return named + [(f"[{_key_text(key)}]", item) for key, item in value.pairs]
