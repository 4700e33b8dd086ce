"""What was restored."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import tid_text
from zodbsh.render.backup import finding_json, show_findings
from zodbsh.render.output import Rows
from zodbsh.render.sizes import count_text, size_text
from zodbsh.times import iso_text, time_text

if TYPE_CHECKING:
    from zodbsh.ops.backups.restore import RestoreResult
    from zodbsh.render.page import Page


class RestoreView(NamedTuple):
    """A RestoreResult, ready to be shown."""

    result: RestoreResult

    def json(self) -> object:
        """Return what was written, as docs/json.md has it."""
        result = self.result
        return {
            "path": result.path,
            "step": result.step,
            "bytes": result.size,
            "cut_bytes": result.cut,
            "transactions": result.transactions,
            "last_tid": tid_text(result.last_tid),
            "last_time": iso_text(result.last_tid),
            "blob_folder": result.blob_folder,
            "blobs": result.blobs,
            "blob_bytes": result.blob_bytes,
            "old": result.old,
            "old_blobs": result.old_blobs,
            "findings": [finding_json(finding) for finding in result.findings],
        }

    def rows(self) -> Rows:
        """Return one row."""
        result = self.result
        headers = ("path", "step", "bytes", "transactions", "last tid", "blobs", "old", "old blobs")
        row = (
            result.path, result.step, result.size, result.transactions, tid_text(result.last_tid), result.blobs,
            result.old, result.old_blobs,
        )  # fmt: skip
        return Rows(headers, [row])

    def text(self, page: Page) -> None:
        """Say what there is now."""
        result = self.result
        page.line(f"restored {result.path} from {result.folder}/{result.step}: {size_text(result.size)}")
        until = f" up to {tid_text(result.last_tid)} ({time_text(result.last_tid)})" if result.last_tid else ""
        page.line(f"  {count_text(result.transactions, 'transaction')}{until}")
        if result.cut:
            page.line(f"  left out: {size_text(result.cut)} of later transactions")
        if result.blob_folder is not None:
            page.line(f"  {count_text(result.blobs, 'blob')} ({size_text(result.blob_bytes)}) in {result.blob_folder}")
        if result.old is not None:
            page.line(f"  The file as it was before: {result.old}")
        if result.old_blobs is not None:
            page.line(f"  The blobs as they were before: {result.old_blobs}")
        show_findings(page, result.findings)
