"""Sizes and counts as people read them."""

from __future__ import annotations


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
