"""What the decoder accepts at most, and the error for everything else.

The caps are documented in docs/formats.md. Each is far above what ZODB writes
and low enough that a hostile record costs neither the memory nor the patience
of whoever looks at it.
"""

from __future__ import annotations

from typing import NamedTuple

from zodbsh.errors import ExitCode, ZodbshError


class Limits(NamedTuple):
    """Caps on one record.

    ``bytes`` is the record's size; ``nodes`` the number of instructions, and so
    of values; ``memo`` the entries of the memo (an index may be any number below
    2**32: entries are sparse); ``depth`` the containers inside one another,
    along the longest way (an edge that closes a cycle does not count);
    ``digits`` the decimal digits of a number. What objects share or copy of one
    another's arguments is capped at four times the record's size (and 65,536). A text of so many digits is
    what Python itself still converts.
    """

    bytes: int = 2**30
    nodes: int = 10_000_000
    memo: int = 5_000_000
    depth: int = 1_000
    digits: int = 4_300


DEFAULT_LIMITS = Limits()


class RecordError(ZodbshError):
    """A record that cannot be decoded: damaged, hostile, or beyond the limits.

    ``offset`` is the position in the record of the instruction that cannot be
    followed, ``reason`` says why.
    """

    code = "record-damaged"
    exit_code = ExitCode.DAMAGED
    hint = "`zodbsh inspect --disassemble` shows the record's instructions up to there."

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"a record cannot be decoded: {reason} (at byte {offset})")
        self.offset = offset
        self.reason = reason
