"""How a script's run ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import tid_text
from zodbsh.ops.run import RunResult
from zodbsh.render.diff import DiffView
from zodbsh.render.output import Rows
from zodbsh.render.sizes import count_text
from zodbsh.render.status import counts_text, dirty_json, warning_lines
from zodbsh.times import iso_text

if TYPE_CHECKING:
    from zodbsh.render.output import Output
    from zodbsh.render.page import Page

NEXT = "(zodbsh diff | commit | abort)"


class RunView(NamedTuple):
    """A RunResult as data; for people only the changes of a dry run are a result."""

    result: RunResult

    def json(self) -> object:
        """Return what was staged, committed, or would change."""
        result = self.result
        kept, committed = result.kept, result.committed
        data: dict[str, object] = {
            "exit_code": result.exit_code,
            "staged": None if kept is None or not kept.stage else {"changed": kept.changed, "new": kept.new},
            "committed": committed
            and {"tid": tid_text(committed.tid), "time": iso_text(committed.tid), "objects": committed.objects},
            "diff": None if result.diff is None else DiffView(result.diff).json(),
            "missing_classes": [found.dotted for found in result.missing],
        }
        return data | dirty_json(result.dirty)

    def rows(self) -> Rows:
        """Return the changes of a dry run, else one row."""
        if self.result.diff is not None:
            return DiffView(self.result.diff).rows()
        kept, committed = self.result.kept, self.result.committed
        return Rows(
            ("exit_code", "changed", "new", "tid"),
            [
                (
                    self.result.exit_code,
                    kept.changed if kept else 0,
                    kept.new if kept else 0,
                    tid_text(committed.tid) if committed else "",
                )
            ],
        )

    def text(self, page: Page) -> None:
        """Write what a dry run would change."""
        if self.result.diff is not None:
            DiffView(self.result.diff).text(page)


def show_notes(result: RunResult, output: Output) -> None:
    """Say on stderr what became of the changes; a script's own output has stdout to itself."""
    if result.message:
        # What Python does with the text of a SystemExit.
        output.say(result.message)
    if result.continued is not None:
        output.note(f"goes on with what is staged: {counts_text(result.continued.changed, result.continued.new)}")
    if result.exit_code:
        output.note("nothing was staged: the script ended with an error")
        return
    for line in warning_lines(result.dirty):
        output.warn(line)
    for found in result.missing:
        output.note(f"class {found.dotted} is missing ({found.reason}): shown as a stand-in. Try {found.hint}")
    if result.kept is not None and result.kept.stage:
        if result.read_only:
            output.note(f"read-only: {result.read_only}")
        what = "staged" if result.kept.saved else "still staged"
        output.note(f"{what}: {counts_text(result.kept.changed, result.kept.new)}     {NEXT}")
    if result.committed is not None:
        output.note(f"committed: {tid_text(result.committed.tid)}  {count_text(result.committed.objects, 'object')}")
    if result.dropped:
        count = count_text(result.dropped, "uncommitted object")
        output.warn(f"dropped, because the script closed the database: {count}")
    if result.lost:
        output.warn(f"{count_text(result.lost, 'object')} not kept: a database in memory ends with the process")
