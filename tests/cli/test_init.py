"""``zodbsh init`` through the front door."""

from __future__ import annotations

import json
import os
import resource

import pytest
import ZODB
import ZODB.FileStorage
from program import zodbsh


def test_the_result_in_words_and_as_json(tmp_path):
    """What was made: the path, and the root's entries with class and oid."""
    done = zodbsh("init", "a.fs", "--root", "accounts=BTrees.OOBTree.OOBTree", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "created a.fs\n  root.accounts  BTrees.OOBTree.OOBTree  0x01\n"
    made = json.loads(zodbsh("init", "b.fs", "--format", "json", cwd=tmp_path).stdout)
    storage = ZODB.FileStorage.FileStorage(str(tmp_path / "b.fs"), read_only=True)
    assert made == {
        "path": "b.fs",
        "blobs": None,
        "tid": storage.lastTransaction().hex(),
        "bytes": (tmp_path / "b.fs").stat().st_size,
        "root": [],
    }
    storage.close()
    assert zodbsh("init", "c.fs", "-q", cwd=tmp_path).stdout == ""
    assert sorted(os.listdir(tmp_path)) == ["a.fs", "b.fs", "c.fs"]


def test_an_existing_file_stays_as_it_is(tmp_path):
    """Status 2, whatever it holds, and not a byte or a second of it changes."""
    path = tmp_path / "a.fs"
    path.write_bytes(b"")
    before = path.stat()
    done = zodbsh("init", "a.fs", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: a.fs exists already\nhint: Choose another name; nothing is overwritten.\n"
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (0, before.st_mtime_ns)


def test_a_class_that_fails_shows_its_own_traceback(tmp_path):
    """The frames are the user's, zodbsh's are left out; status 1."""
    (tmp_path / "failing.py").write_text("class A:\n    def __init__(self):\n        raise ValueError('no')\n")
    done = zodbsh("init", "a.fs", "--root", "a=failing.A", cwd=tmp_path, script=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert 'failing.py", line 3, in __init__' in done.stderr
    assert "zodbsh" not in done.stderr
    assert done.stderr.endswith("error: root entry 'a': ValueError: no\n")
    assert not (tmp_path / "a.fs").exists()


@pytest.mark.parametrize("size", [0, 10, 60, 150, 300])
def test_a_full_disk_leaves_nothing(tmp_path, size):
    """Wherever the room ends (here: no file may grow beyond so many bytes): status 7, one message, no file."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = zodbsh(
        "init", "a.fs", "--root", "accounts=BTrees.OOBTree.OOBTree", "--blobs", "blobs",
        cwd=tmp_path, preexec_fn=limited, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr.startswith("error: ")
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path):
    """Status 7 and what to look at."""
    (tmp_path / "locked").mkdir(mode=0o500)
    done = zodbsh("init", "locked/a.fs", cwd=tmp_path)
    assert done.returncode == 7
    assert "Permission denied" in done.stderr
    assert "hint: Check the owner" in done.stderr
