"""What a check finds, as a value: the kind, what it touches, one sentence."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """One thing that is wrong with a database.

    ``kind`` is a kebab-case word that groups findings; ``oid``, ``tid`` and
    ``offset`` (in the file) say where, None where they do not apply;
    ``message`` is one sentence without the oid.
    """

    kind: str
    oid: int | None
    tid: int | None
    offset: int | None
    message: str
