"""Completion of names, attributes and keys: looking only.

No property, no ``__getattr__`` and no user's ``__dir__`` runs. The object before
the cursor may be loaded if it is a ghost, a BTree's keys come by range scan, and
all of it together costs at most ``LOADS`` loads.
"""

from __future__ import annotations

import ast
import builtins
import keyword
import sys
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from zodbsh.shell.chain import Cursor, at_cursor
from zodbsh.shell.imports import import_at_cursor, module_names, submodule_names
from zodbsh.shell.keys import LIMIT, matching_integers, matching_keys
from zodbsh.shell.loads import LimitReached, limited_loads
from zodbsh.shell.objects import (
    MISSING,
    activate,
    attribute_names,
    class_name,
    isinstance_of,
    mapping_data,
    root_mapping,
    sequence_data,
    static_attribute,
    tree_class,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from zodbsh.shell.chain import Step
    from zodbsh.shell.imports import Import

LOADS = 8
"""Objects that one completion may load."""


class Candidate(NamedTuple):
    """One offer: ``text`` replaces the last ``replaces`` characters; ``display`` and ``meta`` are what is shown."""

    text: str
    replaces: int
    display: str
    meta: str = ""


def complete(before: str, after: str, namespace: Mapping[str, Any], *, connection: Any = None) -> list[Candidate]:
    """Return what may stand at the cursor, between the text ``before`` and ``after`` it."""
    cursor = at_cursor(before)
    if cursor.kind == "nothing":
        return []
    statement = import_at_cursor(before) if cursor.kind != "key" else None
    if statement is not None:
        return list(_imported(statement))
    if cursor.kind == "name":
        return list(_names(cursor.prefix, namespace)) if cursor.prefix else []
    with limited_loads([connection] if connection is not None else [], LOADS):
        try:
            obj = resolve(cursor, namespace)
            if obj is MISSING:
                return []
            if cursor.kind == "attribute":
                return list(_attributes(obj, cursor.prefix))
            return _keys(obj, cursor, after)
        except LimitReached:
            return []
        except Exception:  # noqa: BLE001 - an object that cannot be loaded offers nothing; Tab shows no errors
            return []


def resolve(cursor: Cursor, namespace: Mapping[str, Any]) -> Any:
    """Return the object that the cursor's chain leads to, MISSING where only running code would tell."""
    assert cursor.chain is not None
    name = cursor.chain.name
    obj = namespace.get(name, vars(builtins).get(name, MISSING))
    for step in cursor.chain.steps:
        if obj is MISSING:
            return MISSING
        obj = _follow(obj, step)
    return obj


def _follow(obj: Any, step: Step) -> Any:
    root = root_mapping(obj)
    if step.kind == "call":
        return root
    if root is not MISSING:
        found = _item(root, step.value)
        if found is not MISSING or step.kind == "item":
            return found
    return static_attribute(_loaded(obj), step.value) if step.kind == "attribute" else _item(obj, step.value)


def _loaded(obj: Any) -> Any:
    activate(obj)
    return obj


def _item(obj: Any, key: Any) -> Any:
    activate(obj)
    kind = tree_class(type(obj))
    if kind is not None:
        return obj.get(key, MISSING) if kind.is_mapping else MISSING
    data = mapping_data(obj)
    if data is not None:
        return dict.get(data, key, MISSING)
    items = sequence_data(obj)
    if items is not None and type(key) is int and -len(items) <= key < len(items):
        return items[key]
    return MISSING


def _names(prefix: str, namespace: Mapping[str, Any]) -> Iterator[Candidate]:
    seen = set()
    for source in (namespace, vars(builtins), keyword.kwlist):
        for name in sorted(name for name in source if name.startswith(prefix) and name not in seen):
            if name.startswith("__") and not prefix.startswith("_"):
                continue
            seen.add(name)
            yield Candidate(name, len(prefix), name, _meta(namespace[name]) if source is namespace else "")


def _imported(statement: Import) -> Iterator[Candidate]:
    """Complete an import statement; the members of a module are known once it is loaded."""
    prefix = statement.prefix
    if not statement.module:
        for name in module_names(prefix):
            yield Candidate(name, len(prefix), name, "module")
        return
    module = sys.modules.get(statement.module)
    if isinstance_of(module, types.ModuleType):
        found = {candidate.text: candidate for candidate in _attributes(module, prefix)}
        for name in submodule_names(module):  # type: ignore[arg-type]
            if name.startswith(prefix) and (prefix or not name.startswith("_")):
                found.setdefault(name, Candidate(name, len(prefix), name, "module"))
        yield from found.values()


def _attributes(obj: Any, prefix: str) -> Iterator[Candidate]:
    root = root_mapping(obj)
    if root is not MISSING:
        for name in matching_keys(_loaded(root), prefix):
            if isinstance_of(name, str) and name.isidentifier() and not keyword.iskeyword(name):
                yield Candidate(name, len(prefix), name, _meta(_item(root, name)))
        return
    activate(obj)
    names = {name for name in attribute_names(obj) if isinstance_of(name, str) and name.startswith(prefix)}
    for name in sorted(names, key=lambda name: (name.startswith("_"), name)):
        # The underscored ones come when they are asked for, ZODB's own when those are.
        if not name.isidentifier() or (name.startswith("_") and not prefix.startswith("_")):
            continue
        if name.startswith("_p_") and not prefix.startswith("_p"):
            continue
        value = static_attribute(obj, name)
        yield Candidate(name, len(prefix), name, "computed" if value is MISSING else _meta(value))


def _keys(obj: Any, cursor: Cursor, after: str) -> list[Candidate]:
    root = root_mapping(obj)
    obj = _loaded(obj if root is MISSING else root)
    closing = "" if after.lstrip().startswith("]") else "]"
    if not cursor.quote:
        if cursor.prefix:
            return [
                Candidate(f"{key}{closing}", len(cursor.prefix), str(key))
                for key in matching_integers(obj, cursor.prefix)
            ]
        texts = (_literal(key) for key in matching_keys(obj, None))
        return [Candidate(f"{text}{closing}", 0, text) for text in texts if text is not None]
    prefix = _value(cursor)
    if prefix is None:
        return []
    end = cursor.quote[-1]
    if after.startswith(end):
        closing = ""
        end = ""
    candidates = []
    for key in matching_keys(obj, prefix):
        body = _body(key, cursor.quote[-1])
        candidates.append(
            Candidate(f"{body}{end}{closing}", len(cursor.prefix), f"{cursor.quote}{body}{cursor.quote[-1]}")
        )
    return candidates


def _value(cursor: Cursor) -> str | bytes | None:
    """Return what the typed part of a string stands for."""
    try:
        value = ast.literal_eval(f"{cursor.quote}{cursor.prefix}{cursor.quote[-1]}")
    except (ValueError, SyntaxError):
        return None
    return value if isinstance(value, (str, bytes)) else None


def _literal(key: Any) -> str | None:
    """Return a key as it is written, None where it has no short constant form."""
    if type(key) in (str, bytes, int, bool, type(None)):
        return repr(key)
    if type(key) is tuple:
        parts = [_literal(part) for part in key]
        return None if None in parts or len(parts) > LIMIT else repr(key)
    return None


def _body(key: str | bytes, quote: str) -> str:
    """Return what stands between the quotes for a key."""
    if isinstance(key, str) and key.isprintable() and quote not in key and "\\" not in key:
        return key
    text = repr(key).removeprefix("b")
    body = text[1:-1]
    if text[0] == quote:
        return body
    return body.replace("\\'", "'").replace('"', '\\"') if quote == '"' else body.replace("'", "\\'")


def _meta(value: object) -> str:
    if isinstance_of(value, types.ModuleType):
        return "module"
    if isinstance_of(value, type):
        return "class"
    if isinstance_of(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType)):
        return "method" if isinstance_of(value, types.MethodDescriptorType) else "function"
    return "" if value is MISSING else class_name(type(value))
