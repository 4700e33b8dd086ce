"""What is shown before a commit: what it would save, and what ZODB would miss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.db.changes import PROVISIONAL
from zodbsh.ids import oid_text, tid_text
from zodbsh.times import time_text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from zodbsh.db.changes import Dirty, DirtyObject

MAX_SHOWN = 20
"""Objects of one kind that are listed; the rest is counted."""


def summary(dirty: Dirty) -> str:
    """Return the review's first line: ``2 changed, 1 new``."""
    parts = [
        (len(dirty.changed), "changed"),
        (len(dirty.new), "new"),
        (len(dirty.silent), "changed in place, unnoticed"),
    ]
    return ", ".join(f"{count:,} {word}" for count, word in parts if count) or "nothing changed"


def review_lines(dirty: Dirty, *, undoing: Collection[int] = (), undone: Sequence[tuple[str, str]] = ()) -> list[str]:
    """Return what a person must know before a commit, one line an object, unescaped.

    ``undone`` are path and class of each object that an undo gives its earlier state.
    """
    lines = [summary(dirty)] if dirty or not undoing else []
    lines += [f"  undo     transaction {tid_text(tid)} ({time_text(tid)})" for tid in sorted(undoing)]
    lines += [f"  undone   {path}  {class_}" for path, class_ in undone[:MAX_SHOWN]]
    if len(undone) > MAX_SHOWN:
        lines.append(f"  and {len(undone) - MAX_SHOWN:,} more undone")
    lines += _objects((("changed", dirty.changed), ("new", dirty.new), ("silent", dirty.silent)))
    if dirty.silent:
        lines.append(
            "silent: changed in place, ZODB was not told; a commit does not save it, an abort does not undo it"
        )
    for shared in dirty.shared[:MAX_SHOWN]:
        owners = " and ".join(owner.path for owner in shared.owners)
        lines.append(
            f"  shared   one {shared.type_} is held by {owners}: each gets a copy of its own when loaded again"
        )
    if len(dirty.shared) > MAX_SHOWN:
        lines.append(f"  and {len(dirty.shared) - MAX_SHOWN:,} more shared values")
    lines += [
        f"  class    {name} exists in this session only: no other program can load its objects"
        for name in dirty.main_classes
    ]
    return lines


def silent_line(entry: DirtyObject) -> str:
    """Return a silent mutation in one line, for the question what to do with it."""
    names = f" ({', '.join(filter(None, entry.names))})" if any(entry.names) else ""
    return f"{entry.path}{names} was changed in place"


def _objects(kinds: Sequence[tuple[str, Sequence[DirtyObject]]]) -> list[str]:
    shown = [(word, entry) for word, entries in kinds for entry in entries[:MAX_SHOWN]]
    width = max((len(entry.path) for _, entry in shown), default=0)
    class_width = max((len(entry.class_) for _, entry in shown), default=0)
    lines = []
    for word, entry in shown:
        oid = "" if entry.oid >= PROVISIONAL or entry.path == oid_text(entry.oid) else oid_text(entry.oid)
        names = ", ".join(filter(None, entry.names))
        lines.append(f"  {word:<8} {entry.path:<{width}}  {entry.class_:<{class_width}}  {oid}  {names}".rstrip())
    lines += [f"  and {len(entries) - MAX_SHOWN:,} more {word}" for word, entries in kinds if len(entries) > MAX_SHOWN]
    return lines
