"""Measuring values that share their parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zodbsh.record.values import Dict, Global, Instance, Value
from zodbsh.record.walk import children, is_container, unfolded

values = st.recursive(
    st.none() | st.integers() | st.text(max_size=200),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(st.tuples(inner, inner), max_size=3).map(Dict)
    ),
    max_leaves=30,
)


def counted(value: Value) -> int:
    """Count the parts by plain recursion."""
    if not is_container(value):
        return 1 + (len(value) // 64 if isinstance(value, str) else 0)
    return 1 + sum(map(counted, children(value)))


@given(values)
def test_a_value_unfolds_to_what_recursion_counts(value: Value) -> None:
    """It never holds more than that."""
    parts, held = unfolded(value)
    assert parts == counted(value)
    assert held <= parts


@pytest.mark.parametrize(
    ("value", "parts"), [(5, 1), ("x" * 640, 11), ([], 1), (Instance(Global("a", "B"), (1, 2)), 3)]
)
def test_what_shares_nothing_unfolds_to_what_it_holds(value: Value, parts: int) -> None:
    """Scalars, empty and small values."""
    assert unfolded(value) == (parts, parts)


def test_sharing_multiplies() -> None:
    """Sixty lists that hold the one before twice: 61 containers, a number, and 60 second references."""
    value: Value = [1]
    for _ in range(60):
        value = [value, value]
    assert unfolded(value) == (3 * 2**60 - 1, 62)


def test_a_value_that_holds_itself_ends() -> None:
    """A loop counts once."""
    value: list[Value] = [1]
    value.append(value)
    assert unfolded(value) == (3, 2)
