"""Times of tids, and what a user may write for a time."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from persistent.TimeStamp import TimeStamp

from zodbsh.errors import UsageError
from zodbsh.ids import MAX_ID
from zodbsh.times import TidRange, iso_text, parse_range, parse_time, tid_time, time_text, time_tid

NOW = datetime(2026, 5, 17, 14, 30, 0, tzinfo=UTC)
moments = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1))


@given(moments)
def test_a_tid_means_the_time_that_persistent_means(moment: datetime) -> None:
    """``tid_time`` agrees with ``persistent.TimeStamp`` to the microsecond."""
    stamp = TimeStamp(
        moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second + moment.microsecond / 1e6
    )
    tid = int.from_bytes(stamp.raw(), "big")
    found = tid_time(tid)
    assert found is not None
    assert abs(found.timestamp() - stamp.timeTime()) < 2e-6


@given(moments)
def test_the_tid_of_a_moment_is_the_last_one_not_after_it(moment: datetime) -> None:
    """A tid one microsecond later is larger, one of the same microsecond is not."""
    tid = time_tid(moment)
    stamp = TimeStamp(
        moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second + moment.microsecond / 1e6
    )
    assert int.from_bytes(stamp.raw(), "big") <= tid + 72  # 72 units are one microsecond
    assert time_tid(moment + timedelta(microseconds=1)) > tid


@given(st.integers(0, MAX_ID))
def test_any_64_bits_have_a_text(tid: int) -> None:
    """A tid that names no day of the calendar says so instead of failing."""
    if tid_time(tid) is None:
        assert (time_text(tid), iso_text(tid)) == ("no calendar time", None)
    else:
        assert time_text(tid).endswith(" UTC")


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-05-17T14:30:00Z", NOW),
        ("2026-05-17T16:30:00+02:00", NOW),
        ("2026-05-17 14:30", NOW),
        ("2026-05-17", NOW.replace(hour=0, minute=0)),
        ("2 hours ago", NOW - timedelta(hours=2)),
        ("1 day", NOW - timedelta(days=1)),
        ("90s", NOW - timedelta(seconds=90)),
        ("now", NOW),
        ("yesterday", datetime(2026, 5, 16, tzinfo=UTC)),
    ],
)
def test_what_a_user_writes_for_a_time(text: str, moment: datetime) -> None:
    """RFC 3339, a date, or a distance from now."""
    assert parse_time(text, now=NOW) == time_tid(moment)


@pytest.mark.parametrize("text", ["", "soon", "2 moons ago", "2026-13-01", "999999 years ago", "12:00"])
def test_what_is_no_time_is_a_usage_error(text: str) -> None:
    """Anything else is refused, with a hint."""
    with pytest.raises(UsageError, match="not a time"):
        parse_time(text, now=NOW)


def test_a_range_is_open_where_a_side_is_empty() -> None:
    """``min..max`` includes both sides; a single tid is a range of one."""
    low, high = "03a1b2c3d4e5f600", "03ffffffffffffff"
    assert parse_range(f"{low}..{high}") == TidRange(int(low, 16), int(high, 16))
    assert parse_range("..") == TidRange(0, MAX_ID)
    assert parse_range(f"..{high}") == TidRange(0, int(high, 16))
    assert parse_range(low) == TidRange(int(low, 16), int(low, 16))
    with pytest.raises(UsageError, match="not a range"):
        parse_range("x")


def test_a_time_beyond_the_last_tid_is_the_last_tid() -> None:
    """The calendar goes on further than 64 bits do."""
    assert parse_time("9999-12-31") == MAX_ID
