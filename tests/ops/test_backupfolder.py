"""Where backups may go; a new folder goes again where no backup comes into it."""

import errno
import fcntl
import os
import re
import shlex
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from zodbsh.db.spec import Spec
from zodbsh.errors import ExitCode, StorageIOError
from zodbsh.filestorage.repository import LOCK, BackupDamaged, BackupNotFound, read_folder
from zodbsh.ops.backups import step as backupstep
from zodbsh.ops.backups.backup import backup
from zodbsh.ops.backups.check import check_backups
from zodbsh.ops.backups.folder import NoPlace
from zodbsh.ops.backups.listing import list_backups
from zodbsh.ops.backups.lock import FolderBusy
from zodbsh.ops.backups.restore import restore
from zodbsh.ops.backups.scan import SourceDamaged
from zodbsh.publish import DiskFullError, OutcomeUnknown


def listing(folder):
    return sorted((str(path), path.is_file() and path.read_bytes()) for path in Path(folder).rglob("*"))


@pytest.mark.parametrize("is_new", [True, False])
def test_a_disk_that_is_full_at_the_lock(sample, monkeypatch, is_new):
    """Not even the lock stays: a new folder goes again, an empty one is empty."""
    if not is_new:
        os.mkdir(sample.backups)
    write = os.write

    def full(descriptor, data):
        if data == f"{os.getpid()}\n".encode():
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(DiskFullError):
            sample.backup()
    assert not os.path.exists(sample.backups) if is_new else not os.listdir(sample.backups)
    sample.backup()


@pytest.mark.parametrize("place", ["", "new", "0x00", "0x00/0x00"])
@pytest.mark.parametrize("marker", [True, False])
def test_a_databases_own_blobs(sample, place, marker):
    """Its folder, a new one in it, and the folders of its objects: refused with exit status 2, and nothing changes."""
    sample.change()
    if not marker:
        (Path(sample.blobs) / ".layout").unlink()
    before = listing(sample.folder)
    with pytest.raises(NoPlace) as caught:
        backup(sample.spec, os.path.join(sample.blobs, place))
    assert caught.value.exit_code == ExitCode.USAGE
    assert caught.value.hint
    assert listing(sample.folder) == before


@pytest.mark.parametrize("place", ["", "new"])
def test_blobs_of_another_database(sample, tmp_path, place):
    """ZODB's marker tells, and where there is none, the names of what is there do."""
    marked, bare = tmp_path / "marked", tmp_path / "bare"
    shutil.copytree(sample.blobs, marked)
    shutil.copytree(sample.blobs, bare, ignore=shutil.ignore_patterns(".layout"))
    for folder in (marked, bare) if not place else (marked,):
        before = listing(folder)
        with pytest.raises(NoPlace):
            backup(sample.spec, str(folder / place))
        assert listing(folder) == before


def test_where_blobs_would_be_looked_for(sample):
    """A folder of that name would be taken for the database's blobs from then on."""
    with pytest.raises(NoPlace):
        backup(Spec(sample.path, "file", path=sample.path), f"{sample.path}.blobs")
    assert not os.path.exists(f"{sample.path}.blobs")


def test_a_link_to_blobs(sample):
    """It leads where it leads."""
    link = sample.folder / "link"
    link.symlink_to(sample.blobs)
    with pytest.raises(NoPlace):
        backup(sample.spec, str(link))


def test_the_blobs_of_the_backup_are_no_place_either(sample):
    """They have the marker, too."""
    sample.backup()
    with pytest.raises(NoPlace):
        backup(sample.spec, os.path.join(sample.backups, "blobs"))


def test_a_file(sample):
    """The hint names a folder that would do; whoever only looks is told what a folder of backups is."""
    with pytest.raises(NoPlace) as caught:
        backup(sample.spec, sample.path)
    assert f"{sample.path}.backups" in caught.value.hint
    with pytest.raises(BackupNotFound) as found:
        list_backups(sample.path)
    assert "is a file" in found.value.message
    assert "makes it" not in found.value.hint
    with pytest.raises(BackupNotFound) as nowhere:
        restore(sample.backups + "2", str(sample.folder / "new.fs"))
    assert "first" not in nowhere.value.hint
    with pytest.raises(NoPlace, match="is no folder"):
        backup(sample.spec, os.path.join(sample.path, "new"))


def test_a_new_folder_goes_where_the_backup_fails(sample, monkeypatch):
    """A damaged source, a full disk when blobs were taken: nothing stays."""

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(backupstep, "copy_range", fail)
        with pytest.raises(StorageIOError):
            sample.backup()
    assert not os.path.lexists(sample.backups)
    Path(sample.path).write_bytes(sample.content()[:-3])
    with pytest.raises(SourceDamaged):
        sample.backup()
    assert not os.path.lexists(sample.backups)


def test_who_waits_for_a_folder_that_goes(sample):
    """Its lock is no lock of anything: the one who has waited for it is told to try again."""
    os.mkdir(sample.backups)
    path = Path(sample.backups, LOCK)
    with open(path, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        timer = threading.Timer(0.2, lambda: (path.unlink(), fcntl.flock(lock, fcntl.LOCK_UN)))
        timer.start()
        with pytest.raises(FolderBusy) as caught:
            sample.backup()
        timer.join()
    assert caught.value.hint == "Try again."


def test_a_folder_that_was_there_stays(sample):
    """Also an empty one."""
    os.mkdir(sample.backups)
    Path(sample.path).write_bytes(sample.content()[:-3])
    with pytest.raises(SourceDamaged):
        sample.backup()
    assert os.path.isdir(sample.backups)


def test_a_new_folder_with_something_in_it_stays(sample, monkeypatch):
    """A step that was written is never removed, whatever fails after it."""

    def fail(*_, **__):
        raise OutcomeUnknown("not synced")

    monkeypatch.setattr("zodbsh.ops.backups.backup.mend", fail)
    with pytest.raises(OutcomeUnknown):
        sample.backup()
    assert len(read_folder(sample.backups).chains) == 1


def test_hints_can_be_pasted(sample):
    """The path in them is the real one, quoted for a shell."""
    sample.backups = str(sample.folder / "my backups; rm")
    step = sample.backup().step
    for spoil in (lambda path: os.truncate(path, 100), os.unlink):
        spoil(os.path.join(sample.backups, step))
        with pytest.raises((BackupDamaged, BackupNotFound)) as caught:
            sample.restored()
        (command,) = re.findall(r"`(zodbsh backup [^`]*)`", caught.value.hint) or [""]
        assert not command or shlex.split(command)[-1] == sample.backups
    assert "DIR" not in caught.value.hint


@contextmanager
def nobody():
    """Be a user who owns nothing; what is imported already is at hand."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.parametrize("mode", [0, 0o444])
@pytest.mark.parametrize("below", ["", "inner"])
@pytest.mark.parametrize("work", ["backup", "list", "verify", "restore"])
def test_an_unreadable_folder(sample, mode, below, work):
    """The system's refusal has exit status 7, and is no missing folder and no file in its place."""
    outer = Path(sample.backups)
    sample.backups = str(outer / below) if below else sample.backups
    outer.mkdir()
    out = sample.folder / "out"
    out.mkdir()
    works = {
        "backup": sample.backup,
        "list": lambda: list_backups(sample.backups),
        "verify": lambda: check_backups(sample.backups),
        "restore": lambda: restore(sample.backups, str(out / f"{len(os.listdir(out))}.fs")),
    }
    sample.backup()
    works[work]()
    before = listing(out)
    for path in (sample.folder, *sample.folder.parents):
        if path.stat().st_uid == os.geteuid() and path.stat().st_mode & 0o5 != 0o5:
            path.chmod(0o755)
    out.chmod(0o777)
    outer.chmod(mode)
    with nobody(), pytest.raises(StorageIOError) as caught:
        works[work]()
    assert caught.value.exit_code == ExitCode.IO
    assert "ermission denied" in caught.value.message or "cannot read" in caught.value.message
    outer.chmod(0o700)
    assert listing(out) == before
