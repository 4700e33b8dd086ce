"""``zodbsh pack`` from the command line: its JSON, its question, its exit statuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
import ZODB
import ZODB.blob
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from program import zodbsh

from zodbsh.errors import ExitCode


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Three transactions; two old revisions of the root."""
    path = tmp_path / "my.fs"
    db = ZODB.DB(str(path))
    for number in range(2):
        with db.transaction() as connection:
            connection.root()["n"] = number
    db.close()
    return path


def temporaries(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.endswith(".new")]


def test_json_of_a_pack(database: Path) -> None:
    """The documented shape of a pack's result, values included."""
    before = database.stat().st_size
    run = zodbsh("pack", database, "--format", "json")
    assert (run.returncode, run.stderr) == (0, "")
    result = json.loads(run.stdout)
    tid, time_ = result.pop("tid"), result.pop("time")
    assert (len(tid), time_[-1]) == (16, "Z")
    assert result == {
        "dry_run": False,
        "changed": True,
        "gc": True,
        "bytes_before": before,
        "bytes_after": database.stat().st_size,
        "transactions_before": 3,
        "transactions_after": 1,
        "records_before": 3,
        "records_after": 1,
        "objects_before": 1,
        "objects_after": 1,
        "objects_removed": 0,
        "revisions_removed": 2,
        "blobs_removed": None,
        "blob_bytes_removed": None,
        "classes": [],
        "findings": [],
        "old": f"{database}.old",
        "old_blobs": None,
        "trouble": None,
    }


def test_json_of_a_dry_run(database: Path) -> None:
    """A dry run adds what goes by class, and leaves the file alone."""
    content = database.read_bytes()
    result = json.loads(zodbsh("pack", database, "--dry-run", "--format", "json").stdout)
    assert (result["dry_run"], result["changed"], result["revisions_removed"], result["old"]) == (True, True, 2, None)
    (mapping,) = result["classes"]
    assert mapping == {
        "class": "persistent.mapping.PersistentMapping",
        "objects": 0,
        "revisions": 2,
        "bytes": mapping["bytes"],
    }
    assert database.read_bytes() == content
    assert not Path(f"{database}.old").exists()
    csv = zodbsh("pack", database, "--dry-run", "--format", "csv").stdout
    assert csv.splitlines() == [
        "class,objects,revisions,bytes",
        f"persistent.mapping.PersistentMapping,0,2,{mapping['bytes']}",
    ]


def test_text_of_a_pack(database: Path) -> None:
    """People read the figures before and after, what went, and where the old file is."""
    run = zodbsh("pack", database)
    title, empty, *table, blank, removed, old = run.stdout.splitlines()
    assert title.startswith(f"{database}: packed up to ")
    assert (empty, blank) == ("", "")
    assert [line.split()[0] for line in table] == ["before", "size", "transactions", "records", "objects"]
    assert table[3].split() == ["records", "3", "1"]
    assert removed.startswith("Removed: 2 revisions, 0 objects, ")
    assert old == f"The file as it was before: {database}.old"
    again = zodbsh("pack", database)
    assert again.stdout.startswith(f"{database}: nothing to remove up to ")
    assert again.stdout.count("\n") == 1


@pytest.mark.parametrize(("answer", "packed"), [("n", False), ("y", True)])
def test_a_person_is_asked(database: Path, answer: str, packed: bool) -> None:
    """At a terminal the answer decides."""
    before = database.stat().st_size
    child = pexpect.spawn(sys.executable, ["-m", "zodbsh", "pack", str(database)], timeout=60)
    child.expect(r"\[y/N\] ")
    assert database.stat().st_size == before
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert (database.stat().st_size < before) is packed


def test_blobs_whose_folder_is_not_known(tmp_path: Path) -> None:
    """A warning, which --blobs answers: with it the old revision's file goes, without it it stays."""
    path, blobs = tmp_path / "b.fs", tmp_path / "blobs"
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path), blob_dir=str(blobs)))
    for content in (b"first", b"second"):
        with db.transaction() as connection:
            connection.root()["blob"] = ZODB.blob.Blob(content)
    db.close()
    copy = tmp_path / "copy.fs"
    copy.write_bytes(path.read_bytes())
    warning = f"warning: {copy} has blobs: files of removed ones stay, unless --blobs DIR says where they are\n"
    assert (zodbsh("pack", copy).stderr, len(list(blobs.rglob("*.blob")))) == (warning, 2)
    preview = json.loads(zodbsh("pack", path, "--dry-run", "--blobs", blobs, "--format", "json").stdout)
    assert (preview["blobs_removed"], preview["blob_bytes_removed"]) == (1, 5)
    run = zodbsh("pack", path, "--blobs", blobs)
    assert (run.returncode, run.stderr) == (0, "")
    assert [file.read_bytes() for file in blobs.rglob("*.blob")] == [b"second"]


def test_dangling_references_after_it_are_exit_1(tmp_path: Path) -> None:
    """A database with references to nowhere is packed, and says so: exit 1, the referrer named."""
    path = tmp_path / "d.fs"
    db = ZODB.DB(str(path))
    with db.transaction() as connection:
        connection.root()["lost"] = PersistentMapping()
    db.close()
    data, one = path.read_bytes(), b"\x08" + (1).to_bytes(8, "big")
    path.write_bytes(data.replace(one, b"\x08" + (9).to_bytes(8, "big")))
    Path(f"{path}.index").unlink()
    run = zodbsh("pack", path)
    assert run.returncode == ExitCode.FINDINGS
    assert "  0x00 (persistent.mapping.PersistentMapping) refers to 0x09: no such object" in run.stdout.splitlines()
    assert "What leads nowhere:" in run.stdout.splitlines()


SLOW = """
import sys, time
from zodbsh.engine import chosen
compare = chosen.compare
def slow(*arguments, **options):
    print("comparing", flush=True)
    time.sleep(60)
    return compare(*arguments, **options)
chosen.compare = slow
from zodbsh.cli.main import main
sys.argv = ["zodbsh", "pack", sys.argv[1]]
main()
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_cleans_up(database: Path, number: signal.Signals, status: int) -> None:
    """A signal while the copy is looked at: the documented exit status, no copy left, the database as it was."""
    before = database.read_bytes()
    child = subprocess.Popen([sys.executable, "-c", SLOW, str(database)], stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert child.stdout is not None
    assert child.stdout.readline() == "comparing\n"
    assert temporaries(database.parent)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (status, "")
    assert "Traceback" not in err
    assert database.read_bytes() == before
    assert not temporaries(database.parent)


def test_two_times_have_a_hint(database: Path) -> None:
    """An error has two lines."""
    run = zodbsh("pack", database, "--days", "1", "--to", "now")
    assert run.returncode == ExitCode.USAGE
    assert run.stderr.splitlines() == ["error: --days and --to exclude each other", "hint: Leave one of them out."]
