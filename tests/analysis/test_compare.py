"""Comparing two records: what is named, and what counts as the same."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zodbsh.analysis.compare import ABSENT, AttributeChange, Part, compare_nodes, compare_records
from zodbsh.analysis.identity import Identities
from zodbsh.record.values import Dict, Global, Instance, Record, Ref, Set

PERSON = Global("people", "Person")
MAPPING = Global("persistent.mapping", "PersistentMapping")
LIST = Global("persistent.list", "PersistentList")
BUCKET = Global("BTrees.OOBTree", "OOBucket")
TREE = Global("BTrees.OOBTree", "OOBTree")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3)


def person(**attributes):
    return Record(PERSON, (), Dict(list(attributes.items())), ())


def bucket(content, after=None):
    state = (tuple(part for pair in content.items() for part in pair),)
    return Record(BUCKET, (), state if after is None else (*state, Ref(after)), ())


def same(old, new):
    return Identities().same(old, new)


def test_attributes_are_compared_by_name():
    """Changed and new ones in the new order, gone ones last; what did not change is left out."""
    changes = compare_records(person(a=1, b=2, c=3), person(d=4, c=5, b=2))
    assert changes == [
        AttributeChange("d", ABSENT, 4), AttributeChange("c", 3, 5), AttributeChange("a", 1, ABSENT),
    ]  # fmt: skip


def test_a_new_and_a_deleted_object_list_everything():
    """Against nothing, each attribute is there on one side only."""
    assert compare_records(None, person(a=1)) == [AttributeChange("a", ABSENT, 1)]
    assert compare_records(person(a=1), None) == [AttributeChange("a", 1, ABSENT)]
    assert compare_records(None, None) == []


def test_a_mapping_is_compared_by_key():
    """Keys are named in brackets; the attribute that holds them does not show."""
    old = Record(MAPPING, (), Dict([("data", Dict([("a", 1), (2, "b")]))]), ())
    new = Record(MAPPING, (), Dict([("data", Dict([(2, "B"), ("c", 1)])), ("extra", 0)]), ())
    assert compare_records(old, new) == [
        AttributeChange("extra", ABSENT, 0), AttributeChange("[2]", "b", "B"),
        AttributeChange("['c']", ABSENT, 1), AttributeChange("['a']", 1, ABSENT),
    ]  # fmt: skip


def test_a_persistent_list_is_compared_by_index():
    """An insertion is one difference, not a shift of everything behind it."""
    old, new = (Record(LIST, (), Dict([("data", items)]), ()) for items in ([1, 2, 3, 4], [1, 9, 2, 3, 4]))
    assert compare_records(old, new) == [AttributeChange("[1]", ABSENT, 9)]
    assert compare_records(new, old) == [AttributeChange("[1]", 9, ABSENT)]


def test_a_bucket_is_compared_by_key_and_a_set_by_member():
    """The content of BTrees' records, in their terms; the pointer to the next bucket is no content."""
    assert compare_records(bucket({"a": 1, "b": 2}, 7), bucket({"a": 1, "b": 3})) == [AttributeChange("['b']", 2, 3)]
    old, new = (Record(Global("BTrees.OOBTree", "OOSet"), (), (keys,), ()) for keys in (("a", "b"), ("b", "c")))
    assert compare_records(old, new) == [AttributeChange("{'c'}", ABSENT, "c"), AttributeChange("{'a'}", "a", ABSENT)]


def test_the_place_within_an_attribute_is_named():
    """The attribute is given whole, and the innermost differences with their paths."""
    money = [Instance(Global("m", "Money")) for _ in range(2)]
    for amount, instance in enumerate(money):
        instance.state, instance.has_state = Dict([("amount", amount), ("unit", "EUR")]), True
    old = Dict([("x", [1, 2, (3, money[0])]), ("gone", 0), ("tags", Set(["a", "b"]))])
    new = Dict([("tags", Set(["b", "c"])), ("x", [1, 2, (3, money[1])]), ("new", 0)])
    [change] = compare_records(person(config=old), person(config=new))
    assert (change.name, change.old, change.new) == ("config", old, new)
    assert change.parts == (
        Part("config['tags']{'c'}", ABSENT, "c"), Part("config['tags']{'a'}", "a", ABSENT),
        Part("config['x'][2][1].amount", 0, 1), Part("config['new']", ABSENT, 0), Part("config['gone']", 0, ABSENT),
    )  # fmt: skip


def test_values_of_different_types_differ_as_a_whole():
    """A list that becomes a tuple, 1 that becomes True: no parts."""
    changes = compare_records(person(a=[1], b=1, c=1.0), person(a=(1,), b=True, c=1))
    assert [(change.name, change.parts) for change in changes] == [("a", ()), ("b", ()), ("c", ())]


def test_class_arguments_and_odd_states_are_compared_too():
    """What is neither attribute nor item is named as what it is."""
    old, new = Record(PERSON, (1,), "state", ()), Record(Global("people", "Human"), (2,), "other", ())
    assert compare_records(old, new) == [
        AttributeChange("__class__", PERSON, Global("people", "Human")),
        AttributeChange("__args__", (1,), (2,), ()), AttributeChange("__state__", "state", "other"),
    ]  # fmt: skip
    changes = compare_records(person(a=1), Record(PERSON, (), "odd", ()))
    assert [change.name for change in changes] == ["__state__"]


def test_keys_that_move_between_buckets_do_not_differ():
    """A tree that outgrows its record, and a bucket that is split: only the key that is new shows."""
    small = Record(TREE, (), ((bucket({"a": 1, "b": 2}).state,),), ())
    large = Record(TREE, (), ((Ref(1), "b", Ref(2)), Ref(1)), ())
    pairs = [(small, large), (None, bucket({"a": 1}, 2)), (None, bucket({"b": 2, "c": 3}))]
    assert compare_nodes(pairs) == [AttributeChange("['c']", ABSENT, 3)]
    assert compare_nodes(
        [(bucket({"a": 1, "b": 2}, 2), bucket({"a": 1}, 2)), (bucket({"c": 3}), bucket({"b": 5, "c": 3}))]
    ) == [AttributeChange("['b']", 2, 5)]


def test_references_are_the_same_wherever_they_stand():
    """Target, database and strength count, the offset in the record does not."""
    assert same(Ref(1, PERSON, offset=10), Ref(1, PERSON, offset=20))
    assert not same(Ref(1), Ref(2))
    assert not same(Ref(1), Ref(1, weak=True))
    assert not same(Ref(1), Ref(1, database="other"))


@pytest.mark.parametrize(
    ("old", "new", "alike"),
    [
        (float("nan"), float("nan"), True),
        (0.0, -0.0, False),
        (1, True, False),
        ("a", b"a", False),
        (Dict([("a", 1), ("b", 2)]), Dict([("b", 2), ("a", 1)]), True),
        (Dict([("a", 1), ("a", 2)]), Dict([("a", 2)]), True),
        (Dict([("a", 1)], Global("collections", "OrderedDict")), Dict([("a", 1)]), False),
        (Set([(1, 2), (3, 4)]), Set([(3, 4), (1, 2)]), True),
        (Set([1]), Set([1], frozen=True), False),
        (("people", "Person"), PERSON, False),
        ((1,), [1], False),
        (datetime(2026, 1, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=1))), False),
    ],
)
def test_what_is_the_same(old, new, alike):
    """Types count, order only where it means something."""
    assert same(old, new) is alike


def test_values_that_hold_themselves_are_compared():
    """A cycle is a shape: the same one is the same, another is not."""
    one, other, longer = [1], [1], [1]
    one.append(one)
    other.append(other)
    longer.append([1, longer])
    assert same(one, other)
    assert not same(one, longer)
    [change] = compare_records(person(a=one), person(a=longer))
    assert change.parts


def test_shared_and_deep_values_cost_no_more_than_their_parts():
    """Values that would unfold into 2**200 parts, and values deeper than Python's stack, are compared at once."""
    shared = [[1], [1], [2]]
    for index in range(3):
        for _ in range(200):
            shared[index] = [shared[index], shared[index]]
    assert same(shared[0], shared[1])
    assert not same(shared[0], shared[2])
    deep = [[], []]
    for index in range(2):
        for _ in range(100_000):
            deep[index] = [deep[index]]
    assert same(*deep)
    changes = compare_records(person(a=shared[0]), person(a=shared[2]))
    assert len(changes) == 1


@given(
    st.dictionaries(st.text(max_size=2), SCALARS, max_size=6), st.dictionaries(st.text(max_size=2), SCALARS, max_size=6)
)
@settings(max_examples=100, deadline=None)
def test_applying_the_changes_gives_the_new_record(old, new):
    """What is listed is exactly what separates the two."""
    changes = compare_records(person(**old), person(**new))
    result = dict(old)
    for change in changes:
        if change.new is ABSENT:
            del result[change.name]
        else:
            result[change.name] = change.new
    assert {name: repr(value) for name, value in result.items()} == {name: repr(value) for name, value in new.items()}
    assert all(change.old is ABSENT or repr(change.old) == repr(old[change.name]) for change in changes)
