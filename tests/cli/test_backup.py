"""``zodbsh backup`` and ``zodbsh restore`` from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import ZODB
import ZODB.FileStorage
from program import zodbsh

from zodbsh.errors import ExitCode


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A small database in a folder with spaces."""
    folder = tmp_path / "my data"
    folder.mkdir()
    path = folder / "my.fs"
    db = ZODB.DB(str(path))
    with db.transaction() as connection:
        connection.root()["n"] = 1
    db.close()
    return path


def test_there_and_back(database: Path) -> None:
    """Backup, list, verify and restore, with relative paths and spaces."""
    folder = database.parent
    run = zodbsh("backup", "my.fs", "the backups", cwd=folder)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.startswith("full backup (there is none yet): the backups/")
    run = zodbsh("backup", "my.fs", "the backups", cwd=folder)
    assert run.stdout == "my.fs: nothing new since the last backup in the backups\n"
    run = zodbsh("backup", "--list", "the backups", cwd=folder)
    assert len(run.stdout.splitlines()) == 2
    run = zodbsh("backup", "--verify", "the backups", cwd=folder)
    assert "sound" in run.stdout
    run = zodbsh("restore", "the backups", "restored.fs", cwd=folder)
    assert run.returncode == 0, run.stderr
    assert (folder / "restored.fs").read_bytes() == database.read_bytes()


def test_quiet(database: Path) -> None:
    """From cron nothing is printed where all went well."""
    run = zodbsh("backup", database, database.parent / "backups", "-q")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    run = zodbsh("backup", "--verify", database.parent / "backups", "-q")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    next((database.parent / "backups").glob("*.index")).unlink()
    run = zodbsh("backup", "--verify", database.parent / "backups", "-q")
    assert run.returncode == ExitCode.FINDINGS
    assert "is missing" in run.stdout
    run = zodbsh("restore", database.parent / "backups", database.parent / "out.fs", "-q")
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_quiet_speaks_of_findings(database: Path) -> None:
    """cron sends what went wrong, on stderr; JSON has it on stdout, and once."""
    backups = database.parent / "backups"
    zodbsh("backup", database, backups)
    for words in (("-q",), ("-q", "--format", "json")):
        data = max(backups.glob("*.fs"))
        content = bytearray(data.read_bytes())
        content[50] ^= 1
        data.write_bytes(content)
        run = zodbsh("backup", database, backups, *words)
        assert run.returncode == ExitCode.FINDINGS
        said, silent = (run.stdout, run.stderr) if "json" in words else (run.stderr, run.stdout)
        assert said.count("backup-damaged") == 1
        assert str(data) in said
        assert silent == ""


def test_quick(database: Path) -> None:
    """--quick is for making a backup, and reads no file of the last one."""
    backups = database.parent / "backups"
    zodbsh("backup", database, backups, "--quick")
    (data,) = backups.glob("*.fs")
    data.write_bytes(bytes(data.stat().st_size))
    assert zodbsh("backup", database, backups, "--quick").returncode == ExitCode.OK
    assert zodbsh("backup", "--list", backups, "--quick").returncode == ExitCode.USAGE


def test_a_restore_as_csv(database: Path) -> None:
    """It has a column for the blobs that were replaced, as JSON has."""
    zodbsh("backup", database, database.parent / "backups")
    run = zodbsh("restore", database.parent / "backups", database, "--force", "--format", "csv")
    assert run.stdout.splitlines()[0].endswith(",blobs,old,old blobs")


def test_stdout_is_the_database(database: Path) -> None:
    """--to-stdout writes its bytes and nothing else; a terminal gets none."""
    backups = database.parent / "backups"
    zodbsh("backup", database, backups)
    run = zodbsh("restore", backups, "--to-stdout", text=False)
    assert run.stdout == database.read_bytes()
    assert run.stderr == b""
    run = zodbsh("restore", backups, "--to-stdout", "--force")
    assert run.returncode == ExitCode.USAGE
    import pty

    main, terminal = pty.openpty()
    run = zodbsh("restore", backups, "--to-stdout", stdout=terminal)
    os.close(terminal)
    os.close(main)
    assert run.returncode == ExitCode.USAGE


def test_a_damaged_backup_on_stdout(database: Path) -> None:
    """Exit status 6; what was written until then is no whole database."""
    backups = database.parent / "backups"
    zodbsh("backup", database, backups)
    (data,) = backups.glob("*.fs")
    content = bytearray(data.read_bytes())
    content[-30] ^= 1
    data.write_bytes(content)
    run = zodbsh("restore", backups, "--to-stdout", text=False)
    assert run.returncode == ExitCode.DAMAGED
    assert b"damaged" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("backup",), ExitCode.USAGE),
        (("backup", "my.fs"), ExitCode.USAGE),
        (("backup", "no.fs", "x"), ExitCode.NOT_FOUND),
        (("backup", "my.fs", "my.fs"), ExitCode.USAGE),
        (("backup", "my.fs", "no/x"), ExitCode.USAGE),
        (("backup", "my.fs", "x", "--keep", "0"), ExitCode.USAGE),
        (("backup", "--list"), ExitCode.USAGE),
        (("backup", "--list", "no"), ExitCode.NOT_FOUND),
        (("backup", "--list", "--verify", "x"), ExitCode.USAGE),
        (("backup", "--list", "--full", "x"), ExitCode.USAGE),
        (("backup", "--list", "my.fs", "x"), ExitCode.USAGE),
        (("backup", "--verify", "."), ExitCode.NOT_FOUND),
        (("backup", ":memory:", "x"), ExitCode.UNSUPPORTED),
        (("restore",), ExitCode.USAGE),
        (("restore", "no"), ExitCode.USAGE),
        (("restore", "no", "out.fs"), ExitCode.NOT_FOUND),
        (("restore", ".", "out.fs"), ExitCode.USAGE),
        (("restore", "my.fs", "out.fs"), ExitCode.NOT_FOUND),
        (("restore", ".", "my.fs"), ExitCode.USAGE),
        (("restore", ".", "-"), ExitCode.USAGE),
        (("restore", ".", "out.fs", "--blobs", "x", "--no-blobs"), ExitCode.USAGE),
    ],
)
def test_what_cannot_be(database: Path, arguments: tuple[str, ...], status: ExitCode) -> None:
    """Each mistake has its exit status, one error and nothing left behind."""
    before = sorted(os.listdir(database.parent))
    run = zodbsh(*arguments, cwd=database.parent)
    assert run.returncode == status, run.stderr
    assert run.stderr.startswith("error: ")
    assert "Traceback" not in run.stderr
    assert run.stdout == ""
    assert sorted(os.listdir(database.parent)) == before


def test_a_damaged_database(database: Path) -> None:
    """Exit status 6 in JSON, too; the hint names recover."""
    backups = database.parent / "backups"
    assert zodbsh("backup", database, backups).returncode == 0
    content = database.read_bytes()
    database.write_bytes(content[:-3])
    run = zodbsh("backup", database, backups, "--full", "--keep", "1", "--format", "json")
    assert run.returncode == ExitCode.DAMAGED
    error = json.loads(run.stderr)["error"]
    assert error["code"] == "backup-source-damaged"
    assert "zodbsh recover" in error["hint"]
    assert zodbsh("backup", "--verify", backups).returncode == 0


def test_findings_have_exit_status_1(database: Path) -> None:
    """What --verify finds is listed in every form."""
    backups = database.parent / "backups"
    zodbsh("backup", database, backups)
    next(backups.glob("*.index")).unlink()
    for format_ in ("table", "json", "csv"):
        run = zodbsh("backup", "--verify", backups, "--format", format_)
        assert run.returncode == ExitCode.FINDINGS
        assert "missing" in run.stdout


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C and a terminate leave no temporary file, and the backups as they were: here no folder."""
    path = tmp_path / "my.fs"
    db = ZODB.DB(str(path))
    for _ in range(5):
        with db.transaction() as connection:
            connection.root()["n"] = os.urandom(8_000_000)
    db.close()
    backups = tmp_path / "backups"
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [sys.executable, "-m", "zodbsh", "backup", str(path), str(backups), "--compress"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not list(backups.glob(".*fsz.*")):
            time.sleep(0.01)
        process.send_signal(number)
        _, error = process.communicate(timeout=20)
        assert process.returncode in (ExitCode.INTERRUPT, ExitCode.TERMINATE)
        assert "Traceback" not in error
        assert not backups.exists()


LATE = """
import os, signal, sys
from zodbsh.ops.backups import restore
number, save_index = int(sys.argv[1]), restore.save_index
def signalled(*arguments):
    os.kill(os.getpid(), number)
    return save_index(*arguments)
restore.save_index = signalled
from zodbsh.cli.main import main
sys.argv = ["zodbsh", *sys.argv[2:]]
main()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("force", [False, True])
def test_a_signal_when_all_was_restored(database: Path, number: signal.Signals, status: int, force: bool) -> None:
    """Whoever stops a restore when the database has its name reads what was done."""
    backups, out = database.parent / "backups", database.parent / "out.fs"
    zodbsh("backup", database, backups)
    if force:
        zodbsh("restore", backups, out)
    words = ["restore", str(backups), str(out), *(["--force"] if force else [])]
    run = subprocess.run([sys.executable, "-c", LATE, str(int(number)), *words], stdin=subprocess.DEVNULL,
                         capture_output=True, text=True, timeout=60)  # fmt: skip
    assert run.returncode == status
    assert run.stdout.startswith(f"restored {out} from ")
    assert ("The file as it was before" in run.stdout) == force
    assert out.read_bytes() == database.read_bytes()


def test_locked(database: Path) -> None:
    """A second backup into the folder is told of the first one: exit status 4."""
    backups = database.parent / "backups"
    zodbsh("backup", database, backups)
    import fcntl

    with open(backups / ".zodbsh-backup.lock", "r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = zodbsh("backup", database, backups)
    assert run.returncode == ExitCode.LOCKED
