"""Bars of plain characters, as the progress bar draws them."""

from __future__ import annotations

from collections.abc import Sequence

REST = "."


def bar(share: float, width: int) -> str:
    """Return a bar for a table's cell: ``####``; what is more than nothing has one character at least."""
    length = round(min(max(share, 0.0), 1.0) * width)
    return "#" * max(length, 1 if share > 0 else 0)


def stacked_bar(parts: Sequence[tuple[float, str]], width: int) -> str:
    """Return ``[####==......]`` for shares of a whole, each with its character.

    Every part ends where the sum of the shares so far does, so the bar is as long as the whole is.
    """
    text = ""
    done = 0.0
    for share, character in parts:
        done += share
        end = round(min(done, 1.0) * width)
        text = text.ljust(max(end, min(len(text) + (share > 0), width)), character)
    return f"[{text.ljust(width, REST)}]"
