"""A signal past the point of no return: the command ends its work, says what it did, and only then stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.FileStorage import FileIterator
from ZODB.utils import u64

SIGNALLED = """
import os, signal, sys
from zodbsh import publish
settle, name, number = publish._settle, sys.argv[1], int(sys.argv[2])
def settled(target, path):
    if target == name:
        os.kill(os.getpid(), number)
    settle(target, path)
publish._settle = settled
from zodbsh.cli.main import main
main(sys.argv[3:])
"""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The root, an object, and two changes of it."""
    path = tmp_path / "my.fs"
    db = ZODB.DB(str(path))
    for number in range(3):
        with db.transaction() as connection:
            connection.root().setdefault("a", PersistentMapping())["n"] = number
    db.close()
    return path


def signalled(name: Path, number: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program, which gets a signal in the moment when the file ``name`` has got its name."""
    words = [sys.executable, "-c", SIGNALLED, str(name), str(int(number)), *map(str, arguments)]
    return subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_recover_ends_with_index_and_report(database: Path, number: int, status: int) -> None:
    """The new file has its index, and the report says what was kept."""
    os.truncate(database, database.stat().st_size - 10)
    out = database.parent / "new.fs"
    done = signalled(out, number, "recover", database, out)
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.startswith("recovered 3 transactions")
    assert sorted(name for name in os.listdir(out.parent) if name.startswith("new")) == ["new.fs", "new.fs.index"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_pack_tells_what_it_removed(database: Path, number: int, status: int) -> None:
    """The packed file has its index, and the figures are there."""
    done = signalled(database, number, "pack", database, "-y")
    assert (done.returncode, done.stderr) == (status, "")
    assert "Removed: 3 revisions" in done.stdout
    assert Path(f"{database}.index").exists()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_undo_after_and_redo_tell_what_they_did(database: Path, number: int, status: int) -> None:
    """Also how what went comes back."""
    tids = [f"{u64(transaction.tid):016x}" for transaction in FileIterator(str(database))]
    done = signalled(database, number, "undo", database, "--after", tids[1], "-y")
    assert done.returncode == status
    assert "my.fs.undone-" in done.stdout.splitlines()[-1]
    assert done.stderr == f"`zodbsh undo {database} --redo` puts them back, as long as nothing new is written\n"
    done = signalled(database, number, "undo", database, "--redo", "-y")
    assert (done.returncode, done.stderr) == (status, "")
    assert done.stdout.startswith("2 transactions put back\n")
