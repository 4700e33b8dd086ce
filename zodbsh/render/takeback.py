"""What taking a file back to a moment would remove and has removed, and what was put back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text, tid_text
from zodbsh.render.gate import text_of
from zodbsh.render.output import Rows
from zodbsh.render.page import Page, Span
from zodbsh.render.sizes import count_text, size_text
from zodbsh.render.undo import transaction_json, transaction_text
from zodbsh.times import iso_text, time_text

if TYPE_CHECKING:
    from zodbsh.ops.undoing.putback import PutBackResult
    from zodbsh.ops.undoing.takeback import TakeBackPlan, TakeBackResult

_SHOWN = 50


class TakeBackPlanView(NamedTuple):
    """A TakeBackPlan, ready to be shown."""

    plan: TakeBackPlan

    def json(self) -> object:
        """Return what ``--dry-run`` found."""
        return _json(self.plan, dry_run=True)

    def rows(self) -> Rows:
        """Return one row a transaction that would go."""
        return _rows(self.plan)

    def text(self, page: Page) -> None:
        """Write which moment it is, and what would go."""
        plan = self.plan
        page.line(f"{plan.database} back to ", transaction_text(plan.base))
        if not plan.transactions:
            page.line("nothing is later than that")
            return
        blobs = f", {count_text(len(plan.blobs), 'blob file')}" if plan.blobs else ""
        page.line(
            f"takes off {count_text(plan.transactions, 'transaction')} that wrote "
            f"{count_text(plan.objects, 'object')}, {size_text(plan.bytes)}{blobs}:"
        )
        page.gap()
        shown = plan.removed[:_SHOWN]
        rows = [
            (tid_text(tid), time_text(tid), text_of(transaction.user), text_of(transaction.description), objects)
            for transaction, objects in shown
            for tid in (transaction.tid,)
        ]
        page.table(Rows(("tid", "time", "user", "description", "objects"), rows), right=("objects",), indent="  ")
        if plan.transactions > len(shown):
            page.line(f"  (... and {plan.transactions - len(shown):,} later ones)")
        for number, finding in enumerate(plan.findings[:_SHOWN]):
            if not number:
                page.gap()
            page.line(Span("dangling: ", "red"), finding.message)
        if len(plan.findings) > _SHOWN:
            page.line(f"(... and {len(plan.findings) - _SHOWN:,} more: --format json)")


class TakeBackView(NamedTuple):
    """A TakeBackResult, ready to be shown; the plan was shown before."""

    result: TakeBackResult

    def json(self) -> object:
        """Return what was done."""
        return _json(self.result.plan, dry_run=False, tail=self.result.tail, trouble=self.result.trouble)

    def rows(self) -> Rows:
        """Return one row a transaction that went."""
        return _rows(self.result.plan)

    def text(self, page: Page) -> None:
        """Say where the transactions are now."""
        plan, tail = self.result.plan, self.result.tail
        if tail is None:
            page.line("nothing was changed")
            return
        page.line(f"{plan.database} ends with {tid_text(plan.base.tid)} ({time_text(plan.base.tid)}) now")
        page.line(f"{count_text(plan.transactions, 'transaction')} taken off: {tail}")


class PutBackView(NamedTuple):
    """A PutBackResult, ready to be shown."""

    result: PutBackResult

    def json(self) -> object:
        """Return what was put back."""
        result = self.result
        return {
            "dry_run": result.dry_run,
            "tid": tid_text(result.tid),
            "time": iso_text(result.tid),
            "transactions": result.transactions,
            "bytes": result.bytes,
            "blobs": result.blobs,
            "already": result.already,
            "tail": result.kept,
            "trouble": result.trouble,
        }

    def rows(self) -> Rows:
        """Return one row."""
        result = self.result
        return Rows(
            ("tid", "transactions", "bytes", "blobs"),
            [(tid_text(result.tid), result.transactions, result.bytes, result.blobs)],
        )

    def text(self, page: Page) -> None:
        """Say what is there again."""
        result = self.result
        count = count_text(result.transactions, "transaction")
        if result.dry_run:
            what = "are there already" if result.already else "would be put back"
            page.line(f"{count} {what}, up to {tid_text(result.tid)} ({time_text(result.tid)})")
            return
        page.line(f"{count} {'had been put back already' if result.already else 'put back'}")
        page.line(f"{result.database} ends with {tid_text(result.tid)} ({time_text(result.tid)}) now")
        if result.kept is not None:
            page.line(f"still there: {result.kept}")


def _json(plan: TakeBackPlan, *, dry_run: bool, tail: str | None = None, trouble: str | None = None) -> object:
    return {
        "dry_run": dry_run,
        "tid": tid_text(plan.base.tid),
        "time": iso_text(plan.base.tid),
        "last_tid": tid_text(plan.last_tid),
        "transactions": plan.transactions,
        "objects": plan.objects,
        "bytes": plan.bytes,
        "blobs": len(plan.blobs),
        "removed": [{**transaction_json(removed.transaction), "objects": removed.objects} for removed in plan.removed],
        "findings": [
            {"kind": finding.kind, "oid": None if finding.oid is None else oid_text(finding.oid),
             "message": finding.message}
            for finding in plan.findings
        ],
        "tail": tail,
        "trouble": trouble,
    }  # fmt: skip


def _rows(plan: TakeBackPlan) -> Rows:
    def each() -> Iterator[tuple[object, ...]]:
        for transaction, objects in plan.removed:
            texts = text_of(transaction.user), text_of(transaction.description)
            yield (tid_text(transaction.tid), iso_text(transaction.tid), *texts, objects)

    return Rows(("tid", "time", "user", "description", "objects"), each())
