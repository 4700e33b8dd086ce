"""``zodbsh find`` from the command line: forms, streams, errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import ZODB
from program import in_process as zodbsh
from ZODB.Connection import TransactionMetaData

from zodbsh.ids import to_bytes


def rows_of(*arguments):
    status, out, err = zodbsh("find", *arguments, "--format", "ndjson")
    assert (status, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def test_a_table_has_a_line_an_object(path):
    """Oid, class, path, and what is shown; nothing for what is missing."""
    assert zodbsh("find", path, "--class", "bank.*", "--show", "balance,len(entries)") == (
        0,
        "0x01      bank.Account  root.account  balance=10  len(entries)=0\n0x02      bank.Counter  root.counter\n",
        "",
    )


def test_json_is_a_list_of_rows(path):
    """Oid, class and path, and what --show names; decoded values are marked, what is missing is null."""
    status, out, _ = zodbsh("find", path, "--show", "balance,self.counter", "--format", "json")
    assert (status, json.loads(out)) == (0, [
        {"oid": "0x00", "class": "persistent.mapping.PersistentMapping", "path": "root", "balance": None,
         "self.counter": {"@ref": ["0000000000000002", "bank.Counter"]}},
        {"oid": "0x01", "class": "bank.Account", "path": "root.account", "balance": 10, "self.counter": None},
        {"oid": "0x02", "class": "bank.Counter", "path": "root.counter", "balance": None, "self.counter": None},
    ])  # fmt: skip


def test_csv_has_a_column_a_value(path):
    """Texts as they are, other values as people see them."""
    _, out, _ = zodbsh("find", path, "--refers-to", "0x01", "--show", "account,plain", "--format", "csv")
    assert out.splitlines() == [
        "oid,class,path,account,plain",
        "0x00,persistent.mapping.PersistentMapping,root,<bank.Account 0x01>,\"{'a': [1, 2]}\"",
    ]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--class", "Account"), ["0x01"]), (("--class", "account"), []), (("--class", "Acc*"), ["0x01"]),
        (("--class", "Account", "--class", "Counter"), ["0x01", "0x02"]), (("--class", "*.Account"), ["0x01"]),
        (("--refers-to", "root.account"), ["0x00"]), (("--refers-to", "/account"), ["0x00"]),
        (("--refers-to", "0x99"), []), (("--larger", "0"), ["0x00", "0x01", "0x02"]), (("--larger", "1kb"), []),
        (("--where", "balance == 10"), ["0x01"]), (("--where", "balance > 10"), []),
        (("-n", "1"), ["0x00"]), (("-n", "0"), []), (("--no-path", "--class", "Account"), ["0x01"]),
        (("--where", "self.account.balance == 10", "--refers-to", "0x02"), ["0x00"]), (("--at", "2001-01-01"), []),
    ],
)  # fmt: skip
def test_what_is_found(path, arguments, found):
    """Every criterion, alone and with others."""
    status, out, _ = zodbsh("find", path, *arguments, "--format", "ndjson")
    assert (status, [json.loads(line)["oid"] for line in out.splitlines()]) == (0, found)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--where", "balance >"), 2, "error: --where, character 10: a name or a value belongs here\n    balance >\n"),
        (("--show", "a,"), 2, "error: --show, character 3: "),
        (("--show", "path"), 2, "error: --show path: there is a column"),
        (("--larger", "big"), 2, "error: Invalid value for '--larger': not a size: 'big'"),
        (("--refers-to", "root.plain"), 2, "error: root.plain is a value within root"),
        (("--refers-to", "root.nobody"), 3, "error: root has no key 'nobody'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_an_error(path, arguments, status, message):
    """With a status and no result."""
    code, out, err = zodbsh("find", path, *arguments)
    assert (code, out) == (status, "")
    assert err.startswith(message)


def test_an_expression_is_read_before_the_database(tmp_path):
    """Its error comes at once, whatever the database is."""
    assert zodbsh("find", tmp_path / "no.fs", "--where", "(")[0] == 2
    assert zodbsh("find", tmp_path / "no.fs", "--where", "x")[0] == 3


def test_a_class_that_nothing_has_is_mentioned(path):
    """With what resembles it, on stderr; it is no error."""
    assert zodbsh("find", path, "--class", "Acount") == (
        0,
        "",
        "no class matches 'Acount'; did you mean bank.Account?\n",
    )
    assert zodbsh("find", path, "--class", "Acount", "-q") == (0, "", "")


def test_the_past_is_searched_with_at(path, witness):
    """Objects and values are as they were."""
    _, out, _ = zodbsh("log", path, "-n", "1", "--format", "json")
    (entry,) = json.loads(out)
    with witness(path) as root:
        root["account"].deposit(5)
        root["later"] = type(root["account"])(3)
    assert [row["balance"] for row in rows_of(path, "--class", "Account", "--show", "balance")] == [15, 3]
    assert [
        row["balance"] for row in rows_of(path, "--class", "Account", "--show", "balance", "--at", entry["tid"])
    ] == [10]


def test_a_table_ends_after_some_and_says_so(path):
    """A program gets all."""
    _, out, _ = zodbsh("find", path, "-n", "2")
    assert out.splitlines()[2:] == ["(... and more: --all, or -n for more than 2)"]
    assert len(zodbsh("find", path, "-n", "3")[1].splitlines()) == 3
    assert len(rows_of(path, "-n", "2")) == 2


def test_paths_may_be_left_out(path):
    """They are null then."""
    assert rows_of(path, "--class", "Account", "--no-path") == [{"oid": "0x01", "class": "bank.Account", "path": None}]
    assert zodbsh("find", path, "--class", "Account", "--no-path")[1] == "0x01      bank.Account\n"


def broken(path):
    """Write a record that does not decode as root.broken's."""
    storage = ZODB.FileStorage.FileStorage(str(path))
    change = TransactionMetaData()
    storage.tpc_begin(change)
    _, tid = storage.load(to_bytes(2))
    storage.store(to_bytes(2), tid, b"\x80\x03cbank\nCounter\nq\x01.\x80\x03}q\x02X", "", change)
    storage.tpc_vote(change)
    storage.tpc_finish(change)
    storage.close()


def test_what_does_not_decode_is_left_out_with_one_line(path):
    """Where its values are asked for; by class it is found."""
    broken(path)
    status, out, err = zodbsh("find", path, "--where", "balance == 10 or value == 0", "--format", "ndjson")
    assert status == 0
    assert [json.loads(line)["oid"] for line in out.splitlines()] == ["0x01"]
    assert err.startswith("warning: left out, because it cannot be looked at: 1 object. The first: the record of 0x02")
    assert err.count("\n") == 1
    assert [row["path"] for row in rows_of(path, "--class", "Counter")] == ["0x02"]


def test_no_output_acts_on_a_terminal_or_is_a_dot_command(tmp_path):
    """Whatever the values and the keys are."""
    path = tmp_path / "my.fs"
    db = ZODB.DB(str(path))
    with db.transaction() as connection:
        connection.root()["\x1b[2J\n.quit"] = type(connection.root())({"x": "\x1b]0;t\x07\n.quit"})
    db.close()
    for form in ("table", "json", "ndjson", "csv"):
        _, out, _ = zodbsh("find", path, "--show", "self['x'],x", "--format", form)
        assert "\x1b" not in out
        assert not any(line.lstrip().startswith(".") for line in out.splitlines())


def test_it_is_a_dot_command(path):
    """On the session's own snapshot."""
    done = subprocess.run(
        [sys.executable, "-m", "zodbsh", "shell", str(path), "--no-import"],
        input=".find --where 'balance == 10' --format ndjson\n", capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert json.loads(done.stdout.splitlines()[0])["path"] == "root.account"


@pytest.fixture
def many(tmp_path, bank, no_fsync):
    """A database of some thousand objects."""
    path = tmp_path / "many.fs"
    db = ZODB.DB(str(path))
    with db.transaction() as connection:
        connection.root()["all"] = [bank.Account(number) for number in range(5_000)]
    db.close()
    return path


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "zodbsh", "find", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": ""},
    )  # fmt: skip


@pytest.mark.parametrize("form", ["table", "json", "ndjson", "csv"])
def test_a_closed_pipe_is_silent(many, form):
    """Whoever reads one line is done, and so is the search."""
    process = start(many, "--all", "--format", form)
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


@pytest.mark.parametrize("form", ["table", "ndjson", "csv"])
def test_an_object_is_written_when_it_is_found(many, form):
    """The first can be read while the search goes on; Ctrl-C ends it at once."""
    # The pattern takes for ever on the second account.
    slow = f"_oid == 0 or balance == 0 or '{'a' * 40}!' ~ '(a+)+$'"
    process = start(many, "--where", slow, "--format", form)
    lines = [process.stdout.readline() for _ in range(3 if form == "csv" else 2)]
    assert "root.all[0]" in lines[-1]
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process.communicate()
