"""Object and transaction ids as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ZODB.utils import oid_repr, p64

from zodbsh import ids
from zodbsh.errors import UsageError

any_id = st.integers(0, ids.MAX_ID)


@given(any_id)
def test_an_oid_is_shown_as_zodb_shows_it(oid: int) -> None:
    """``oid_text`` agrees with ``ZODB.utils.oid_repr``."""
    assert ids.oid_text(oid) == oid_repr(p64(oid))


@given(any_id)
def test_every_written_form_of_an_oid_is_read_back(oid: int) -> None:
    """``0x2a``, decimal below 16 digits, and 16 hex digits all name the same object."""
    assert ids.parse_oid(ids.oid_text(oid)) == oid
    assert ids.parse_oid(f"{oid:016x}") == oid
    if oid < 10**15:
        assert ids.parse_oid(str(oid)) == oid


@given(any_id)
def test_a_tid_is_read_back(tid: int) -> None:
    """A tid survives its text form and the 8 bytes of ZODB's border."""
    assert ids.parse_tid(ids.tid_text(tid)) == tid
    assert ids.from_bytes(ids.to_bytes(tid)) == tid


@pytest.mark.parametrize("text", ["", "0x", "x", "-1", "0x" + "f" * 17, "1" * 21, "99999999999999999999", "0x1g", " 1"])
def test_what_is_no_oid_is_a_usage_error(text: str) -> None:
    """Anything else is refused, with a hint."""
    with pytest.raises(UsageError, match="not an object id"):
        ids.parse_oid(text)


@pytest.mark.parametrize("text", ["", "1", "0x2a", "g" * 16, "0" * 17])
def test_what_is_no_tid_is_a_usage_error(text: str) -> None:
    """A tid has exactly 16 hex digits."""
    with pytest.raises(UsageError, match="not a transaction id"):
        ids.parse_tid(text)
