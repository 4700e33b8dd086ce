"""What an argument points at: an oid, a path as Python writes it, or a slash path.

    0x2a                                     an object
    root.accounts['account-1'].owner         a path from the root, as it is shown
    0x2a.owner                               a path from an object
    /accounts/account-1/owner                every segment an attribute, or a key as str, or as int
    /files/a/b.txt                           a key may hold slashes, where no other reading leads anywhere

Nothing is evaluated: names and literal keys are read by ``zodbsh.analysis.literal``.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

from zodbsh.analysis.keys import Attribute, Item, Segment, Step, key_text, step_text
from zodbsh.analysis.literal import MAX_TARGET, TargetSyntaxError, read_key, read_name
from zodbsh.analysis.lookup import View, follow, kind_text
from zodbsh.analysis.records import read_record
from zodbsh.errors import ObjectNotFound, ZodbshError
from zodbsh.ids import MAX_ID, ROOT_OID, oid_text, parse_oid
from zodbsh.record.values import Record, Ref, Value
from zodbsh.source.snapshot import Snapshot

_OID = re.compile(r"0[xX][0-9a-fA-F]{1,16}(?![0-9a-zA-Z_])|[0-9a-fA-F]{16}$|[0-9]{1,20}$")
_ROOT = re.compile(r"root(?!\w)")
_MAX_SPELLINGS = 1_000
_HINT = "Write 0x2a, root.name['key'], or /name/key."


class TargetNotFound(ObjectNotFound):
    """A path that ends nowhere: ``path`` leads somewhere, the step after it does not; ``near`` resembles that step."""

    code = "target-not-found"

    def __init__(self, message: str, *, path: str, near: tuple[str, ...] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.path = path
        self.near = near


class Target(NamedTuple):
    """Where to start (``oid``), and the steps from there."""

    oid: int = ROOT_OID
    steps: tuple[Step, ...] = ()

    @property
    def text(self) -> str:
        """The target as it is shown."""
        start = "root" if self.oid == ROOT_OID else oid_text(self.oid)
        return start + "".join(map(step_text, self.steps))


class Resolved(NamedTuple):
    """What a target leads to.

    ``oid`` is the record that it is, or lies in. ``embedded`` tells the two apart; ``value`` is the embedded value.
    ``path`` is written as Python would, from ``root`` (or from an oid where the target starts at one). The nearest
    object with a record of its own on the way is ``owner`` with ``owner_path``: the object itself if not embedded. A
    value in a large BTree has the tree as its owner and lies in the record of a bucket.
    """

    oid: int
    path: str
    embedded: bool
    value: Value
    owner: int
    owner_path: str


def parse_target(text: str) -> Target:
    """Read a target. Raises TargetSyntaxError, which says where."""
    text = text.strip()
    if len(text) > MAX_TARGET:
        raise TargetSyntaxError(f"a target of {len(text):,} characters; at most {MAX_TARGET:,} are read", hint=_HINT)
    if text.startswith("/"):
        return Target(ROOT_OID, tuple(Segment(part) for part in text.split("/") if part))
    if match := _OID.match(text):
        return Target(_checked_oid(match[0]), _read_steps(text, match.end()))
    if match := _ROOT.match(text):
        position = match.end()
        if text[position : position + 2] == "()":
            position += 2
        return Target(ROOT_OID, _read_steps(text, position))
    if not text:
        raise TargetSyntaxError("an empty target", hint=_HINT)
    raise TargetSyntaxError(f"not a target: {text[:60]!r}", hint=_suggestion(text))


def resolve(snapshot: Snapshot, target: Target | str) -> Resolved:
    """Follow a target from record to record.

    Raises TargetNotFound, DanglingReference, ForeignReference, ObjectNotFound, BrokenRecord, TreeDamaged, and
    TargetSyntaxError for a text.
    """
    target = parse_target(target) if isinstance(target, str) else target
    try:
        way = _walk(snapshot, target)
    except TargetNotFound:
        spelled = _with_slashes(snapshot, target)
        if spelled is None:
            raise
        way = _walk(snapshot, spelled)
    view = way.view
    if view.record is not None:
        return Resolved(view.oid, way.path, False, None, view.oid, way.path)
    assert not isinstance(view.subject, Record)
    return Resolved(view.oid, way.path, True, view.subject, way.owner, way.owner_path)


class Traced(NamedTuple):
    """The way to a target: the record that it is or lies in, its path, and the owner as in ``Resolved``.

    ``inside`` are the steps from the owner to an embedded value, as they are shown; none where the target is an object.
    """

    oid: int
    path: str
    owner: int
    owner_path: str
    inside: tuple[str, ...]


def locate(snapshot: Snapshot, target: Target | str) -> tuple[int, str]:
    """Return the record that a target is or lies in, and the target's path, without decoding that record.

    Raises what ``resolve`` raises for the way there.
    """
    found = trace(snapshot, target)
    return found.oid, found.path


def trace(snapshot: Snapshot, target: Target | str) -> Traced:
    """Return the way to a target, without decoding the record that it is. Raises what ``resolve`` raises on the way."""
    target = parse_target(target) if isinstance(target, str) else target
    if not target.steps:
        return Traced(target.oid, target.text, target.oid, target.text, ())
    try:
        return _trace(snapshot, target)
    except TargetNotFound:
        spelled = _with_slashes(snapshot, target)
        if spelled is None:
            raise
        return _trace(snapshot, spelled)


def _trace(snapshot: Snapshot, target: Target) -> Traced:
    way = _walk(snapshot, target._replace(steps=target.steps[:-1]))
    found = way.view.take(target.steps[-1])
    if found is None:
        raise _missing(way.view, way.path, target.steps[-1])
    path = way.path + found.text
    if isinstance(found.value, Ref) and found.value.database is None:
        return Traced(found.value.oid, path, found.value.oid, path, ())
    return Traced(found.holder, path, way.owner, way.owner_path, (*way.inside, found.text))


def complete_target(snapshot: Snapshot, incomplete: str, *, limit: int = 50) -> list[str]:
    """Return at most ``limit`` targets that begin with what is written and go one step further.

    What leads nowhere has no completion. Of a large BTree only the keys around the one that is begun are looked at.
    """
    if not incomplete or "root".startswith(incomplete):
        return ["root"]
    for position in range(len(incomplete) - 1, -1, -1):
        if incomplete[position] not in ("/" if incomplete.startswith("/") else ".["):
            continue
        base, begun = incomplete[:position], incomplete[position:]
        try:
            view = _walk(snapshot, parse_target(base or "/")).view
        except ZodbshError:
            continue
        completed = dict.fromkeys(base + step for step in view.completions(begun) if step.startswith(begun))
        return list(islice(completed, limit))
    return []


class _Way(NamedTuple):
    """Where steps lead, and the last object with a record of its own on the way; ``inside`` are the steps after it."""

    view: View
    path: str
    owner: int
    owner_path: str
    inside: tuple[str, ...]


def _walk(snapshot: Snapshot, target: Target) -> _Way:
    path = Target(target.oid).text
    try:
        view = View(snapshot, target.oid, read_record(snapshot, target.oid))
    except ObjectNotFound as exc:
        if target.oid == ROOT_OID:
            raise ObjectNotFound("the database has no root object at this time", hint=exc.hint) from exc
        raise
    owner, owner_path, inside = target.oid, path, []
    for step in target.steps:
        found = view.take(step)
        if found is None:
            raise _missing(view, path, step)
        path += found.text
        inside.append(found.text)
        view = follow(snapshot, found.holder, found.value, path)
        if view.record is not None:
            owner, owner_path, inside = view.oid, path, []
    return _Way(view, path, owner, owner_path, tuple(inside))


def _with_slashes(snapshot: Snapshot, target: Target) -> Target | None:
    """Return a slash path that leads nowhere with some of its slashes taken for parts of keys, the longest key first.

    None where it leads nowhere so either, or where too many ways would have to be tried.
    """
    names = [step.text for step in target.steps if isinstance(step, Segment)]
    if len(names) < 2 or len(names) != len(target.steps):
        return None
    left = iter(range(_MAX_SPELLINGS))
    try:
        ways: list[tuple[View, int, tuple[Step, ...]]] = [
            (View(snapshot, target.oid, read_record(snapshot, target.oid)), 0, ())
        ]
    except ZodbshError:
        return None
    while ways:
        view, start, steps = ways.pop()
        longer: list[tuple[View, int, tuple[Step, ...]]] = []
        for end in range(start + 1, len(names) + 1):
            if next(left, None) is None:
                return None
            step = Segment("/".join(names[start:end]))
            try:
                found = view.take(step)
                if found is None:
                    continue
                if end == len(names):
                    return target._replace(steps=(*steps, step))
                longer.append((follow(snapshot, found.holder, found.value), end, (*steps, step)))
            except ZodbshError:
                continue
        ways += longer
    return None


def _missing(view: View, path: str, step: Step) -> TargetNotFound:
    """Return the error that says which part of a path failed, and what resembles it."""
    wanted = step.name if isinstance(step, Attribute) else step.key if isinstance(step, Item) else step.text
    items = view.sequence()
    has_keys = view.tree is not None or view.pairs() is not None
    shown = key_text(wanted)
    if items is not None and type(wanted) is int:
        count = f"{len(items):,} item{'' if len(items) == 1 else 's'}"
        return TargetNotFound(f"{path} has {count}, and no index {shown}", path=path)
    if not (has_keys or items is not None or view.named() or view.record is not None):
        return TargetNotFound(f"{path} has no {shown}: it is {article(kind_text(view.subject))}", path=path)
    noun = "attribute or key" if isinstance(step, Segment) else "attribute" if isinstance(step, Attribute) else "key"
    if isinstance(step, Attribute | Segment) and view.is_root:
        noun = "key"
    near = view.near(wanted)
    hint = ""
    if near:
        hint = f"Did you mean {' or '.join(path + text for text in near)}?"
    elif names := list(islice((text for text in view.steps() if len(text) < 60), 5)):
        hint = f"It has {', '.join(names)}" + (", ..." if len(names) == 5 else ".")
    near_paths = tuple(path + text for text in near)
    return TargetNotFound(f"{path} has no {noun} {shown}", path=path, near=near_paths, hint=hint)


def article(noun: str) -> str:
    """Return ``an int``, ``a str``."""
    return f"{'an' if noun[:1].lower() in tuple('aeiou') else 'a'} {noun}" if noun != "None" else noun


def _checked_oid(text: str) -> int:
    oid = parse_oid(text)
    assert 0 <= oid <= MAX_ID
    return oid


def _suggestion(text: str) -> str:
    return f"A path begins at the root: root.{text}" if text[:1].isidentifier() and len(text) < 200 else _HINT


def _read_steps(text: str, position: int) -> tuple[Step, ...]:
    steps: list[Step] = []
    while position < len(text):
        if text[position] == ".":
            name, position = read_name(text, position + 1)
            if name == "keys" and text[position : position + 2] == "()":
                # A key that is itself a reference is written keys()[3].
                name, position = "keys()", position + 2
            steps.append(Attribute(name))
        elif text[position] == "[":
            key, position = read_key(text, position + 1)
            steps.append(Item(key))
        else:
            raise TargetSyntaxError(
                f"not a path at character {position + 1} of the target: {text[position : position + 20]!r}", hint=_HINT
            )
    return tuple(steps)
