"""The expressions of ``find``: what is read, what is refused and where, and what they are worth."""

from __future__ import annotations

import operator
import re
from contextlib import suppress
from datetime import UTC, date, datetime, time
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zodbsh.analysis import evaluate
from zodbsh.analysis.equality import Budget, TooCostly, equal
from zodbsh.analysis.evaluate import MISSING, Evaluation
from zodbsh.analysis.expression import MAX_NESTING, ExpressionError, parse_expression, parse_shown
from zodbsh.record.values import Dict, Global, Instance, Record, Ref, Set

THING = Global("shop", "Thing")


def record(class_=THING, **state):
    return Record(class_, (), Dict(list(state.items())), ())


@pytest.fixture
def worth(fake):
    """Return what an expression is worth on an object with these attributes."""

    def work_out(text, /, *others, **state):
        records = {5: record(**state)} | {6 + number: other for number, other in enumerate(others)}
        return Evaluation(fake(records), 5, "shop.Thing", 42).value(parse_expression(text))

    return work_out


ADA = {
    "name": "Ada", "balance": 12, "rate": 0.5, "raw": b"\xffab", "active": True, "nothing": None,
    "tags": ["a", "b"], "pair": (2, 1), "members": Set([1, "x"]),
    "config": Dict([("k", 1), (7, Dict([("deep", "er")]))]),
    "address": Instance(Global("shop", "Address")), "created": datetime(2026, 5, 17, 14, 30), "day": date(2026, 5, 17),
    "at": time(14, 30), "zoned": datetime(2026, 5, 17, 14, 30, tzinfo=UTC), "price": Decimal("1.50"),
    "key": UUID(int=1), "kind": Global("shop", "Kind"), "owner": Ref(6),
    "lost": Ref(99), "away": Ref(6, database="other"),
    "front-page": "f", "_oid": "stored",
}  # fmt: skip
ADA["address"].state = Dict([("street", "Mall")])


@pytest.mark.parametrize(
    "text",
    [
        "balance > 10", "10 < balance <= 12", "balance == 12 and name == 'Ada'", "balance == 1 or rate == .5",
        "not balance == 13", "name in ('Ada', 'Bob')", "name not in ['Bob']", "'d' in name", "b'ab' in raw",
        "name ~ '^A'", "name !~ r'\\d'", "raw ~ 'ab$'", "raw ~ b'\\xff'", "len(name) == 3", "len(tags) == 2",
        "len(members) == 2", "len(config) == 2", "'a' in tags", "tags[0] == 'a'", "tags[-1] == 'b'", "name[0] == 'A'",
        "config['k'] == 1", "config[7]['deep'] == 'er'", "'k' in config", "7 in config", "address.street == 'Mall'",
        "pair >= (2, 0)", "pair == (2, 1)", "tags == ['a', 'b']", "nothing is None", "active is True", "active",
        "nobody is missing", "name is not missing", "not has(nobody)", "has(name)", "not nobody", "not nobody == 1",
        "created > '2026-05-17'", "created == '2026-05-17T14:30:00Z'", "created == '2026-05-17T16:30:00+02:00'",
        "zoned <= '2026-05-17 14:30'", "'2026-05-16' < day < '2026-05-18'", "day == '2026-05-17'", "at < '14:31'",
        "created == zoned", "price == 1.5", "price > 1", "key == '00000000-0000-0000-0000-000000000001'",
        "kind == 'shop.Kind'", "owner == 0x06", "owner == 6", "owner in (0x06, 0x07)", "owner.name == 'Bob'",
        "owner.friend.name == 'Ada'", "self == 5", "self == owner.friend", "_oid == 5", "_class == 'shop.Thing'",
        "_size == 42", "owner._class == 'shop.Thing'", "lost is not missing", "lost.name is missing",
        "away.name is missing", "self['front-page'] == 'f'", "self['_oid'] == 'stored'", "(name) == ('Ada')",
        "((name == 'Ada') and (balance > 1))", "len(owner.items) == 2", "balance\n>\t10", "balance != 'Ada'",
    ],
)  # fmt: skip
def test_what_is_true(worth, text):
    """Attributes, items, references, dates, patterns, presence."""
    assert worth(text, record(name="Bob", friend=Ref(5), items=[1, 2]), **ADA)


@pytest.mark.parametrize(
    "text",
    [
        "nobody == 1", "nobody != 1", "nobody < 1", "nobody in [1]", "nobody not in [1]",
        "nobody ~ 'a'", "nobody !~ 'a'",
        "1 == nobody", "nobody == nobody", "name < 1", "1 < name", "name > None", "tags < 1", "rate < 'x'",
        "balance in 5", "balance not in 5", "1 in name", "1 not in name", "balance ~ '1'", "balance !~ '1'",
        "name ~ b'A'", "config < config", "owner < owner", "created < 'no date'", "created == 'no date'",
        "lost == 0x06",
        "away == 0x06", "has(lost.name)", "len(balance) == 2", "tags[2] == 'a'", "name.x == 1", "balance[0] == 1",
        "config['x'] == 1", "nothing == False", "created < 5", "kind == ('shop', 'Kind')", "owner == (6, None)",
    ],
)  # fmt: skip
def test_what_is_false(worth, text):
    """A comparison with what is missing, or that makes no sense."""
    assert worth(text, record(name="Bob"), **ADA) is False


def test_and_and_or_give_an_operand_as_in_python(worth):
    """So that `nickname or name` can be shown."""
    assert worth("nickname or name", name="Ada") == "Ada"
    assert worth("name and 3", name="Ada") == 3
    assert worth("nobody") is MISSING
    assert worth("owner", owner=Ref(9)) == Ref(9)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", 1), ("balance >", 10), ("balance > and 1", 11), ("balance = 1", 9), ("(balance", 9), ("balance)", 8),
        ("name == 'Ada", 9), ("f(x)", 1), ("x +", 3), ("x ~ name", 5), ("x ~ '('", 5),
        ("x is 3", 6), ("x is missing == 1", 14),
        ("x[name]", 3), ("x..y", 3), ("a b", 3), ("in", 1), ("x not y", 7), ("1x", 2), ("[x]", 2),
        ("(1, x)", 5), ("x ~ 'a' == 3", 9),
        ("x if y else z", 3), ("lambda: 1", 7), ("{1}", 1), ("x := 1", 3), ("a < b is None", 7), ("é == ", 6),
    ],
)  # fmt: skip
def test_an_error_says_where(text, place):
    """The character is named, and a caret stands below it."""
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text, option="--where")
    line, caret = caught.value.context.split("\n")
    assert caught.value.message.startswith(f"--where, character {place}: ")
    assert line == f"    {text}"
    assert caret == " " * (4 + place - 1) + "^"
    assert caught.value.hint


def test_what_is_too_much_is_refused():
    """Nesting, length, patterns."""
    for opening, closing in ("()", ("not ", ""), ("len(", ")"), "[]"):
        deep = opening * (MAX_NESTING + 1) + "1" + closing * (MAX_NESTING + 1)
        with pytest.raises(ExpressionError, match="deep"):
            parse_expression(deep)
    parse_expression("(" * MAX_NESTING + "x" + ")" * MAX_NESTING)
    for text in ("x" * 10_001, f"x ~ '{'a' * 1_001}'", f"x ~ '{'(' * 490 + ')' * 490}'", "x ~ 'a{99999999999999}'"):
        with pytest.raises(ExpressionError):
            parse_expression(text)
    parse_expression(" or ".join(["x == 1"] * 900))
    parse_expression("x" + ".a" * 4_000)


def test_a_long_expression_is_shown_around_the_error():
    """Not whole."""
    with pytest.raises(ExpressionError) as caught:
        parse_expression("x == 1 or " * 500 + "?" + " or x == 1" * 100)
    line, caret = caught.value.context.split("\n")
    assert len(line) < 80
    assert line[len(caret) - 1] == "?"


def test_expressions_to_show():
    """Separated by commas, each under its own text."""
    assert [shown.name for shown in parse_shown(" balance,  len( a , ) ".replace(" , ", " ") + ", x in (1, 2)")] == [
        "balance", "len( a )", "x in (1, 2)",
    ]  # fmt: skip
    for text in ("", "a,", ",a", "a b"):
        with pytest.raises(ExpressionError):
            parse_shown(text)


WORDS = [
    "and", "or", "not", "in", "is", "missing", "len", "has", "self", "x", "_oid", "None", "'a'", "0x2a", "(", ")", "[",
    "]", ",", ".", "==", "!=", "~", "!~", "<", "<=", "-1", "1e5", "b'", '"', "\\", "\x00", "r'(a+)+'",
]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join),
        st.lists(st.sampled_from(WORDS)).map("".join),
    )
)
def test_reading_raises_nothing_else(text):
    """Whatever is written, there is an expression or an ExpressionError."""
    for read in (parse_expression, parse_shown):
        with suppress(ExpressionError):
            read(text)


ATTRIBUTES = {
    "n": 7, "z": 0, "f": 2.5, "t": "abc", "e": "", "b": b"ab", "o": None, "y": True, "l": [1, "a", 2],
    "u": (1, 2), "d": [[1], [2, "a"]],
}  # fmt: skip
LITERALS = [
    0,
    1,
    7,
    -3,
    2.5,
    "",
    "a",
    "abc",
    'it\'s \\ "x"\n',
    b"",
    b"ab",
    None,
    True,
    False,
    (),
    (1, 2),
    (1, "a"),
    ("abc", None),
]
COMPARISONS = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "in": lambda one, other: one in other, "not in": lambda one, other: one not in other,
}  # fmt: skip


def compared(sign, left, right):
    """Compare as Python does; what it refuses is false."""
    try:
        return bool(COMPARISONS[sign](left, right))
    except (TypeError, ValueError):
        return False


leaves = st.sampled_from(list(ATTRIBUTES.items())) | st.sampled_from(LITERALS).map(lambda value: (repr(value), value))
pairs = st.tuples(leaves, st.sampled_from(list(COMPARISONS)), leaves).map(
    lambda found: (f"{found[0][0]} {found[1]} {found[2][0]}", compared(found[1], found[0][1], found[2][1]))
)
trees = st.recursive(
    leaves | pairs,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda found: (
                f"({found[0][0]}) {found[1]} ({found[2][0]})",
                (found[0][1] and found[2][1]) if found[1] == "and" else (found[0][1] or found[2][1]),
            )
        )
        | inner.map(lambda found: (f"not ({found[0]})", not found[1]))
    ),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(trees)
def test_plain_values_compare_as_in_python(tree):
    """A random expression has the value that Python's own operators give."""
    text, wanted = tree
    records = {5: record(**ATTRIBUTES)}
    snapshot = type("Fake", (), {"tid": 1, "record": lambda self, oid: records[oid]})()
    found = Evaluation(snapshot, 5).value(parse_expression(text))
    assert found == wanted
    assert type(found) is type(wanted)


def test_precedence_is_pythons(worth):
    """``or`` below ``and`` below ``not`` below comparisons."""
    for text in (
        "x == 1 or x == 2 and x == 3",
        "not x == 1 and x == 1",
        "not x in [1] or x == 1",
        "1 < x < 3 or not x",
    ):
        for x in range(4):
            assert bool(worth(text, x=x)) is bool(eval(text, {"x": x})), (text, x)


def test_values_that_hold_themselves_and_share_parts():
    """Comparing ends, and costs what the record holds rather than what it would unfold to."""
    one, other = [1], [1]
    one.append(one)
    other.append(other)
    assert equal(one, other, Budget())
    left, right = ["x"], ["x"]
    for _ in range(900):
        left, right = [left, left], [right, right]
    assert equal(left, right, Budget())
    assert not equal(left, [right, "y"], Budget())


def test_what_would_cost_too_much_is_an_error(worth, monkeypatch):
    """Comparisons, references followed."""
    with pytest.raises(TooCostly):
        worth("l == m", l=[0] * 1_000_001, m=[0] * 1_000_001)
    chain = [record(next=Ref(7 + number)) for number in range(150)]
    text = "next" + ".next" * 120 + " is missing"
    with pytest.raises(TooCostly, match="100 other objects"):
        worth(text, *chain, next=Ref(6))
    monkeypatch.setattr(evaluate, "MAX_SUBJECT", 10)
    assert worth("t ~ 'a{10}$' and t !~ 'b'", t="a" * 10 + "b")


def test_dicts_and_sets_have_no_order():
    """Nor does it count by which class a dict is kept."""
    assert equal(Dict([("a", 1), ("b", 2)]), Dict([("b", 2), ("a", 1)], Global("collections", "OrderedDict")), Budget())
    assert equal(Set([1, "a", Ref(1)]), Set([Ref(1), "a", 1]), Budget())
    assert not equal(Set([1, 2]), Set([1, 3]), Budget())
    assert not equal(Dict([("a", 1)]), Dict([("a", 2)]), Budget())


def test_a_btree_is_a_mapping(world):
    """Items, membership and length reach through its buckets."""
    of = lambda text: Evaluation(world, 0).value(parse_expression(text))  # noqa: E731
    assert of("accounts['account-1'].name == 'Ada' and accounts['account-2'] == 2")
    assert of("'account-1' in accounts and 'account-x' not in accounts")
    assert of("len(accounts) == 199 and len(numbers) == 200 and numbers[-500] == '-500'")
    assert of("config['x'][1]['deep'][-1] == 3 and 'x' in config and len(config) == 2")
    assert of("'a' in self.set and len(self.set) == 2 and folder['7'] == 7")
    assert of("ada.address.street ~ 'James' and 'maths' in ada.tags and ada['front-page'][0] == 1")
    assert of("_tid > 0 and _time > '2020-01-01' and ada._time == _time and ada._size > 10")


def test_nothing_is_run():
    """The modules that read and work out have no way to run code."""
    for module in ("expression", "evaluate", "equality"):
        text = (evaluate.__file__ or "").replace("evaluate.py", f"{module}.py")
        with open(text, encoding="utf-8") as file:
            assert not re.search(r"\b(eval|exec|getattr|__import__|import_module)\(|(?<!re\.)\bcompile\(", file.read())
