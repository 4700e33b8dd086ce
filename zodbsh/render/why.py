"""What ``why`` shows: by which ways an object lives, or which garbage it is part of."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text
from zodbsh.render.output import Rows
from zodbsh.render.sizes import count_text, size_text

if TYPE_CHECKING:
    from zodbsh.analysis.island import Island, Top
    from zodbsh.ops.why import WhyResult
    from zodbsh.render.page import Page


class WhyView(NamedTuple):
    """The ways to a target, or its island."""

    result: WhyResult

    def json(self) -> object:
        """Return the shape that docs/json.md gives for ``why``."""
        result = self.result
        return {
            "oid": oid_text(result.oid),
            "class": result.class_,
            "embedded": result.embedded,
            "reachable": result.reachable,
            "paths": [way.path for way in result.ways],
            "complete": result.complete,
            "part_of": any(way.part_of for way in result.ways),
            "island": None if result.island is None else _island_json(result.island),
        }

    def rows(self) -> Rows:
        """Return the paths; of garbage those from the tops."""
        result = self.result
        tops = () if result.island is None else result.island.tops
        paths = [way.path for way in result.ways] or [top.path for top in tops]
        return Rows(
            ("path", "oid", "class", "reachable"),
            [(path, oid_text(result.oid), result.class_, result.reachable) for path in paths],
        )

    def text(self, page: Page) -> None:
        """Write the paths, one a line; of garbage what it is part of."""
        if self.result.island is not None:
            self._island(page, self.result.island)
            return
        for way in self.result.ways:
            page.line(way.path)
            if way.part_of:
                page.line(f"  ({oid_text(self.result.oid)}, {self.result.class_}, is part of this BTree)")
            if not way.whole:
                page.line("  (how the root reaches the object it starts at has no path as text)")
        if not self.result.complete:
            page.line("  (there may be more: the search ended early)")

    def _island(self, page: Page, island: Island) -> None:
        result = self.result
        root = "the root does not reach it" if result.has_root else "the database has no root object at this time"
        page.heading(result.path)
        facts = [("object", f"{oid_text(result.oid)}  {result.class_}"), ("garbage", root)]
        size = f"{count_text(island.objects, 'object')}, {size_text(island.bytes)}"
        page.facts([*facts, ("island", f"{size} that only garbage keeps together")], indent="  ")
        for top in island.tops:
            page.gap()
            _top(page, top)
        if island.more_tops:
            page.gap()
            page.line("(... and there are more tops)")


def _top(page: Page, top: Top) -> None:
    page.heading("top of the island" + (", a circle" if len(top.members) + top.more > 1 else ""))
    rows = Rows(("oid", "class", "size"), [(oid_text(m.oid), m.class_, size_text(m.bytes)) for m in top.members])
    page.table(rows, right=("size",), indent="  ")
    if top.more:
        page.line(f"  (... and {top.more:,} more)")
    page.line("  the way from there: ", top.path)


def _island_json(island: Island) -> dict[str, object]:
    return {
        "objects": island.objects,
        "bytes": island.bytes,
        "tops": [
            {
                "path": top.path,
                "objects": [{"oid": oid_text(m.oid), "class": m.class_, "bytes": m.bytes} for m in top.members],
                "objects_more": top.more,
            }
            for top in island.tops
        ],
        "tops_complete": not island.more_tops,
    }
