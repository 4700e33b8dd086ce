"""What ``recover`` kept and lost, for people and programs."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from zodbsh.ids import oid_text, tid_text
from zodbsh.render.output import Rows
from zodbsh.render.page import Span
from zodbsh.render.sizes import count_text, size_text
from zodbsh.render.verify import VerifyView
from zodbsh.times import time_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zodbsh.filestorage.salvage.parts import Contradiction
    from zodbsh.filestorage.salvage.records import Damaged
    from zodbsh.ops.recovery.blobs import BlobsResult
    from zodbsh.ops.recovery.lost import LostObject, LostRange
    from zodbsh.ops.recovery.recover import RecoverResult
    from zodbsh.render.page import Page

_T = TypeVar("_T")

_SHOWN = 10
_KINDS = {
    "unreadable": "could not be read",
    "zeros": "zeros",
    "undone": "transactions marked as undone, which ZODB passes over, too",
    "misfit": "sound, but a second copy, or of another database",
}
_STATES = {
    "older": "shows an older state now",
    "gone": "gone",
    "history": "an earlier revision is lost",
    None: "",
}


class RecoverView(NamedTuple):
    """A RecoverResult, ready to be shown; ``everything`` shows every loss to people, too."""

    result: RecoverResult
    everything: bool = False

    def json(self) -> object:
        """Return the whole result, as docs/json.md has it."""
        result = self.result
        return {
            "database": result.database,
            "out": result.out,
            "format": result.format,
            "assumed": result.assumed,
            "lost_nothing": result.lost_nothing,
            "kept": {"transactions": result.transactions, "records": result.records, "bytes": result.bytes_kept},
            "lost": {"objects": len(result.lost), "bytes": result.bytes_lost, "tail": result.tail},
            "damaged_transactions": map(_damaged, result.damaged),
            "lost_ranges": map(_range, result.ranges),
            "shifted": ({"position": one.position, "bytes": one.bytes} for one in result.shifted),
            "lost_objects": map(_lost, result.lost),
            "contradictions": map(_contradiction, result.contradictions),
            "contradictions_more": result.contradictions_more,
            "blobs": None if result.blobs is None else dict(result.blobs._asdict()),
            "verify": None if result.check is None else VerifyView(result.check).json(),
        }

    def rows(self) -> Rows:
        """Return the lost objects."""
        rows = (tuple(_lost(one).values()) for one in self.result.lost)
        return Rows(("oid", "tid", "offset", "state", "now", "class", "path", "reason"), rows)

    def text(self, page: Page) -> None:
        """Write what was kept, what was lost, and what the check of the new file found."""
        result = self.result
        kept = f"{count_text(result.transactions, 'transaction')}, {count_text(result.records, 'record')}"
        if result.out is None:
            page.line(f"would recover {kept} from {result.database}; nothing was written")
        else:
            page.line(f"recovered {kept} from {result.database} into {result.out} ({size_text(result.bytes_kept)})")
        if result.assumed:
            page.line(result.assumed)
        if result.blobs is not None:
            page.line(_blobs_text(result.blobs))
        self._lost(page)
        if result.check is not None:
            page.gap()
            page.heading("verify of the new file")
            VerifyView(result.check, self.everything).text(page)

    def _lost(self, page: Page) -> None:
        result = self.result
        page.gap()
        if result.clean:
            page.line(Span("nothing was lost", "green"), ", as far as can be told" if result.out else "")
        elif result.lost_nothing:
            page.line(Span("no record is known to be lost; what was damaged or contradicted follows", "red"))
        else:
            size = f": {size_text(result.bytes_lost)} of {size_text(result.bytes)}" if result.bytes_lost else ""
            page.line(Span(f"not all is kept{size}", "red"))
        for one in self._some(page, result.ranges):
            page.line(f"  bytes {one.start} to {one.end} ({size_text(one.end - one.start)}): ", _KINDS[one.kind])
        for shift in result.shifted:
            what = "are missing before" if shift.bytes < 0 else "that do not belong there were put in before"
            page.line(f"  {count_text(abs(shift.bytes), 'byte')} {what} byte {shift.position}")
        if result.tail:
            page.line(
                f"  the last {count_text(result.tail, 'byte')} are a transaction that was never finished: left out"
            )
        if result.damaged:
            page.gap()
            page.line(f"{count_text(len(result.damaged), 'damaged transaction')}, kept in part or repaired:")
            for damaged in self._some(page, result.damaged):
                page.line("  ", _damaged_text(damaged))
            last = result.damaged[-1]
            if result.out is not None and result.check and last.tid == result.check.tid and not last.header:
                page.line(
                    "  the last one may never have been finished, as after a power failure: "
                    f"`zodbsh undo {quote(result.out)} --after {tid_text(last.tid - 1)}` takes it off"
                )
        if result.contradictions:
            page.gap()
            page.line(f"{count_text(len(result.contradictions), 'number')} contradicted by others:")
            for number in self._some(page, result.contradictions):
                page.line("  ", _contradiction_text(number))
            if result.contradictions_more:
                more = count_text(result.contradictions_more, "more record")
                page.line(f"  and {more} of which the pointer to the revision before leads to another object's")
        if result.lost:
            page.gap()
            page.line(f"{count_text(len(result.lost), 'revision')} known to be lost, or objects missing:")
            for lost in self._some(page, result.lost):
                page.line("  ", _lost_text(lost))

    def _some(self, page: Page, items: Sequence[_T]) -> Iterator[_T]:
        shown = items if self.everything else items[:_SHOWN]
        yield from shown
        if len(shown) < len(items):
            page.line("  ", Span(f"(... and {len(items) - len(shown):,} more: --all)", "dim"))


def _damaged(one: Damaged) -> dict[str, object]:
    return {"tid": tid_text(one.tid), "position": one.position, "records": one.records, "header": one.header}


def _range(one: LostRange) -> dict[str, object]:
    return {"start": one.start, "end": one.end, "bytes": one.end - one.start, "kind": one.kind}


def _lost(one: LostObject) -> dict[str, object]:
    return {
        "oid": oid_text(one.oid),
        "tid": None if one.tid is None else tid_text(one.tid),
        "offset": one.offset,
        "state": one.state,
        "now": None if one.now is None else tid_text(one.now),
        "class": one.class_,
        "path": one.path,
        "reason": one.reason,
    }


def _contradiction(one: Contradiction) -> dict[str, object]:
    return {
        "position": one.position,
        "field": one.field,
        "oid": None if one.oid is None else oid_text(one.oid),
        "tid": tid_text(one.tid),
        "repaired": one.repaired,
        "message": one.message,
    }


def _blobs_text(blobs: BlobsResult) -> str | Span:
    if blobs.folder is None:
        return Span(f"the database has {blobs.missing:,} blobs, but no folder of blobs is known (--blobs DIR)", "red")
    missing = f", {blobs.missing:,} missing" if blobs.missing else ""
    return f"{count_text(blobs.files, 'blob file')} in {blobs.folder} ({blobs.copied:,} copied){missing}"


def _contradiction_text(one: Contradiction) -> str:
    name = "transaction" if one.oid is None else oid_text(one.oid)
    done = "repaired" if one.repaired else "kept as it is"
    return f"{name} of {tid_text(one.tid)}, byte {one.position}, {one.field}: {one.message} ({done})"


def _damaged_text(one: Damaged) -> str:
    header = "" if one.header else "; its header is lost: user, description and extension are not known"
    return f"{tid_text(one.tid)} ({time_text(one.tid)}): {count_text(one.records, 'record')}{header}"


def _lost_text(one: LostObject) -> str:
    class_ = one.class_ and f"({one.class_.strip('()')})"
    name = " ".join(part for part in (oid_text(one.oid), one.path, class_) if part)
    when = f" of {tid_text(one.tid)}" if one.tid is not None else ""
    state = _STATES[one.state]
    if one.state == "older" and one.now is not None:
        state += f", that of {tid_text(one.now)} ({time_text(one.now)})"
    where = "" if one.offset is None else f"revision{when} at byte {one.offset}: "
    return f"{name}: {where}{one.reason}{f'; {state}' if state else ''}"
