"""What is offered to somebody who wrote a name that does not exist."""

from __future__ import annotations

import pytest

from zodbsh.near import near_names

SLIPS = [("ini", "init"), ("lgo", "log"), ("stauts", "status"), ("Acounts", "accounts"), ("acc", "accounts")]
FAR = [("run", "undo"), ("a", "b"), ("users", "orders"), ("catalog", "dialog"), ("import", "export")]


@pytest.mark.parametrize(("wanted", "meant"), SLIPS)
def test_a_slip_is_understood(wanted, meant):
    """A letter wrong, missing, too many, in the place of its neighbour; another case; a name that was only begun."""
    assert near_names(wanted, ["init", "log", "status", "accounts", "undo"]) == [meant]


@pytest.mark.parametrize(("wanted", "other"), FAR)
def test_what_is_far_is_not_offered(wanted, other):
    """Half the letters in common are no reason to think of a name."""
    assert near_names(wanted, [other]) == []


def test_the_nearest_come_first_and_few_of_them():
    """By slips, then by length those that begin with it."""
    names = ["account", "accounts", "accountant", "acount", "discount"]
    assert near_names("acount", names) == ["acount", "account"]
    assert near_names("accoun", names, limit=2) == ["account", "accounts"]
