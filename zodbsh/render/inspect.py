"""What ``inspect DATABASE TARGET`` shows."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import oid_text, tid_text
from zodbsh.record.values import Instance, Ref
from zodbsh.render.jsontext import value_json
from zodbsh.render.markers import state_json
from zodbsh.render.output import Rows
from zodbsh.render.sizes import count_text, size_text
from zodbsh.render.values import value_text
from zodbsh.times import iso_text, time_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from zodbsh.analysis.content import Content
    from zodbsh.ops.inspect import Inside, Link, Node, ObjectView
    from zodbsh.record.values import Value
    from zodbsh.render.page import Page
    from zodbsh.render.values import ClassOf

_WIDTH = 90
_CLASS = "(missing)"
# Of a value that is inspected by itself.
_ALONE_WIDTH = 400
_ALONE_LINES = 40
_WHOLE = 1 << 40


class InspectView(NamedTuple):
    """One object; ``class_of`` names the classes of references, ``opened`` tells whether its parts are expanded.

    ``whole`` asks for all of a long text.
    """

    result: ObjectView
    class_of: ClassOf
    opened: bool = False
    whole: bool = False

    def json(self) -> object:
        """Return the shape that docs/json.md gives for ``inspect DATABASE TARGET``."""
        result, revision, content = self.result, self.result.revision, self.result.inside.content
        found: dict[str, object] = {
            "oid": oid_text(result.oid),
            "tid": tid_text(revision.tid),
            "time": iso_text(revision.tid),
            "path": result.path,
            "class": result.class_,
            "bytes": result.bytes,
            "position": revision.position,
            "embedded": result.embedded,
            "owner": {"oid": oid_text(result.owner), "path": result.owner_path} if result.embedded else None,
            "part_of": result.part_of,
            "state": value_json(result.value) if result.embedded else state_json(result.record),
        }
        if not result.embedded and _is_tree(content):
            found["items"] = _items_json(content)
            found["items_more"] = content.more
            found["items_counted"] = content.exact
        found["references"] = map(_link_json, result.links)
        found["references_more"] = result.links_more
        found["references_to_nodes"] = result.nodes
        if result.blob is not None:
            found["blob"] = {"path": result.blob.path, "bytes": result.blob.bytes}
        if self.opened:
            found["inside"] = _inside_json(result.inside)
        return found

    def rows(self) -> Rows:
        """Return attributes and items: name or key, class, oid, value as text; a value without those as a whole."""
        result, inside = self.result, self.result.inside
        headers = ("name", "class", "oid", "value")
        if _is_alone(result):
            value = result.value if isinstance(result.value, str) else value_text(result.value, width=_WHOLE)
            return Rows(headers, [(result.path, result.class_, None, value)])
        return Rows(headers, map(self._row, chain(inside.attributes, inside.items)))

    def text(self, page: Page) -> None:
        """Write facts, attributes, items, what is embedded, references."""
        result = self.result
        page.heading(result.path)
        page.facts(_facts(result), indent="  ")
        if _is_alone(result):
            page.gap()
            page.heading("value")
            self._alone(page, result.value)
        self._inside(page, result.inside, "", opened=self.opened, top=True)
        if not self.opened:
            self._embedded(page)
        self._links(page)

    def _row(self, node: Node) -> tuple[object, ...]:
        name = node.entry.key if isinstance(node.entry.key, str) else value_text(node.entry.key)
        oid = None if node.oid is None else oid_text(node.oid)
        return name, node.class_, oid, value_text(node.entry.value, width=1000, class_of=self.class_of)

    def _inside(self, page: Page, inside: Inside, indent: str, *, opened: bool, top: bool = False) -> None:
        """Write attributes and items; as deep as they were opened, which the command line bounds."""
        content = inside.content
        for title, nodes in (("attributes", inside.attributes), (_title(content), inside.items)):
            if not nodes and not (title != "attributes" and content.more):
                continue
            if top:
                page.gap()
                page.heading(title)
            self._nodes(page, nodes, indent + "  ", opened=opened)
        if content.more:
            about = "" if content.exact else "at least "
            page.line(f"{indent}  (... and {about}{content.more:,} more", ": --all)" if top else ")")
        if content.state is not None:
            if top:
                page.gap()
                page.heading("state")
            page.line(f"{indent}  ", self._value(content.state))

    def _nodes(self, page: Page, nodes: Iterable[Node], indent: str, *, opened: bool) -> None:
        if not opened:
            page.facts(((_label(node), self._text(node)) for node in nodes), indent=indent)
            return
        for node in nodes:
            label = _label(node)
            if node.inside is None:
                page.line(indent, label, "  " if label else "", self._text(node))
                continue
            own = "" if node.oid is None else f" {oid_text(node.oid)}"
            page.line(indent, label, "  " if label else "", f"<{node.class_}{own}>")
            self._inside(page, node.inside, indent, opened=True)

    def _text(self, node: Node) -> str:
        text = self._value(node.entry.value)
        return f"{text}  ({node.note})" if node.note else text

    def _value(self, value: Value) -> str:
        # A reference's oid stands at its end.
        width = 10 * _WIDTH if isinstance(value, Ref) else _WIDTH
        return value_text(value, width=width, class_of=self.class_of)

    def _alone(self, page: Page, value: Value) -> None:
        """Write a value that has no parts; a text by line where it has lines."""
        if not isinstance(value, str) or "\n" not in value:
            text = value_text(value, width=_WHOLE if self.whole else _ALONE_WIDTH, class_of=self.class_of)
            page.line("  ", text)
            if not self.whole and isinstance(value, str | bytes) and len(value) > _ALONE_WIDTH:
                page.line("  (--all shows all of it)")
            return
        lines = value.split("\n")
        shown = lines if self.whole else [_cut(line) for line in lines[:_ALONE_LINES]]
        for line in shown:
            page.line("  ", line)
        if shown != lines:
            page.line(f"  ({count_text(len(lines), 'line')}, {count_text(len(value), 'character')}: --all)")

    def _embedded(self, page: Page) -> None:
        """Write which objects have no record of their own, and how many containers there are besides."""
        inside = self.result.inside
        nodes = [node for node in chain(inside.attributes, inside.items) if node.embedded]
        if not nodes:
            return
        objects = [node for node in nodes if isinstance(node.entry.value, Instance)]
        page.gap()
        page.heading("embedded in this record")
        page.facts(((_label(node), node.class_ or "") for node in objects), indent="  ")
        containers = Counter(node.class_ or "" for node in nodes if not isinstance(node.entry.value, Instance))
        if containers:
            counts = (count_text(number, name) for name, number in containers.most_common())
            page.line("  ", "and " if objects else "", ", ".join(counts))

    def _links(self, page: Page) -> None:
        result = self.result
        if result.links or result.links_more or result.nodes:
            page.gap()
            page.heading("references, to objects with records of their own")
        if result.links:
            page.table(Rows(("from", "class", "oid", ""), map(_link_row, result.links)), indent="  ")
        if result.links_more:
            page.line(f"  (... and {result.links_more:,} more: --all)")
        if result.nodes:
            page.line(f"  {count_text(result.nodes, 'reference')} to the nodes and buckets of the BTree itself")


def _facts(result: ObjectView) -> Iterator[tuple[str, str]]:
    revision = result.revision
    if result.embedded:
        yield "value", result.class_
        lies = f"embedded in the record of {oid_text(result.oid)}"
        yield (
            "lies",
            f"{lies}, part of {result.owner_path}" if result.owner != result.oid else f"{lies}, {result.owner_path}",
        )
    else:
        yield "object", f"{oid_text(result.oid)}  {result.class_}"
    if result.part_of is not None:
        yield "part of", f"the BTree {result.part_of}"
    yield "changed", f"{time_text(revision.tid)} ({tid_text(revision.tid)})"
    position = "" if revision.position is None else f" at offset {revision.position:,}"
    yield "record", f"{size_text(result.bytes)}{position}"
    if revision.data_tid is not None:
        yield "undone", f"again as it was in {tid_text(revision.data_tid)}"
    if result.blob is not None:
        yield "blob", f"{size_text(result.blob.bytes)} in {result.blob.path}"


def _is_alone(result: ObjectView) -> bool:
    """Tell whether the result is a value that has no attributes or items to be shown by."""
    content = result.inside.content
    return result.embedded and not (content.attributes or content.items or content.more or content.state is not None)


def _cut(line: str) -> str:
    return line if len(line) <= _ALONE_WIDTH else line[:_ALONE_WIDTH] + "..."


def _is_tree(content: Content) -> bool:
    return content.kind in ("tree", "set")


def _title(content: Content) -> str:
    return "members" if content.kind == "set" else "items"


def _label(node: Node) -> str:
    key = node.entry.key
    step = node.entry.step
    if step.startswith(".") and isinstance(key, str):
        return key
    if not step:
        return ""  # a member of a set has no name
    return step if isinstance(key, int) else value_text(key, width=60)


def _items_json(content: Content) -> Iterator[dict[str, object]]:
    for entry in content.items:
        found: dict[str, object] = {"key": value_json(entry.key)}
        if content.kind != "set":
            found["value"] = value_json(entry.value)
        yield found


def _link_json(link: Link) -> dict[str, object]:
    return {
        "via": link.step,
        "oid": oid_text(link.ref.oid),
        "class": link.class_,
        "exists": link.exists,
        "weak": link.ref.weak,
        "database": link.ref.database,
    }


def _link_row(link: Link) -> tuple[object, ...]:
    notes = ["missing"] if link.exists is False else []
    if link.ref.weak:
        notes.append("weak")
    if link.ref.database is not None:
        notes.append(f"in database {link.ref.database!r}")
    # No line begins with a dot.
    return link.step.removeprefix("."), link.class_ or _CLASS, oid_text(link.ref.oid), ", ".join(notes)


def _inside_json(inside: Inside) -> dict[str, object]:
    return {
        "attributes": map(_node_json, inside.attributes),
        "items": map(_node_json, inside.items),
        "more": inside.content.more,
    }


def _node_json(node: Node) -> dict[str, object]:
    found: dict[str, object] = {
        "step": node.entry.step,
        "key": value_json(node.entry.key),
        "class": node.class_,
        "oid": None if node.oid is None else oid_text(node.oid),
        "note": node.note or None,
    }
    if node.inside is None:
        found["value"] = value_json(node.entry.value)
    else:
        found["inside"] = _inside_json(node.inside)
    return found
