"""What an undo would do, what it did, and what stood in its way."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text, tid_text
from zodbsh.ops.undoing.undo import DANGLING, undo_command
from zodbsh.render.attributes import side_json, side_text
from zodbsh.render.diff import DiffView
from zodbsh.render.gate import text_of
from zodbsh.render.output import Rows
from zodbsh.render.page import Page, Span
from zodbsh.render.sizes import count_text
from zodbsh.times import iso_text, time_text

if TYPE_CHECKING:
    from zodbsh.findings import Finding
    from zodbsh.ops.undoing.conflict import UndoClash
    from zodbsh.ops.undoing.undo import UndoPlan, UndoResult
    from zodbsh.source.base import Transaction

_SIDE_WIDTH = 60
# So many objects in the way are shown; JSON has more.
_SHOWN = 50


class PlanView(NamedTuple):
    """An UndoPlan, ready to be shown."""

    plan: UndoPlan

    def json(self) -> object:
        """Return what ``--dry-run`` found."""
        return _json(self.plan, dry_run=True)

    def rows(self) -> Rows:
        """Return the diff's rows."""
        return DiffView(self.plan.diff).rows()

    def text(self, page: Page) -> None:
        """Write which transactions, and what they bring back."""
        plan = self.plan
        for transaction in plan.transactions:
            page.line("undo of ", transaction_text(transaction))
        page.gap()
        if plan.undoing.restored:
            page.line("nothing to undo: every object is already as it was before")
            return
        if plan.diff.objects or not plan.clashes:
            DiffView(plan.diff).text(page)
        for number, clash in enumerate(plan.clashes[:_SHOWN]):
            if number or plan.diff.objects:
                page.gap()
            _show_clash(page, clash, planned=True)
        if len(plan.undoing.clashes) > _SHOWN:
            page.line(f"(... and {len(plan.undoing.clashes) - _SHOWN:,} more objects: --format json)")
        if plan.together:
            page.gap()
            page.line("these can be undone together: ", undo_command(plan.database, plan.together))
        for finding in plan.findings[:_SHOWN]:
            word = "dangling: " if finding.kind == DANGLING else "may dangle: "
            page.line(Span(word, "red"), "after it, ", finding.message)
        if len(plan.findings) > _SHOWN:
            page.line(f"(... and {len(plan.findings) - _SHOWN:,} more: --format json)")


class UndoView(NamedTuple):
    """An UndoResult, ready to be shown; the plan was shown before."""

    result: UndoResult

    def json(self) -> object:
        """Return what was done."""
        return _json(self.result.plan, dry_run=False, result=self.result)

    def rows(self) -> Rows:
        """Return the diff's rows."""
        return DiffView(self.result.plan.diff).rows()

    def text(self, page: Page) -> None:
        """Say which transaction undid it."""
        result = self.result
        if result.tid is None:
            page.line("nothing was written")
            return
        count = count_text(result.plan.objects, "object")
        page.line(f"undone by: {tid_text(result.tid)}  {time_text(result.tid)}  {count}")
        if result.resolved:
            paths = [clash.path for clash in result.plan.clashes[:10]]
            page.line(f"merged by their classes: {', '.join(paths)}{', ...' if len(result.resolved) > 10 else ''}")


class UndoConflictView(NamedTuple):
    """The clashes that an undo ended with, and the transactions that can be undone together."""

    clashes: tuple[UndoClash, ...]
    together: tuple[int, ...]
    findings: tuple[Finding, ...] = ()

    def json(self) -> object:
        """Return each object with its later transactions and three sides."""
        return {
            "conflicts": [_clash_json(clash) for clash in self.clashes],
            "together": [tid_text(tid) for tid in self.together],
            "findings": [_finding_json(finding) for finding in self.findings],
        }

    def rows(self) -> Rows:
        """Return one row an attribute."""
        rows = (
            (clash.path, oid_text(clash.oid), clash.class_, tid_text(clash.tid), clash.reason, side.name,
             *(side_text(value) for value in (side.base, side.ours, side.theirs)))
            for clash in self.clashes for side in clash.attributes
        )  # fmt: skip
        return Rows(("path", "oid", "class", "tid", "reason", "name", "before", "after", "now"), rows)

    def text(self, page: Page) -> None:
        """Write the three states next to each other."""
        for number, clash in enumerate(self.clashes):
            if number:
                page.gap()
            _show_clash(page, clash, planned=False)


def transaction_text(transaction: Transaction) -> str:
    """Return a transaction on one line."""
    words = [tid_text(transaction.tid), time_text(transaction.tid)]
    words += [text_of(text) for text in (transaction.user, transaction.description) if text]
    return "  ".join(words)


def transaction_json(transaction: Transaction) -> dict[str, object]:
    """Return a transaction's tid, time, user and description."""
    return {
        "tid": tid_text(transaction.tid),
        "time": iso_text(transaction.tid),
        "user": text_of(transaction.user),
        "description": text_of(transaction.description),
    }


def _json(plan: UndoPlan, *, dry_run: bool, result: UndoResult | None = None) -> object:
    tid = None if result is None else result.tid
    return {
        "dry_run": dry_run,
        "transactions": [transaction_json(transaction) for transaction in plan.transactions],
        "tid": None if tid is None else tid_text(tid),
        "time": None if tid is None else iso_text(tid),
        "objects": plan.objects,
        "restored": plan.undoing.restored,
        "diff": DiffView(plan.diff).json(),
        "conflicts": [_clash_json(clash) for clash in plan.clashes] if result is None else [],
        "together": [tid_text(tid) for tid in plan.together] if result is None else [],
        "resolved": [oid_text(oid) for oid in result.resolved] if result is not None else [],
        "findings": [_finding_json(finding) for finding in plan.findings],
    }  # fmt: skip


def _clash_json(clash: UndoClash) -> dict[str, object]:
    return {
        "path": clash.path,
        "oid": oid_text(clash.oid),
        "class": clash.class_,
        "tid": tid_text(clash.tid),
        "reason": clash.reason,
        "mergeable": clash.mergeable,
        "later": [transaction_json(transaction) for transaction in clash.later],
        "attributes": [
            {"name": side.name, "before": side_json(side.base), "after": side_json(side.ours),
             "now": side_json(side.theirs), "both": side.name in clash.both}
            for side in clash.attributes
        ],
    }  # fmt: skip


def _show_clash(page: Page, clash: UndoClash, *, planned: bool) -> None:
    verdict = Span("its class may merge it", "yellow") if planned and clash.mergeable else Span("in the way", "red")
    page.line(Span(clash.path, "bold"), f"  {clash.class_} {oid_text(clash.oid)}  ", verdict, f": {clash.reason}")
    for transaction in clash.later:
        page.line("  since: ", transaction_text(transaction))
    if clash.later_more:
        page.line(f"  (... and {clash.later_more:,} more)")
    if not clash.attributes:
        return
    rows = [
        (side.name, *(side_text(value, width=_SIDE_WIDTH) for value in (side.base, side.ours, side.theirs)),
         "both" if side.name in clash.both else "")
        for side in clash.attributes
    ]  # fmt: skip
    page.table(Rows(("", "before it", "after it", "now", "changed by"), rows), indent="  ")
    if not clash.both:
        whole = "" if planned and clash.mergeable else ", but a record is undone whole or not at all"
        page.line(f"  no attribute was changed by both{whole}")


def _finding_json(finding: Finding) -> dict[str, object]:
    oid = None if finding.oid is None else oid_text(finding.oid)
    return {"kind": finding.kind, "oid": oid, "message": finding.message}
