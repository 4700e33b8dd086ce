"""What a backup did, what is in a folder of backups, and what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text, tid_text
from zodbsh.render.output import Rows
from zodbsh.render.page import Page, Span
from zodbsh.render.sizes import count_text, size_text
from zodbsh.times import iso_text, time_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zodbsh.findings import Finding
    from zodbsh.ops.backups.backup import BackupResult
    from zodbsh.ops.backups.check import BackupCheck
    from zodbsh.ops.backups.listing import ListedStep
    from zodbsh.render.output import Output

_SHOWN = 20


class BackupView(NamedTuple):
    """A BackupResult, ready to be shown."""

    result: BackupResult

    def json(self) -> object:
        """Return what was done, as docs/json.md has it."""
        result, pruned = self.result, self.result.pruned
        return {
            "kind": result.kind,
            "reason": result.reason or None,
            "step": result.step,
            "start": result.start,
            "end": result.end,
            "bytes": result.size,
            "transactions": result.transactions,
            "last_tid": tid_text(result.last_tid),
            "last_time": iso_text(result.last_tid),
            "blobs": result.blobs,
            "new_blobs": result.new_blobs,
            "new_blob_bytes": result.new_blob_bytes,
            "findings": [finding_json(finding) for finding in result.findings],
            "pruned": {
                "steps": list(pruned.steps),
                "bytes": pruned.bytes,
                "blobs": pruned.blobs,
                "blob_bytes": pruned.blob_bytes,
            },
        }

    def rows(self) -> Rows:
        """Return the step that was written, or nothing."""
        result = self.result
        row = (
            result.step, result.kind, result.start, result.end, result.size, result.transactions,
            tid_text(result.last_tid), result.new_blobs,
        )  # fmt: skip
        headers = ("step", "kind", "start", "end", "bytes", "transactions", "last tid", "new blobs")
        return Rows(headers, [row] if result.step else [])

    def text(self, page: Page) -> None:
        """Say what was written, and what went."""
        result, pruned = self.result, self.result.pruned
        if result.step is None:
            page.line(f"{result.database}: nothing new since the last backup in {result.folder}")
        else:
            why = f" ({result.reason})" if result.reason else ""
            page.line(f"{result.kind} backup", why, f": {result.folder}/{result.step}, {size_text(result.size)}")
            page.line(
                f"  {count_text(result.transactions, 'transaction')}",
                f" up to {tid_text(result.last_tid)} ({time_text(result.last_tid)})" if result.last_tid else "",
            )
        if result.blobs:
            new = f", {result.new_blobs:,} new ({size_text(result.new_blob_bytes)})" if result.new_blobs else ""
            page.line(f"  {count_text(result.blobs, 'blob')}{new}")
        if pruned.steps:
            page.line(f"  removed: {', '.join(pruned.steps)} ({size_text(pruned.bytes)})")
        if pruned.blobs:
            page.line(f"  removed: {count_text(pruned.blobs, 'blob')} ({size_text(pruned.blob_bytes)})")
        show_findings(page, result.findings)


class BackupListView(NamedTuple):
    """The steps in a folder, oldest first."""

    steps: tuple[ListedStep, ...]

    def json(self) -> object:
        """Return the steps, as docs/json.md has them."""
        return [
            {
                "step": step.step,
                "time": _iso(step.stamp),
                "kind": step.kind,
                "compressed": step.compressed,
                "bytes": step.size,
                "end": step.end,
                "transactions": step.transactions,
                "last_tid": None if step.last_tid is None else tid_text(step.last_tid),
                "last_time": None if step.last_tid is None else iso_text(step.last_tid),
                "blobs": step.blobs,
                "blob_bytes": step.blob_bytes,
                "trouble": step.trouble or None,
            }
            for step in self.steps
        ]

    def rows(self) -> Rows:
        """Return one row a step."""
        headers = (
            "step", "time", "kind", "bytes", "end", "transactions", "last tid", "last time", "blobs", "blob bytes",
            "trouble",
        )  # fmt: skip
        return Rows(
            headers,
            [
                (
                    step.step, _iso(step.stamp), step.kind, step.size, step.end, step.transactions,
                    None if step.last_tid is None else tid_text(step.last_tid),
                    None if step.last_tid is None else iso_text(step.last_tid),
                    step.blobs, step.blob_bytes, step.trouble or None,
                )
                for step in self.steps
            ],
        )  # fmt: skip

    def text(self, page: Page) -> None:
        """Write a table; what is wrong below it."""
        rows = []
        for step in self.steps:
            tid = "?" if step.last_tid is None else f"{time_text(step.last_tid)} ({tid_text(step.last_tid)})"
            blobs = "?" if step.blobs is None else f"{step.blobs:,}"
            database = "?" if step.end is None else size_text(step.end)
            rows.append((step.step, step.kind, size_text(step.size), database, tid, blobs))
        if not rows:
            page.line("no backups")
            return
        page.table(
            Rows(("step", "kind", "size", "database", "last transaction", "new blobs"), rows),
            right=("size", "database", "new blobs"),
        )
        for step in self.steps:
            if step.trouble:
                page.line(Span("trouble: ", "red"), f"{step.step}: {step.trouble}")


class BackupCheckView(NamedTuple):
    """What `backup --verify` found."""

    result: BackupCheck

    def json(self) -> object:
        """Return the whole result, as docs/json.md has it."""
        result = self.result
        return {
            "ok": result.ok,
            "steps": result.steps,
            "bytes": result.bytes,
            "blobs": result.blobs,
            "blob_bytes": result.blob_bytes,
            "findings": [finding_json(finding) for finding in result.findings],
            "not_checked": list(result.not_checked),
        }

    def rows(self) -> Rows:
        """Return the findings."""
        return Rows(("kind", "oid", "tid", "message"), [tuple(_cells(finding)) for finding in self.result.findings])

    def text(self, page: Page) -> None:
        """Write what was checked, what was found, what was not checked."""
        result = self.result
        blobs = f", {count_text(result.blobs, 'blob')} ({size_text(result.blob_bytes)})" if result.blobs else ""
        page.line(f"{count_text(result.steps, 'step')}, {size_text(result.bytes)}{blobs}")
        show_findings(page, result.findings, shown=len(result.findings))
        verdict = "sound" if result.ok else f"not sound: {count_text(len(result.findings), 'finding')}"
        page.line(Span(verdict, "green" if result.ok else "red"))
        for number, sentence in enumerate(result.not_checked):
            page.line(Span("not checked: " if number == 0 else "             ", "dim"), sentence)


def finding_json(finding: Finding) -> dict[str, object]:
    """Return a finding as docs/json.md has it."""
    kind, oid, tid, message = _cells(finding)
    return {"kind": kind, "oid": oid, "tid": tid, "offset": finding.offset, "message": message}


def show_findings(page: Page, findings: Sequence[Finding], *, shown: int = _SHOWN) -> None:
    """Write findings, a line each."""
    for finding in findings[:shown]:
        page.line("  ", Span(f"{finding.kind}: ", "red"), _where(finding), finding.message)
    if len(findings) > shown:
        page.line(f"  ... and {count_text(len(findings) - shown, 'more finding', 'more findings')}")


def warn_quietly(findings: Sequence[Finding], output: Output) -> None:
    """Say on stderr what was found where ``--quiet`` has shown no table: cron sends that."""
    if not output.quiet or output.format != "table":
        return
    for finding in findings[:_SHOWN]:
        output.warn(f"{finding.kind}: {_where(finding)}{finding.message}")
    if len(findings) > _SHOWN:
        output.warn(f"... and {count_text(len(findings) - _SHOWN, 'more finding', 'more findings')}")


def _where(finding: Finding) -> str:
    who = f"{oid_text(finding.oid)} of {tid_text(finding.tid or 0)}: " if finding.oid is not None else ""
    return who + (f"at byte {finding.offset:,}: " if finding.offset is not None else "")


def _cells(finding: Finding) -> Iterator[str | None]:
    yield finding.kind
    yield None if finding.oid is None else oid_text(finding.oid)
    yield None if finding.tid is None else tid_text(finding.tid)
    yield finding.message


def _iso(stamp: str) -> str:
    parts = stamp.split("-")
    return f"{'-'.join(parts[:3])}T{':'.join(parts[3:])}Z"
