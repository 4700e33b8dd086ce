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
    """A file's framing is damaged; ``damage`` says where and how."""

    hint = "--ignore-damage reads what comes before the damage."

    def __init__(self, path: str, damage: Damage, *, hint: str | None = None) -> None:
        super().__init__(f"{path} is damaged at {damage}", hint=hint)
        self.path = path
        self.damage = damage
