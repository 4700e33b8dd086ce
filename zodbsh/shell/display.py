"""A live value as the shell shows it: bounded, and never across an object's border.

The object that was asked for is loaded, if it is a ghost; everything that it
refers to is named (``<account.Account 0x2a ghost>``) and left as it is. A BTree
shows its first items by a range scan. A ``__repr__`` that a class defines
itself is used under a ban on loading; where it raises, loads or changes
anything, the value's own attributes are shown instead.
"""

from __future__ import annotations

import sys
import types
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from zodbsh.ids import from_bytes, oid_text
from zodbsh.render.gate import escape, escape_lines
from zodbsh.shell.loads import LimitReached, limited_loads
from zodbsh.shell.objects import (
    MISSING,
    activate,
    attributes,
    class_name,
    is_persistent,
    is_stand_in,
    isinstance_of,
    jar_of,
    label,
    mapping_data,
    root_mapping,
    sequence_data,
    tree_class,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

TREE_LOADS = 8
"""Loads that showing a BTree's first items may cost."""


class Bounds(NamedTuple):
    """How much is shown: entries of the value itself and of what is inside it, depth, characters of one text."""

    entries: int = 20
    inner_entries: int = 10
    depth: int = 4
    text: int = 2000
    inner_text: int = 120
    lines: int = 200


class Group(NamedTuple):
    """Entries between an opening and a closing; one line where they fit, else one line each."""

    opening: str
    entries: list[tuple[str, str | Group]]
    closing: str


BOUNDS = Bounds()

# Their __repr__ is C code over their own content, or tells no content at all.
_PLAIN: tuple[type, ...] = (
    types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.CoroutineType,
    types.GeneratorType, types.CodeType, types.FrameType, types.TracebackType, range, slice,
)  # fmt: skip
_CONTAINERS = (dict, list, tuple, set, frozenset)
_BRACKETS: dict[type, tuple[str, str]] = {tuple: ("(", ")"), set: ("{", "}")}
_LIBRARY = ("ZODB", "transaction", "persistent", "BTrees", "ZEO", "relstorage")


def display(value: object, *, width: int = 100, connection: Any = None, bounds: Bounds = BOUNDS) -> str:
    """Return the value's text, escaped, of several lines at most.

    A ghost is loaded; a load that fails is told, not raised. ``connection`` is
    the session's, watched as well as the value's own.
    """
    root = root_mapping(value)
    value = value if root is MISSING else root
    jars = [jar for jar in (connection, jar_of(value)) if jar is not None]
    try:
        activate(value)
    except Exception as exc:  # noqa: BLE001 - a damaged object is shown as one
        return escape_lines(f"{label(value)} cannot be loaded: {type(exc).__name__}: {exc}")
    with limited_loads(jars, TREE_LOADS if is_tree(value) else 0):
        try:
            shown = Display(bounds).top(value)
        except LimitReached:
            shown = label(value) if is_persistent(value) else _anonymous(value)
    lines = list(_layout(shown, "", "", width))
    if len(lines) > bounds.lines:
        lines[bounds.lines :] = [f"and {len(lines) - bounds.lines:,} more lines"]
    return escape_lines("\n".join(lines))


def is_tree(value: object) -> bool:
    """Tell whether the value is a BTree, a bucket or one of their sets."""
    return tree_class(type(value)) is not None


class Display:
    """Turns one value into text and groups."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._open: list[object] = []

    def top(self, value: object) -> str | Group:
        """Return the value that was asked for, its own content included."""
        if isinstance_of(value, (str, bytes, bytearray)):
            return _bounded_literal(value, self._bounds.text)
        if is_persistent(value):
            own = None if is_stand_in(value) else self._own_repr(value, self._bounds.text)
            return own if own is not None else self._persistent(value)
        return self._value(value, 0)

    def _persistent(self, value: object) -> str | Group:
        name = label(value)
        if is_tree(value):
            return self._tree(value, name)
        pairs = mapping_data(value)
        if pairs is not None:
            extra = [(key, item) for key, item in attributes(value) if key not in ("data", "_container")]
            entries = self._pairs(pairs.items(), len(pairs), 0) + self._attributes(extra)
            return Group(f"{name} {{", entries, "}") if entries else f"{name} {{}}"
        items = sequence_data(value)
        if items is not None:
            entries = self._items(items, len(items), 0)
            entries += self._attributes([(key, item) for key, item in attributes(value) if key != "data"])
            return Group(f"{name} [", entries, "]") if entries else f"{name} []"
        return _block(name, self._attributes(list(attributes(value))))

    def _tree(self, tree: Any, name: str) -> str | Group:
        kind = tree_class(type(tree))
        assert kind is not None
        entries: list[tuple[str, str | Group]] = []
        limit = self._bounds.entries
        try:
            if kind.is_mapping:
                found = list(islice(_until_limit(lambda: iter(tree.items())), limit + 1))
                entries = self._pairs(found[:limit], None, 0)
            else:
                found = list(islice(_until_limit(lambda: iter(tree.keys())), limit + 1))
                entries = self._items(found[:limit], None, 0)
        except Exception as exc:  # noqa: BLE001 - a damaged tree is shown as one
            return f"{name} cannot be read: {type(exc).__name__}: {exc}"
        if len(found) > limit:
            entries.append(("", "and more"))
        opening, closing = ("{", "}") if kind.is_mapping else ("[", "]")
        return Group(f"{name} {opening}", entries, closing) if entries else f"{name} {opening}{closing}"

    def _value(self, value: object, depth: int) -> str | Group:
        if is_persistent(value):
            return label(value)
        if isinstance_of(value, (str, bytes, bytearray)):
            return _bounded_literal(value, self._bounds.text if depth == 0 else self._bounds.inner_text)
        if isinstance_of(value, int):
            return _int_text(value)
        if value is None or isinstance_of(value, (float, complex)):
            return repr(value)
        limit = self._bounds.text if depth == 0 else self._bounds.inner_text
        own = None if is_stand_in(value) else self._own_repr(value, limit)
        if own is not None:
            return own
        if any(value is outer for outer in self._open):
            return "..."
        self._open.append(value)
        try:
            return self._container(value, depth)
        finally:
            self._open.pop()

    def _container(self, value: object, depth: int) -> str | Group:
        deep = depth >= self._bounds.depth
        prefix, opening, closing = "", "", ""
        if type(value) not in _CONTAINERS:
            prefix = class_name(type(value))
        pairs = mapping_data(value)
        if pairs is not None:
            if deep and pairs:
                return f"{prefix}{{...}}"
            return _enclosed(prefix, "{", self._pairs(pairs.items(), len(pairs), depth), "}")
        items: Any = sequence_data(value)
        if items is None and isinstance_of(value, (set, frozenset)):
            items = value
        if items is not None:
            opening, closing = _BRACKETS.get(type(value), ("[", "]"))
            if isinstance_of(value, frozenset):
                prefix, opening, closing = prefix or "frozenset", "({", "})"
            if isinstance_of(value, set) and not items:
                return f"{prefix or 'set'}()"
            if deep and items:
                return f"{prefix}{opening}...{closing}"
            entries = self._items(items, len(items), depth)
            if type(value) is tuple and len(entries) == 1:
                closing = ",)"
            return _enclosed(prefix, opening, entries, closing)
        if deep:
            return _anonymous(value)
        return _block(_anonymous(value), self._attributes(list(attributes(value)), depth))

    def _pairs(self, pairs: Iterable[tuple[Any, Any]], total: int | None, depth: int) -> list[tuple[str, str | Group]]:
        limit = self._bounds.entries if depth == 0 else self._bounds.inner_entries
        entries: list[tuple[str, str | Group]] = []
        for key, item in islice(pairs, limit):
            entries.append((f"{_flat(self._value(key, depth + 1))}: ", self._value(item, depth + 1)))
        return entries + _more(total, limit)

    def _items(self, items: Iterable[Any], total: int | None, depth: int) -> list[tuple[str, str | Group]]:
        limit = self._bounds.entries if depth == 0 else self._bounds.inner_entries
        entries: list[tuple[str, str | Group]] = [("", self._value(item, depth + 1)) for item in islice(items, limit)]
        return entries + _more(total, limit)

    def _attributes(self, pairs: list[tuple[str, Any]], depth: int = 0) -> list[tuple[str, str | Group]]:
        limit = self._bounds.entries if depth == 0 else self._bounds.inner_entries
        shown = [(name, item) for name, item in pairs if not name.startswith(("_p_", "_v_"))]
        entries: list[tuple[str, str | Group]] = [
            (f"{n} = ", self._value(item, depth + 1)) for n, item in shown[:limit]
        ]
        return entries + _more(len(shown), limit)

    def _own_repr(self, value: object, limit: int) -> str | None:
        """Return what the value's class says of it, None where it leaves that to a base we show ourselves."""
        if isinstance_of(value, _PLAIN) or isinstance_of(value, type):
            return _clip(_safe_repr(value) or _anonymous(value), limit)
        for base in type.__getattribute__(type(value), "__mro__"):
            if "__repr__" in type.__getattribute__(base, "__dict__"):
                break
        else:
            return None
        name = class_name(base)
        if base in (object, *_CONTAINERS) or name.startswith(
            ("persistent.", "collections.UserDict", "collections.UserList")
        ):
            if name == "persistent.wref.WeakRef":
                return _weak(value)
            return None if base is not object or not name_is_library(type(value)) else _safe_repr(value)
        text = _safe_repr(value)
        return None if text is None else _clip(text, limit)


def name_is_library(class_: type) -> bool:
    """Tell whether a class belongs to ZODB's own world: its instances' insides are not the user's data."""
    return class_name(class_).partition(".")[0] in _LIBRARY


def _safe_repr(value: object) -> str | None:
    """Return repr(value), or None where it raises, loads across the border, or changes anything."""
    try:
        text = type(value).__repr__(value)
    except (Exception, LimitReached, SystemExit, GeneratorExit):  # noqa: BLE001 - a broken __repr__ must not break the display
        return None
    return text if isinstance_of(text, str) else None


def _until_limit(start: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    try:
        yield from start()
    except LimitReached:
        return


def _weak(value: object) -> str:
    oid = dict(attributes(value)).get("oid")
    return f"<weak reference to {oid_text(from_bytes(oid)) if isinstance(oid, bytes) else '?'}>"


def _anonymous(value: object) -> str:
    return f"<{class_name(type(value))}>"


def _int_text(value: Any) -> str:
    if type(value) is bool:
        return repr(value)
    if int.bit_length(value) > 4 * sys.int_info.default_max_str_digits // 2:
        return f"<an int of {int.bit_length(value):,} bits>"
    return int.__repr__(value) if type(value) is int else (_safe_repr(value) or int.__repr__(value))


def _bounded_literal(value: Any, limit: int) -> str:
    length = len(value)
    if length <= limit:
        return _safe_repr(value) or _anonymous(value)
    unit = "characters" if isinstance_of(value, str) else "bytes"
    return f"{value[:limit]!r} and {length - limit:,} more {unit}"


def _clip(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} and {len(text) - limit:,} more characters"


def _more(total: int | None, limit: int) -> list[tuple[str, str | Group]]:
    return [("", f"and {total - limit:,} more")] if total is not None and total > limit else []


def _block(name: str, entries: list[tuple[str, str | Group]]) -> str | Group:
    return Group(name, entries, "") if entries else name


def _enclosed(prefix: str, opening: str, entries: list[tuple[str, str | Group]], closing: str) -> str | Group:
    if not entries:
        return f"{prefix}{opening}{closing}"
    return Group(f"{prefix}{opening}", entries, closing)


def _flat(shown: str | Group) -> str:
    if isinstance(shown, str):
        return escape(shown)
    inner = ", ".join(escape(prefix) + _flat(entry) for prefix, entry in shown.entries)
    if not shown.closing:
        # An object's attributes stand inside its angle brackets on one line.
        return f"{escape(shown.opening).removesuffix('>')} {inner}>"
    return f"{escape(shown.opening)}{inner}{shown.closing}"


def _layout(shown: str | Group, prefix: str, indent: str, width: int) -> Iterator[str]:
    if isinstance(shown, str):
        first, *rest = (prefix + shown).split("\n")
        yield indent + first
        yield from (indent + line for line in rest)
        return
    flat = prefix + _flat(shown)
    if (indent and len(indent) + len(flat) < width) or (shown.closing and len(flat) < width):
        yield indent + flat
        return
    yield indent + prefix + shown.opening
    for entry_prefix, entry in shown.entries:
        yield from _layout(entry, entry_prefix, indent + "    ", width)
    if shown.closing:
        yield indent + shown.closing
