"""``zodbsh undo`` from the command line: previews, questions, JSON, exit statuses."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
import ZODB
from persistent.mapping import PersistentMapping
from program import zodbsh
from ZODB.FileStorage import FileIterator
from ZODB.utils import u64

from zodbsh.errors import ExitCode


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Four transactions: the root, an object, two changes of it."""
    path = tmp_path / "my data.fs"
    db = ZODB.DB(str(path))
    for number in range(3):
        with db.transaction(f"number {number}") as connection:
            connection.root().setdefault("a", PersistentMapping())["n"] = number
    db.close()
    return path


def tids(path: Path) -> list[str]:
    return [f"{u64(txn.tid):016x}" for txn in FileIterator(str(path))]


def test_a_dry_run_shows_and_writes_nothing(database: Path) -> None:
    """The transaction, each object with what changes; nothing in the folder changes."""
    last = tids(database)[-1]
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in database.parent.iterdir()}
    run = zodbsh("undo", database, last, "--dry-run")
    assert (run.returncode, run.stderr) == (0, "")
    head, *rest = run.stdout.splitlines()
    assert head.startswith(f"undo of {last}  ")
    assert head.endswith("  number 2")
    assert rest == ["", "root.a  persistent.mapping.PersistentMapping 0x01  changed", "  ~ ['n']: 2 -> 1"]
    assert before == {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in database.parent.iterdir()}


def test_json_of_an_undo(database: Path) -> None:
    """One document: what was undone, by which transaction, with the diff."""
    last = tids(database)[-1]
    run = zodbsh("undo", database, last, "-m", "sorry", "--format", "json")
    result = json.loads(run.stdout)
    assert (result["tid"], result["objects"], result["dry_run"]) == (tids(database)[-1], 1, False)
    assert [item["tid"] for item in result["transactions"]] == [last]
    assert result["diff"][0]["attributes"] == [{"name": "['n']", "old": 2, "new": 1}]
    assert list(FileIterator(str(database)))[-1].description == b"sorry"
    again = json.loads(zodbsh("undo", database, last, "--format", "json").stdout)
    assert (again["tid"], again["restored"]) == (None, True)


def test_the_hint_of_a_conflict_works(database: Path) -> None:
    """Exit 5, three states side by side, and a command that can be copied."""
    _, _, first, second = tids(database)
    run = zodbsh("undo", database, first)
    assert run.returncode == ExitCode.CONFLICT
    assert f"  since: {second}  " in run.stdout
    assert run.stdout.splitlines()[-2:] == [
        "",
        f"these can be undone together: zodbsh undo '{database}' {second} {first}",
    ]
    command = run.stderr.splitlines()[-1].partition("`")[2].partition("`")[0]
    assert command == f"zodbsh undo '{database}' {second} {first}"
    failed = zodbsh("undo", database, first, "--format", "json")
    assert failed.returncode == ExitCode.CONFLICT
    (clash,) = json.loads(failed.stdout)["conflicts"]
    assert clash["attributes"][0] == {"name": "['n']", "before": 0, "after": 1, "now": 2, "both": True}
    assert json.loads(failed.stderr)["error"]["code"] == "undo-conflict"
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    copied = subprocess.run(command, shell=True, env=environment, stdin=subprocess.DEVNULL, capture_output=True)
    assert copied.returncode == 0


@pytest.mark.parametrize(("answer", "written"), [("n", False), ("y", True)])
@pytest.mark.parametrize("way", ["tid", "after", "redo"])
def test_a_person_is_asked(database: Path, answer: str, written: bool, way: str) -> None:
    """At a terminal the answer decides."""
    words = {"tid": [tids(database)[-1]], "after": ["--after", tids(database)[1]], "redo": ["--redo"]}[way]
    if way == "redo":
        assert zodbsh("undo", database, "--after", tids(database)[1]).returncode == 0
    before = database.read_bytes()
    child = pexpect.spawn(sys.executable, ["-m", "zodbsh", "undo", str(database), *words], timeout=60)
    child.expect(r"\[y/N\] ")
    assert database.read_bytes() == before
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert (database.read_bytes() != before) is written


def test_back_and_again(database: Path) -> None:
    """What goes is listed, kept beside the file, and back again by --redo."""
    whole, found = database.read_bytes(), tids(database)
    dry = zodbsh("undo", database, "--after", found[1], "--dry-run")
    assert (dry.returncode, database.read_bytes()) == (0, whole)
    run = zodbsh("undo", database, "--after", found[1])
    assert run.returncode == 0
    assert run.stdout.startswith(dry.stdout)
    tail = f"{database}.undone-{found[2]}-{found[3]}"
    assert run.stdout.splitlines()[-1] == f"2 transactions taken off: {tail}"
    assert run.stderr == (f"`zodbsh undo '{database}' --redo` puts them back, as long as nothing new is written\n")
    status = zodbsh("status", database)
    assert status.stderr == f"`zodbsh undo '{database}' --redo` puts back 2 transactions that were taken off its end\n"
    again = zodbsh("undo", database, "--redo", tail)
    assert again.stdout.splitlines()[0] == "2 transactions put back"
    assert database.read_bytes() == whole
    assert not Path(tail).exists()
    assert zodbsh("undo", database, "--redo").returncode == ExitCode.NOT_FOUND
    assert zodbsh("status", database).stderr == ""


def test_the_hint_of_a_redo_leads_back(database: Path) -> None:
    """Where the database has gone on, the two commands of the hint put back what was taken off, not what came since."""
    whole, found = database.read_bytes(), tids(database)
    assert zodbsh("undo", database, "--after", found[2]).returncode == 0
    assert zodbsh("undo", database, found[2]).returncode == 0
    refused = zodbsh("undo", database, "--redo")
    assert refused.returncode == ExitCode.CONFLICT
    commands = refused.stderr.splitlines()[-1].split("`")[1::2]
    tail = f"{database}.undone-{found[3]}-{found[3]}"
    assert commands == [f"zodbsh undo '{database}' --after {found[2]}", f"zodbsh undo '{database}' --redo '{tail}'"]
    for command in commands:
        assert zodbsh(*shlex.split(command)[1:]).returncode == 0
    assert database.read_bytes() == whole


def test_json_of_both_ways(database: Path) -> None:
    """Programs read the transactions that went, the tail, and what came back."""
    found = tids(database)
    gone = json.loads(zodbsh("undo", database, "--after", found[2], "--format", "json").stdout)
    assert (gone["tid"], gone["last_tid"], gone["transactions"]) == (found[2], found[3], 1)
    assert gone["removed"] == [
        {**gone["removed"][0], "tid": found[3], "user": "", "description": "number 2", "objects": 1}
    ]
    back = json.loads(zodbsh("undo", database, "--redo", "--keep", "--format", "json").stdout)
    assert (back["tid"], back["transactions"], back["tail"]) == (found[3], 1, gone["tail"])


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([], ExitCode.USAGE),
        (["123"], ExitCode.USAGE),
        (["--after", "soon"], ExitCode.USAGE),
        (["0000000000000001"], ExitCode.NOT_FOUND),
        (["0000000000000001", "--redo"], ExitCode.USAGE),
        (["--redo", "--after", "now"], ExitCode.USAGE),
        (["--redo"], ExitCode.NOT_FOUND),
        (["--redo", "--dry-run"], ExitCode.NOT_FOUND),
        (["--after", "now", "-m", "a note"], ExitCode.USAGE),
        (["--after", "now", "--keep"], ExitCode.USAGE),
        (["--redo", "nowhere"], ExitCode.NOT_FOUND),
        (["--redo", __file__], ExitCode.DAMAGED),
        (["--after", "1990-01-01"], ExitCode.USAGE),
    ],
)
def test_what_cannot_be(database: Path, words: list[str], status: ExitCode) -> None:
    """One message, its exit status, and nothing is written."""
    before = database.read_bytes()
    run = zodbsh("undo", database, *words)
    assert (run.returncode, run.stdout) == (status, "")
    assert run.stderr.startswith("error: ")
    assert "Traceback" not in run.stderr
    assert database.read_bytes() == before


def test_after_now(database: Path) -> None:
    """Nothing is later than now: nothing to do, and that is no error."""
    run = zodbsh("undo", database, "--after", "now")
    assert (run.returncode, run.stdout.splitlines()[1:]) == (0, ["nothing is later than that", "nothing was changed"])


def test_the_root_is_refused(database: Path) -> None:
    """The transaction that made the root is not undone, with a reason."""
    run = zodbsh("undo", database, tids(database)[0])
    assert run.returncode == ExitCode.USAGE
    assert "created the root" in run.stderr


@pytest.mark.parametrize("way", ["tid", "after"])
def test_who_closes_the_pipe_has_seen_enough(database: Path, way: str) -> None:
    """What the command has to do is done, whether or not somebody reads of it to the end."""
    words = [tids(database)[-1]] if way == "tid" else ["--after", tids(database)[1]]
    before = database.read_bytes()
    reading, writing = os.pipe()
    os.close(reading)
    run = subprocess.run([sys.executable, "-m", "zodbsh", "undo", str(database), *words], stdin=subprocess.DEVNULL,
                         stdout=writing, stderr=subprocess.PIPE, timeout=60)  # fmt: skip
    os.close(writing)
    assert (run.returncode, b"Traceback" in run.stderr) == (0, False)
    assert database.read_bytes() != before


def test_no_room_for_the_preview(database: Path) -> None:
    """Where the preview cannot be shown nothing is done."""
    before = database.read_bytes()
    with open("/dev/full", "w", encoding="ascii") as full:
        run = subprocess.run([sys.executable, "-m", "zodbsh", "undo", str(database), "--after", tids(database)[1]],
                             stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, timeout=60)  # fmt: skip
    assert (run.returncode, database.read_bytes()) == (ExitCode.IO, before)
    assert b"hint: Nothing was changed." in run.stderr


def test_many_transactions_that_would_go_are_counted(tmp_path: Path) -> None:
    """The first 50 that are later than the moment are listed, the others counted below them."""
    path = tmp_path / "many.fs"
    db = ZODB.DB(str(path))
    for number in range(53):
        with db.transaction(f"number {number}") as connection:
            connection.root()["n"] = number
    db.close()
    run = zodbsh("undo", path, "--after", tids(path)[0], "--dry-run")
    lines = run.stdout.splitlines()
    assert (lines[4].split()[-2], lines[-2].split()[-2]) == ("0", "49")
    assert lines[-1] == "  (... and 3 later ones)"


def test_ways_that_exclude_each_other(database: Path) -> None:
    """Two of them are not none of them."""
    last = tids(database)[-1]
    for words in ([last, "--after", "now"], ["--redo", "--after", "now"], [last, "--redo"]):
        run = zodbsh("undo", database, *words)
        assert run.returncode == ExitCode.USAGE
        error, hint = run.stderr.splitlines()
        assert error == "error: TID, --after and --redo exclude each other"
        assert hint.startswith("hint: `zodbsh log` lists the transactions")


def test_redo_without_a_tail(database: Path) -> None:
    """The hint has the database's name, and says what can be put back."""
    run = zodbsh("undo", database, "--redo")
    assert run.returncode == ExitCode.NOT_FOUND
    assert run.stderr.splitlines() == [
        f"error: {database}: no tail is beside it",
        f"hint: Only what `zodbsh undo '{database}' --after TIME` took off can be put back: nothing is kept.",
    ]


def test_an_undo_of_python_2_says_what_works(database: Path) -> None:
    """A transaction cannot be added to such a file; it can be taken back and packed."""
    database.write_bytes(b"FS21" + database.read_bytes()[4:])
    run = zodbsh("undo", database, tids_of_any(database)[-1], "-y")
    assert run.returncode == ExitCode.UNSUPPORTED
    assert run.stderr.splitlines()[-1] == (
        "hint: ZODB on Python 3 cannot write to it; `undo --after` and `pack` do work on it."
    )


def tids_of_any(path: Path) -> list[str]:
    run = zodbsh("log", path, "--format", "json")
    return [transaction["tid"] for transaction in reversed(json.loads(run.stdout))]
