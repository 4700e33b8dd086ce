"""Committing a stage: one transaction, every object against the serial it was staged on.

An object that nobody changed meanwhile is stored. One that was changed is left
to ZODB's own conflict resolution, which imports its class; where that fails,
nothing at all is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ZODB.Connection import TransactionMetaData
from ZODB.interfaces import IBlobStorage, IMVCCStorage
from ZODB.POSException import ConflictError, POSKeyError
from ZODB.utils import load_current, z64

from zodbsh.db.blobs import store_blob
from zodbsh.db.changes import STAGE_KEY, Entry
from zodbsh.db.filestore import CommitUnknown, SoundFileStorage
from zodbsh.db.open import Conflict, NoBlobFolder, translated
from zodbsh.db.renumber import renumber
from zodbsh.errors import ZodbshError
from zodbsh.ids import ROOT_OID, from_bytes, oid_text, to_bytes
from zodbsh.publish import uninterrupted
from zodbsh.record.decode import references
from zodbsh.stage.model import Stage


class Replayed(NamedTuple):
    """A committed stage: its tid, what was stored, and what conflict resolution decided.

    ``oids`` maps the stage's provisional oids to the real ones.
    """

    tid: int
    objects: int
    resolved: tuple[int, ...]
    oids: Mapping[int, int]


class Sides(NamedTuple):
    """One object in conflict: the record that was changed, theirs and ours.

    ``base`` is None where that revision is gone (a pack), ``theirs`` where the
    object is gone. ``their_tid`` is the transaction that made theirs, None for
    a gone object.
    """

    oid: int
    base_tid: int
    their_tid: int | None
    base: bytes | None
    theirs: bytes | None
    ours: bytes


class StageConflicts(Conflict):
    """The stage cannot be applied: objects it changed were changed by others. Nothing was written."""

    hint = "`zodbsh diff` shows the stage; `zodbsh abort` drops it, to do the change again on top of theirs."

    def __init__(self, message: str, sides: tuple[Sides, ...]) -> None:
        super().__init__(message, oids=tuple(side.oid for side in sides))
        self.sides = sides


class StageDangling(Conflict):
    """The stage refers to objects that do not exist any more. Nothing was written."""

    code = "conflict-dangling"
    hint = "They were deleted, or packed away, after the stage was made. `zodbsh abort` drops the stage."


def replay(stage: Stage, storage: Any, *, name: str, note: str = "", user: str = "") -> Replayed:
    """Commit a stage to a storage open for writing.

    Raises StageConflicts, StageDangling, StorageIOError and whatever else means
    that nothing was written, and CommitUnknown where that is not known.
    """
    if IMVCCStorage.providedBy(storage):
        storage = storage.new_instance()
        storage.poll_invalidations()
    numbers = {
        entry.oid: from_bytes(storage.new_oid()) for entry in stage.entries if entry.new and entry.oid != ROOT_OID
    }
    entries = renumber(stage.entries, numbers)
    _check_there(storage, name, entries)
    # Blobs are looked at before anything is begun.
    if any(entry.blob is not None for entry in entries) and not IBlobStorage.providedBy(storage):
        raise NoBlobFolder(name)
    meta = TransactionMetaData(user, note, {STAGE_KEY: stage.id} if stage.id else {})
    with translated(name):
        storage.tpc_begin(meta)
        try:
            conflicts = [entry for entry in entries if not _stored(storage, entry, meta)]
            if not conflicts:
                _check_reads(storage, name, stage, meta)
                resolved = tuple(from_bytes(oid) for oid in storage.tpc_vote(meta) or ())
        except ConflictError as exc:
            storage.tpc_abort(meta)
            raise _conflict(storage, name, entries, _blamed(exc, entries)) from exc
        except BaseException:
            storage.tpc_abort(meta)
            raise
        if conflicts:
            storage.tpc_abort(meta)
            raise _conflict(storage, name, entries, conflicts)
        tid = _finish(storage, meta, name)
    return Replayed(tid, len(entries), resolved, numbers)


def _check_reads(storage: Any, name: str, stage: Stage, meta: TransactionMetaData) -> None:
    for read in stage.reads:
        try:
            storage.checkCurrentSerialInTransaction(to_bytes(read.oid), to_bytes(read.serial), meta)
        except POSKeyError:
            oid = oid_text(read.oid)
            raise Conflict(f"{name}: object {oid}, which the changes depend on, was deleted") from None


def _finish(storage: Any, meta: TransactionMetaData, name: str) -> int:
    try:
        if isinstance(storage, SoundFileStorage):
            # An interrupt between the status byte and its fsync would leave the outcome open for nothing.
            with uninterrupted():
                return from_bytes(storage.tpc_finish(meta))
        return from_bytes(storage.tpc_finish(meta))
    except CommitUnknown as exc:
        exc.hint = f"`zodbsh status {name}` tells whether the stage was applied."
        raise
    except Exception as exc:
        raise CommitUnknown(
            f"{name}: an error while the transaction was made final: {exc}",
            hint=f"`zodbsh status {name}` tells whether the stage was applied.",
        ) from exc


def _stored(storage: Any, entry: Entry, meta: TransactionMetaData) -> bool:
    """Store one object; False where it is in conflict and its class does not resolve that."""
    oid = to_bytes(entry.oid)
    serial = z64 if entry.serial is None else to_bytes(entry.serial)
    current = _serial(storage, entry.oid)
    if (entry.serial is None) != (current is None):
        # Gone, or (the root only) created by someone else: a storage would take it without a word.
        return False
    try:
        if entry.blob is None:
            storage.store(oid, serial, entry.data, "", meta)
        else:
            store_blob(storage, oid, serial, entry.data, entry.blob, meta)
    except ConflictError:
        return False
    return True


def _serial(storage: Any, oid: int) -> int | None:
    """Return the serial of an object's current revision, None where the object does not exist."""
    try:
        get = getattr(storage, "getTid", None)
        return from_bytes(get(to_bytes(oid)) if get is not None else load_current(storage, to_bytes(oid))[1])
    except POSKeyError:
        return None


def _check_there(storage: Any, name: str, entries: tuple[Entry, ...]) -> None:
    """Raise StageDangling where an entry refers to an object that is gone.

    A reference that the stored record has as well, dangling as it may be, is not
    of the stage's making.
    """
    stored = {entry.oid for entry in entries}
    gone: dict[int, list[Entry]] = {}
    known: dict[int, bool] = {}
    for entry in entries:
        for reference in references(entry.data):
            oid = reference.oid
            if reference.database is not None or reference.weak or oid in stored:
                continue
            if oid not in known:
                known[oid] = _serial(storage, oid) is not None
            if not known[oid] and oid not in _stored_references(storage, entry):
                gone.setdefault(oid, []).append(entry)
    if gone:
        oid, referrers = next(iter(gone.items()))
        more = f" (and {len(gone) - 1} more like it)" if len(gone) > 1 else ""
        raise StageDangling(
            f"{name}: object {oid_text(referrers[0].oid)} of the stage refers to {oid_text(oid)}, which is gone{more}",
            oids=tuple(gone),
        )


def _stored_references(storage: Any, entry: Entry) -> set[int]:
    if entry.new:
        return set()
    try:
        data = load_current(storage, to_bytes(entry.oid))[0]
    except POSKeyError:
        return set()
    return {reference.oid for reference in references(data)}


def _blamed(exc: ConflictError, entries: tuple[Entry, ...]) -> list[Entry]:
    oid = from_bytes(exc.oid) if isinstance(exc.oid, bytes) else None
    return [entry for entry in entries if entry.oid == oid]


def _conflict(storage: Any, name: str, entries: tuple[Entry, ...], conflicts: list[Entry]) -> ZodbshError:
    if not conflicts:
        return Conflict(f"{name}: an object that the changes depend on was changed by another transaction")
    sides = tuple(_sides(storage, entry) for entry in conflicts)
    which = f"object {oid_text(sides[0].oid)}" if len(sides) == 1 else f"{len(sides)} of {len(entries)} objects"
    was = "was" if len(sides) == 1 else "were"
    return StageConflicts(f"{name}: {which} {was} changed by another transaction since; nothing was written", sides)


def _sides(storage: Any, entry: Entry) -> Sides:
    oid = to_bytes(entry.oid)
    try:
        theirs, serial = load_current(storage, oid)
    except POSKeyError:
        theirs, serial = None, None
    try:
        base = storage.loadSerial(oid, to_bytes(entry.serial or 0))
    except POSKeyError:
        base = None
    return Sides(entry.oid, entry.serial or 0, from_bytes(serial) if serial else None, base, theirs, entry.data)
