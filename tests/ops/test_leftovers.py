"""What interrupted commands leave, and who still needs what looks like it."""

from __future__ import annotations

import fcntl
import os
from contextlib import closing

import pytest
from ZODB.blob import Blob

from zodbsh.db.locks import is_held
from zodbsh.db.source import open_source
from zodbsh.db.spec import parse_spec
from zodbsh.ops.leftovers import Leftover, find_leftovers
from zodbsh.stage import store

HEX = "0123456789abcdef" * 2


def look(path):
    spec = parse_spec(str(path))
    with closing(open_source(spec)) as source:
        return find_leftovers(spec, source, store.load(spec))


def names(path):
    return [os.path.relpath(item.path, path.parent) for item in look(path)]


def test_beside_a_database_that_was_closed_is_nothing_left(path):
    assert look(path) == ()


def test_each_is_named_with_what_to_do(path):
    new = path.with_name(f".my.fs.{HEX}.new")
    new.mkdir()
    assert look(path) == (Leftover(str(new), "not finished, and never in use", "remove it"),)


def test_whatever_an_interrupted_command_may_leave_is_known(path):
    left = [
        f".my.fs.{HEX}.new", f".my.fs.stage.{HEX}.new", f".my.fs.old.{HEX}.new", "my.fs.index.index_tmp",
        "my.fs.old-before-pack", "my.fs.pack", "my.fs.packed-blobs", "my.fs.stage.lock", "my.fs.tr0", "my.fs.tr12",
    ]  # fmt: skip
    for name in left:
        path.with_name(name).write_bytes(b"x")
    assert names(path) == sorted(left)


@pytest.mark.parametrize(
    "name",
    [f".my.fs2.{HEX}.new", f".other.{HEX}.new", "my.fs.old", "my.fs.tmp", "my.fs.pack2", "my.fs.trash", ".my.fs.new"],
)
def test_other_files_are_nobodys_leftovers(path, name):
    path.with_name(name).write_bytes(b"x")
    assert look(path) == ()


def test_while_somebody_holds_the_lock_nothing_is_left_over(path):
    """What looks like a leftover is at work."""
    path.with_name("my.fs.pack").write_bytes(b"x")
    with open(path.with_name("my.fs.lock"), "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert is_held(file.name)
        assert look(path) == ()
    assert not is_held(file.name)
    assert names(path) == ["my.fs.pack"]


def test_without_the_systems_word_a_living_process_in_the_lock_file_is_its_holder(path, monkeypatch):
    """Not every system tells who holds a lock; a process id that is in use is taken for it."""
    lock = path.with_name("my.fs.lock")
    real = open

    def no_proc(name, *args, **kwargs):
        if str(name) == "/proc/locks":
            raise FileNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr("builtins.open", no_proc)
    lock.write_text(f" {os.getpid()}\n")
    assert is_held(str(lock))
    lock.write_text(f" {2**22 + 1}\n")
    assert not is_held(str(lock))
    lock.unlink()
    assert not is_held(str(lock))


def test_blobs_of_a_transaction_that_never_was(path, witness):
    blobs = path.with_name("my.fs.blobs")
    with witness(path, blobs) as root:
        root["blob"] = Blob(b"one")
    assert look(path) == ()
    (current,) = blobs.glob("0x00/**/*.blob")
    lost = current.with_name("0x7fff000000000000.blob")
    half = current.with_name(f".{current.name}.{HEX}.new")
    for file in (lost, half, blobs / "tmp" / "BUCabc", blobs / ".removed"):
        file.write_bytes(b"x")
    assert [item.path for item in look(path)] == sorted(
        map(str, (lost, half, blobs / "tmp" / "BUCabc", blobs / ".removed"))
    )


def test_blobs_of_a_stage_that_is_gone(path):
    folder = path.with_name("my.fs.stage.blobs")
    folder.mkdir()
    (folder / f"{HEX}-0x01").write_bytes(b"x")
    assert names(path) == [f"my.fs.stage.blobs/{HEX}-0x01"]


def test_a_database_behind_a_link_has_those_of_both_names(path, tmp_path):
    (tmp_path / "sub").mkdir()
    link = tmp_path / "sub" / "link.fs"
    link.symlink_to(path)
    path.with_name("my.fs.stage.lock").write_bytes(b"")
    link.with_name("link.fs.pack").write_bytes(b"x")
    assert sorted(os.path.basename(item.path) for item in look(link)) == ["link.fs.pack", "my.fs.stage.lock"]


def test_looking_for_them_changes_nothing(path, tmp_path):
    path.with_name("my.fs.pack").write_bytes(b"x")
    path.with_name("my.fs.lock").unlink(missing_ok=True)
    before = {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(tmp_path)}
    look(path)
    assert {entry.name: entry.stat().st_mtime_ns for entry in os.scandir(tmp_path)} == before
