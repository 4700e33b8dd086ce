"""recover: the blob files of what is kept come along, and what is missing is said."""

import os

import pytest
import ZODB
import ZODB.FileStorage
from recoveries import Place, run, save
from ZODB.blob import Blob

from zodbsh.publish import DiskFullError


@pytest.fixture
def blobs(tmp_path, no_fsync):
    """Two blobs, one of them changed once."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(ZODB.FileStorage.FileStorage(path, blob_dir=f"{path}.blobs"))
    with db.transaction() as connection:
        connection.root()["one"], connection.root()["two"] = Blob(b"one"), Blob(b"two")
    with db.transaction() as connection, connection.root()["one"].open("w") as file:
        file.write(b"one changed")
    db.close()
    return path


def files(folder):
    return sorted(
        os.path.relpath(os.path.join(where, name), folder) for where, _, names in os.walk(folder) for name in names
    )


def test_blobs_come_along(blobs):
    """Linked, under the new file's name; those of lost revisions stay behind."""
    result = run(blobs)
    assert result.clean
    assert result.blobs[1:] == (3, 0, 0, 0)
    storage = ZODB.FileStorage.FileStorage(f"{blobs}.new", blob_dir=f"{blobs}.new.blobs")
    db = ZODB.DB(storage)
    with db.transaction() as connection, connection.root()["one"].open() as file:
        assert file.read() == b"one changed"
    db.close()


def test_the_blob_of_a_lost_revision_is_left_and_a_missing_one_is_reported(blobs):
    """The one counts as left, the other as missing."""
    place = Place(blobs)
    save(blobs, place.data[: place.starts[2] + 30])
    found = [name for name in files(f"{blobs}.blobs") if name.endswith(".blob")]
    os.unlink(os.path.join(f"{blobs}.blobs", found[-1]))
    result = run(blobs)
    assert result.blobs[1:] == (1, 0, 1, 1)
    assert not result.lost_nothing


def test_blobs_whose_folder_is_not_known_are_missing(tmp_path, blobs):
    """As a backup says."""
    os.rename(f"{blobs}.blobs", tmp_path / "elsewhere")
    result = run(blobs)
    assert result.blobs == (None, 0, 0, 0, 2)
    assert (result.lost_nothing, result.clean) == (False, False)
    assert run(blobs, f"{blobs}.2", blobs=False).clean


def test_what_is_said_of_a_blob_has_the_name_that_its_folder_gets(blobs):
    """Not the one that it has while it is filled."""
    found = [name for name in files(f"{blobs}.blobs") if name.endswith(".blob")]
    os.unlink(os.path.join(f"{blobs}.blobs", found[-1]))
    (finding,) = run(blobs).check.findings
    assert f"{blobs}.new.blobs/{found[-1]} of root.two is missing" in finding.message


def test_blobs_beside_a_file_behind_a_link_come_along(blobs, tmp_path):
    """Those beside the file itself, where there are none beside the link."""
    link = tmp_path / "linked.fs"
    link.symlink_to(blobs)
    assert run(link).blobs[1:] == (3, 0, 0, 0)


def test_blobs_can_be_left_alone(tmp_path, blobs):
    """No folder is made."""
    assert run(blobs, blobs=False).blobs is None
    assert not os.path.exists(f"{blobs}.new.blobs")


def test_no_blob_folder_stays_where_the_file_cannot_be_published(blobs, monkeypatch):
    """Both appear, or neither."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zodbsh.publish._give_name", full)
    with pytest.raises(DiskFullError, match="could not be recovered, nothing changed"):
        run(blobs)
    assert [name for name in os.listdir(os.path.dirname(blobs)) if "new" in name] == []


def test_a_blob_that_cannot_be_read_does_not_stop_a_recovery(blobs, monkeypatch):
    """It is missing, whichever revision's it is, and named with the reason; all else is saved."""
    found = [name for name in files(f"{blobs}.blobs") if name.endswith(".blob")]
    denied = {os.path.join(f"{blobs}.blobs", name) for name in (found[0], found[-1])}

    def guarded(original):
        def call(path, *rest, **options):
            if path in denied:
                raise PermissionError(13, "Permission denied", path)
            return original(path, *rest, **options)

        return call

    monkeypatch.setattr("os.link", guarded(os.link))
    monkeypatch.setattr("builtins.open", guarded(open))
    result = run(blobs)
    assert result.blobs[1:] == (1, 0, 0, 2)
    assert (result.lost_nothing, result.clean) == (False, False)
    assert {(one.kind, one.message) for one in result.check.findings} == {
        ("blob-unreadable", f"{path} cannot be read (Permission denied), and did not come along") for path in denied
    }
