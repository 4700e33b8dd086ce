"""Object ids and transaction ids: integers inside, 8 bytes at ZODB's border.

Text forms agree with ``ZODB.utils.oid_repr`` (``0x`` and an even number of hex
digits) and with zodbdump (a tid as 16 hex digits).
"""

from __future__ import annotations

import re

from zodbsh.errors import UsageError

ROOT_OID = 0
MAX_ID = 2**64 - 1

_HEX = re.compile(r"0[xX]([0-9a-fA-F]{1,16})")
_HEX16 = re.compile(r"[0-9a-fA-F]{16}")
_DECIMAL = re.compile(r"[0-9]{1,20}")


def to_bytes(number: int) -> bytes:
    """Return an oid or a tid as ZODB's 8 big-endian bytes."""
    return number.to_bytes(8, "big")


def from_bytes(raw: bytes) -> int:
    """Return ZODB's 8 big-endian bytes as an integer."""
    return int.from_bytes(raw, "big")


def in_one_byte(one: int, other: int) -> bool:
    """Tell whether two ids differ in one of their bytes at most."""
    different = one ^ other
    return different.bit_length() - 1 >> 3 == ((different & -different).bit_length() - 1) >> 3


def oid_text(oid: int) -> str:
    """Return an oid as it is shown: ``0x2a``, with an even number of digits."""
    digits = f"{oid:x}"
    return f"0x{digits.zfill(len(digits) + len(digits) % 2)}"


def tid_text(tid: int) -> str:
    """Return a tid as it is shown: 16 hex digits."""
    return f"{tid:016x}"


def parse_oid(text: str) -> int:
    """Read an oid written as ``0x2a``, decimal, or 16 hex digits.

    Raises UsageError for anything else.
    """
    if match := _HEX.fullmatch(text):
        return int(match[1], 16)
    if _HEX16.fullmatch(text):
        return int(text, 16)
    if _DECIMAL.fullmatch(text) and int(text) <= MAX_ID:
        return int(text)
    raise UsageError(f"not an object id: {text!r}", hint="Write it as 0x2a, 42, or 16 hex digits.")


def is_tid(text: str) -> bool:
    """Tell whether the text has a tid's form: 16 hex digits."""
    return _HEX16.fullmatch(text) is not None


def parse_tid(text: str) -> int:
    """Read a tid written as 16 hex digits (``0x`` before them is accepted).

    Raises UsageError for anything else.
    """
    digits = text[2:] if text[:2] in ("0x", "0X") else text
    if not is_tid(digits):
        raise UsageError(f"not a transaction id: {text!r}", hint="A tid has 16 hex digits; `zodbsh log` lists them.")
    return int(digits, 16)
