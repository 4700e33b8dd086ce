"""restore replaces a database's own files and its folder of blobs, and nothing else that is in the way."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import ZODB
import ZODB.FileStorage
from ZODB.blob import Blob

sys.path.insert(0, str(Path(__file__).parent))
from backups import Sample, blobs_in

from zodbsh.db.locks import DatabaseLocked, write_lock
from zodbsh.errors import UsageError
from zodbsh.ops.backups.restore import restore
from zodbsh.ops.backups.restoreplace import OtherFolder
from zodbsh.publish import AlreadyExists


def tree(folder):
    """Return everything in a folder by its relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in Path(folder).rglob("*")
        if path.name != ".zodbsh-backup.lock" and not path.name.endswith(".lock")
    }


@pytest.fixture
def one(sample):
    """A database with a backup, restored to ``out.fs``."""
    sample.change()
    sample.backup()
    sample.restore()
    return sample


@pytest.mark.parametrize("name", ["srv", "backups", "backups/blobs", ".", "in", "in/deep", "a-file"])
def test_a_folder_that_is_none_of_blobs(one, monkeypatch, name):
    """A user's folder, the backups, the current folder and the database's own stay where they are."""
    (one.folder / "srv").mkdir()
    (one.folder / "srv" / "letter.txt").write_text("mine")
    (one.folder / "in" / "deep").mkdir(parents=True)
    (one.folder / "a-file").write_text("mine")
    monkeypatch.chdir(one.folder)
    out = "in/deep/out.fs" if name.startswith("in") else "out.fs"
    before = tree(one.folder)
    with pytest.raises(OtherFolder):
        restore("backups", out, force=True, blobs=name)
    assert tree(one.folder) == before


@pytest.mark.parametrize("stranger", ["notes.txt", "0x00/notes.txt", "0x00/extra/x"])
def test_a_folder_of_blobs_with_something_else_in_it(one, stranger):
    """What is no blob makes it another folder: it is named, and stays."""
    path = one.folder / "out.fs.blobs" / stranger
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("mine")
    before = tree(one.folder)
    with pytest.raises(OtherFolder, match="is no blob"):
        one.restore(force=True)
    assert tree(one.folder) == before


def test_an_old_folder_that_is_none_of_blobs(one):
    """What has the name that the old blobs would get is not removed."""
    old = one.folder / "out.fs.blobs.old"
    old.mkdir()
    (old / "letter.txt").write_text("mine")
    before = tree(one.folder)
    with pytest.raises(OtherFolder, match="would stay as"):
        one.restore(force=True)
    assert tree(one.folder) == before


@pytest.mark.parametrize("force", [False, True])
def test_an_empty_folder_is_filled(one, force):
    """Nothing of it stays, and what has its name with `.old` is not touched."""
    target, old = one.folder / "empty", one.folder / "empty.old"
    target.mkdir()
    old.mkdir()
    (old / "letter.txt").write_text("mine")
    result = one.restore("out.fs" if force else "new.fs", force=force, blobs=str(target))
    assert blobs_in(target) == one.state()[1]
    assert (result.old_blobs, (old / "letter.txt").read_text()) == (None, "mine")


def test_what_was_replaced_is_named(one):
    """The old file and the old folder of blobs."""
    result = one.restore(force=True)
    assert result.old_blobs == f"{one.folder}/out.fs.blobs.old"
    assert os.path.isdir(result.old_blobs)


@pytest.mark.parametrize("there", [True, False])
def test_another_databases_blobs(one, tmp_path, there):
    """They are known neither to the backup nor to the database that is replaced: they stay."""
    other = Sample(tmp_path / "other")
    for _ in range(3):
        other.change()
    if not there:
        os.unlink(one.folder / "out.fs")
        os.unlink(one.folder / "out.fs.index")
    before = tree(one.folder), tree(other.folder)
    with pytest.raises(OtherFolder, match="another database"):
        one.restore(force=True, blobs=other.blobs)
    assert (tree(one.folder), tree(other.folder)) == before


def test_blobs_that_a_killed_restore_has_left(one):
    """Until its very end they are those of the database that it replaced, too: it can be run again."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(one.path, blob_dir=one.blobs))
    with db.transaction() as connection:
        connection.root()["another"] = Blob(b"another")
    replaced = one.content()
    with db.transaction() as connection:
        del connection.root()["another"]
    db.close()
    (path,) = [path for path in Path(one.blobs).rglob("*.blob") if path.read_bytes() == b"another"]
    one.pack()
    one.backup()
    restore(one.backups, one.path, force=True, blobs=one.blobs)
    restored = blobs_in(one.blobs)
    Path(f"{one.path}.old").write_bytes(replaced)
    _leave(path)
    restore(one.backups, one.path, force=True, blobs=one.blobs)
    assert blobs_in(one.blobs) == restored
    _leave(path)
    # What is `.old` now never knew it.
    with pytest.raises(OtherFolder, match="another database"):
        restore(one.backups, one.path, force=True, blobs=one.blobs)


def _leave(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another")


def test_newer_blobs_of_a_broken_database(one):
    """They are its own: it is replaced, and the blobs stay as `.old`."""
    one.change()
    newer = one.state()[1]
    os.truncate(one.path, 500)
    result = restore(one.backups, one.path, force=True, blobs=one.blobs)
    assert blobs_in(result.old_blobs) == newer


def test_a_link_to_the_database(one):
    """Index and blobs go by the file behind the link; a stale index under either name goes."""
    os.makedirs(one.folder / "lnk")
    link = one.folder / "lnk" / "d.fs"
    link.symlink_to("../out.fs")
    (one.folder / "lnk" / "d.fs.index").write_bytes(b"stale")
    (one.folder / "out.fs.index").write_bytes(b"stale")
    result = restore(one.backups, str(link), force=True)
    assert link.is_symlink()
    assert not (one.folder / "lnk" / "d.fs.index").exists()
    assert (one.folder / "out.fs.index").read_bytes() != b"stale"
    assert os.path.realpath(result.blob_folder) == str(one.folder / "out.fs.blobs")


def test_a_link_with_a_folder_of_blobs_of_its_own(one):
    """That one is the database's where the file behind the link has none."""
    os.makedirs(one.folder / "lnk")
    link = one.folder / "lnk" / "d.fs"
    link.symlink_to("../out.fs")
    shutil.move(one.folder / "out.fs.blobs", f"{link}.blobs")
    assert restore(one.backups, str(link), force=True).blob_folder == f"{link}.blobs"
    assert not os.path.lexists(one.folder / "out.fs.blobs")


def test_a_link_to_a_database_in_use(one):
    """Whoever has the file behind the link open is not written away from under."""
    (one.folder / "d.fs").symlink_to("out.fs")
    with write_lock(str(one.folder / "out.fs")), pytest.raises(DatabaseLocked):
        one.restore("d.fs", force=True)


def test_the_databases_own_stage(one):
    """It is said to be its own, and what can be done about it."""
    Path(one.folder / "out.fs.stage").write_bytes(b"x")
    with pytest.raises(AlreadyExists, match="of this database that were not committed") as caught:
        one.restore(force=True)
    assert "zodbsh commit" in caught.value.hint


def test_a_place_below_the_backups(one):
    """A database there would be taken for a part of a backup."""
    with pytest.raises(UsageError, match="among the backups"):
        restore(one.backups, os.path.join(one.backups, "blobs", "out.fs"))
