"""What ``usage --by transaction``, ``month`` and ``user`` show: tables with bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.ids import tid_text
from zodbsh.render.bars import bar
from zodbsh.render.gate import text_of
from zodbsh.render.output import Rows
from zodbsh.render.sizes import count_text, size_text
from zodbsh.times import iso_text, tid_time

if TYPE_CHECKING:
    from zodbsh.ops.growth import LargestTransactions, MonthGrowth, UserGrowth
    from zodbsh.render.page import Page

_BAR = 24
# A transaction's tid and time leave less room.
_SHORT_BAR = 10
_LONGEST_USER = 24


class LargestTransactionsView(NamedTuple):
    """The largest transactions."""

    result: LargestTransactions

    def json(self) -> object:
        """Return the list that docs/json.md gives."""
        rows = self.rows()
        return [dict(zip(rows.headers, row, strict=True)) for row in rows.rows]

    def rows(self) -> Rows:
        """Return the same as columns."""
        return Rows(
            ("tid", "time", "user", "records", "bytes"),
            [(tid_text(tid), iso_text(tid), text_of(user), *rest) for tid, user, *rest in self.result.largest],
        )

    def text(self, page: Page) -> None:
        """Write one line a transaction, largest first."""
        largest, more, more_bytes = self.result
        most = max((row.bytes for row in largest), default=0)
        rows = (
            (tid_text(tid), _minute(tid), _user(user), records, size_text(size), bar(_share(size, most), _SHORT_BAR))
            for tid, user, records, size in largest
        )
        headers = ("tid", "time (UTC)", "user", "records", "size", "")
        _table(page, headers, rows, ("records", "size"), empty=not largest)
        if more:
            page.line(f"(... and {count_text(more, 'more transaction')}, {size_text(more_bytes)}: --top)")


class MonthsView(NamedTuple):
    """The months, in order; ``top`` is how many of the last are shown, None for all."""

    result: Sequence[MonthGrowth]
    top: int | None = None

    def json(self) -> object:
        """Return the list that docs/json.md gives."""
        rows = self.rows()
        return [dict(zip(rows.headers, row, strict=True)) for row in rows.rows]

    def rows(self) -> Rows:
        """Return the same as columns."""
        return Rows(
            ("month", "transactions", "records", "bytes", "total_bytes"),
            [(f"{year:04}-{month:02}", *rest) for year, month, *rest in self._shown()],
        )

    def text(self, page: Page) -> None:
        """Write one line a month."""
        shown = self._shown()
        most = max((row.bytes for row in shown), default=0)
        rows = (
            (f"{year:04}-{month:02}", transactions, records, size_text(size), size_text(total),
             bar(_share(size, most), _BAR))
            for year, month, transactions, records, size, total in shown
        )  # fmt: skip
        headers = ("month", "transactions", "records", "size", "total", "")
        _table(page, headers, rows, headers[1:5], empty=not shown)
        if len(shown) < len(self.result):
            page.line(f"({count_text(len(self.result) - len(shown), 'earlier month')}: --top {len(self.result)})")

    def _shown(self) -> Sequence[MonthGrowth]:
        return self.result if self.top is None else self.result[max(len(self.result) - self.top, 0) :]


class UsersView(NamedTuple):
    """The users, who wrote most first; ``top`` is how many are shown, None for all."""

    result: Sequence[UserGrowth]
    top: int | None = None

    def json(self) -> object:
        """Return the list that docs/json.md gives."""
        rows = self.rows()
        return [dict(zip(rows.headers, row, strict=True)) for row in rows.rows]

    def rows(self) -> Rows:
        """Return the same as columns."""
        return Rows(
            ("user", "transactions", "records", "bytes", "last_tid", "last_time"),
            [
                (text_of(row.user), row.transactions, row.records, row.bytes, tid_text(row.last_tid),
                 iso_text(row.last_tid))
                for row in self.result[: self.top]
            ],
        )  # fmt: skip

    def text(self, page: Page) -> None:
        """Write one line a user."""
        shown = self.result[: self.top]
        most = max((row.bytes for row in shown), default=0)
        rows = (
            (_user(row.user) or "(no user)", row.transactions, row.records, size_text(row.bytes),
             bar(_share(row.bytes, most), _BAR))
            for row in shown
        )  # fmt: skip
        headers = ("user", "transactions", "records", "size", "")
        _table(page, headers, rows, headers[1:4], empty=not shown)
        left = self.result[len(shown) :]
        if left:
            size = size_text(sum(row.bytes for row in left))
            page.line(f"(... and {count_text(len(left), 'more user')}, {size}: --top {len(self.result)})")


def _table(page: Page, headers: Sequence[str], rows: object, right: Sequence[str], *, empty: bool) -> None:
    if empty:
        page.line("no transactions")
    else:
        page.table(Rows(headers, rows), right=right)  # type: ignore[arg-type]


def _minute(tid: int) -> str:
    moment = tid_time(tid)
    return "no calendar time" if moment is None else f"{moment:%Y-%m-%d %H:%M}"


def _user(raw: bytes) -> str:
    text = text_of(raw)
    return text if len(text) <= _LONGEST_USER else f"{text[: _LONGEST_USER - 3]}..."


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
