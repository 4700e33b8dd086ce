"""``zodbsh recover`` from the command line: its report, its JSON, its exit statuses, and what it leaves behind."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from program import zodbsh

from zodbsh.errors import ExitCode


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Root with an object that was changed three times."""
    path = tmp_path / "my.fs"
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping(text="x" * 300)
    for number in range(3):
        with db.transaction() as connection:
            connection.root()["a"]["n"] = number
    db.close()
    for suffix in (".index", ".lock", ".tmp"):
        Path(f"{path}{suffix}").unlink()
    return path


def test_a_sound_file_is_exit_0(database, tmp_path):
    """And says that nothing was lost."""
    done = zodbsh("recover", database, tmp_path / "new.fs")
    assert done.returncode == ExitCode.OK, done.stderr
    assert done.stdout.startswith(f"recovered 5 transactions, 6 records from {database} into {tmp_path}/new.fs (")
    assert "nothing was lost, as far as can be told" in done.stdout
    assert sorted(os.listdir(tmp_path)) == ["my.fs", "new.fs", "new.fs.index"]


def test_a_loss_is_exit_1_and_named(database, tmp_path):
    """The object shows an older state: oid, path and class; the index of the damaged file tells, too."""
    data = bytearray(database.read_bytes())
    save = bytes(data[: len(data) - 150])
    damaged = tmp_path / "damaged.fs"
    damaged.write_bytes(save)
    done = zodbsh("recover", damaged, tmp_path / "new.fs")
    assert done.returncode == ExitCode.FINDINGS, done.stderr
    assert "root.a (persistent.mapping.PersistentMapping): revision of " in done.stdout
    assert "; shows an older state now, that of " in done.stdout
    found = json.loads(zodbsh("recover", damaged, tmp_path / "other.fs", "--dry-run", "--format", "json").stdout)
    assert (found["out"], found["lost_nothing"], found["verify"]) == (None, False, None)
    assert [one["reason"] for one in found["lost_objects"]] == ["the file ends before it does"]
    assert not (tmp_path / "other.fs").exists()


def test_nothing_to_recover_is_exit_6(tmp_path):
    """No new file."""
    (tmp_path / "bad.fs").write_bytes(os.urandom(10_000))
    done = zodbsh("recover", tmp_path / "bad.fs", tmp_path / "new.fs")
    assert (done.returncode, done.stdout) == (ExitCode.DAMAGED, "")
    assert "no sound record was found in its 10,000 bytes" in done.stderr
    assert os.listdir(tmp_path) == ["bad.fs"]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("no.fs", "new.fs"), ExitCode.NOT_FOUND),
        (("my.fs", "my.fs"), ExitCode.USAGE),
        (("my.fs",), ExitCode.USAGE),
        (("my.fs", "no/new.fs"), ExitCode.NOT_FOUND),
        (("my.fs", "new.fs", "--blobs", "no"), ExitCode.NOT_FOUND),
        ((":memory:", "new.fs"), ExitCode.UNSUPPORTED),
    ],
)
def test_what_cannot_be_is_said(database, arguments, status):
    """Without a traceback, and nothing appears."""
    done = zodbsh("recover", *arguments, cwd=database.parent)
    assert done.returncode == status
    assert done.stderr.startswith("error: ")
    assert os.listdir(database.parent) == ["my.fs"]


def test_a_full_disk_is_exit_7_and_leaves_nothing(database, tmp_path):
    """Here a limit on the size of files."""

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    done = zodbsh("recover", database, tmp_path / "new.fs", preexec_fn=limit)
    assert done.returncode == ExitCode.IO, done.stderr
    assert "nothing changed" in done.stderr
    assert os.listdir(tmp_path) == ["my.fs"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_recovery_leaves_nothing(tmp_path, number):
    """Whatever the signal."""
    from zodbsh.filestorage.writer import DataWriter

    big = tmp_path / "big.fs"
    with open(big, "w+b") as file:
        writer = DataWriter(file)
        for tid in range(1, 60_000):
            writer.begin(tid)
            writer.data(tid % 1000, b"x" * 50)
            writer.finish()
        writer.flush()
    with open(big, "r+b") as file:
        file.seek(100)
        file.write(b"damaged")
    running = subprocess.Popen([sys.executable, "-m", "zodbsh", "recover", str(big), str(tmp_path / "new.fs")],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 30
    while len(os.listdir(tmp_path)) < 2 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    running.send_signal(number)
    assert running.wait(30) == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}[number]
    assert os.listdir(tmp_path) == ["big.fs"]


def test_the_new_file_is_no_more_readable_than_the_old(database, tmp_path):
    """Its mode is that of the damaged one."""
    database.chmod(0o600)
    assert zodbsh("recover", database, tmp_path / "new.fs").returncode == ExitCode.OK
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("new.fs", "new.fs.index")] == [0o600, 0o600]


def test_the_hint_of_a_damaged_file_leads_here(database, tmp_path):
    """pack refuses, and its hint is a command that works."""
    data = bytearray(database.read_bytes())
    data[-3] ^= 1
    database.write_bytes(data)
    done = zodbsh("pack", database, "-y")
    assert done.returncode == ExitCode.DAMAGED
    hint = f"zodbsh recover {database} NEW"
    assert hint in done.stderr
    done = zodbsh(*hint.split()[1:-1], tmp_path / "new.fs")
    assert (done.returncode, "no record is known to be lost" in done.stdout) == (ExitCode.FINDINGS, True)
    assert zodbsh("verify", tmp_path / "new.fs").returncode == ExitCode.OK


def test_zeros_for_what_was_never_written(database, tmp_path):
    """After a power failure zeros may follow the last transaction: every command leads to recover, which keeps all."""
    sound = database.read_bytes()
    database.write_bytes(sound + bytes(5000))
    for words in (["log"], ["status"], ["pack", "-y"]):
        failed = zodbsh(words[0], database, *words[1:])
        assert failed.returncode == ExitCode.DAMAGED
        assert f"`zodbsh recover {database} NEW` saves what is sound" in failed.stderr
    done = zodbsh("recover", database, tmp_path / "new.fs")
    assert "(5.0 KB): zeros" in done.stdout
    assert (tmp_path / "new.fs").read_bytes() == sound


def test_a_last_transaction_without_header_may_never_have_been_finished(database, tmp_path):
    """Its records are kept, that is said, and so is how to take them off again."""
    sound = database.read_bytes()
    start = sound.rindex(sound[-8:], 0, len(sound) - 8) - 8
    database.write_bytes(sound[:start] + bytes(23) + sound[start + 23 :])
    done = zodbsh("recover", database, tmp_path / "new.fs")
    assert "the last one may never have been finished, as after a power failure: `zodbsh undo" in done.stdout
    command = next(line for line in done.stdout.splitlines() if "--after" in line).split("`")[1]
    assert zodbsh(*command.split()[1:], "-y").returncode == ExitCode.OK
    assert (tmp_path / "new.fs").read_bytes() == sound[:start]
