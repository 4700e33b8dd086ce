"""What ``status`` found."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text, tid_text
from zodbsh.ops.status import StatusResult
from zodbsh.render.output import Rows
from zodbsh.render.page import Page, Span
from zodbsh.render.sizes import count_text
from zodbsh.times import iso_text, time_text

if TYPE_CHECKING:
    from zodbsh.db.changes import Dirty, DirtyObject


class StatusView(NamedTuple):
    """A StatusResult, ready to be shown."""

    result: StatusResult

    def json(self) -> object:
        """Return base_tid and what is staged; of a session, also what ZODB would miss."""
        result = self.result
        stage = result.stage
        data: dict[str, object] = {
            "base_tid": tid_text(result.base_tid),
            "last_tid": tid_text(result.last_tid),
            "staged": [
                {
                    "path": item.path,
                    "oid": oid_text(item.oid),
                    "class": item.class_,
                    "change": item.change,
                    "bytes": item.bytes,
                    "outdated": item.outdated,
                }
                for item in result.staged
            ],
            "note": stage.note if stage else "",
            "user": stage.user if stage else "",
            "created": iso_text(stage.created) if stage else None,
            "applied_by": None if result.applied_by is None else tid_text(result.applied_by),
            "leftovers": [item._asdict() for item in result.leftovers],
        }
        return data if result.dirty is None else data | dirty_json(result.dirty)

    def rows(self) -> Rows:
        """Return one row an object."""
        rows = (
            (item.path, oid_text(item.oid), item.class_, item.change, item.bytes, "yes" if item.outdated else "no")
            for item in self.result.staged
        )
        return Rows(("path", "oid", "class", "change", "bytes", "outdated"), rows)

    def text(self, page: Page) -> None:
        """Write what waits, and what is in its way."""
        result = self.result
        for tid in result.undoing:
            page.line(f"uncommitted: the undo of transaction {tid_text(tid)} ({time_text(tid)})")
        if result.applied_by is not None:
            page.line(f"the stage was committed already, as transaction {tid_text(result.applied_by)};")
            page.line("it is only left over: `zodbsh abort` or the next commit removes it")
        elif not result.staged and result.undoing:
            page.line("no object has an earlier state to go back to")
        elif not result.staged:
            page.line("nothing is staged" if result.dirty is None else "nothing is uncommitted")
        else:
            self._show_staged(page)
        if result.dirty is not None:
            show_warnings(page, result.dirty)
        if result.leftovers:
            page.gap()
            page.line(Span("left over", "yellow"), " by an interrupted command, and in nobody's use on this machine:")
            # The path is not first: the name of a temporary file begins with a dot, as a dot command does.
            rows = [(item.what, item.path, item.advice) for item in result.leftovers]
            page.table(Rows(("what", "path", "what to do"), rows))
        if result.others is not None:
            count = count_text(result.others, "object")
            page.line(f"not part of this session: a stage of {count}, which another process made; ",
                      "`zodbsh status` shows it")  # fmt: skip

    def _show_staged(self, page: Page) -> None:
        result = self.result
        what = "staged" if result.dirty is None else "uncommitted"
        page.line(f"{what}: {counts_text(result.changed, result.new)}, on top of {tid_text(result.base_tid)} ",
                  f"({time_text(result.base_tid)})")  # fmt: skip
        if result.stage is not None and result.stage.note:
            page.line("note: ", result.stage.note)
        page.gap()
        rows = [(item.change, item.path, item.class_, oid_text(item.oid)) for item in result.staged]
        page.table(Rows(("change", "path", "class", "oid"), rows))
        outdated = sum(item.outdated for item in result.staged)
        if outdated:
            page.gap()
            page.line(
                Span("outdated: ", "yellow"),
                f"{count_text(outdated, 'object')} changed in the database since; "
                "a commit needs their classes to resolve that, or fails with a conflict",
            )
            for item in result.staged:
                if item.outdated:
                    page.line("  ", item.path, "  ", item.class_)


def counts_text(changed: int, new: int) -> str:
    """Return ``1 changed, 2 new``, without what there is none of."""
    parts = [f"{number:,} {word}" for number, word in ((changed, "changed"), (new, "new")) if number]
    return ", ".join(parts) or "nothing"


def dirty_json(dirty: Dirty) -> dict[str, object]:
    """Return what ZODB would miss, as JSON."""
    return {
        "silent": [_item_json(item) for item in dirty.silent],
        "shared": [
            {"type": value.type_, "owners": [_item_json(owner) for owner in value.owners]} for value in dirty.shared
        ],
        "main_classes": list(dirty.main_classes),
    }


def _item_json(item: DirtyObject) -> dict[str, object]:
    return {
        "path": item.path,
        "oid": oid_text(item.oid),
        "class": item.class_,
        "names": [name for name in item.names if name],
    }


def show_warnings(page: Page, dirty: Dirty) -> None:
    """Write what a commit would not save, or not as it is."""
    for line in warning_lines(dirty):
        page.line(Span("warning: ", "yellow"), line)


def warning_lines(dirty: Dirty) -> list[str]:
    """Return what a commit would miss: one line a finding."""
    lines = []
    for item in dirty.silent:
        names = ", ".join(name for name in item.names if name)
        lines.append(
            f"{item.path} ({item.class_}) was changed in place{' in ' + names if names else ''}, but not marked "
            "changed: it is not saved; set its _p_changed = True"
        )
    for value in dirty.shared:
        owners = ", ".join(owner.path for owner in value.owners)
        lines.append(f"one {value.type_} is in several records ({owners}): each will have a copy of its own")
    lines += [f"class {name} cannot be imported by another process" for name in dirty.main_classes]
    return lines
