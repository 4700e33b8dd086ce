"""Times: what a tid says of the clock, and what a user writes for one.

A tid holds minutes since 1900 in its upper half, with every month counted as 31
days, and a fraction of a minute (2**32 to the minute) in its lower half: the
layout of ``persistent.TimeStamp``. All times are UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from zodbsh.errors import UsageError
from zodbsh.ids import MAX_ID, is_tid

_UNITS = {
    "second": timedelta(seconds=1), "sec": timedelta(seconds=1), "s": timedelta(seconds=1),
    "minute": timedelta(minutes=1), "min": timedelta(minutes=1), "m": timedelta(minutes=1),
    "hour": timedelta(hours=1), "h": timedelta(hours=1),
    "day": timedelta(days=1), "d": timedelta(days=1),
    "week": timedelta(weeks=1), "w": timedelta(weeks=1),
    "month": timedelta(days=30), "year": timedelta(days=365),
}  # fmt: skip
_RELATIVE = re.compile(r"(\d{1,6})\s*([a-z]+?)s?(?:\s+ago)?", re.IGNORECASE)
_HINT = "Write 16 hex digits, 2026-05-17T14:30:00Z, 2026-05-17, or `2 hours ago`."


class TidRange(NamedTuple):
    """Transactions from ``first`` to ``last``, both included."""

    first: int = 0
    last: int = MAX_ID


def tid_time(tid: int) -> datetime | None:
    """Return the UTC time a tid stands for, or None where it names no day of the calendar."""
    minutes, fraction = tid >> 32, tid & 0xFFFFFFFF
    minutes, minute = divmod(minutes, 60)
    days, hour = divmod(minutes, 24)
    months, day = divmod(days, 31)
    years, month = divmod(months, 12)
    try:
        start = datetime(years + 1900, month + 1, day + 1, hour, minute, tzinfo=UTC)
        return start + timedelta(microseconds=round(fraction * 60_000_000 / 2**32))
    except (ValueError, OverflowError):
        return None


def time_tid(moment: datetime) -> int:
    """Return the largest tid that is not after ``moment`` (naive means UTC)."""
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    if moment.year < 1900:
        return 0
    days = ((moment.year - 1900) * 12 + moment.month - 1) * 31 + moment.day - 1
    minutes = (days * 24 + moment.hour) * 60 + moment.minute
    # The fraction counts 2**32 to the minute; a tid within the same microsecond is not after it.
    microseconds = moment.second * 1_000_000 + moment.microsecond
    return min(minutes << 32 | min(((microseconds + 1) * 2**32 - 1) // 60_000_000, 2**32 - 1), MAX_ID)


def time_text(tid: int) -> str:
    """Return a tid's time as it is shown: ``2026-05-17 14:30:00.123 UTC``."""
    moment = tid_time(tid)
    if moment is None:
        return "no calendar time"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{moment.microsecond // 1000:03d} UTC"


def iso_text(tid: int) -> str | None:
    """Return a tid's time for machines (RFC 3339, microseconds, Z), or None."""
    moment = tid_time(tid)
    return None if moment is None else f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06d}Z"


def parse_time(text: str, *, now: datetime | None = None) -> int:
    """Return the tid a TIME argument names: 16 hex digits, RFC 3339, or relative.

    A moment means the largest tid not after it. A date alone means its first
    moment. Without an offset, UTC is meant. Raises UsageError.
    """
    text = text.strip()
    if is_tid(text):
        return int(text, 16)
    now = now or datetime.now(UTC)
    words = {"now": now, "today": now.replace(hour=0, minute=0, second=0, microsecond=0)}
    words["yesterday"] = words["today"] - timedelta(days=1)
    if text.lower() in words:
        return time_tid(words[text.lower()])
    try:
        if match := _RELATIVE.fullmatch(text):
            unit = _UNITS.get(match[2].lower())
            if unit is None:
                raise ValueError(text)
            return time_tid(now - int(match[1]) * unit)
        return time_tid(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise UsageError(f"not a time: {text!r}", hint=_HINT) from None


def parse_range(text: str, *, now: datetime | None = None) -> TidRange:
    """Read ``min..max`` (both included, either may be empty) or a single tid.

    Raises UsageError.
    """
    first, dots, last = text.partition("..")
    if not dots:
        if is_tid(text):
            return TidRange(int(text, 16), int(text, 16))
        raise UsageError(f"not a range of transactions: {text!r}", hint="Write min..max; either side may be empty.")
    return TidRange(
        parse_time(first, now=now) if first else 0,
        parse_time(last, now=now) if last else MAX_ID,
    )
