"""Why a transaction cannot be undone, attribute by attribute, and what would have to be undone with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.compare import compare_records
from zodbsh.analysis.paths import Place
from zodbsh.analysis.undoing import Clash, later_in_the_way, work_out
from zodbsh.db.open import Conflict, NoBlobFolder
from zodbsh.ids import ROOT_OID, oid_text
from zodbsh.ops.conflict import ThreeSides, three_sides
from zodbsh.record.classpart import class_part
from zodbsh.record.decode import RecordError, decode_record

if TYPE_CHECKING:
    from zodbsh.db.session import Session
    from zodbsh.record.values import Record
    from zodbsh.source.base import Source, Transaction

# So many later transactions are named for an object, and undone together at most.
_NAMED = 20
_TOGETHER = 200
_ROUNDS = 50


class UndoClash(NamedTuple):
    """One object that a transaction cannot simply be undone for.

    ``tid`` is the undone transaction; ``later`` are those that changed the object since and are not undone, too, newest
    first, ``later_more`` counts more of them. ``attributes`` are those that differ between before (``base``), after
    (``ours``) and now (``theirs``); ``both`` names those that were changed by the transaction and later again.
    ``mergeable`` tells that ZODB asks the class to merge the states; ``reason`` says what is in the way.
    """

    path: str
    oid: int
    class_: str
    tid: int
    reason: str
    mergeable: bool
    later: tuple[Transaction, ...]
    later_more: int
    attributes: tuple[ThreeSides, ...]
    both: tuple[str, ...]


def explain(
    source: Source,
    clashes: Iterable[Clash],
    places: Mapping[int, Place],
    *,
    undone: AbstractSet[int],
    why: Callable[[bytes], str] | None = None,
) -> tuple[UndoClash, ...]:
    """Describe clashes of the transactions ``undone``; ``why`` says of a record why its class did not merge it.

    Raises FramingDamage.
    """
    return tuple(
        _explained(source, clash, places[clash.oid].path if clash.oid in places else oid_text(clash.oid), undone, why)
        for clash in clashes
    )


def with_what_followed(source: Source, tids: Iterable[int]) -> tuple[int, ...]:
    """Return the transactions to undo so that nothing clashes, newest first; nothing where there is no such set."""
    wanted = set(tids)
    for _ in range(_ROUNDS):
        transactions = [found for tid in wanted for found in source.transactions(tid, tid)]
        if len(transactions) != len(wanted) or any(found.status != " " for found in transactions):
            return ()
        undoing = work_out(source, transactions)
        if not undoing.clashes:
            return () if ROOT_OID in undoing.deleted or undoing.restored else tuple(sorted(wanted, reverse=True))
        more = {tid for clash in undoing.clashes for tid in later_in_the_way(source, clash, wanted)}
        wanted |= more
        if not more or len(wanted) > _TOGETHER:
            return ()
    return ()


def require_blobs_kept(session: Session, tid: int) -> None:
    """Raise Conflict or NoBlobFolder where a session's undo would lose a blob's content; ZODB says no word of it."""
    source = session.source()
    tids = {*session.undoing, tid}
    undoing = work_out(source, (found for each in tids for found in source.transactions(each, each)))
    replaced = [clash.oid for clash in undoing.clashes if clash.blob]
    if replaced:
        raise Conflict(
            f"the content of blob {oid_text(replaced[0])} was replaced by a later transaction",
            oids=tuple(replaced),
            hint="Undo the later transactions first, newest first; `zodbsh undo` lists them.",
        )
    if undoing.blobs and getattr(session.db.storage, "blob_dir", "") is None:
        raise NoBlobFolder(session.spec.text)


def _explained(
    source: Source, clash: Clash, path: str, undone_too: AbstractSet[int], why: Callable[[bytes], str] | None
) -> UndoClash:
    before, undone, now = (_decoded(data) for data in (clash.before, clash.undone, clash.now))
    data = next((data for data in (clash.now, clash.undone, clash.before) if data is not None), b"")
    since = takewhile(lambda revision: revision.tid > clash.tid, source.history(clash.oid))
    later = [revision.tid for revision in since if revision.tid not in undone_too]
    by_undone = {change.name for change in compare_records(before, undone)} if before and undone else set()
    by_later = {change.name for change in compare_records(undone, now)} if undone and now else set()
    return UndoClash(
        path=path,
        oid=clash.oid,
        class_=class_part(data)[0],
        tid=clash.tid,
        reason=_reason(clash, why),
        mergeable=clash.mergeable,
        later=tuple(found for tid in later[:_NAMED] for found in source.transactions(tid, tid)),
        later_more=max(0, len(later) - _NAMED),
        attributes=tuple(three_sides(before, now, undone)) if before and undone and now else (),
        both=tuple(sorted(by_undone & by_later)),
    )


def _reason(clash: Clash, why: Callable[[bytes], str] | None) -> str:
    if clash.blob:
        return "is a blob whose content a later transaction replaced"
    if clash.now is None:
        return "was deleted by a later transaction"
    if clash.before is None:
        return "was created by it and changed by a later transaction"
    if clash.undone is None:
        return "was deleted by it and created again by a later transaction"
    if clash.now == clash.before:
        return "is already as it was before, by a later transaction"
    reason = "was changed by a later transaction"
    return f"{reason}; {why(clash.now)}" if why is not None else reason


def _decoded(data: bytes | None) -> Record | None:
    with suppress(RecordError):
        return None if data is None else decode_record(data)
    return None
