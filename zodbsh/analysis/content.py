"""What an object or an embedded value holds, a bounded part of it: attributes, and items under keys or indices."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.keys import literal_text
from zodbsh.record.shape import attribute_step, content_name, python_key_text
from zodbsh.record.values import Instance, Record, Set, Value

if TYPE_CHECKING:
    from zodbsh.analysis.lookup import View

COUNTED_BUCKETS = 10_000
"""How many buckets of a BTree are loaded to say how many entries there are."""


class Entry(NamedTuple):
    """One attribute, item or member.

    ``step`` is the way to it as Python would write it (``.owner``, ``['k']``, ``[3]``; empty for a member of a set),
    ``key`` the attribute's name, the key, or the index.
    """

    step: str
    key: Value
    value: Value


class Content(NamedTuple):
    """What one object or value holds.

    ``kind`` says what its items are: ``mapping``, ``tree`` (a BTree or a bucket), ``set``, ``sequence``, or ``object``
    where it has none. ``more`` counts the items that are not given; not all of them are counted where ``exact`` is
    False. ``state`` is a state that is neither attributes nor items.
    """

    kind: str
    attributes: tuple[Entry, ...]
    items: tuple[Entry, ...] = ()
    more: int = 0
    exact: bool = True
    state: Value = None


def content_of(view: View, limit: int | None = None) -> Content:
    """Return all attributes, and at most ``limit`` items, of what the view shows.

    Raises what following a BTree raises.
    """
    hidden = None if view.record is None else content_name(view.record)
    named = tuple(Entry(attribute_step(name), name, value) for name, value in view.named() if name != hidden)
    if view.tree is not None:
        return _tree_content(view, named, limit)
    pairs = view.pairs()
    if pairs is not None:
        shown = tuple(Entry(_key_step(key, is_root=view.is_root), key, value) for key, value in islice(pairs, limit))
        return Content("mapping", named, shown, len(pairs) - len(shown))
    items = view.sequence()
    if items is not None:
        members = isinstance(view.subject, Set)
        shown = tuple(
            Entry("" if members else f"[{index}]", index, item) for index, item in enumerate(islice(items, limit))
        )
        return Content("set" if members else "sequence", named, shown, len(items) - len(shown))
    subject = view.subject
    if not named and (isinstance(subject, Record) or (isinstance(subject, Instance) and subject.has_state)):
        return Content("object", (), state=subject.state)
    return Content("object", named)


def _tree_content(view: View, named: tuple[Entry, ...], limit: int | None) -> Content:
    tree = view.tree
    assert tree is not None
    kind = "set" if tree.is_set else "tree"
    entries: Iterator[Entry] = (
        Entry("", entry.key, entry.key)
        if tree.is_set
        else Entry(_key_step(entry.key, is_root=view.is_root), entry.key, entry.value)
        for entry in tree.entries()
    )
    shown = tuple(islice(entries, limit))
    if limit is None or next(entries, None) is None:
        return Content(kind, named, shown)
    total, exact = tree.count(COUNTED_BUCKETS)
    return Content(kind, named, shown, total - len(shown), exact)


def _key_step(key: Value, *, is_root: bool) -> str:
    if is_root and isinstance(key, str):
        return attribute_step(key)
    return f"[{literal_text(key) or python_key_text(key)}]"
