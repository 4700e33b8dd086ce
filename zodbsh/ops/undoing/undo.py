"""``undo DB TID...``: take transactions back by a new one, shown before it is written, explained where it cannot be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from shlex import quote
from typing import NamedTuple

from zodbsh.analysis.graph import ObjectGraph
from zodbsh.analysis.paths import Place, places_of
from zodbsh.analysis.undoing import Dangling, Undoing, left_dangling, newly_dangling, work_out
from zodbsh.db.changes import Pending
from zodbsh.db.imports import import_modules, search_first
from zodbsh.db.open import Conflict
from zodbsh.db.spec import Spec
from zodbsh.db.undo import NothingToUndo
from zodbsh.errors import ExitCode, ObjectNotFound, Unsupported, UsageError, ZodbshError
from zodbsh.findings import Finding
from zodbsh.ids import ROOT_OID, oid_text, tid_text
from zodbsh.ops.diff import DiffResult, ObjectDiff, diff_undo
from zodbsh.ops.show import TransactionNotFound, find_transaction
from zodbsh.ops.undoing.conflict import UndoClash, explain, with_what_followed
from zodbsh.progress import SILENT, Progress
from zodbsh.record.classpart import UNDECODABLE
from zodbsh.record.decode import RecordError, decode_record, strong_references
from zodbsh.source.base import Source, Transaction
from zodbsh.source.file import FileSource, blobs_beside
from zodbsh.source.snapshot import Snapshot
from zodbsh.stage import store

_MAX_TEXT = 65_535
# The kinds of findings: a reference that leads nowhere, and one that does unless a class's merge leaves it out.
DANGLING, MAY_DANGLE = "dangling", "may-dangle"
# So many clashes are explained; each takes a look at the object's history.
_EXPLAINED = 1_000


class UndoesRoot(UsageError):
    """The transaction created the root: a database without one is none."""

    code = "undo-root"
    hint = "Nothing was written. The first transaction stays; remove what is in the root instead."


class UndoConflicts(Conflict):
    """A later transaction changed the same objects: ZODB does not undo that. Nothing was written."""

    code = "undo-conflict"

    def __init__(self, message: str, plan: UndoPlan, *, clashes: tuple[UndoClash, ...], hint: str) -> None:
        super().__init__(message, oids=tuple(clash.oid for clash in clashes), hint=hint)
        self.clashes, self.together, self.findings = clashes, plan.together, plan.findings


class UndoDangling(ZodbshError):
    """After the undo, references would lead to objects that do not exist. Nothing was written."""

    code, exit_code = "undo-dangling", ExitCode.CONFLICT
    hint = "Nothing was written. Undo what refers to them first, or --force."

    def __init__(self, plan: UndoPlan, findings: tuple[Finding, ...]) -> None:
        more = f" (and {len(findings) - 1:,} more like it)" if len(findings) > 1 else ""
        super().__init__(f"{plan.database}: after the undo, {findings[0].message}{more}")
        self.clashes, self.together, self.findings = plan.clashes, plan.together, findings


class UndoPlan(NamedTuple):
    """What an undo would do; nothing has been written.

    ``transactions`` are those to be undone, newest first; ``objects`` counts what they hold. ``diff`` leads from now to
    the state after it. ``clashes`` (the first of them) stand in the way, unless their classes merge them; ``together``
    are the transactions to undo so that nothing does, where there are such. ``findings`` are references that would lead
    nowhere. ``staged`` counts the objects of a stage that the undo changes, None without a stage.
    """

    database: str
    base_tid: int
    transactions: tuple[Transaction, ...]
    objects: int
    undoing: Undoing
    diff: DiffResult
    clashes: tuple[UndoClash, ...] = ()
    together: tuple[int, ...] = ()
    findings: tuple[Finding, ...] = ()
    staged: int | None = None

    @property
    def tids(self) -> tuple[int, ...]:
        """The transactions that are undone, newest first."""
        return tuple(transaction.tid for transaction in self.transactions)


class UndoResult(NamedTuple):
    """What an undo did. ``tid`` is None where nothing was written: everything is already as it was before.

    ``resolved`` lists the objects that their class merged with somebody else's change.
    """

    plan: UndoPlan
    tid: int | None
    resolved: tuple[int, ...] = ()


def plan_undo(
    source: Source, tids: Iterable[int], *, spec: Spec | None = None, progress: Progress = SILENT
) -> UndoPlan:
    """Work out the undo of transactions. Reads only, imports nothing.

    Raises TransactionNotFound, NothingToUndo (packed), UndoesRoot, FramingDamage.
    """
    transactions = tuple(_undoable(source, tid) for tid in sorted(set(tids), reverse=True))
    held = {revision.oid for found in transactions for revision in source.records(found)}
    undoing = work_out(source, transactions)
    if ROOT_OID in undoing.deleted or any(clash.oid == ROOT_OID and clash.before is None for clash in undoing.clashes):
        tid = tid_text(transactions[-1].tid)
        raise UndoesRoot(f"{source.info().name}: transaction {tid} created the root: it cannot be undone")
    # A file's graph is read at once; in any other storage the ways are looked for one by one.
    graph = ObjectGraph.read(Snapshot(source), progress=progress) if isinstance(source, FileSource) else None
    dangling = left_dangling(source, undoing, graph)
    places = _places(source, graph, held | {found.oid for found in dangling})
    return UndoPlan(
        source.info().name,
        source.last_tid,
        transactions,
        len(held),
        undoing,
        _diff(source, undoing, places),
        explain(source, undoing.clashes[:_EXPLAINED], places, undone={found.tid for found in transactions}),
        with_what_followed(source, (found.tid for found in transactions)) if undoing.clashes else (),
        tuple(_finding(found, undoing, places) for found in dangling),
        _staged(spec, held),
    )


def undo(
    spec: Spec,
    plan: UndoPlan,
    *,
    note: str = "",
    user: str = "",
    import_paths: Iterable[str] = (),
    modules: Iterable[str] = (),
    force: bool = False,
    hold: ExitStack | None = None,
    progress: Progress = SILENT,
) -> UndoResult:
    """Write the undo that was planned, as one transaction. Once it is committed, signals wait until ``hold`` is left.

    Classes are imported only to merge what clashes. With ``force`` also where references then lead nowhere. Raises
    UndoConflicts, UndoDangling, DatabaseLocked, DamagedDatabase, Unsupported, StorageIOError (nothing was written), and
    CommitUnknown.
    """
    if any(len(text.encode("utf-8", "surrogateescape")) > _MAX_TEXT for text in (note, user)):
        raise UsageError(f"a note or a user's name has at most {_MAX_TEXT:,} bytes")
    if plan.undoing.restored:
        return UndoResult(plan, None)
    from zodbsh.db.filestore import SoundFileStorage
    from zodbsh.db.open import open_storage
    from zodbsh.db.source import open_source
    from zodbsh.db.undo import merge_trouble, write_undo

    require_possible(plan, spec, force=force)
    spec = _with_blobs(spec, plan)
    restore_path = search_first(import_paths)
    try:
        import_modules(modules)
        with (
            closing(open_storage(spec, progress=progress)) as storage,
            closing(open_source(spec, storage=storage)) as source,
            ExitStack() as own,
        ):
            _require_unchanged(source, plan)
            if plan.findings and not force and not isinstance(storage, SoundFileStorage):
                # Any other storage keeps to itself what a class makes of it.
                raise UndoDangling(plan, plan.findings)

            def check(oid: int, data: bytes) -> None:
                _require_no_dangling(source, plan, oid, data)

            try:
                tid = write_undo(
                    storage,
                    plan.tids,
                    name=spec.text,
                    note=note,
                    user=user,
                    hold=own if hold is None else hold,
                    check=None if force else check,
                )
            except Conflict as exc:
                # Another storage has asked the class where it is.
                why = merge_trouble if spec.kind == "file" else None
                raise _conflicts(source, plan, spec, why) from exc
    finally:
        restore_path()
    return UndoResult(plan, tid, tuple(clash.oid for clash in plan.undoing.clashes))


def require_possible(plan: UndoPlan, spec: Spec, *, force: bool) -> None:
    """Raise what stands in the way of an undo for certain: UndoConflicts, UndoDangling, Unsupported, NotWritable."""
    from zodbsh.db.open import NotWritable, require_writable
    from zodbsh.db.source import open_source

    if spec.kind == "file":
        try:
            require_writable(spec)
        except NotWritable as exc:
            if not spec.read_only:
                # What copies transactions as they are needs no ZODB.
                exc.hint = "ZODB on Python 3 cannot write to it; `undo --after` and `pack` do work on it."
            raise
    if plan.undoing.lost_blobs:
        blobs = ", ".join(map(oid_text, plan.undoing.lost_blobs[:5]))
        raise Unsupported(
            f"{plan.database}: the content of blobs is not found ({blobs})",
            hint="Nothing was written. Give the folder of the blobs with --blobs DIR.",
        )
    if not all(clash.mergeable for clash in plan.undoing.clashes):
        with closing(open_source(spec)) as source:
            raise _conflicts(source, plan, spec, None)
    certain = tuple(finding for finding in plan.findings if finding.kind == DANGLING)
    if certain and not force:
        raise UndoDangling(plan, certain)


def undo_command(database: str, tids: Iterable[int]) -> str:
    """Return the command that undoes transactions, for a hint."""
    return " ".join(["zodbsh undo", quote(database), *map(tid_text, tids)])


def _with_blobs(spec: Spec, plan: UndoPlan) -> Spec:
    """Name the folder of blobs beside the file where the undo writes a blob: ZODB looks for none by itself."""
    if spec.kind != "file" or spec.blob_dir is not None or not plan.undoing.blobs:
        return spec
    return replace(spec, blob_dir=blobs_beside(spec.path))


def _undoable(source: Source, tid: int) -> Transaction:
    found, name = find_transaction(source, tid_text(tid)), source.info().name
    if found.status == "p":
        raise NothingToUndo(f"{name}: transaction {tid_text(tid)} was packed: what was before it is gone")
    if found.status != " ":
        raise NothingToUndo(f"{name}: transaction {tid_text(tid)} does not count: its status is {found.status!r}")
    return found


def _require_unchanged(source: Source, plan: UndoPlan) -> None:
    """Raise Conflict where what was shown is not what would be written."""
    if source.last_tid == plan.base_tid:
        return
    with suppress(TransactionNotFound, NothingToUndo):
        if work_out(source, [_undoable(source, tid) for tid in plan.tids]) == plan.undoing:
            return
    raise Conflict(
        f"{plan.database}: the objects were changed while the undo was looked at",
        hint="Nothing was written. Run it again to see what it would do now.",
    )


def _conflicts(source: Source, plan: UndoPlan, spec: Spec, why: Callable[[bytes], str] | None) -> UndoConflicts:
    clashes = plan.clashes
    if why is not None:
        places = {clash.oid: Place(clash.path) for clash in plan.clashes}
        clashes = explain(source, plan.undoing.clashes[:_EXPLAINED], places, undone=set(plan.tids), why=why)
    together = plan.together
    clash = next((clash for clash in clashes if not clash.mergeable), clashes[0]) if clashes else None
    what = "an object" if clash is None else f"{clash.path} ({oid_text(clash.oid)})"
    more = f" (and {len(plan.undoing.clashes) - 1:,} more)" if len(clashes) > 1 else ""
    hint = "Nothing was written. Change the objects themselves instead."
    if together:
        hint = f"Nothing was written. To undo also what came after: `{undo_command(spec.text, together)}`."
    reason = "was changed by a later transaction" if clash is None else clash.reason
    return UndoConflicts(f"{plan.database}: {what}{more} {reason}", plan, clashes=clashes, hint=hint)


def _places(source: Source, graph: ObjectGraph | None, oids: Iterable[int]) -> dict[int, Place]:
    """Return where objects are now, as far as that is known."""
    if graph is None:
        return places_of(Snapshot(source), oids)
    found = ((oid, graph.place(oid)) for oid in oids)
    return {oid: place for oid, place in found if place is not None}


def _diff(source: Source, undoing: Undoing, places: dict[int, Place]) -> DiffResult:
    """Compare with now; what does not decode is listed without its attributes."""
    opaque = {entry.oid for entry in undoing.entries if not _decodes(source, entry.oid, entry.data)}
    opaque |= {oid for oid in undoing.deleted if not _decodes(source, oid)}
    entries = tuple(entry for entry in undoing.entries if entry.oid not in opaque)
    deleted = [oid for oid in undoing.deleted if oid not in opaque]
    found = diff_undo(source, Pending(source.last_tid, entries), deleted, places)
    more = tuple(
        ObjectDiff(oid_text(oid), oid, UNDECODABLE, "deleted" if oid in undoing.deleted else "changed", ())
        for oid in sorted(opaque)
    )
    return found._replace(objects=found.objects + more)


def _decodes(source: Source, oid: int, data: bytes | None = None) -> bool:
    """Tell whether an object's record decodes, and the one that it would have."""
    try:
        if data is not None:
            decode_record(data)
        with suppress(ObjectNotFound):
            decode_record(source.load(oid).data or b"")
    except RecordError:
        return False
    return True


def _finding(found: Dangling, undoing: Undoing, places: Mapping[int, Place]) -> Finding:
    who = places[found.oid].path if found.oid in places else oid_text(found.oid)
    gone = "would be gone" if found.target in undoing.deleted else "does not exist"
    message = f"{who} refers to {oid_text(found.target)}, which {gone}"
    if found.certain:
        return Finding(DANGLING, found.oid, None, None, message)
    return Finding(MAY_DANGLE, found.oid, None, None, f"{message}, unless its class merges that away")


def _require_no_dangling(source: Source, plan: UndoPlan, oid: int, data: bytes) -> None:
    """Raise UndoDangling where what a class has merged refers to nothing."""
    with suppress(RecordError):
        missing = newly_dangling(source, plan.undoing, oid, strong_references(data))
        places = {clash.oid: Place(clash.path) for clash in plan.clashes}
        findings = (_finding(Dangling(oid, target, True), plan.undoing, places) for target in sorted(missing))
        if missing:
            raise UndoDangling(plan, tuple(findings))


def _staged(spec: Spec | None, held: set[int]) -> int | None:
    if spec is None or spec.kind == "memory" or not os.path.lexists(store.stage_path(spec)):
        return None
    with suppress(ZodbshError):
        stage = store.load(spec)
        return None if stage is None else sum(entry.oid in held for entry in stage.entries)
    return 0
