"""What a folder of backups lacks is completed by the next backup, also where nothing is new."""

import itertools
import os
import sys
from pathlib import Path

import pytest
from ZODB.scripts import repozo

sys.path.insert(0, str(Path(__file__).parent))
from backups import blobs_in
from faults import killed_at

from zodbsh.ops.backups import mend as backupmend
from zodbsh.ops.backups.check import check_backups


@pytest.fixture
def folder(sample):
    """Two full backups, each with an increment; the second ones end where the database does."""
    for _ in range(2):
        sample.backup(full=True, copy_blobs=True)
        sample.change()
        sample.backup(copy_blobs=True)
    return Path(sample.backups)


def written(sample):
    return {name: (Path(sample.backups) / name).read_bytes() for name in sample.names()}


def test_every_dat_and_index(sample, folder):
    """Missing ones are the same as before, byte for byte, and a note names each."""
    before = written(sample)
    lost = sorted(path for path in folder.iterdir() if path.suffix in (".dat", ".index"))
    # An increment of an older full backup is at hand in no one file.
    lost.remove(sorted(folder.glob("*.index"))[1])
    for path in lost:
        path.unlink()
    result = sample.backup()
    assert (result.kind, result.findings) == ("none", ())
    assert written(sample) == before
    assert sorted(note.split(" ")[0] for note in result.notes) == [path.name for path in lost]
    assert sample.backup().notes == ()
    repozo.main(["-V", "-r", str(folder)])


def test_an_index_that_is_not_at_hand(sample, folder):
    """--verify goes on naming it."""
    path = sorted(folder.glob("*.index"))[1]
    path.unlink()
    assert sample.backup().notes == ()
    assert [finding.message for finding in check_backups(str(folder)).findings] == [f"{path} is missing"]


@pytest.mark.parametrize("kept", [-1, -40, 0])
def test_a_dat_that_is_not_what_manifests_say(sample, folder, kept):
    """They have checksums, and it has none."""
    before = written(sample)
    for path in folder.glob("*.dat"):
        os.truncate(path, path.stat().st_size + kept if kept else 0)
    assert len(sample.backup().notes) == 2
    assert written(sample) == before


def test_a_dat_with_another_sum(sample, folder):
    """What a manifest says counts, and is written."""
    before = written(sample)
    for path in folder.glob("*.dat"):
        path.write_bytes(path.read_bytes()[:-9] + b"00000000\n")
    assert len(sample.backup().notes) == 2
    assert written(sample) == before


def test_lines_of_steps_that_are_gone_stay(sample, folder):
    """They tell that something is missing."""
    dat = min(folder.glob("*.dat"))
    before = dat.read_bytes()
    for path in folder.glob(f"{min(folder.glob('*.deltafs')).stem}.*"):
        path.unlink()
    assert sample.backup().notes == ()
    assert dat.read_bytes() == before


def test_nothing_is_vouched_for_that_was_not(sample, tmp_path):
    """repozo's `.dat` is its only record: where it is gone, an older backup's is not made up."""
    folder = Path(sample.backups)
    folder.mkdir()
    repozo.main(["-BF", "-r", str(folder), "-f", sample.path])
    (dat,) = folder.glob("*.dat")
    dat.unlink()
    sample.backup(full=True)
    assert not dat.exists()


def test_another_index_is_not_written(sample, folder, monkeypatch):
    """What is made must have the digest of what was written then."""
    path = max(folder.glob("*.index"))
    path.unlink()
    monkeypatch.setattr(backupmend, "write_index", lambda path, scan: "0" * 64)
    assert sample.backup().notes == ()
    assert not path.exists()


def test_what_cannot_be_completed_is_a_finding(sample, folder, monkeypatch):
    """The backup was made, and is said to be."""
    min(folder.glob("*.dat")).unlink()
    monkeypatch.setattr(backupmend, "fill", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    sample.change()
    result = sample.backup()
    assert (result.kind, [finding.kind for finding in result.findings]) == ("increment", ["not-completed"])
    assert "No space left on device" in result.findings[0].message


@pytest.mark.parametrize("copy", [True, False])
def test_a_blob_is_healed_in_one_step(sample, tmp_path_factory, copy):
    """Wherever the process is killed, its name leads to the bad file or to the good one, and nothing is left over."""
    sample.backup(copy_blobs=True)
    good = blobs_in(sample.backups + "/blobs")
    (path,) = Path(sample.backups).rglob("*.blob")
    for number in itertools.count(1):
        path.unlink(missing_ok=True)
        path.write_bytes(b"bad")
        finished = killed_at(number, lambda: sample.backup(copy_blobs=copy))
        assert path.read_bytes() in (b"bad", *good.values()), number
        assert [finding.kind for finding in sample.backup(copy_blobs=copy).findings] in (["blob-replaced"], [])
        assert blobs_in(sample.backups + "/blobs") == good
        assert os.listdir(path.parent) == [path.name], number
        assert check_backups(sample.backups).ok
        if finished:
            break
    assert number > 3


def test_a_blob_that_cannot_be_replaced(sample, monkeypatch):
    """It is a finding with the reason, the backup counts, and --keep removes nothing."""
    sample.backup(copy_blobs=True)
    sample.change(blob=False)
    (path,) = Path(sample.backups).rglob("*.blob")
    os.chmod(path, 0o600)
    path.write_bytes(b"bad")
    monkeypatch.setattr(
        "zodbsh.ops.backups.blobs.add_file", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full"))
    )
    result = sample.backup()
    assert (result.kind, [finding.kind for finding in result.findings]) == ("increment", ["blob-damaged"])
    assert result.findings[0].message.endswith("could not be replaced: full")


def test_a_link_in_a_blobs_place_is_not_followed(sample, tmp_path):
    """What it leads to stays as it is."""
    sample.backup(copy_blobs=True)
    (path,) = Path(sample.backups).rglob("*.blob")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine")
    path.unlink()
    path.symlink_to(elsewhere)
    for copy in (True, False):
        assert [finding.kind for finding in sample.backup(copy_blobs=copy).findings] in (["blob-replaced"], [])
        assert elsewhere.read_bytes() == b"mine"
    assert not path.is_symlink()
