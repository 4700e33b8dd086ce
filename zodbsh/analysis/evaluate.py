"""Working out an expression on one object: decoded values only, nothing is called, cost is bounded.

What an object does not have is `MISSING`. Every comparison with it is false,
as is a comparison that makes no sense. Values may hold themselves and may be
deeper than Python's stack: nothing here recurses on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from zodbsh.analysis.equality import Budget, TooCostly, contains, equal, ordered
from zodbsh.analysis.expression import (
    All,
    AnyOf,
    Comparison,
    Has,
    Is,
    Length,
    Literal,
    Not,
    Path,
    Pattern,
)
from zodbsh.analysis.keys import Attribute, Item, Key
from zodbsh.analysis.lookup import ForeignReference, View, follow
from zodbsh.analysis.records import DanglingReference
from zodbsh.ids import oid_text
from zodbsh.record.shape import is_mapping
from zodbsh.record.values import Dict, Ref, Set, Value
from zodbsh.times import tid_time

if TYPE_CHECKING:
    from zodbsh.analysis.expression import Node
    from zodbsh.source.snapshot import Snapshot

MAX_HOPS = 100
"""So many other objects are looked at for one object."""

MAX_BUCKETS = 10_000
"""So many buckets of a BTree are counted for one ``len``."""

MAX_SUBJECT = 65_536
"""So much of a text is searched for a regular expression, in characters or bytes."""

_PSEUDO = frozenset(("_oid", "_class", "_size", "_tid", "_time"))
_KEYS = (bool, int, float, str, bytes)


class Missing:
    """The value of what is not there."""

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = Missing()
Result: TypeAlias = "Value | Missing"


class Evaluation:
    """One object, seen by expressions. ``class_`` and ``size`` are known beforehand.

    Everything raises TooCostly, BrokenRecord, TreeDamaged or FramingDamage where the object, or what the
    expression leads to, cannot be looked at.
    """

    def __init__(self, snapshot: Snapshot, oid: int, class_: str | None = None, size: int | None = None) -> None:
        self._snapshot = snapshot
        self._oid = oid
        self._known = {"_class": class_, "_size": size}
        self._views: dict[int, View] = {}
        self._budget = Budget()

    def holds(self, node: Node) -> bool:
        """Tell whether an expression is true."""
        return bool(self.value(node))

    def value(self, node: Node) -> Result:  # noqa: C901 - a table of the kinds of nodes
        """Return an expression's value; the nesting of expressions is bounded by their reader."""
        match node:
            case Literal(value):
                return value  # type: ignore[return-value]
            case Path():
                return self._path(node)[0]
            case Not(operand):
                return not self.value(operand)
            case All(operands):
                result: Result = True
                for operand in operands:
                    result = self.value(operand)
                    if not result:
                        break
                return result
            case AnyOf(operands):
                result = False
                for operand in operands:
                    result = self.value(operand)
                    if result:
                        break
                return result
            case Comparison():
                return self._comparison(node)
            case Is(operand, missing, value, negated):
                found = self.value(operand)
                return (found is MISSING if missing else found is value) is not negated
            case Length(operand):
                return self._length(operand)
            case Has(operand):
                return self.value(operand) is not MISSING
            case Pattern():
                raise AssertionError("a pattern stands behind ~ only")

    def _comparison(self, node: Comparison) -> bool:
        left = self.value(node.first)
        for operator, operand in node.rest:
            if isinstance(operand, Pattern):
                return _matches(left, operand, negated=operator == "!~")
            right, right_holder = self._place(operand)
            if left is MISSING or right is MISSING:
                return False
            if operator in ("in", "not in"):
                found = self._contains(right, right_holder, left)  # type: ignore[arg-type]
                if found is None or found is (operator == "not in"):
                    return False
            elif operator in ("==", "!="):
                if equal(left, right, self._budget) is (operator == "!="):  # type: ignore[arg-type]
                    return False
            elif not ordered(left, operator, right, self._budget):  # type: ignore[arg-type]
                return False
            left = right
        return True

    def _place(self, node: Node) -> tuple[Result, int]:
        """Return a value and the oid of the record that holds it."""
        return self._path(node) if isinstance(node, Path) else (self.value(node), self._oid)

    def _path(self, path: Path) -> tuple[Result, int]:
        value: Result = Ref(self._oid)
        holder = self._oid
        if path.base is not None:
            value, holder = self._place(path.base)
        for step in path.steps:
            if value is MISSING:
                break
            if isinstance(step, Attribute) and step.name in _PSEUDO:
                value = self._pseudo(step.name, value)  # type: ignore[arg-type]
                continue
            if isinstance(step, Item) and isinstance(value, str | bytes):
                value = _character(value, step.key)
                continue
            view = self._view(value, holder)  # type: ignore[arg-type]
            found = None if view is None else view.take(step)
            if found is None and isinstance(step, Attribute) and view is not None and _is_mapping(view):
                # A PersistentMapping's keys are what its attributes would be.
                found = view.take(Item(step.name))
            value, holder = (MISSING, holder) if found is None else (found.value, found.holder)
        return value, holder

    def _view(self, value: Value, holder: int) -> View | None:
        """Return what a value is, the object where it is a reference; None where that does not exist."""
        if not isinstance(value, Ref):
            return View(self._snapshot, holder, value)
        if value.database is None and value.oid in self._views:
            return self._views[value.oid]
        if len(self._views) > MAX_HOPS:
            raise TooCostly(f"the expression leads from {oid_text(self._oid)} to more than {MAX_HOPS} other objects")
        try:
            view = follow(self._snapshot, holder, value)
        except (DanglingReference, ForeignReference):
            return None
        self._views[value.oid] = view
        return view

    def _pseudo(self, name: str, value: Value) -> Result:
        if not isinstance(value, Ref):
            return MISSING
        if name == "_oid":
            return value
        if value.oid == self._oid and self._known.get(name) is not None:
            return self._known[name]
        if self._view(value, self._oid) is None:
            return MISSING
        if name == "_class":
            return self._snapshot.class_of(value.oid)
        revision = self._snapshot.load(value.oid)
        if name == "_size":
            return len(revision.data or b"")
        return revision.tid if name == "_tid" else tid_time(revision.tid)

    def _length(self, operand: Node) -> Result:
        value, holder = self._place(operand)
        if isinstance(value, str | bytes | list | Dict | Set) or type(value) is tuple:
            return len(value)
        view = None if value is MISSING else self._view(value, holder)  # type: ignore[arg-type]
        if view is None:
            return MISSING
        if view.tree is not None:
            self._budget.spend(1)
            count, whole = view.tree.count(MAX_BUCKETS)
            if not whole:
                raise TooCostly(f"the BTree {oid_text(view.oid)} has more than {MAX_BUCKETS:,} buckets to count")
            return count
        content = view.pairs()
        items = content if content is not None else view.sequence()
        return MISSING if items is None else len(items)

    def _contains(self, container: Value, holder: int, wanted: Value) -> bool | None:
        """Tell whether a value is in a container: a text, the keys of a mapping, items. None: it is no container."""
        if isinstance(container, str | bytes):
            return contains(container, wanted)
        view = self._view(container, holder)
        if view is None:
            return None
        pairs = view.pairs()
        if view.tree is not None or pairs is not None:
            if wanted is None or isinstance(wanted, _KEYS) or (type(wanted) is tuple and _is_key(wanted)):
                return view.take_item(Item(wanted)) is not None  # type: ignore[arg-type]
            return any(equal(key, wanted, self._budget) for key, _ in pairs or ())
        items = view.sequence()
        return None if items is None else any(equal(item, wanted, self._budget) for item in items)


def _is_mapping(view: View) -> bool:
    return view.record is not None and is_mapping(view.record.class_)


def _is_key(key: tuple[Value, ...]) -> bool:
    return all(part is None or isinstance(part, _KEYS) for part in key)


def _character(text: str | bytes, key: Key) -> Result:
    if type(key) is int and -len(text) <= key < len(text):
        return text[key]
    return MISSING


def _matches(value: Result, pattern: Pattern, *, negated: bool) -> bool:
    if isinstance(value, str):
        found = None if pattern.text is None else pattern.text.search(value[:MAX_SUBJECT])
        known = pattern.text is not None
    elif isinstance(value, bytes):
        found = None if pattern.raw is None else pattern.raw.search(value[:MAX_SUBJECT])  # type: ignore[assignment]
        known = pattern.raw is not None
    else:
        return False
    return known and (found is None) is negated
