"""What a stage is, and how uncommitted changes become one."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import NamedTuple

from zodbsh.db.changes import PROVISIONAL, Changes, Entry, Read
from zodbsh.db.renumber import renumber
from zodbsh.errors import ExitCode, ZodbshError
from zodbsh.ids import ROOT_OID, oid_text


class StageConflict(ZodbshError):
    """The stage on disk is not what this process started from, or cannot be joined with new changes."""

    code, exit_code = "stage-conflict", ExitCode.CONFLICT
    hint = "Nothing was staged. `zodbsh status` shows the stage; commit or abort it, then do it again."


class StagePlace(NamedTuple):
    """Where an entry's object was found when the stage was made.

    ``internal`` marks a node or a bucket of the BTree that ``path`` leads to.
    """

    oid: int
    path: str
    internal: bool = False


@dataclass(frozen=True)
class Stage:
    """A transaction that waits (implements ``Changes``).

    ``base_tid`` is the transaction it was last worked on top of; each entry has
    the serial that it was made to. ``id`` (32 hex digits) is new with every save:
    a commit names it in the transaction's extension. ``created`` is a tid for the
    time of the first save. New objects have provisional oids, the root apart.
    ``places`` are hints, to be checked before use.
    """

    base_tid: int
    entries: tuple[Entry, ...]
    reads: tuple[Read, ...] = ()
    note: str = ""
    user: str = ""
    created: int = 0
    id: str = ""
    places: tuple[StagePlace, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.entries)


def new_id() -> str:
    """Return a fresh id for a stage about to be saved."""
    return os.urandom(16).hex()


def make_stage(
    changes: Changes,
    *,
    note: str = "",
    user: str = "",
    created: int | None = None,
    places: tuple[StagePlace, ...] = (),
) -> Stage:
    """Return changes as a stage: every new object gets a provisional oid, in order.

    ``places`` go by the oids of ``changes``. Raises CannotRenumber, RecordError.
    """
    new = [entry.oid for entry in changes.entries if entry.new and entry.oid != ROOT_OID]
    numbers = {oid: PROVISIONAL + place for place, oid in enumerate(new, 1)}
    entries = renumber(changes.entries, {old: number for old, number in numbers.items() if old != number})
    return Stage(
        changes.base_tid,
        entries,
        changes.reads,
        note,
        user,
        _now() if created is None else created,
        places=tuple(place._replace(oid=numbers.get(place.oid, place.oid)) for place in places),
    )


def join(stage: Stage, changes: Changes, *, places: tuple[StagePlace, ...] = ()) -> Stage:
    """Return a stage with further changes that were made without it.

    ``places`` go by the oids of ``changes``. Raises StageConflict where both change the same object.
    """
    staged = {entry.oid for entry in stage.entries if not entry.new}
    both = sorted(staged & {entry.oid for entry in changes.entries})
    if both:
        which = ", ".join(oid_text(oid) for oid in both[:3]) + (", ..." if len(both) > 3 else "")
        raise StageConflict(f"the stage has changed the same objects ({which}), and this work began without it")
    start = len(stage.entries)
    new = [entry.oid for entry in changes.entries if entry.new and entry.oid != ROOT_OID]
    numbers = {oid: PROVISIONAL + start + place for place, oid in enumerate(new, 1)}
    added = renumber(changes.entries, numbers)
    return replace(
        stage,
        base_tid=max(stage.base_tid, changes.base_tid),
        entries=stage.entries + added,
        reads=tuple(dict.fromkeys((*stage.reads, *changes.reads))),
        places=stage.places + tuple(place._replace(oid=numbers.get(place.oid, place.oid)) for place in places),
    )


def _now() -> int:
    from datetime import UTC, datetime

    from zodbsh.times import time_tid

    return time_tid(datetime.now(UTC))
