"""What ZODB does not see: silent mutations, shared values, classes nobody else can import."""

from __future__ import annotations

import sys
from types import ModuleType

import BTrees.OOBTree
import pytest
from persistent import Persistent
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping

from zodbsh.db.equality import same
from zodbsh.db.session import Session
from zodbsh.ops.dirty import dirty
from zodbsh.record.values import Dict, Global, Instance, Ref, Set


@pytest.fixture
def session(path):
    with Session.open(str(path)) as opened:
        yield opened


def silent(session):
    return [(item.path, item.class_, item.names) for item in dirty(session).silent]


def test_a_clean_session_has_nothing_dirty(session):
    for name in session.root:
        session.root[name]._p_activate() if hasattr(session.root[name], "_p_activate") else None
    found = dirty(session)
    assert not found
    assert (found.shared, found.main_classes) == ((), ())


def test_a_list_changed_in_place_is_found(session):
    session.root.account.entries.append(5)
    assert silent(session) == [("root.account", "bank.Account", ("entries",))]


def test_a_dict_in_the_root_changed_in_place_is_found(session):
    session.root.plain["a"][0] = "other"
    assert silent(session) == [("root", "persistent.mapping.PersistentMapping", ("data",))]


def test_a_value_in_a_bucket_changed_in_place_is_found(session, path):
    """The tree is what the user knows."""
    session.root.tree = BTrees.OOBTree.OOBTree({f"{number:03}": [number] for number in range(100)})
    session.commit()
    session.connection.cacheMinimize()
    session.root.tree["050"].append("more")
    (found,) = dirty(session).silent
    assert (found.path, found.class_) == ("root.tree", "BTrees.OOBTree.OOBucket")


def test_a_marked_change_is_not_silent(session):
    session.root.account.entries.append(5)
    session.root.account._p_changed = True
    found = dirty(session)
    assert (found.silent, [item.path for item in found.changed]) == ((), ["root.account"])


def test_new_objects_carry_their_paths(session, bank):
    session.root.account.friend = bank.Account()
    session.root.account.friend.friends = PersistentList([bank.Account()])
    assert [item.path for item in dirty(session).new] == [
        "root.account.friend",
        "root.account.friend.friends",
        "root.account.friend.friends[0]",
    ]


def test_a_class_that_loads_an_old_state_anew_is_not_silent(path, bank, witness):
    """An upgrade while loading is no change of the user's."""
    bank.Account.__setstate__ = lambda self, state: self.__dict__.update(state, upgraded=True)
    with Session.open(str(path)) as session:
        assert session.root.account.upgraded is True
        assert silent(session) == []
        session.root.account.entries.append(1)
        assert silent(session) == [("root.account", "bank.Account", ("entries", "upgraded"))]


def test_looking_for_silent_mutations_marks_nothing(session):
    session.root.account.entries.append(5)
    dirty(session)
    assert (session.root.account._p_changed, session.dirty_count()) == (False, 0)


def test_a_value_in_two_records_is_found(session, bank):
    session.root.other = bank.Account()
    session.root.other.entries = session.root.account.entries
    (shared,) = dirty(session).shared
    assert (shared.type_, [owner.path for owner in shared.owners]) == ("list", ["root.account", "root.other"])


def test_a_value_twice_in_one_record_is_fine(session):
    session.root.account.again = session.root.account.entries
    assert dirty(session).shared == ()


def test_classes_of_main_are_named(session, monkeypatch):
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    exec(
        "from persistent import Persistent\nclass Mine(Persistent): pass\nclass Inner: pass\n"
        "mine = Mine()\nmine.inner = Inner()",
        main.__dict__,
    )
    session.root.mine = main.mine
    assert sorted(dirty(session).main_classes) == ["__main__.Inner", "__main__.Mine"]


def test_classes_of_a_module_made_by_hand_are_named(session, monkeypatch):
    made = ModuleType("made_by_hand")
    monkeypatch.setitem(sys.modules, "made_by_hand", made)
    made.Thing = type("Thing", (Persistent,), {"__module__": "made_by_hand"})
    session.root.thing = made.Thing()
    assert dirty(session).main_classes == ("made_by_hand.Thing",)


def test_a_set_in_another_order_is_not_silent(session):
    """The order of a set's items in a record depends on how it came about."""
    session.root.account.names = {8, 0}
    session.commit()
    session.connection.cacheMinimize()
    names = session.root.account.names
    before = list(names)
    names.clear()
    names.update(reversed(before))
    assert list(names) != before
    assert silent(session) == []


LOOP: list = []
LOOP.append(LOOP)
OTHER_LOOP: list = []
OTHER_LOOP.append(OTHER_LOOP)


def instance(state):
    found = Instance(Global("m", "C"))
    found.state, found.has_state = state, True
    return found


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (1, True, False),
        (1, 1.0, False),
        (float("nan"), float("nan"), True),
        ([1, [2]], [1, [2]], True),
        ([1, 2], [2, 1], False),
        ((1,), [1], False),
        (LOOP, OTHER_LOOP, True),
        (Ref(1, Global("a", "B"), offset=3), Ref(1, offset=9), True),
        (Ref(1), Ref(1, weak=True), False),
        (Dict([("a", 1), ("b", 2)]), Dict([("b", 2), ("a", 1)]), True),
        (Dict([("a", 1)]), Dict([("a", 2)]), False),
        (Dict([("a", 1)]), Dict([("b", 1)]), False),
        (Dict([("a", 1), ("b", 2)], Global("collections", "OrderedDict")),
         Dict([("b", 2), ("a", 1)], Global("collections", "OrderedDict")), False),
        (Dict([(1, "x"), (True, "y")]), Dict([(True, "y"), (1, "x")]), True),
        (Set([1, 2]), Set([2, 1]), True),
        (Set([1, 2]), Set([1, 3]), False),
        (Set([1]), Set([1], frozen=True), False),
        (Set([(1, Ref(2))]), Set([(1, Ref(2))]), True),
        (instance(Dict([("a", 1)])), instance(Dict([("a", 1)])), True),
        (instance(Dict([("a", 1)])), instance(Dict([("a", [])])), False),
    ],
)  # fmt: skip
def test_equality(one, other, equal):
    """Of decoded values; both ways round."""
    assert (same(one, other), same(other, one)) == (equal, equal)


def test_equality_of_deep_values():
    """Nothing recurses."""
    one, other = [], []
    for _ in range(100_000):
        one, other = [one], [other]
    assert same(one, other)
    while one:
        one = one.pop()
    while other:
        other = other.pop()


def test_persistent_containers_register_by_themselves(session):
    session.root.list = PersistentList([1])
    session.root.map = PersistentMapping(a=1)
    session.commit()
    session.root.list.append(2)
    session.root.map["b"] = 2
    found = dirty(session)
    assert ([item.path for item in found.changed], found.silent) == (["root.list", "root.map"], ())
