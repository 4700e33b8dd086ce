"""How long work reports how far it is, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the position of a long operation; must be cheap to call."""

    def start(self, title: str, total: int | None, unit: str) -> None:
        """A phase begins: its title, its size in units (None if unknown), the unit ("bytes", "objects")."""

    def advance(self, done: int) -> None:
        """So many units of the phase are done (absolute, never decreasing)."""

    def finish(self) -> None:
        """The phase is over."""


class Silent:
    """The progress of whoever does not look."""

    def start(self, title: str, total: int | None, unit: str) -> None: ...

    def advance(self, done: int) -> None: ...

    def finish(self) -> None: ...


SILENT = Silent()
