"""What the shell shows of a value, and what showing it costs."""

from __future__ import annotations

import pytest

from zodbsh.ids import from_bytes, oid_text
from zodbsh.shell.display import TREE_LOADS, display
from zodbsh.shell.objects import is_ghost


def show(shell, value):
    return display(value, width=80, connection=shell.session.connection)


def test_object_is_loaded_and_what_it_refers_to_stays_a_ghost(shell, count_loads):
    """Showing an object loads its own record and names the next object without loading it."""
    account = shell.session.root.account
    owner = account.owner
    oid = from_bytes(account._p_oid)
    loads = count_loads(shell)
    text = show(shell, account)
    assert text == (
        f"<bank.Account {oid_text(oid)}>\n    balance = 10\n"
        f"    owner = <bank.Account {oid_text(from_bytes(owner._p_oid))} ghost>\n"
        "    tags = ['a', 'b']"
    )
    assert loads.oids == [oid]
    assert is_ghost(owner)


def test_ghost_in_a_container_stays_a_ghost(shell, count_loads):
    """A list that holds ghosts is shown without a load."""
    accounts = [shell.session.root.account, shell.session.root.named]
    loads = count_loads(shell)
    assert show(shell, accounts).count("ghost>") == 2
    assert loads.count == 0


def test_btree_shows_its_first_items_by_a_scan(shell, count_loads):
    """Of 20,000 items twenty are shown, at the cost of a few buckets."""
    tree = shell.session.root.accounts
    loads = count_loads(shell)
    lines = show(shell, tree).split("\n")
    assert lines[0].startswith("<BTrees.OOBTree.OOBTree 0x")
    assert lines[0].endswith("> {")
    assert lines[1].strip().startswith("'0': <bank.Account 0x")
    assert lines[4] == "    '100': 100"
    assert lines[21:] == ["    and more", "}"]
    assert loads.count <= TREE_LOADS + 1


def test_root_is_shown_by_its_entries(shell, count_loads):
    """The root lists its entries, and loads none of them."""
    loads = count_loads(shell)
    text = show(shell, shell.session.root)
    assert text.startswith("<persistent.mapping.PersistentMapping 0x00> {\n    'accounts': <BTrees.OOBTree.OOBTree 0x")
    assert loads.oids == [0]


def test_own_repr_of_a_class_is_used(shell):
    """A class that describes itself is taken at its word."""
    assert show(shell, shell.session.root.named) == "Named Ann"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("prying", "friend = <bank.Account"),
        ("rude", "word = 'x'"),
        ("writing", "<bank.Writing 0x"),
    ],
)
def test_repr_that_loads_writes_or_raises_is_passed_over(shell, name, shown):
    """A __repr__ that crosses a border, changes its object or raises gives way to the attributes; nothing is dirty."""
    value = shell.session.root[name]
    assert shown in show(shell, value)
    assert shell.session.dirty_count() == 0


def test_text_from_the_database_is_escaped(shell):
    """Control characters and direction marks never reach the terminal."""
    text = show(shell, shell.session.root)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"'odd \x1b[31m key': '\u202e evil'" in text


def test_no_line_can_be_read_as_a_dot_command(shell):
    """A __repr__ whose lines begin with a dot is shown with the dot escaped."""

    class Dotted:
        def __repr__(self):
            return "x\n.quit\n  .abort"

    assert show(shell, Dotted()) == "x\n\\x2equit\n  \\x2eabort"


def test_containers_are_bounded(shell):
    """Long containers and texts are cut, and say how much is left out; a container within itself ends."""
    loop = [1]
    loop.append(loop)
    assert show(shell, loop) == "[1, ...]"
    assert show(shell, list(range(1000))).endswith("    19\n    and 980 more\n]")
    assert show(shell, {"k": list(range(1000))}).endswith("9, and 990 more]}")
    assert show(shell, "x" * 5000) == repr("x" * 2000) + " and 3,000 more characters"
    assert show(shell, [b"x" * 500]) == f"[\n    {b'x' * 120!r} and 380 more bytes\n]"
    assert show(shell, 10**6000) == "<an int of 19,932 bits>"
    nested = value = []
    for _ in range(100):
        value.append([])
        value = value[0]
    assert show(shell, nested) == "[[[[[...]]]]]"


def test_plain_values_are_shown_as_python_does(shell):
    """Empty and small values look as they are written."""
    for value in ([], {}, (), (1,), {1}, frozenset({1}), {"a": (1, None, 1.5, True)}, "it's", b"\x00"):
        assert show(shell, value) == repr(value)
    assert show(shell, set()) == "set()"


def test_object_that_cannot_be_loaded_is_told(shell):
    """A dangling reference is shown as one."""
    from ZODB.POSException import POSKeyError

    account = shell.session.root.account
    account._p_invalidate()
    connection = shell.session.connection

    def missing(obj):
        raise POSKeyError(obj._p_oid)

    connection.setstate = missing
    try:
        assert show(shell, account).startswith("<bank.Account 0x")
        assert "cannot be loaded: POSKeyError: " in show(shell, account)
    finally:
        del connection.setstate


def test_stand_in_shows_its_record(make_shell, count_loads):
    """With no class at all the attributes of an object are there to read."""
    shell = make_shell(no_import=True)
    text = show(shell, shell.session.root["account"])
    assert "stand-in>\n    balance = 10\n    owner = <bank.Account 0x" in text


@pytest.mark.parametrize("error", [SystemExit, GeneratorExit])
def test_repr_that_wants_to_exit_is_a_failing_one(shell, error, said):
    """It ends no shell."""

    class Rude:
        def __repr__(self):
            raise error

    shell.evaluator.namespace["rude"] = Rude()
    assert shell.execute("rude") == 0
    out, err = said(shell)
    assert out.startswith("<")
    assert out.endswith("Rude>\n")
    assert err == ""
