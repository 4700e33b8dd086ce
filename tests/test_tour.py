"""The whole job, end to end through the installed program, then read back by plain ZODB code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import BTrees.OOBTree
import pytest
import ZODB
import ZODB.FileStorage

ACCOUNT = """
import persistent


class Account(persistent.Persistent):
    def __init__(self):
        self.balance = 0
        self.entries = []

    def deposit(self, amount):
        self.balance += amount
        self.entries = [*self.entries, amount]
"""

OPEN = """
import BTrees.OOBTree
root.accounts = BTrees.OOBTree.BTree()
root.accounts['account-1'] = account.Account(); root.accounts['account-1'].deposit(10)
"""


class Tour:
    """A folder with the tutorial's class, and the program run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "account.py").write_text(ACCOUNT)

    def zodbsh(self, *args: str, exit_code: int = 0) -> str:
        """Run the installed program; return its output; check its exit status and that stderr has no traceback."""
        program = Path(sys.executable).with_name("zodbsh")
        done = subprocess.run(
            [program, *args],
            cwd=self.folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            env={**os.environ, "NO_COLOR": "1"},
        )
        assert done.returncode == exit_code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def json(self, *args: str) -> Any:
        """Return what a command yields as JSON."""
        return json.loads(self.zodbsh(*args, "--format", "json"))


@pytest.fixture
def tour(tmp_path: Path) -> Tour:
    return Tour(tmp_path)


def balance(path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the account's balance as plain ZODB code reads it."""
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.delitem(sys.modules, "account", raising=False)
    database = ZODB.DB(ZODB.FileStorage.FileStorage(str(path), read_only=True))
    try:
        with database.transaction() as connection:
            accounts = connection.root.accounts
            assert type(accounts) is BTrees.OOBTree.OOBTree
            assert list(accounts) == ["account-1"]
            return int(accounts["account-1"].balance)
    finally:
        database.close()


def test_from_init_to_a_packed_database(tour: Tour, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds of run, status, diff, commit, inspect, log, show, and a pack; ZODB reads back what they say."""
    database = tour.folder / "mydata.fs"
    options = ("mydata.fs", "-p", ".", "-m", "account")
    tour.zodbsh("init", "mydata.fs")
    size = database.stat().st_size

    tour.zodbsh("run", *options, "-c", OPEN)
    assert database.stat().st_size == size, "staging writes nothing to the database"
    status = tour.json("status", "mydata.fs")
    assert [(entry["class"], entry["change"]) for entry in status["staged"]] == [
        ("persistent.mapping.PersistentMapping", "changed"),
        ("BTrees.OOBTree.OOBTree", "new"),
        ("account.Account", "new"),
    ]
    diff = tour.json("diff", "mydata.fs")
    assert {entry["path"] for entry in diff} == {"root", "root.accounts", "root.accounts['account-1']"}
    first = tour.json("commit", "mydata.fs", "-m", "first account")
    assert first["objects"] == 3
    assert tour.json("status", "mydata.fs")["staged"] == []
    assert balance(database, monkeypatch) == 10

    tour.zodbsh("run", *options, "-c", "root.accounts['account-1'].deposit(5)")
    (change,) = tour.json("diff", "mydata.fs")
    assert (change["path"], change["class"], change["change"]) == (
        "root.accounts['account-1']",
        "account.Account",
        "changed",
    )
    assert change["attributes"] == [
        {"name": "balance", "old": 10, "new": 15},
        {"name": "entries", "old": [10], "new": [10, 5]},
    ]
    second = tour.json("commit", "mydata.fs", "-m", "second deposit")
    assert balance(database, monkeypatch) == 15

    log = tour.json("log", "mydata.fs")
    assert [entry["tid"] for entry in log[:2]] == [second["tid"], first["tid"]]
    assert [entry["description"] for entry in log[:2]] == ["second deposit", "first account"]
    overview = tour.json("inspect", "mydata.fs")
    assert (overview["objects"], overview["records"], overview["transactions"]) == (3, 5, 3)
    assert overview["last_tid"] == second["tid"]
    assert [entry["key"] for entry in overview["root"]] == ["accounts"]
    account = tour.json("inspect", "mydata.fs", "root.accounts['account-1']")
    assert account["class"] == "account.Account"
    assert account["state"] == {"balance": 15, "entries": [10, 5]}
    before = tour.json("inspect", "mydata.fs", "/accounts/account-1/balance", "--at", first["tid"])
    assert before["state"] == 10
    assert tour.json("show", "mydata.fs", second["tid"])["objects"][0]["path"] == "root.accounts['account-1']"

    packed = tour.json("pack", "mydata.fs", "-y")
    assert packed["bytes_before"] > packed["bytes_after"] == database.stat().st_size
    assert (packed["objects_removed"], packed["revisions_removed"]) == (0, 2)
    assert balance(database, monkeypatch) == 15
    assert tour.json("inspect", "mydata.fs")["records"] == 3


def test_an_aborted_change_leaves_nothing(tour: Tour) -> None:
    """After abort the database is the file it was, and status is clean."""
    tour.zodbsh("init", "mydata.fs")
    tour.zodbsh("run", "mydata.fs", "-p", ".", "-m", "account", "-c", OPEN, "--commit")
    before = (tour.folder / "mydata.fs").read_bytes()
    tour.zodbsh("run", "mydata.fs", "-p", ".", "-c", "root.accounts['account-1'].deposit(1)")
    assert [entry["path"] for entry in tour.json("status", "mydata.fs")["staged"]] == ["root.accounts['account-1']"]
    tour.zodbsh("abort", "mydata.fs", "-y")
    assert tour.json("status", "mydata.fs")["staged"] == []
    assert (tour.folder / "mydata.fs").read_bytes() == before
    tour.zodbsh("commit", "mydata.fs", exit_code=0)
    assert (tour.folder / "mydata.fs").read_bytes() == before


def test_the_shell_commits_what_a_script_types(tour: Tour, monkeypatch: pytest.MonkeyPatch) -> None:
    """``shell -c`` sees the user's classes and commits by hand."""
    tour.zodbsh("init", "mydata.fs")
    code = f"{OPEN}\ntransaction.commit()\nprint(root.accounts['account-1'].balance)"
    assert tour.zodbsh("shell", "mydata.fs", "-p", ".", "-m", "account", "-c", code).splitlines()[-1] == "10"
    assert balance(tour.folder / "mydata.fs", monkeypatch) == 10
