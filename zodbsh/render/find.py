"""What ``find`` shows: a line an object, written as it is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.evaluate import Missing
from zodbsh.ids import oid_text
from zodbsh.render.jsontext import value_json
from zodbsh.render.output import Rows
from zodbsh.render.page import Span
from zodbsh.render.values import value_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zodbsh.analysis.evaluate import Result
    from zodbsh.ops.find import FindResult, Hit
    from zodbsh.render.page import Page
    from zodbsh.render.values import ClassOf

COLUMNS = ("oid", "class", "path")
"""What every row has; a value to show cannot have these names."""

_OID_WIDTH = 8
_CLASS_WIDTH = 40
_WIDTH = 80
_CSV_WIDTH = 1_000


class FindView(NamedTuple):
    """The objects that were found.

    A table ends after ``limit`` of them (None: never). ``flush`` is called for each, so that whoever reads sees it
    while the next is looked for.
    """

    result: FindResult
    class_of: ClassOf
    limit: int | None
    flush: Callable[[], None]

    def json(self) -> object:
        """Return the list that docs/json.md gives for ``find``."""
        return map(self._json, self._hits())

    def rows(self) -> Rows:
        """Return the same as columns."""
        rows = ((*_cells(hit), *(self._cell(value) for value in hit.values)) for hit in self._hits())
        return Rows((*COLUMNS, *self.result.names), rows)

    def text(self, page: Page) -> None:
        """Write one line an object."""
        width = min(max(map(len, self.result.class_names), default=0), _CLASS_WIDTH)
        for number, hit in enumerate(self._hits()):
            if number == self.limit:
                page.line(f"(... and more: --all, or -n for more than {number:,})")
                return
            values = (
                f"  {name}={value_text(value, width=_WIDTH, class_of=self.class_of)}"
                for name, value in zip(self.result.names, hit.values, strict=True)
                if not isinstance(value, Missing)
            )
            oid, class_, path = _cells(hit)
            page.line(Span(f"{oid:{_OID_WIDTH}}", "yellow"), f"  {class_:{width}}  ", Span(path or "", "bold"), *values)

    def _hits(self) -> Iterator[Hit]:
        for hit in self.result.hits:
            yield hit
            self.flush()

    def _json(self, hit: Hit) -> dict[str, object]:
        row: dict[str, object] = dict(zip(COLUMNS, _cells(hit), strict=True))
        for name, value in zip(self.result.names, hit.values, strict=True):
            row[name] = None if isinstance(value, Missing) else value_json(value)
        return row

    def _cell(self, value: Result) -> object:
        if isinstance(value, Missing):
            return None
        if isinstance(value, str | bool | float):
            return value
        return value_text(value, width=_CSV_WIDTH, items=_CSV_WIDTH, class_of=self.class_of)


def _cells(hit: Hit) -> tuple[str, str, str | None]:
    return oid_text(hit.oid), hit.class_, hit.path
