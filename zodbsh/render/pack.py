"""What ``pack`` did or would do, for people and programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from zodbsh.ids import MAX_ID, oid_text, tid_text
from zodbsh.render.output import Rows
from zodbsh.render.page import Span
from zodbsh.render.sizes import count_text, size_text
from zodbsh.times import iso_text, time_text

if TYPE_CHECKING:
    from zodbsh.analysis.packplan import Dangling
    from zodbsh.ops.packing.result import Figures, PackResult
    from zodbsh.render.page import Page

_SHOWN = 20
_FIGURES = ("bytes", "transactions", "records", "objects")


class PackView(NamedTuple):
    """A PackResult, ready to be shown."""

    result: PackResult

    def json(self) -> object:
        """Return the figures flat, as docs/json.md has them."""
        result = self.result
        figures: dict[str, Any] = {}
        for name in _FIGURES:
            figures[f"{name}_before"] = getattr(result.before, name, None)
            figures[f"{name}_after"] = getattr(result.after, name, None)
        return {
            "dry_run": result.dry_run,
            "changed": result.changed,
            "tid": tid_text(result.tid),
            "time": iso_text(result.tid),
            "gc": result.collect,
            **figures,
            "objects_removed": result.objects_removed,
            "revisions_removed": result.revisions_removed,
            "blobs_removed": result.blobs_removed,
            "blob_bytes_removed": result.blob_bytes_removed,
            "classes": [
                {"class": name, "objects": objects, "revisions": revisions, "bytes": size}
                for name, objects, revisions, size in result.classes
            ],
            "findings": [
                {
                    "oid": None if oid is None else oid_text(oid),
                    "class": class_ or None,
                    "target": None if target is None else oid_text(target),
                    "message": reason,
                }
                for oid, class_, target, reason in result.findings
            ],
            "old": result.old,
            "old_blobs": result.old_blobs,
            "trouble": result.trouble,
        }

    def rows(self) -> Rows:
        """Return what goes by class for a dry run, the figures otherwise."""
        if self.result.dry_run:
            return Rows(("class", "objects", "revisions", "bytes"), self.result.classes)
        return _figures(self.result.before, self.result.after)

    def text(self, page: Page) -> None:
        """Write figures before and after, what went, what was found."""
        result = self.result
        page.line(self._title())
        if result.changed and result.before is not None and result.after is not None:
            page.gap()
            page.table(_readable(result.before, result.after), right=("before", "after"))
            page.gap()
            page.line(self._removed())
        if result.classes:
            page.gap()
            page.table(
                Rows(
                    ("class", "objects", "revisions", "size"),
                    (
                        (name, objects, revisions, size_text(size))
                        for name, objects, revisions, size in result.classes[:_SHOWN]
                    ),
                ),
                right=("objects", "revisions", "size"),
            )
            _more(page, len(result.classes), "class", "classes")
        if result.old is not None:
            page.line(f"The file as it was before: {result.old}")
        if result.old_blobs is not None:
            page.line(f"Its blob files: {result.old_blobs}")
        if result.trouble is not None:
            page.line(Span("trouble: ", "red"), result.trouble)
        self._show_findings(page)

    def _title(self) -> str:
        result = self.result
        time = (
            "the beginning"
            if result.tid == 0
            else "now"
            if result.tid == MAX_ID
            else f"{time_text(result.tid)} ({tid_text(result.tid)})"
        )
        collected = "" if result.collect else ", without garbage collection"
        if result.refused:
            return f"{result.database}: a pack up to {time} would be refused"
        if not result.changed:
            return f"{result.database}: nothing to remove up to {time}{collected}"
        verb = "a pack would remove" if result.dry_run else "packed"
        return f"{result.database}: {verb} up to {time}{collected}"

    def _removed(self) -> str:
        result = self.result
        verb = "To be removed:" if result.dry_run else "Removed:"
        parts = [
            count_text(result.revisions_removed or 0, "revision"),
            count_text(result.objects_removed or 0, "object"),
        ]
        if result.before is not None and result.after is not None and result.before.bytes and result.after.bytes:
            saved = result.before.bytes - result.after.bytes
            parts.append(f"{size_text(saved)} ({saved / result.before.bytes:.0%})")
        if result.blobs_removed:
            parts.append(f"{count_text(result.blobs_removed, 'blob')} of {size_text(result.blob_bytes_removed or 0)}")
        return f"{verb} {', '.join(parts)}."

    def _show_findings(self, page: Page) -> None:
        findings = self.result.findings
        if not findings:
            return
        page.gap()
        page.heading("It cannot be known what these need:" if self.result.refused else "What leads nowhere:")
        for finding in findings[:_SHOWN]:
            page.line("  ", finding_text(finding))
        _more(page, len(findings), "finding", "findings")


def finding_text(finding: Dangling) -> str:
    """Return a finding as one line."""
    if finding.oid is None:
        return f"the root ({oid_text(finding.target or 0)}): {finding.reason}"
    who = f"{oid_text(finding.oid)} ({finding.class_})"
    if finding.target is None:
        return f"{who}: {finding.reason}"
    return f"{who} refers to {oid_text(finding.target)}: {finding.reason}"


def _figures(before: Figures | None, after: Figures | None) -> Rows:
    pairs = ((name, getattr(before, name, None), getattr(after, name, None)) for name in _FIGURES)
    return Rows(("figure", "before", "after"), pairs)


def _readable(before: Figures, after: Figures) -> Rows:
    rows = []
    for name, old, new in _figures(before, after).rows:
        if name != "bytes":
            rows.append((name, old, new))
        elif isinstance(old, int) and isinstance(new, int):
            rows.append(("size", size_text(old), size_text(new)))
    return Rows(("", "before", "after"), rows)


def _more(page: Page, count: int, noun: str, plural: str) -> None:
    if count > _SHOWN:
        page.line(f"  ... and {count_text(count - _SHOWN, 'more ' + noun, 'more ' + plural)}")
