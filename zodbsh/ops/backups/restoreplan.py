"""Which steps of a folder of backups a restore reads, and what to try where one of them is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from shlex import quote
from typing import NamedTuple

from zodbsh.errors import StorageIOError
from zodbsh.filestorage.repository import BackupDamaged, BackupNotFound, Folder, read_folder, stamp_time
from zodbsh.findings import Finding
from zodbsh.ids import MAX_ID, tid_text
from zodbsh.ops.backups.chain import Piece, check_order, facts, pieces
from zodbsh.times import tid_time, time_text


class Plan(NamedTuple):
    """Which steps are read, and up to which tid."""

    folder: Folder
    pieces: list[Piece]
    until: int


def plan_restore(path: str, at: int = MAX_ID) -> Plan:
    """Choose the steps that hold the newest state at or before ``at``.

    Raises BackupNotFound, BackupDamaged, StorageIOError.
    """
    folder = read_folder(path)
    if not folder.chains:
        raise BackupNotFound(
            f"there is no full backup in {path}",
            hint=f"`zodbsh backup --list {quote(path)}` shows what there is." if folder.lost else None,
        )
    if at == MAX_ID:
        chain = pieces(folder, folder.chains[-1])
        plan = Plan(folder, chain, at)
        sound, trouble = _in_order(chain)
        if trouble is not None:
            raise _with_hint(plan, chain[len(sound)], trouble)
        return _sound(plan)
    return _plan_at(folder, at)


def _plan_at(folder: Folder, at: int) -> Plan:
    """Choose the first backup that reaches up to ``at``: later ones may have lost history to a pack.

    Where none does, the first one made after that time is exact, too, unless a pack took what was then; else the
    newest one made before it is what is known.
    """
    earlier: list[Piece] | None = None
    oldest, damaged = MAX_ID, None
    moment = tid_time(at) or datetime.max.replace(tzinfo=UTC)
    for chain in folder.chains:
        whole = pieces(folder, chain)
        # What comes before a step that is missing is good without it.
        found, trouble = _in_order(whole)
        if trouble is not None:
            damaged = damaged or _with_hint(Plan(folder, whole, at), whole[len(found)], trouble)
        try:
            for number, fact in enumerate(facts(found)):
                exact_from = max(fact.packed_tid, fact.first_tid)
                oldest = min(oldest, exact_from)
                if exact_from > at:
                    continue
                if fact.last_tid >= at:
                    return _sound(Plan(folder, found[: number + 1], at))
                if earlier is None or not _is_after(earlier, moment) or _is_before(found[number], moment):
                    earlier = found[: number + 1]
        except BackupDamaged as exc:
            # It may be of another time.
            damaged = damaged or exc
    if damaged is not None:
        raise damaged
    if earlier is None:
        raise nothing_of(folder.path, at, oldest)
    return _sound(Plan(folder, earlier, at))


def _in_order(chain: list[Piece]) -> tuple[list[Piece], BackupDamaged | None]:
    """Return the steps of a chain that continue one another, and what is wrong with the one after them."""
    for number in range(len(chain)):
        try:
            check_order(chain[: number + 1])
        except BackupDamaged as exc:
            return chain[:number], exc
    return chain, None


def _with_hint(plan: Plan, piece: Piece, exc: BackupDamaged) -> BackupDamaged:
    return BackupDamaged(exc.message, folder=plan.folder.path, hint=good_before(plan, piece))


def _sound(plan: Plan) -> Plan:
    """Raise BackupDamaged where a manifest is damaged: the blobs that it names are not known."""
    for piece in plan.pieces:
        if piece.trouble:
            raise BackupDamaged(
                piece.trouble,
                folder=plan.folder.path,
                hint="Without that file the database is restored by its MD5, and the blobs that other manifests name.",
            )
    return plan


def unchecked(plan: Plan) -> tuple[Finding, ...]:
    """Return a finding for each step that is read of which nothing says what was written."""
    what = "neither a manifest nor a line in .dat says what was written: no more than its framing was checked"
    return tuple(
        Finding("step-unchecked", None, None, None, f"{piece.path}: {what}")
        for piece in plan.pieces
        if not piece.is_vouched
    )


def _is_after(chain: list[Piece], moment: datetime) -> bool:
    made = stamp_time(chain[-1].step.stamp)
    return made is not None and made > moment


def _is_before(piece: Piece, moment: datetime) -> bool:
    made = stamp_time(piece.step.stamp)
    return made is not None and made <= moment


@contextmanager
def last_good(plan: Plan, piece: Piece) -> Iterator[None]:
    """Say of a damage which state can still be had."""
    try:
        yield
    except BackupDamaged as exc:
        raise _with_hint(plan, piece, exc) from exc


def good_before(plan: Plan, piece: Piece) -> str | None:
    """Return a hint at the newest state that does without a step, None where there is none."""
    number = plan.pieces.index(piece)
    if tid := _last_of(plan.pieces[:number]):
        return f"What comes before it may be good: `--at {tid_text(tid)}` ({time_text(tid)})."
    place = next((n for n, chain in enumerate(plan.folder.chains) if chain.full == plan.pieces[0].step), 0)
    for chain in reversed(plan.folder.chains[:place]):
        if tid := _last_of(_in_order(pieces(plan.folder, chain))[0]):
            return f"An earlier backup may be good: `--at {tid_text(tid)}` ({time_text(tid)})."
    return None


def _last_of(chain: list[Piece]) -> int:
    """Return the last transaction of a chain as far as it can be told, 0 for none; data tell where manifests do not."""
    tid = 0
    with suppress(BackupDamaged, StorageIOError):
        for fact in facts(chain):
            tid = fact.last_tid
    return tid


def nothing_of(path: str, at: int, oldest: int = MAX_ID) -> BackupNotFound:
    """Return the error that says that no backup is so old."""
    known = f"The oldest state is of {time_text(oldest)}; " if oldest not in (0, MAX_ID) else ""
    return BackupNotFound(
        f"no backup in {path} is of {time_text(at)} ({tid_text(at)}) or before",
        hint=f"{known}`zodbsh backup --list {quote(path)}` shows what there is.",
    )
