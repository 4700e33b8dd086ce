"""A shell on a database with accounts, and what the tests look at: loads, output, keys."""

from __future__ import annotations

import importlib
import io
import shutil
import sys

import BTrees.IOBTree
import BTrees.OOBTree
import pytest
import transaction
import ZODB

from zodbsh.cli.cmd_shell import HIDDEN
from zodbsh.cli.context import AppContext
from zodbsh.cli.dispatch import dispatch, show
from zodbsh.cli.group import group
from zodbsh.db.session import Session
from zodbsh.render.output import Output
from zodbsh.shell.interpreter import Commands, Shell

BANK = """
from persistent import Persistent


class Account(Persistent):
    def __init__(self, balance=0):
        self.balance = balance
        self.owner = None
        self.tags = ["a", "b"]

    def deposit(self, amount):
        self.balance += amount

    @property
    def trap(self):
        raise AssertionError("a property ran")


class Named(Persistent):
    def __init__(self, name, friend=None):
        self.name = name
        self.friend = friend

    def __repr__(self):
        return f"Named {self.name}"


class Prying(Persistent):
    def __init__(self, friend):
        self.friend = friend

    def __repr__(self):
        return f"Prying into {self.friend.balance}"


class Writing(Persistent):
    count = 0

    def __repr__(self):
        self.count += 1
        return "Writing"


class Rude(Persistent):
    def __init__(self):
        self.word = "x"

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise AssertionError(f"__getattr__ ran for {name}")

    def __dir__(self):
        raise AssertionError("__dir__ ran")

    def __repr__(self):
        raise RuntimeError("no")
"""


@pytest.fixture
def bank(tmp_path, monkeypatch):
    """The module ``bank``, importable from ``tmp_path``."""
    (tmp_path / "bank.py").write_text(BANK)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield _import_bank()
    sys.modules.pop("bank", None)


@pytest.fixture
def path(tmp_path, bank, original):
    """A database: 100 accounts and 20,000 numbers by text, 20,000 by integer, and one object of each class."""
    return str(shutil.copy(original, tmp_path / "bank.fs"))


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    """The database that each test gets a copy of."""
    folder = tmp_path_factory.mktemp("original")
    (folder / "bank.py").write_text(BANK)
    sys.path.insert(0, str(folder))
    try:
        return _build(str(folder / "bank.fs"), _import_bank())
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("bank", None)


def _import_bank():
    sys.modules.pop("bank", None)
    importlib.invalidate_caches()
    return importlib.import_module("bank")


def _build(file, bank):
    db = ZODB.DB(file)
    with db.transaction() as connection:
        root = connection.root()
        root["accounts"] = BTrees.OOBTree.OOBTree()
        for number in range(20_000):
            root["accounts"][str(number)] = bank.Account(number) if number < 100 else number
        root["numbers"] = BTrees.IOBTree.IOBTree({number: str(number) for number in range(-50, 20_000)})
        root["account"] = account = bank.Account(10)
        account.owner = bank.Account(20)
        root["named"] = bank.Named("Ann", account.owner)
        root["prying"] = bank.Prying(account.owner)
        root["writing"] = bank.Writing()
        root["rude"] = bank.Rude()
        root["plain"] = {"k": {"deep": 1}, 7: "seven", b"raw": 2, ("a", 1): 3}
        root["odd \x1b[31m key"] = "\u202e evil"
    db.close()
    return file


@pytest.fixture
def make_shell(path, tmp_path):
    """Open shells, all closed at the end."""
    opened = []

    def make(spec=path, **options):
        session = Session.open(spec, **options)
        out = Output(stdout=io.StringIO(), stderr=io.StringIO(), color="never")
        app = AppContext(session=session, defaults=out)
        shell = Shell(session, app, Commands(group, dispatch, show, HIDDEN))
        opened.append(shell)
        return shell

    yield make
    for shell in opened:
        shell.close()
    transaction.abort()


@pytest.fixture
def shell(make_shell):
    """A shell on the database, read-write."""
    return make_shell()


@pytest.fixture
def said():
    """What a shell has written since the last call: (stdout, stderr)."""

    def read(shell):
        texts = []
        for stream in (shell.output.stdout, shell.output.stderr):
            texts.append(stream.getvalue())
            stream.seek(0)
            stream.truncate()
        return tuple(texts)

    return read


class Loads:
    """Counts what a storage is asked to load."""

    def __init__(self, shell, monkeypatch):
        self.oids = []
        connection = shell.session.connection
        # Held, as any object that was shown is: a reference says its class, the root's own oid does not.
        self.root = connection.root()
        connection.cacheMinimize()
        storage = connection._normal_storage
        load = storage.load

        def counted(oid, *args):
            self.oids.append(int.from_bytes(oid, "big"))
            return load(oid, *args)

        monkeypatch.setattr(storage, "load", counted)
        monkeypatch.setattr(connection._storage, "load", counted)

    @property
    def count(self):
        return len(self.oids)


@pytest.fixture
def count_loads(monkeypatch):
    """Empty a shell's cache, then count the records that its storage is asked for."""

    def start(shell):
        return Loads(shell, monkeypatch)

    return start
