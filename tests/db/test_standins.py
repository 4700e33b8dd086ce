"""Classes that are missing: what they held can be read, and nothing of it is written back."""

from __future__ import annotations

import collections
import importlib
import sys
from contextlib import closing
from textwrap import dedent

import BTrees.OOBTree
import pytest
import transaction
from persistent.mapping import PersistentMapping

from zodbsh.db.changes import MissingClass
from zodbsh.db.session import Session
from zodbsh.db.standins import ClassFinder, StandInError, is_stand_in
from zodbsh.db.writer import CannotSave
from zodbsh.record.decode import class_text, references
from zodbsh.source.file import FileSource

MORE = """
from persistent import Persistent
from persistent.mapping import PersistentMapping

class Slots(Persistent):
    __slots__ = ("a", "b")

class Folder(PersistentMapping):
    pass

class Names(dict):
    pass

class Items(list):
    pass
"""


@pytest.fixture
def gone(path, tmp_path, bank, witness, monkeypatch):
    """The database after its package was removed."""
    (tmp_path / "src" / "more.py").write_text(dedent(MORE))
    import more

    with witness(path) as root:
        root["point"] = bank.Point(3, 4)
        root["slots"] = slots = more.Slots()
        slots.a = 1
        root["folder"] = more.Folder(x=1)
        root["account"].money = bank.Money(5)
        root["account"].names = more.Names(k="v")
        root["account"].items = more.Items([1, 2])
        root["mixed"] = PersistentMapping(money=bank.Money(7))
        root["tree"] = BTrees.OOBTree.OOBTree({"a": bank.Account(1)})
    for name in ("bank", "more"):
        sys.modules.pop(name, None)
        (tmp_path / "src" / f"{name}.py").rename(tmp_path / "src" / f"{name}.py.gone")
    importlib.invalidate_caches()
    return path


@pytest.fixture
def session(gone):
    with Session.open(str(gone)) as opened:
        yield opened


def test_attributes_can_be_read(session):
    account = session.root.account
    assert is_stand_in(account)
    assert (account.balance, account.entries, account.money.amount) == (10, [], 5)
    assert dir(account) == ["balance", "entries", "items", "money", "names"]
    assert (account.names["k"], list(account.items), len(account.items)) == ("v", [1, 2], 2)
    assert session.root.slots.a == 1
    assert session.root.folder["x"] == 1
    assert session.root.tree["a"].balance == 1
    with pytest.raises(AttributeError, match=r"bank\.Account has no attribute 'nothing' in its record"):
        _ = account.nothing


def test_what_a_stand_in_shows(session):
    account = session.root.account
    assert account._p_changed is None
    assert repr(account) == "<stand-in for bank.Account 0x01>"
    assert account._p_changed is None, "to show it loads nothing"
    account._p_activate()
    assert repr(account) == "<stand-in for bank.Account: balance, entries, items, money, names 0x01>"
    assert repr(account.money) == "<stand-in for bank.Money: amount>"


def test_missing_classes_are_listed(session):
    """With the object whose record names them, and what would help."""
    session.root.account._p_activate()
    assert session.missing[0] == MissingClass(
        "bank",
        "Account",
        0,
        "no module named 'bank'",
        "-p DIR with the folder that holds 'bank', or install the package that provides it.",
    )
    assert {found.dotted for found in session.missing} == {
        "bank.Account", "bank.Counter", "more.Slots", "more.Folder", "bank.Money", "more.Names", "more.Items",
        "bank.Point",
    }  # fmt: skip
    money = next(found for found in session.missing if found.dotted == "bank.Money")
    assert money.used_by == 1


def test_a_class_missing_from_its_module(path, bank):
    del bank.Account
    with Session.open(str(path)) as session:
        _ = session.root.account
        (missing,) = session.missing
    assert missing.reason == "module 'bank' has no 'Account'"
    assert missing.hint == "-m MODULE with a module that defines it again, if bank was renamed or taken out."


def test_a_module_that_fails_is_told(path, bank, tmp_path):
    """Whatever its code raises."""
    del sys.modules["bank"]
    (tmp_path / "src" / "bank.py").write_text("raise RuntimeError('no licence')")
    with Session.open(str(path)) as session:
        assert is_stand_in(session.root.account)
        assert session.missing[0].reason == "RuntimeError: no licence"


def test_a_stand_in_cannot_be_changed(session):
    account = session.root.account
    for change in (
        lambda: setattr(account, "balance", 3),
        lambda: delattr(account, "balance"),
        lambda: setattr(account, "_p_changed", True),
        lambda: session.root.folder.__setitem__("x", 2),
        lambda: setattr(account.money, "amount", 3),
    ):
        with pytest.raises(StandInError, match="is missing, this is a stand-in"):
            change()
    assert session.dirty_count() == 0


def test_what_refers_to_a_stand_in_can_be_changed(session, gone, tmp_path, witness):
    """The reference stays, and its class comes back with the package."""
    source = (tmp_path / "src" / "bank.py.gone").read_text()
    session.root.again = session.root.account
    session.root.more = PersistentMapping(point=session.root.point)
    session.commit()
    session.close()
    (tmp_path / "src" / "bank.py").write_text(source)
    (tmp_path / "src" / "more.py").write_text(dedent(MORE))
    importlib.invalidate_caches()
    with witness(gone) as root:
        assert root["again"] is root["account"]
        assert root["again"].balance == 10
        assert (root["more"]["point"].x, root["more"]["point"].y) == (3, 4)
        assert root["account"].money.amount == 5
    with closing(FileSource(str(gone))) as source:
        assert [(ref.oid, class_text(ref.class_)) for ref in references(source.load(0).data)][:2] == [
            (1, "bank.Account"),
            (2, "bank.Counter"),
        ], "references keep their class"
        more = source.load(references(source.load(0).data)[-1].oid)
        assert [ref.class_ for ref in references(more.data)] == [None], "unless it is made with arguments"


def test_what_embeds_a_stand_in_cannot_be_saved(session):
    """Its class would not find it again as it was."""
    session.root.mixed["other"] = 1
    with pytest.raises((StandInError, CannotSave), match=r"bank\.Money: the class is missing") as caught:
        session.commit()
    assert "-p DIR" in caught.value.hint
    transaction.abort()
    assert list(session.root.mixed) == ["money"]


def test_silent_looks_pass_over_stand_ins(session):
    for name in list(session.root):
        session.root[name]._p_activate() if hasattr(session.root[name], "_p_activate") else None
    assert not session.dirty()


def test_no_import_lets_only_plain_data_in(path, bank):
    """Even classes that are there are stand-ins; ZODB's own are not."""
    with Session.open(str(path), no_import=True) as session:
        assert is_stand_in(session.root.account)
        assert (session.root.account.balance, session.root.plain) == (10, {"a": [1, 2]})
        assert session.missing[0].reason == "not imported (--no-import)"


@pytest.mark.parametrize(
    ("module", "name", "found"),
    [
        ("builtins", "set", set),
        ("__builtin__", "unicode", str),
        ("copy_reg", "_reconstructor", None),
        ("collections", "OrderedDict", collections.OrderedDict),
        ("BTrees.OOBTree", "OOBTree", BTrees.OOBTree.OOBTree),
        ("BTrees._OOBTree", "OOBTree", BTrees.OOBTree.OOBTree),
        ("persistent.mapping", "PersistentMapping", PersistentMapping),
    ],
)
def test_what_no_import_lets_in(module, name, found):
    got = ClassFinder(no_import=True).find(None, module, name)
    if module == "BTrees._OOBTree":
        assert is_stand_in(got.__new__(got))
    elif found is None:
        assert got(object, object, None).__class__ is object
    else:
        assert got is found


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("__builtin__", "__import__"),
        ("os", "system"),
        ("posix", "system"),
        ("subprocess", "Popen"),
        ("BTrees.OOBTree", "__name__"),
        ("BTrees", "OOBTree"),
        ("BTrees.check", "check"),
        ("ZODB.broken", "rebuild"),
        ("functools", "partial"),
        ("operator", "attrgetter"),
    ],
)
def test_what_no_import_keeps_out(module, name):
    got = ClassFinder(no_import=True).find(None, module, name)
    assert is_stand_in(got("echo"))


@pytest.mark.parametrize("name", ["", "a\0b", "with.dots", "Ünï", "x" * 500])
def test_strange_names(name):
    """A record may name anything."""
    got = ClassFinder().find(None, "no.such.module", name)
    assert is_stand_in(got())
    assert repr(got()).startswith("<stand-in for no.such.module.")
