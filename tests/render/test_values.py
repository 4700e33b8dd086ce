"""Decoded values as bounded text."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zodbsh.record.values import Dict, Global, Instance, Ref, Set
from zodbsh.render.values import value_text


def instance(class_, *args, **state):
    made = Instance(Global(*class_.split(".")), args)
    if state:
        made.state, made.has_state = Dict(list(state.items())), True
    return made


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "None"),
        (True, "True"),
        (12, "12"),
        (1.5, "1.5"),
        ("it's", '"it\'s"'),
        ("a\x1bb", "'a\\x1bb'"),
        ("\u202e", "'\\u202e'"),
        (b"\x00a", "b'\\x00a'"),
        ([1, [2, [3, [4]]]], "[1, [2, [3, [...]]]]"),
        ((1,), "(1,)"),
        ((), "()"),
        (Dict([("k", (1, 2)), (3, [])]), "{'k': (1, 2), 3: []}"),
        (Dict([("k", 1)], Global("collections", "OrderedDict")), "OrderedDict({'k': 1})"),
        (Set([1, 2]), "{1, 2}"),
        (Set([]), "set()"),
        (Set([1], frozen=True), "frozenset({1})"),
        (datetime(2026, 5, 17, 14, 30, tzinfo=UTC), "2026-05-17 14:30:00+00:00"),
        (date(2026, 5, 17), "2026-05-17"),
        (timedelta(days=1, seconds=5), "timedelta(1 day, 0:00:05)"),
        (Decimal("1.50"), "Decimal('1.50')"),
        (UUID(int=5), "UUID('00000000-0000-0000-0000-000000000005')"),
        (Ref(0x2A, Global("account", "Account")), "<account.Account 0x2a>"),
        (Ref(0x2A), "<0x2a>"),
        (Ref(0x2A, weak=True, database="other"), "<weak 0x2a in 'other'>"),
        (Global("account", "Account"), "<class account.Account>"),
        (instance("money.Money", amount=10, unit="EUR"), "money.Money(amount=10, unit='EUR')"),
        (instance("fractions.Fraction", 1, 2), "fractions.Fraction(1, 2)"),
        (list(range(100)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... 90 more]"),
        (1 << 5000, "<whole number of 5,001 bits>"),
    ],
    ids=repr,
)
def test_values_read_as_python_would_write_them(value, text):
    """Scalars, containers, references and instances, each on one line."""
    assert value_text(value) == text


def test_a_long_text_says_how_long_it_is():
    """The beginning is shown, and the number of characters."""
    assert value_text("x" * 5000, width=40) == "'xxxxxxxxxxxxxx'... (5,000 characters)"


def test_a_reference_without_class_asks_for_it():
    """The class is looked up where the reference is silent."""
    assert value_text([Ref(7)], class_of=lambda oid: f"shop.Item{oid}") == "[<shop.Item7 0x07>]"


def test_a_list_that_holds_itself_ends_at_the_depth():
    """No recursion, whatever the value holds."""
    value: list = []
    value.append(value)
    assert value_text(value, depth=2) == "[[[...]]]"


def test_a_value_that_unfolds_without_end_costs_little():
    """Ten levels of ten shared lists are cut by the width, not worked out."""
    value: list = [1]
    for _ in range(30):
        value = [value] * 10
    assert len(value_text(value, width=80, depth=30)) <= 80


VALUES = st.recursive(
    st.none() | st.integers() | st.text(st.characters(exclude_categories=())) | st.binary() | st.floats(),
    lambda children: (
        st.lists(children)
        | st.lists(children).map(tuple)
        | st.lists(st.tuples(children, children)).map(Dict)
        | st.lists(children).map(Set)
    ),
    max_leaves=30,
)


@given(VALUES, st.integers(20, 120))
@settings(max_examples=200, deadline=None)
def test_any_value_keeps_the_bounds(value, width):
    """One line, no wider than asked, nothing that acts on a terminal."""
    text = value_text(value, width=width)
    assert len(text) <= width
    assert "\n" not in text
    assert text.isprintable() or not any(character < " " for character in text)
