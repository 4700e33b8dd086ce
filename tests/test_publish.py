"""Publishing a file: whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from zodbsh import publish as module
from zodbsh.errors import StorageIOError
from zodbsh.publish import (
    AlreadyExists,
    DiskFullError,
    OutcomeUnknown,
    exchange,
    failing_well,
    fsync_folder,
    link_or_copy,
    publish,
    require_room,
    scratch_folder,
    staged,
)


def write(content: bytes):
    return lambda file: file.write(content)


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_new_file_appears_whole_and_alone(tmp_path):
    """The file has its content and an ordinary mode; nothing else is left in the folder."""
    old = os.umask(0o022)
    os.umask(old)
    publish(str(tmp_path / "a"), write(b"content"), exclusive=True)
    assert (tmp_path / "a").read_bytes() == b"content"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~old
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling link"])
def test_a_name_that_is_taken_is_refused(tmp_path, kind):
    """With ``exclusive`` whatever has the name keeps it, dangling links too, and nothing is written."""
    path = tmp_path / "a"
    if kind == "file":
        path.write_bytes(b"old")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / ("b" if kind == "link" else "nowhere"))
        (tmp_path / "b").write_bytes(b"old")
    before = names(tmp_path)
    with pytest.raises(AlreadyExists):
        publish(str(path), write(b"new"), exclusive=True)
    assert names(tmp_path) == before
    assert not (tmp_path / "nowhere").exists()


def test_a_name_taken_meanwhile_is_refused(tmp_path):
    """Who takes the name while we write keeps it."""
    path = tmp_path / "a"

    def slow(file):
        file.write(b"ours")
        path.write_bytes(b"theirs")

    with pytest.raises(AlreadyExists):
        publish(str(path), slow, exclusive=True)
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["a"]


def test_a_file_system_without_links_still_never_overwrites(tmp_path, monkeypatch):
    """Where link() is not known the name is claimed first; a name taken meanwhile is refused there too."""

    def no_link(*args, **kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    publish(str(tmp_path / "a"), write(b"new"), exclusive=True)
    assert (tmp_path / "a").read_bytes() == b"new"
    with pytest.raises(AlreadyExists):
        publish(str(tmp_path / "b"), lambda _: (tmp_path / "b").write_bytes(b"theirs"), exclusive=True)
    assert (tmp_path / "b").read_bytes() == b"theirs"
    assert names(tmp_path) == ["a", "b"]


def test_replacing_keeps_mode_and_link(tmp_path):
    """The target of a symbolic link is replaced, with the mode it had; the link stays a link."""
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    publish(str(tmp_path / "link"), write(b"new"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640
    assert names(tmp_path) == ["link", "real"]


@pytest.mark.parametrize("step", ["write", "verify", "chmod", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_failure_anywhere_changes_nothing(tmp_path, monkeypatch, step, number):
    """A full or failing disk at any step leaves the old file as it was, and no other."""
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    if step in ("chmod", "fsync", "replace"):
        monkeypatch.setattr(module.os, step, fail)
    with pytest.raises(OSError, match=os.strerror(number)):
        publish(str(path), fail if step == "write" else write(b"new"), verify=fail if step == "verify" else None)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_an_interrupt_while_writing_changes_nothing(tmp_path):
    """Ctrl-C is an exception like any other."""

    def interrupted(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish(str(tmp_path / "a"), interrupted)
    assert names(tmp_path) == []


def test_an_unsynced_folder_is_an_unknown_outcome(tmp_path, monkeypatch):
    """The file is there, but nobody knows whether it would survive a power failure: exit 9, and it stays."""

    def fail(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(module, "fsync_folder", fail)
    with pytest.raises(OutcomeUnknown):
        publish(str(tmp_path / "a"), write(b"new"))
    assert (tmp_path / "a").read_bytes() == b"new"


def test_verify_sees_what_was_written_before_the_name_is_given(tmp_path):
    """The check reads the temporary file; the old content still has the name."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    seen = []
    publish(str(path), write(b"new"), verify=lambda draft: seen.append((Path(draft).read_bytes(), path.read_bytes())))
    assert seen == [(b"new", b"old")]


def test_a_long_name_has_room_for_the_temporary_one(tmp_path):
    """A name of 255 bytes can be published."""
    name = "ü" * 127
    publish(str(tmp_path / name), write(b"x"), exclusive=True)
    assert names(tmp_path) == [name]


def test_a_writer_may_take_a_path(tmp_path):
    """``staged`` publishes what the block leaves under the path it was given."""
    with staged(str(tmp_path / "a")) as draft:
        Path(draft).write_bytes(b"by path")
        assert not (tmp_path / "a").exists()
    assert (tmp_path / "a").read_bytes() == b"by path"


def test_a_scratch_folder_goes_with_its_content(tmp_path):
    """Whatever is left in it, after an error too."""
    with pytest.raises(ValueError, match="stop"), scratch_folder(str(tmp_path / "a")) as folder:  # noqa: PT012
        Path(folder, "x").write_bytes(b"x")
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        raise ValueError("stop")
    assert names(tmp_path) == []


def test_the_current_folder_can_be_synced(tmp_path, monkeypatch):
    """A bare file name lies in the folder named ''."""
    monkeypatch.chdir(tmp_path)
    fsync_folder("")
    publish("a", write(b"x"))
    assert names(tmp_path) == ["a"]


SLOW = """
import sys, time
from zodbsh.cli.main import Stopped, _stop
import signal
signal.signal(signal.SIGTERM, _stop)
from zodbsh.publish import publish
def slow(file):
    file.write(b"half"); file.flush()
    print("writing", flush=True)
    time.sleep(30)
publish(sys.argv[1], slow)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_writing_leaves_nothing(tmp_path, number):
    """A process that is told to stop takes its temporary file with it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path / "a")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout.readline() == b"writing\n"
    assert len(names(tmp_path)) == 1
    process.send_signal(number)
    process.communicate(timeout=20)
    deadline = time.monotonic() + 5
    while names(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert names(tmp_path) == []


def test_a_replaced_file_stays_as_old(tmp_path):
    """With ``keep`` what was there keeps a name, which an earlier one loses; the name itself is never absent."""
    path = tmp_path / "a"
    for content in (b"1", b"2", b"3"):
        publish(str(path), write(content), keep=".old")
    assert path.read_bytes() == b"3"
    assert (tmp_path / "a.old").read_bytes() == b"2"
    assert names(tmp_path) == ["a", "a.old"]


def test_the_old_name_is_on_the_disk_before_the_new_file_takes_its_place(tmp_path, monkeypatch):
    """A power failure in between must not leave the new file alone: the folder is synced first."""
    path, calls = tmp_path / "a", []
    path.write_bytes(b"1")
    for name in ("replace", "fsync"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, _name=name, _real=real: (calls.append(_name), _real(*args)))
    publish(str(path), write(b"2"), keep=".old")
    # The content, then the old name, then the new one.
    assert calls == ["fsync", "replace", "fsync", "replace", "fsync"]


def test_an_old_file_that_is_the_file_itself_stays(tmp_path):
    """A publication that was killed between its two renames leaves both names on one file."""
    path = tmp_path / "a"
    path.write_bytes(b"1")
    os.link(path, tmp_path / "a.old")
    publish(str(path), write(b"2"), keep=".old")
    assert (path.read_bytes(), (tmp_path / "a.old").read_bytes()) == (b"2", b"1")
    assert names(tmp_path) == ["a", "a.old"]


def test_the_old_file_is_copied_where_there_are_no_links(tmp_path, monkeypatch):
    """A file system without hard links costs time and room, not the old file."""
    path = tmp_path / "a"
    path.write_bytes(b"1")

    def link(*args, **options):
        raise PermissionError(errno.EPERM, "no links")

    monkeypatch.setattr(os, "link", link)
    publish(str(path), write(b"2"), keep=".old")
    assert (path.read_bytes(), (tmp_path / "a.old").read_bytes()) == (b"2", b"1")
    assert names(tmp_path) == ["a", "a.old"]


def test_room_that_is_not_there_is_missed_before(tmp_path, monkeypatch):
    """What is needed is compared with what is free; the error names both."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(100, 50, 50))
    require_room(str(tmp_path), 50, "a pack of a")
    with pytest.raises(DiskFullError, match=r"a pack of a may take 51 bytes; 50 are free"):
        require_room(str(tmp_path), 51, "a pack of a")


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOSPC, DiskFullError), (errno.EIO, StorageIOError)])
def test_what_the_system_refuses_is_told_in_our_words(number, kind):
    """A full disk is told apart from any other failure."""
    with pytest.raises(StorageIOError) as caught, failing_well("a", "packed"):
        raise OSError(number, "refused")
    assert type(caught.value) is kind
    assert caught.value.message == "a could not be packed, nothing changed: refused"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux knows such a step")
def test_two_folders_change_names_in_one_step(tmp_path):
    """Where one of them is missing it fails, and nothing changed."""
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert exchange(str(tmp_path / "one"), str(tmp_path / "other"))
    assert [os.listdir(tmp_path / name) for name in ("one", "other")] == [["other"], ["one"]]
    with pytest.raises(FileNotFoundError):
        exchange(str(tmp_path / "one"), str(tmp_path / "none"))
    assert sorted(os.listdir(tmp_path)) == ["one", "other"]


def test_a_thread_without_signals_leaves_them_to_the_main_one():
    """A signal that is held back there stays so while a thread is at work, and comes when it is let go."""
    program = (
        "import os, signal, time\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from zodbsh.publish import uninterrupted, without_signals\n"
        "with ThreadPoolExecutor(1, initializer=without_signals) as pool:\n"
        "    pool.submit(int).result()\n"
        "    try:\n"
        "        with uninterrupted():\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "            time.sleep(0.05)\n"
        "            print('held')\n"
        "    except KeyboardInterrupt:\n"
        "        print('arrived')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("held\narrived\n", "")


@pytest.mark.parametrize("number", [None, errno.EPERM, errno.EXDEV])
def test_a_file_that_nobody_changes_is_linked_or_copied(tmp_path, monkeypatch, number):
    """Linked where that can be done, else copied; a name that is taken is not."""
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"1")
    os.chmod(source, 0o400)

    def link(*args, **options):
        raise OSError(number, "no link")

    if number is not None:
        monkeypatch.setattr(os, "link", link)
    assert link_or_copy(str(source), str(target)) is (number is not None)
    assert target.read_bytes() == b"1"
    assert stat.S_IMODE(target.stat().st_mode) == 0o400
    assert (target.stat().st_ino == source.stat().st_ino) is (number is None)
    with pytest.raises((FileExistsError, AlreadyExists)):
        link_or_copy(str(source), str(target))
    assert names(tmp_path) == ["a", "b"]
