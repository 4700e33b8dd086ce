"""A database with a few objects of a class that can be imported, and plain ZODB as the witness."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from ZODB import ConflictResolution

# Whoever starts the tests in the background has them ignore Ctrl-C or the hang-up, and the programs they start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

FIGURES = "ZODBSH_CAMPAIGN_LINES"

BANK = '''
from persistent import Persistent


class Account(Persistent):
    def __init__(self, balance=0):
        self.balance = balance
        self.entries = []

    def deposit(self, amount):
        self.balance += amount


class Counter(Persistent):
    """Resolves its conflicts."""

    def __init__(self):
        self.value = 0

    def _p_resolveConflict(self, base, theirs, ours):
        merged = dict(ours)
        merged["value"] = theirs["value"] + ours["value"] - base["value"]
        return merged


class Point(Persistent):
    """Made with arguments, so that references to it say nothing of its class."""

    def __new__(cls, x=0, y=0):
        self = super().__new__(cls)
        self.__dict__.update(x=x, y=y)
        return self

    def __getnewargs__(self):
        return self.x, self.y


class Money:
    """Not persistent: lives in its owner's record."""

    def __init__(self, amount):
        self.amount = amount
'''


@pytest.fixture
def bank(tmp_path, monkeypatch):
    """The module with the application's classes, importable as ``bank``."""
    folder = tmp_path / "src"
    folder.mkdir()
    (folder / "bank.py").write_text(BANK)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "bank", raising=False)
    # ZODB remembers classes, also those of another test's module.
    ConflictResolution._class_cache.clear()
    ConflictResolution._unresolvable.clear()
    module = importlib.import_module("bank")
    yield module
    sys.modules.pop("bank", None)


@pytest.fixture
def no_fsync(monkeypatch):
    """Nothing need be durable here."""
    monkeypatch.setattr(sys.modules["ZODB.FileStorage.FileStorage"], "fsync", lambda _: None)
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def clean_transaction():
    """No test leaves a transaction to the next."""
    transaction.abort()
    yield
    transaction.abort()


class Witness:
    """Opens a FileStorage with nothing but ZODB."""

    def __init__(self, path, blobs=None):
        self.path, self.blobs = str(path), blobs and str(blobs)

    def __enter__(self):
        self.database = ZODB.DB(ZODB.FileStorage.FileStorage(self.path, blob_dir=self.blobs))
        self.manager = transaction.TransactionManager()
        self.connection = self.database.open(self.manager)
        return self.connection.root()

    def __exit__(self, kind, *rest):
        if kind is None:
            self.manager.commit()
        self.manager.abort()
        self.connection.close()
        self.database.close()


@pytest.fixture
def witness():
    return Witness


@pytest.fixture
def path(tmp_path, bank, no_fsync, clean_transaction):
    """A database: root.account (balance 10), root.counter, root.plain."""
    found = tmp_path / "my.fs"
    with Witness(found) as root:
        root["account"] = bank.Account(10)
        root["counter"] = bank.Counter()
        root["plain"] = {"a": [1, 2]}
    return found


def pytest_configure(config):
    """Let every process of this run write the figures of its campaigns into one file."""
    if not hasattr(config, "workerinput"):
        descriptor, os.environ[FIGURES] = tempfile.mkstemp(prefix="zodbsh-figures-")
        os.close(descriptor)


def pytest_terminal_summary(terminalreporter):
    """Print each campaign's case count and figures."""
    lines = Path(os.environ[FIGURES])
    if found := sorted(lines.read_text(encoding="utf-8").splitlines()):
        terminalreporter.section("campaigns")
        for line in found:
            terminalreporter.write_line(line)


def pytest_unconfigure(config):
    """Remove the file."""
    if not hasattr(config, "workerinput"):
        Path(os.environ.pop(FIGURES)).unlink(missing_ok=True)
