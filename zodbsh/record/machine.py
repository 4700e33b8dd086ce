"""The state of the pickle machine: stack, marks, memo, references.

Handlers (scalars, containers, objects) work on it; the interpreter runs them.
A handler takes the machine and the position of its instruction, and returns the
position of the next. It may let IndexError, KeyError and struct.error escape:
the interpreter turns them into RecordError (the stack is empty, the memo has no
such entry, the record ends).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from zodbsh.record.limits import Limits, RecordError

if TYPE_CHECKING:
    from zodbsh.record.values import Ref, Value

Handler: TypeAlias = Callable[["Machine", int], int]

_COPIES = 4
_FREE_COPIES = 65_536


class Machine:
    """One record being decoded; its pickles share the memo, as ZODB's do."""

    __slots__ = (
        "budget",
        "containers",
        "copied",
        "data",
        "limits",
        "marks",
        "memo",
        "oids",
        "position",
        "references",
        "stack",
    )

    def __init__(self, data: bytes, limits: Limits) -> None:
        if len(data) > limits.bytes:
            raise RecordError(0, f"a record of {len(data)} bytes; the limit is {limits.bytes}")
        self.data = data
        self.limits = limits
        self.budget = limits.nodes
        self.stack: list[Value] = []
        self.marks: list[list[Value]] = []
        self.memo: dict[int, Value] = {}
        self.references: list[Ref] = []
        # Each string of 8 bytes may be an oid: by identity, which the memo keeps, its bytes and where they stand.
        self.oids: dict[int, tuple[Value, bytes, int | None]] = {}
        self.containers = 0
        self.copied = 0
        self.position = 0

    def charge(self, items: int) -> None:
        """Account for ``items`` items or characters that an object gets by a copy, or by sharing them.

        A record spells out most parts once and uses them once. A part that comes
        again and again through the memo would cost more memory, or whoever
        walks the objects more time, than there is.
        """
        self.copied += items
        if self.copied > _COPIES * len(self.data) + _FREE_COPIES:
            raise RecordError(self.position, "a part repeated until it is far larger than its record")

    def find_oid(self, value: Value) -> tuple[int, int | None] | None:
        """Return the oid a string stands for and the offset of its 8 bytes; None for what is no oid."""
        found = self.oids.get(id(value))
        if found is not None:
            return int.from_bytes(found[1], "big"), found[2]
        if isinstance(value, str) and value.isascii():
            value = value.encode("ascii")
        if isinstance(value, bytes) and len(value) == 8:
            return int.from_bytes(value, "big"), None
        return None

    def pop_mark(self) -> list[Value]:
        """Return what stands above the topmost mark, and take both away."""
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def put(self, index: int, position: int) -> None:
        """Store the top of the stack in the memo."""
        if len(self.memo) >= self.limits.memo:
            raise RecordError(position, f"more than {self.limits.memo} entries in the memo")
        self.memo[index] = self.stack[-1]

    def replace(self, old: Value, new: Value) -> bool:
        """Put ``new`` where the memo holds ``old``; False where that cannot be known cheaply."""
        # A pickler stores an object just before its state, which is a handful of entries for the types that we know.
        for checked, index in enumerate(reversed(self.memo)):
            if self.memo[index] is old:
                self.memo[index] = new
                return True
            if checked >= 32:
                return False
        return True
