"""What ``init`` made."""

from __future__ import annotations

from typing import NamedTuple

from zodbsh.ids import oid_text, tid_text
from zodbsh.ops.init import InitResult, RootEntry
from zodbsh.render.output import Rows
from zodbsh.render.page import Page


class InitView(NamedTuple):
    """A new database."""

    result: InitResult

    def json(self) -> object:
        """Return path, blobs, tid, bytes and the root's entries."""
        return {
            "path": self.result.path,
            "blobs": self.result.blobs,
            "tid": tid_text(self.result.tid),
            "bytes": self.result.bytes,
            "root": [{"key": entry.key, "class": entry.class_, "oid": _oid(entry)} for entry in self.result.root],
        }

    def rows(self) -> Rows:
        """Return the root's entries."""
        return Rows(("key", "class", "oid"), [(entry.key, entry.class_, _oid(entry)) for entry in self.result.root])

    def text(self, page: Page) -> None:
        """Say what there is now."""
        page.line("created ", self.result.path)
        for entry in self.result.root:
            page.line("  root", _access(entry.key), "  ", entry.class_, "  ", _oid(entry) or "in the root's record")
        if self.result.blobs is not None:
            page.line("  blobs in ", self.result.blobs)


def _access(key: str) -> str:
    return f".{key}" if key.isidentifier() else f"[{key!r}]"


def _oid(entry: RootEntry) -> str | None:
    return None if entry.oid is None else oid_text(entry.oid)
