"""Damage as a value: where, in which field, why, and what it touches."""

from __future__ import annotations

from typing import NamedTuple

from zodbsh.errors import DamagedDatabase
from zodbsh.ids import oid_text, tid_text


class Damage(NamedTuple):
    """One thing that is wrong with a file's framing.

    ``position`` is the offset of the field that cannot be right, ``field`` its
    name, ``reason`` what is wrong with it. ``oid`` and ``tid`` say what is
    touched, None where the file does not tell.
    """

    position: int
    field: str
    reason: str
    oid: int | None = None
    tid: int | None = None

    def __str__(self) -> str:
        touched = [] if self.tid is None else [f"transaction {tid_text(self.tid)}"]
        if self.oid is not None:
            touched.append(f"object {oid_text(self.oid)}")
        where = f" ({', '.join(touched)})" if touched else ""
        return f"offset {self.position}{where}: {self.field}: {self.reason}"


class FramingDamage(DamagedDatabase):
    """A file's framing is damaged; ``damage`` says where and how.

    ``more`` counts the further damages of a file that was to be written to, None
    where it was only to be read.
    """

    def __init__(self, path: str, damage: Damage, *, more: int | None = None) -> None:
        also = f" (and at {more} more)" if more else ""
        super().__init__(f"{path} is damaged at {damage}{also}", hint=way_out(path, writing=more is not None))
        self.path = path
        self.damage = damage


def way_out(path: str, *, writing: bool) -> str:
    """Return the hint for a damaged file: what there is to be done about it."""
    from shlex import quote

    look = f"zodbsh inspect {quote(path)} --ignore-damage"
    save = f"zodbsh recover {quote(path)} NEW"
    if writing:
        return f"Nothing was changed. `{save}` saves what is sound into a new file; `{look}` reads what comes before."
    return f"`{look}` reads what comes before the damage; `{save}` saves what is sound into a new file."
