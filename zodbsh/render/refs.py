"""What ``refs`` shows: the references from and to an object."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text
from zodbsh.render.output import Rows
from zodbsh.render.sizes import count_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zodbsh.analysis.links import Link, Links
    from zodbsh.ops.refs import RefsResult
    from zodbsh.render.page import Page


class RefsView(NamedTuple):
    """The references around a target."""

    result: RefsResult

    def json(self) -> object:
        """Return the shape that docs/json.md gives for ``refs``."""
        result = self.result
        found: dict[str, object] = {
            "oid": oid_text(result.oid),
            "path": result.path,
            "part_of": result.part_of,
            "class": result.class_,
            "exists": result.exists,
            "embedded": result.embedded,
        }
        for name, links in (("out", result.out), ("in", result.into)):
            found[name] = map(_link_json, () if links is None else links.found)
            found[f"{name}_more"] = 0 if links is None else links.more
            found[f"{name}_counted"] = links is None or links.counted
        found["undecodable"] = result.undecodable
        found["trouble"] = None if result.trouble is None else result.trouble.message
        return found

    def rows(self) -> Rows:
        """Return the references, each with its direction."""
        return Rows(
            ("direction", "level", "from", "via", "oid", "path", "class", "exists", "weak", "database"),
            (
                (
                    name, link.level, oid_text(link.through), link.via, oid_text(link.oid), link.path, link.class_,
                    link.exists, link.weak, link.database,
                )
                for name, links in (("out", self.result.out), ("in", self.result.into))
                for link in (() if links is None else links.found)
            ),
        )  # fmt: skip

    def text(self, page: Page) -> None:
        """Write what the target is, and a table a direction, deeper levels below the object they belong to."""
        result = self.result
        page.heading(result.path)
        kind = "value" if result.embedded else "object"
        lies = f", in the record of {oid_text(result.oid)}" if result.embedded else ""
        own = "" if result.embedded else f"{oid_text(result.oid)}  "
        part = f", part of the BTree {result.path}" if result.part_of else ""
        page.facts([(kind, f"{own}{result.class_ or 'missing: no such object at this time'}{lies}{part}")], indent="  ")
        if result.out is not None and result.exists:
            self._out(page, result.out)
        if result.into is not None:
            self._in(page, result.into)

    def _out(self, page: Page, links: Links) -> None:
        page.gap()
        page.heading("refers to")
        if self.result.trouble is not None:
            page.line("  (its record cannot be decoded)")
            return
        nodes = sum(not link.via for link in links.found)
        shown = [link for link in links.found if link.via]
        if shown:
            table = Rows(("via", "class", "oid", "object", ""), map(_out_row, _as_tree(shown)))
            page.table(table, indent="  ")
        if nodes:
            page.line(f"  {count_text(nodes, 'reference')} to the nodes and buckets of the BTree itself")
        elif not shown and not links.more:
            page.line("  (nothing)")
        _more(page, links)

    def _in(self, page: Page, links: Links) -> None:
        page.gap()
        page.heading("lies in" if self.result.embedded else "is referred to by")
        if links.found:
            table = Rows(("object", "via", "class", "oid", ""), map(_in_row, _as_tree(links.found)))
            page.table(table, indent="  ")
        elif not links.more:
            page.line("  (nothing)")
        _more(page, links)


def _as_tree(links: Iterable[Link]) -> Iterator[Link]:
    """Yield the links depth first: those of an object below the first line that shows it."""
    below: dict[tuple[int, int], list[Link]] = {}
    first: list[Link] = []
    for link in links:
        (first if link.level == 1 else below.setdefault((link.through, link.level - 1), [])).append(link)
    stack = [iter(first)]
    while stack:
        for link in stack[-1]:
            yield link
            # A weak reference is not followed: what is below the object belongs to its other line.
            inside = None if link.weak else below.pop((link.oid, link.level), None)
            if inside is not None:
                stack.append(iter(inside))
                break
        else:
            stack.pop()


def _out_row(link: Link) -> tuple[object, ...]:
    # No line begins with a dot.
    via = link.via.removeprefix(".")
    return "  " * (link.level - 1) + via, link.class_, oid_text(link.oid), _path(link), ", ".join(_notes(link))


def _in_row(link: Link) -> tuple[object, ...]:
    path = "  " * (link.level - 1) + (_path(link) or oid_text(link.oid))
    via = link.via or "(part of the tree)"
    return path, via, link.class_, oid_text(link.oid), ", ".join(_notes(link))


def _path(link: Link) -> str:
    if link.path == oid_text(link.oid):
        return ""
    return f"{link.path} (a part of it)" if link.part_of and not link.via else link.path


def _notes(link: Link) -> Iterator[str]:
    if link.exists is False:
        yield "missing"
    if link.weak:
        yield "weak"
    if link.database is not None:
        yield f"in database {link.database!r}"


def _more(page: Page, links: Links) -> None:
    if links.more or not links.counted:
        about = "" if links.counted else "at least "
        page.line(f"  (... and {about}{links.more:,} more: --all)" if links.more else "  (... and more: --all)")


def _link_json(link: Link) -> dict[str, object]:
    return {
        "oid": oid_text(link.oid),
        "class": link.class_,
        "path": link.path,
        "part_of": link.part_of,
        "via": link.via,
        "level": link.level,
        "from": oid_text(link.through),
        "exists": link.exists,
        "weak": link.weak,
        "database": link.database,
    }
