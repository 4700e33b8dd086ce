"""An increment is put only on top of what was read and found as it was written."""

import os
import shutil
from pathlib import Path

import pytest
from ZODB.scripts import repozo

from zodbsh.errors import StorageIOError
from zodbsh.filestorage.backupmanifest import CHUNK
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.repository import read_folder
from zodbsh.ops.backups import compare as backupcompare
from zodbsh.ops.backups.check import check_backups


def rot(path, place=None):
    """Change a byte of a file, in its middle."""
    content = bytearray(Path(path).read_bytes())
    content[len(content) // 2 if place is None else place] ^= 1
    Path(path).write_bytes(content)


@pytest.fixture(params=[False, True], ids=["plain", "compressed"])
def chain(sample, request):
    """A full backup and two increments; the names of their files."""
    names = []
    for _ in range(3):
        sample.change(blob=False)
        names.append(sample.backup(compress=request.param).step)
    return names


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("new", [True, False], ids=["something new", "nothing new"])
def test_a_rotten_step_of_the_chain(sample, chain, number, new):
    """Whichever step it is: the backup is full, its finding names the file, and what was asked for can be restored."""
    path = os.path.join(sample.backups, chain[number])
    rot(path)
    if new:
        sample.change()
    result = sample.backup()
    assert (result.kind, result.reason) == ("full", "the last one is damaged")
    (finding,) = result.findings
    assert finding.kind == "backup-damaged"
    assert path in finding.message
    assert sample.restored() == sample.state()
    sample.change()
    again = sample.backup()
    assert (again.kind, again.findings) == ("increment", ())


@pytest.mark.parametrize("number", [0, 1])
def test_quick(sample, chain, number):
    """--quick looks at names and sizes only: the rot stays unseen; a cut does not, nor does a missing file."""
    path = Path(sample.backups, chain[number])
    rot(path)
    sample.change()
    assert sample.backup(quick=True).kind == "increment"
    os.truncate(path, path.stat().st_size - 1)
    sample.change()
    result = sample.backup(quick=True)
    assert (result.kind, [finding.kind for finding in result.findings]) == ("full", ["backup-damaged"])
    assert sample.restored() == sample.state()


def test_nothing_is_read_for_a_full_backup(sample, monkeypatch):
    """--full depends on nothing that is there."""
    sample.backup()
    rot(max(Path(sample.backups).glob("*.fs")))
    monkeypatch.setattr(backupcompare, "DataFile", None)
    result = sample.backup(full=True)
    assert (result.kind, result.findings) == ("full", ())


def test_a_rotten_backup_is_no_reason_to_keep_it(sample):
    """The new full backup was verified; --keep removes what it is told to."""
    sample.backup()
    rot(max(Path(sample.backups).glob("*.fs")))
    result = sample.backup(keep=1)
    assert (result.kind, len(result.pruned.steps)) == ("full", 1)
    assert check_backups(sample.backups).ok
    assert sample.restored() == sample.state()


def test_rot_and_a_change_in_place(sample):
    """Where the database is damaged, too, that is said as well, and nothing is removed."""
    sample.change(size=2 * CHUNK)
    sample.backup()
    rot(sample.path, -CHUNK // 2)
    rot(max(Path(sample.backups).glob("*.fs")), CHUNK // 2)
    result = sample.backup(keep=1)
    assert [finding.kind for finding in result.findings] == ["backup-damaged", "changed-in-place"]
    assert len(read_folder(sample.backups).chains) == 2


@pytest.mark.parametrize("place", [0, CHUNK - 1, CHUNK, 2 * CHUNK + 7, -1])
def test_every_byte_counts(sample, place):
    """At the borders of the chunks that are compared, too."""
    sample.change(size=2 * CHUNK + CHUNK // 2, blob=False)
    step = sample.backup().step
    rot(os.path.join(sample.backups, step), place)
    assert [finding.kind for finding in sample.backup().findings] == ["backup-damaged"]


def test_a_disk_that_cannot_be_read(sample, monkeypatch):
    """A bad sector under the backup is damage of the backup, and ends no backup to come."""
    sample.backup()
    sample.change()

    class Bad(DataFile):
        def read(self, position, size):
            raise StorageIOError(f"cannot read {self.path}: Input/output error")

    monkeypatch.setattr(backupcompare, "DataFile", Bad)
    result = sample.backup()
    assert result.kind == "full"
    assert "Input/output error" in result.findings[0].message


@pytest.mark.parametrize("gzip", [False, True])
def test_repozos_chain(sample, tmp_path, gzip):
    """It is read, too, and compared with its MD5s."""
    folder = Path(sample.backups)
    folder.mkdir()
    repozo.main(["-B", "-r", str(folder), "-f", sample.path, *(["-z"] if gzip else [])])
    shutil.copytree(folder, tmp_path / "copy")
    sample.change()
    assert sample.backup().kind == "increment"
    assert sample.restored() == sample.state()
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "copy", folder)
    # Nothing of it can be read then where it is compressed, but its MD5 tells that it is of this database.
    rot(next(folder.glob("*.fs*")), -40)
    result = sample.backup()
    assert (result.kind, [finding.kind for finding in result.findings]) == ("full", ["backup-damaged"])
