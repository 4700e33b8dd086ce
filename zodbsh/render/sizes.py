"""Sizes and counts as people read them."""

from __future__ import annotations

import re

from zodbsh.errors import UsageError

_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,6})?)\s*(?:([kmgt])(i?)b?|b|bytes?)?", re.IGNORECASE)


def size_text(size: int) -> str:
    """Return a number of bytes: ``512 bytes``, ``1.5 KB``, ``230 MB`` (decimal units)."""
    if abs(size) < 1000:
        return count_text(size, "byte")
    number = float(size)
    for unit in ("KB", "MB", "GB", "TB"):
        number /= 1000
        if abs(number) < 999.5 or unit == "TB":
            break
    return f"{number:.1f} {unit}" if abs(number) < 9.95 else f"{number:,.0f} {unit}"


def count_text(number: int, noun: str, plural: str | None = None) -> str:
    """Return ``1 object``, ``2 objects``, ``12,000 objects``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def parse_size(text: str) -> int:
    """Return the bytes that a size means: ``512``, ``1.5 kb`` (1,500, as sizes are shown), ``64KiB`` (65,536).

    Raises UsageError.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"not a size: {text!r}", hint="Write a number of bytes, or 64kb, 1.5mb, 2gb, 64KiB.")
    number, unit, binary = match.groups()
    factor = 1
    for _ in range(" kmgt".index(unit.lower()) if unit else 0):
        factor *= 1024 if binary else 1000
    whole, _, part = number.partition(".")
    return int(whole) * factor + int(part.ljust(6, "0")) * factor // 1_000_000
