"""What ``verify`` found, for people and programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text, tid_text
from zodbsh.render.output import Rows
from zodbsh.render.page import Span
from zodbsh.render.sizes import count_text, size_text
from zodbsh.times import time_text

if TYPE_CHECKING:
    from zodbsh.findings import Finding
    from zodbsh.ops.verify import VerifyResult
    from zodbsh.render.page import Page

_SHOWN = 5
_KINDS = {
    "framing": "damage to the file's framing",
    "index": "the saved index is wrong",
    "no-root": "no root object",
    "undecodable": "records that do not decode",
    "dangling": "references to objects that do not exist",
    "dangling-then": "references of old records that led nowhere at their time",
    "tree-record": "BTree nodes that do not decode",
    "tree-state": "BTree nodes whose state has no known form",
    "tree-missing": "BTree nodes that are missing",
    "tree-class": "BTree nodes of a wrong class",
    "tree-shared": "BTree nodes of several trees",
    "tree-cycle": "BTrees that hold themselves",
    "tree-depth": "BTrees of uneven depth",
    "tree-order": "BTree keys out of order",
    "tree-range": "BTree keys outside their node's range",
    "tree-type": "BTree keys or values that their family cannot hold",
    "tree-empty": "BTree nodes that are empty",
    "tree-chain": "buckets chained wrongly",
    "tree-first": "BTrees with a wrong first bucket",
    "blob-missing": "blob files that are missing",
    "blob-unreadable": "blob files that cannot be read",
    "blob-orphaned": "blob files that belong to no record",
    "blob-folder": "folders of blobs that cannot be read",
    "manifest-changed": "records that are not what the manifest says",
    "manifest-missing": "transactions of the manifest that are missing",
    "manifest-packed": "transactions that a pack has rewritten",
}


class VerifyView(NamedTuple):
    """A VerifyResult, ready to be shown; ``everything`` shows every finding to people, too."""

    result: VerifyResult
    everything: bool = False

    def json(self) -> object:
        """Return the whole result, as docs/json.md has it."""
        result, checked = self.result, self.result.checked
        return {
            "ok": result.ok,
            "level": result.level,
            "tid": tid_text(result.tid),
            "checked": {
                "transactions": checked.transactions,
                "records": checked.records,
                "objects": checked.objects,
                "references": checked.references,
                "trees": checked.trees,
                "tree_nodes": checked.tree_nodes,
            },
            "findings": map(_json, result.findings),
            "garbage": {"objects": result.garbage, "bytes": result.garbage_bytes},
            "not_checked": list(result.not_checked),
            "manifest": None if result.manifest is None else {"transactions": result.manifest.transactions},
        }

    def rows(self) -> Rows:
        """Return the findings."""
        rows = (tuple(_json(finding).values()) for finding in self.result.findings)
        return Rows(("kind", "oid", "tid", "offset", "message"), rows)

    def text(self, page: Page) -> None:
        """Write what was checked, the findings by kind, and what was not checked."""
        result = self.result
        until = f" up to {tid_text(result.tid)} ({time_text(result.tid)})" if result.tid else ""
        page.line(", ".join(_checked(result)), until)
        groups: dict[str, list[Finding]] = {}
        for finding in result.findings:
            groups.setdefault(finding.kind, []).append(finding)
        for kind, findings in groups.items():
            page.gap()
            page.line(Span(f"{len(findings):,} {_KINDS.get(kind, kind)}", "red"), f" [{kind}]")
            shown = findings if self.everything else findings[:_SHOWN]
            for finding in shown:
                page.line("  ", _place(finding), finding.message)
            if len(shown) < len(findings):
                page.line("  ", Span(f"(... and {len(findings) - len(shown):,} more: --all)", "dim"))
        page.gap()
        if result.garbage:
            size = size_text(result.garbage_bytes or 0)
            page.line(f"garbage: {count_text(result.garbage, 'unreachable object')}, {size}; a pack removes them")
        if result.manifest is not None:
            page.line(f"manifest written: {count_text(result.manifest.transactions, 'transaction')}")
        page.line(Span("sound" if result.ok else "not sound", "green" if result.ok else "red"), _verdict(result))
        for number, sentence in enumerate(result.not_checked):
            page.line(Span("not checked: " if number == 0 else "             ", "dim"), sentence)


def _json(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind,
        "oid": None if finding.oid is None else oid_text(finding.oid),
        "tid": None if finding.tid is None else tid_text(finding.tid),
        "offset": finding.offset,
        "message": finding.message,
    }


def _checked(result: VerifyResult) -> Iterator[str]:
    checked = result.checked
    yield count_text(checked.transactions, "transaction")
    yield count_text(checked.records, "record")
    yield count_text(checked.objects, "object")
    if checked.references is not None:
        yield count_text(checked.references, "reference")
    if checked.trees is not None:
        yield count_text(checked.trees, "BTree")


def _place(finding: Finding) -> str:
    parts = []
    if finding.oid is not None:
        parts.append(oid_text(finding.oid))
    if finding.offset is not None:
        parts.append(f"at byte {finding.offset}")
    if finding.tid is not None:
        parts.append(f"in {tid_text(finding.tid)}")
    return f"{' '.join(parts)}: " if parts else ""


def _verdict(result: VerifyResult) -> str:
    return ", as far as was checked" if result.ok else f": {count_text(len(result.findings), 'finding')}"
