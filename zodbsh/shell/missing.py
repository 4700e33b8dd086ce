"""What the shell says of classes that are missing: each once, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.ids import oid_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zodbsh.db.changes import MissingClass
    from zodbsh.db.session import Session

MAX_TOLD = 3
"""Classes that are told after one line of input."""

PATH_BUDGET = 2_000
"""Objects that are read to find out where a missing class is used."""


class MissingReport:
    """Remembers which missing classes were told."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def news(self, session: Session) -> Iterator[str]:
        """Yield a line for each missing class of which an object was loaded since the last call."""
        new = [found for found in session.missing_loaded if (found.module, found.name) not in self._told]
        self._told.update((found.module, found.name) for found in new)
        yield from missing_lines(new[:MAX_TOLD], session)
        if len(new) > MAX_TOLD:
            yield f"and {len(new) - MAX_TOLD} more missing classes: .missing lists them"


def missing_lines(classes: list[MissingClass], session: Session) -> Iterator[str]:
    """Yield one line for each class: module, name, where it is used, and what would help."""
    paths = _paths(session, [found.used_by for found in classes if found.used_by is not None])
    for found in classes:
        where = "" if found.used_by is None else f", used by {paths.get(found.used_by, oid_text(found.used_by))}"
        yield f"missing class {found.name} of module {found.module}{where} ({found.reason}); {found.hint}"


def _paths(session: Session, oids: list[int]) -> dict[int, str]:
    if not oids:
        return {}
    from zodbsh.analysis.paths import paths_of
    from zodbsh.errors import ZodbshError
    from zodbsh.source.snapshot import Snapshot

    try:
        return paths_of(Snapshot(session.source()), oids, budget=PATH_BUDGET)
    except ZodbshError:
        return {}
