"""What a record's state means to people: attributes, items, and where each reference stands.

Steps are written as Python would write them behind the object: ``.owner`` for an
attribute whose name is an identifier, ``['front-page']`` for any other name and
for a key, ``[3]`` for a place in a list, a tuple or a set. What Python has no
words for is written with names that no object has: ``.__args__[0]`` (an
argument the object was made with), ``.__kwargs__['k']``, ``.__state__`` (a
state that is no dict of attributes), ``.keys()[3]`` (a key that is or holds a
reference), ``.__class__``.
"""

from __future__ import annotations

import keyword
from typing import TYPE_CHECKING, TypeAlias

from zodbsh.ids import oid_text
from zodbsh.record.btrees import BucketState, TreeStateError, read_tree_state, record_tree
from zodbsh.record.values import Dict, Global, Instance, Record, Ref, Set, Value
from zodbsh.record.walk import is_container

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zodbsh.record.btrees import TreeState

Steps: TypeAlias = "Iterator[tuple[str, Value]]"

INTERNAL = ""
"""The step to a BTree's children and buckets: no step at all, they are part of the tree."""

_MAX_KEY = 1_000
_MAX_PATH = 4_000
_MAX_NESTING = 8
_MAX_ITEMS = 1_000
_PACKAGES = frozenset(("persistent", "Persistence", "ZODB", "BoboPOS", "PersistentMapping"))
_MAPPINGS = frozenset(("PersistentMapping", "PersistentDict"))


def attributes(subject: Record | Instance) -> list[tuple[str, Value]]:
    """Return the attributes of an object, in the record's order; none where its state is no dict.

    The states ``{...}`` and ``({...} or None, {...})`` (with ``__slots__``) count.
    A name that is no text is given in brackets, as the step it is: ``[3]``.
    """
    parts = _attribute_parts(subject.state)
    return [(_name(key), value) for part in parts or () for key, value in part]


def content_name(record: Record) -> str | None:
    """Return the attribute that holds a PersistentMapping's or PersistentList's items, None for any other class."""
    if is_mapping(record.class_):
        names, kind = ("data", "_container"), Dict
    elif is_sequence(record.class_):
        names, kind = ("data",), list  # type: ignore[assignment]
    else:
        return None
    state = record.state
    return next((name for name in names if isinstance(state, Dict) and isinstance(state.get(name), kind)), None)


def mapping_items(record: Record) -> list[tuple[Value, Value]] | None:
    """Return a PersistentMapping's keys and values; None for any other object."""
    name = content_name(record)
    content = record.state.get(name) if name is not None and isinstance(record.state, Dict) else None
    return content.pairs if isinstance(content, Dict) else None


def sequence_items(record: Record) -> list[Value] | None:
    """Return a PersistentList's items; None for any other object."""
    name = content_name(record)
    content = record.state.get(name) if name is not None and isinstance(record.state, Dict) else None
    return content if isinstance(content, list) else None


def is_mapping(class_: Value) -> bool:
    """Tell whether a class is a PersistentMapping, under any name it ever had; a subclass is not seen."""
    return isinstance(class_, Global) and class_.name in _MAPPINGS and class_.module.split(".")[0] in _PACKAGES


def is_sequence(class_: Value) -> bool:
    """Tell whether a class is a PersistentList, under any name it ever had; a subclass is not seen."""
    return isinstance(class_, Global) and class_.name == "PersistentList" and class_.module.split(".")[0] in _PACKAGES


def edges(record: Record) -> Iterator[tuple[str, Ref]]:
    """Yield each reference with its step: the way from the object to it, through what the record embeds.

    Mappings and lists that ZODB brings are seen through (``['k']``, ``[3]``), so
    are BTrees; a BTree's children and next buckets have the step ``INTERNAL``.
    A part that the record shares is gone through once, under the first way to
    it. Ways longer than 4,000 characters are cut, with ``...`` at the cut.
    """
    seen: set[int] = set()
    yield from _walk(_record_steps(record, seen), seen)


def edges_within(value: Value) -> Iterator[tuple[str, Ref]]:
    """Yield each reference within a value that a record embeds, with its step from the value; as ``edges`` does."""
    seen = {id(value)}
    if isinstance(value, Ref):
        yield INTERNAL, value
    yield from _walk(_value_steps(value, seen), seen)


def tree_children(record: Record) -> frozenset[int] | None:
    """Return the oids of a BTree's own children (without its first bucket); of a bucket none; None for no tree."""
    kind = record_tree(record)
    if kind is None:
        return None
    try:
        tree = read_tree_state(kind, record.state)
    except TreeStateError:
        return None
    return frozenset() if isinstance(tree, BucketState) else frozenset(child.oid for child in tree.children)


def _walk(begin: Steps, seen: set[int]) -> Iterator[tuple[str, Ref]]:
    stack = [("", begin)]
    while stack:
        way, steps = stack[-1]
        for step, value in steps:
            if isinstance(value, Ref):
                yield _join(way, step), value
            if is_container(value) and id(value) not in seen:
                seen.add(id(value))
                stack.append((_join(way, step), _value_steps(value, seen)))
                break
        else:
            stack.pop()


def attribute_step(name: str) -> str:
    """Return the step to an attribute: ``.name``, or ``['na-me']`` where the name is no identifier."""
    if name.isidentifier() and not keyword.iskeyword(name):
        return f".{name}"
    return f"[{name!r}]"


def python_key_text(value: Value) -> str:
    """Return a key as Python would write it between brackets.

    A reference is written ``<0x2a>``, a class by its name. What holds other
    values and is no tuple is ``<...>``, as is what follows the thousandth item
    of a tuple (with those inside it) or stands in a ninth tuple.
    """
    return _key_text(value, _MAX_NESTING, iter(range(_MAX_ITEMS)))


def _key_text(value: Value, nesting: int, budget: Iterator[int]) -> str:
    if isinstance(value, Ref):
        return f"<{oid_text(value.oid)}>"
    if isinstance(value, Global):
        return value.dotted
    if type(value) is tuple and nesting > 0:
        # The depth is bounded, and so is the number of items: a part of it may come again many times over.
        items = [_key_text(item, nesting - 1, budget) for item, _ in zip(value, budget, strict=False)]
        if len(items) < len(value):
            items.append("<...>")
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    return "<...>" if is_container(value) else repr(value)


def _name(key: Value) -> str:
    return key if isinstance(key, str) else f"[{python_key_text(key)}]"


def _join(way: str, step: str) -> str:
    joined = way + step
    return joined if len(joined) <= _MAX_PATH else f"{joined[: _MAX_PATH // 2]}...{joined[-_MAX_PATH // 4 :]}"


def _item_step(key: Value) -> str:
    text = python_key_text(key)
    return f"[{text}]" if len(text) <= _MAX_KEY else f"[{text[:_MAX_KEY]}...]"


def _attribute_parts(state: Value) -> list[list[tuple[Value, Value]]] | None:
    """Return the dicts of a state that consists of attributes, None for any other state."""
    if isinstance(state, Dict):
        return [state.pairs]
    if type(state) is tuple and len(state) == 2 and isinstance(state[1], Dict):
        if isinstance(state[0], Dict):
            return [state[0].pairs, state[1].pairs]
        if state[0] is None:
            return [state[1].pairs]
    return None


def _holds(value: Value) -> bool:
    """Tell whether a value is or may hold a reference: only then is its step worth writing."""
    return type(value) is Ref or is_container(value)


def _record_steps(record: Record, seen: set[int]) -> Steps:
    if isinstance(record.class_, Ref):
        yield ".__class__", record.class_
    if isinstance(record.class_args, tuple | list):
        yield from _list_steps(".__args__", record.class_args)
    kind = record_tree(record)
    if kind is not None:
        try:
            tree = read_tree_state(kind, record.state)
        except TreeStateError:
            # Damage is for others to report; the references are there all the same.
            yield ".__state__", record.state
            return
        yield from _tree_steps(tree)
        return
    content = content_name(record)
    for name, value in _state_steps(record.state, seen):
        if content is not None and name == f".{content}":
            yield INTERNAL, value
        else:
            yield name, value


def _tree_steps(tree: TreeState | BucketState) -> Steps:
    for index, key in enumerate(tree.keys):
        if _holds(key):
            yield f".keys()[{index}]", key
    if isinstance(tree, BucketState):
        if tree.values is not None:
            for key, value in zip(tree.keys, tree.values, strict=True):
                if _holds(value):
                    yield _item_step(key), value
        if tree.next is not None:
            yield INTERNAL, tree.next
        return
    for child in tree.children:
        yield INTERNAL, child
    if tree.first is not None:
        yield INTERNAL, tree.first


def _value_steps(value: Value, seen: set[int]) -> Steps:
    if isinstance(value, Ref):
        if isinstance(value.class_, Ref):
            yield ".__class__", value.class_
    elif isinstance(value, Global):
        return
    elif isinstance(value, list | tuple):
        yield from _list_steps("", value)
    elif isinstance(value, Set):
        yield from _list_steps("", value.items)
    elif isinstance(value, Dict):
        yield from _list_steps(".__args__", value.args)
        yield from _pair_steps("", value.pairs)
        yield from _state_steps(value.state, seen)
    elif isinstance(value, Instance):
        yield from _instance_steps(value)
        yield from _state_steps(value.state, seen)


def _instance_steps(value: Instance) -> Steps:
    if _holds(value.class_):
        yield ".__class__", value.class_
    yield from _list_steps(".__args__", value.args)
    if value.kwargs is not None:
        yield from _pair_steps(".__kwargs__", value.kwargs.pairs)
    yield from _list_steps("", value.items)
    yield from _pair_steps("", value.pairs)


def _state_steps(state: Value, seen: set[int]) -> Steps:
    parts = _attribute_parts(state)
    if parts is None:
        yield ".__state__", state
        return
    for part in parts:
        # Many objects may share one dict of attributes, which is gone through once, as any other part.
        if id(part) in seen:
            continue
        seen.add(id(part))
        for index, (key, value) in enumerate(part):
            if _holds(key):
                yield f".keys()[{index}]", key
            if _holds(value):
                yield attribute_step(key) if isinstance(key, str) else _item_step(key), value


def _list_steps(way: str, items: list[Value] | tuple[Value, ...]) -> Steps:
    for index, item in enumerate(items):
        if _holds(item):
            yield f"{way}[{index}]", item


def _pair_steps(way: str, pairs: list[tuple[Value, Value]]) -> Steps:
    for index, (key, value) in enumerate(pairs):
        if _holds(key):
            yield f"{way}.keys()[{index}]", key
        if _holds(value):
            yield way + _item_step(key), value
