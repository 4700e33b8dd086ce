"""BTrees as their records hold them: kinds, nodes, buckets.

Source: the state forms of ``BTrees/_base.py``.

    bucket    ((key, value, key, value, ...),)  or  (the same, next bucket)
    set       ((key, key, ...),)                or  (the same, next set)
    tree      None (empty)
              ((child, key, child, key, ..., child), first bucket)
              ((bucket state,),)                the only bucket, embedded
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.errors import ExitCode, ZodbshError
from zodbsh.record.values import Global, Ref, Value

if TYPE_CHECKING:
    from zodbsh.record.values import Record

_MODULE = re.compile(r"(?:BTrees\.)?_?(fs|[OILQU][OILQUF])BTree")
_NAME = re.compile(r"(fs|[OILQU][OILQUF])?(BTree|Bucket|TreeSet|Set)(?:Py)?")


class TreeStateError(ZodbshError):
    """A BTree's, bucket's or set's state that has none of the known forms."""

    code = "tree-damaged"
    exit_code = ExitCode.DAMAGED
    hint = "`zodbsh inspect --raw` shows the record as it is."


class TreeKind(NamedTuple):
    """What kind of tree or bucket a class is.

    ``form`` is ``BTree``, ``TreeSet``, ``Bucket`` or ``Set``; ``key`` and
    ``value`` are the family's letters: O object, I and L signed, U and Q
    unsigned integer (32 and 64 bits), F float; f and s in fsBTree (2 and 6 bytes).
    """

    form: str
    key: str
    value: str

    @property
    def is_tree(self) -> bool:
        """Whether its state may have children."""
        return self.form in ("BTree", "TreeSet")

    @property
    def is_set(self) -> bool:
        """Whether it has keys only."""
        return self.form in ("TreeSet", "Set")


class BucketState(NamedTuple):
    """The content of a bucket or set, or of a tree whose only bucket is embedded.

    ``values`` is None in a set. ``next`` is the bucket with the next larger keys.
    """

    keys: tuple[Value, ...]
    values: tuple[Value, ...] | None
    next: Ref | None = None


class TreeState(NamedTuple):
    """The inside of a tree: n children, the n - 1 keys between them, the first bucket.

    ``keys[i]`` is the smallest key that ``children[i + 1]`` may hold. An empty
    tree has no child and no first bucket.
    """

    children: tuple[Ref, ...] = ()
    keys: tuple[Value, ...] = ()
    first: Ref | None = None


def tree_kind(class_: Value) -> TreeKind | None:
    """Return what kind of BTree, bucket or set a class is; None for any other.

    Python's twins (``OOBTreePy``), the short names (``BTrees.OOBTree.BTree``)
    and the modules with an underscore count too; a subclass is not seen (see record_tree).
    """
    if not isinstance(class_, Global):
        return None
    module, name = _MODULE.fullmatch(class_.module), _NAME.fullmatch(class_.name)
    if module is None or name is None or name[1] not in (None, module[1]):
        return None
    return TreeKind(name[2], module[1][0], module[1][1])


def record_tree(record: Record) -> TreeKind | None:
    """Return what kind of BTree, bucket or set an object is, also where its class is a subclass; None for any other.

    A subclass (an application's own, not importable here) is known by the form of its
    state: by the class of its first bucket, or by an embedded bucket with ascending keys.
    """
    kind = tree_kind(record.class_)
    state = record.state
    if kind is not None or type(state) is not tuple or not state or type(state[0]) is not tuple:
        return kind
    if len(state) == 2 and isinstance(state[1], Ref) and len(state[0]) % 2:
        bucket = tree_kind(state[1].class_)
        if bucket is None or bucket.is_tree or not all(isinstance(child, Ref) for child in state[0][::2]):
            return None
        return bucket._replace(form="TreeSet" if bucket.is_set else "BTree")
    content: Value = state
    for _ in range(3):
        if type(content) is not tuple or len(content) != 1:
            return None
        content = content[0]
    if type(content) is not tuple or not content or len(content) % 2 or not _ascending(content[::2]):
        return None
    # Keys and values that ascend together may as well be a set's keys.
    return TreeKind("BTree", "O", "O") if not _ascending(content) else None


def read_tree_state(kind: TreeKind, state: Value) -> TreeState | BucketState:
    """Return what a tree's or a bucket's state says.

    Raises TreeStateError for a state of no known form.
    """
    if not kind.is_tree:
        return _read_bucket(kind, state)
    if state is None:
        return TreeState()
    if type(state) is not tuple or not state or type(state[0]) is not tuple:
        raise TreeStateError("a BTree whose state is no tuple of tuples")
    if len(state) == 1:
        if len(state[0]) != 1:
            raise TreeStateError("a BTree with an embedded bucket of an unknown form")
        return _read_bucket(kind, state[0][0])
    inside, first = state[0], state[1]
    if len(state) != 2 or len(inside) % 2 == 0 or not isinstance(first, Ref):
        raise TreeStateError("a BTree whose children, keys and first bucket do not fit together")
    children: list[Ref] = []
    for child in inside[::2]:
        if not isinstance(child, Ref):
            raise TreeStateError("a BTree with a child that is no reference")
        children.append(child)
    return TreeState(tuple(children), _raw(kind, inside[1::2], 2), first)


def _read_bucket(kind: TreeKind, state: Value) -> BucketState:
    if type(state) is not tuple or not 1 <= len(state) <= 2 or type(state[0]) is not tuple:
        raise TreeStateError("a bucket whose state is no tuple with a tuple")
    content: tuple[Value, ...] = state[0]
    after = state[1] if len(state) == 2 else None
    if after is not None and not isinstance(after, Ref):
        raise TreeStateError("a bucket whose next bucket is no reference")
    if kind.is_set:
        return BucketState(_raw(kind, content, 2), None, after)
    if len(content) % 2:
        raise TreeStateError("a bucket with a key that has no value")
    return BucketState(_raw(kind, content[::2], 2), _raw(kind, content[1::2], 6), after)


def _ascending(items: tuple[Value, ...]) -> bool:
    """Tell whether the items are all numbers or all texts, each larger than the one before."""
    if all(type(item) is int for item in items) or all(type(item) is str for item in items):
        return all(one < other for one, other in pairwise(items))  # type: ignore[operator]
    return False


def _raw(kind: TreeKind, items: tuple[Value, ...], size: int) -> tuple[Value, ...]:
    # Python 2 wrote fsBTree's byte strings as str, which decodes as text by chance.
    if kind.key != "f":
        return items
    return tuple(_as_bytes(item, size) for item in items)


def _as_bytes(item: Value, size: int) -> Value:
    if isinstance(item, str):
        raw = item.encode("utf-8", "surrogatepass")
        return raw if len(raw) == size else item
    return item
