"""What the superuser does to another user's database leaves it that user's: the application can go on."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import program
import pytest
import ZODB
from ZODB.blob import Blob
from ZODB.FileStorage import FileIterator, FileStorage
from ZODB.utils import u64

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for others")

UID, GID = 61_234, 61_235
WRITE = "from ZODB.blob import Blob; root.{0} = Blob(b'{0}'); root.n = '{0}'"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with a blob that has two revisions, of somebody else, who shares it with a group."""
    path = tmp_path / "data" / "my.fs"
    path.parent.mkdir()
    db = ZODB.DB(FileStorage(str(path), blob_dir=f"{path}.blobs"))
    for number in range(2):
        with db.transaction(f"number {number}") as connection:
            blob = connection.root().setdefault("blob", Blob())
            with blob.open("w") as file:
                file.write(b"%d" % number)
    db.close()
    for name in (".lock", ".tmp", ".index"):
        os.unlink(f"{path}{name}")
    for file in (path.parent, *path.parent.rglob("*")):
        os.chown(file, UID, GID)
    path.chmod(0o660)
    return path


def zodbsh(*words: object) -> str:
    """Run the program as a superuser who shares nothing, and find it done."""
    run = program.zodbsh(*words, umask=0o077)
    assert run.returncode == 0, run.stderr
    return run.stdout


def tids(path: Path) -> list[str]:
    return [f"{u64(txn.tid):016x}" for txn in FileIterator(str(path))]


def strangers(folder: Path) -> list[str]:
    """Return what does not belong to the owner of the database, or what its owner or group cannot use."""
    found = []
    for file in (folder, *folder.rglob("*")):
        status = file.lstat()
        if (status.st_uid, status.st_gid) != (UID, GID) or not status.st_mode & stat.S_IRUSR:
            found.append(str(file))
    return found


def test_an_undo(database: Path) -> None:
    """The blob that comes back, the lock and the index belong to the owner; the group may use lock and index."""
    zodbsh("undo", database, tids(database)[-1], "-y")
    assert strangers(database.parent) == []
    modes = {name: stat.S_IMODE(os.stat(f"{database}{name}").st_mode) for name in (".lock", ".index")}
    assert modes == {".lock": 0o660, ".index": 0o660}


def test_a_file_taken_back_and_put_back(database: Path) -> None:
    """The tail, the folder of its blobs, and the folders that are made for the blobs again."""
    zodbsh("run", database, "--blobs", f"{database}.blobs", "-c", WRITE.format("b"), "--commit")
    before = tids(database)[-2]
    zodbsh("undo", database, "--after", before, "-y")
    assert strangers(database.parent) == []
    [tail] = [file for file in database.parent.glob("my.fs.undone-*") if file.is_file()]
    assert stat.S_IMODE(tail.stat().st_mode) == 0o660
    for folder in sorted((database.parent / "my.fs.blobs").rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    zodbsh("undo", database, "--redo", "-y")
    assert strangers(database.parent) == []
    assert len(list(database.parent.rglob("*.blob"))) == 3


def test_a_stage_and_its_commit(database: Path) -> None:
    """What is staged can be committed or dropped by the owner; what is committed is the owner's."""
    os.rename(f"{database}.blobs", database.parent.parent / "elsewhere")
    os.mkdir(f"{database}.blobs")
    os.chown(f"{database}.blobs", UID, GID)
    zodbsh("run", database, "--blobs", f"{database}.blobs", "-c", WRITE.format("b"))
    assert {file.name for file in database.parent.glob("my.fs.stage*")} == {"my.fs.stage", "my.fs.stage.blobs"}
    assert strangers(database.parent) == []
    zodbsh("commit", database, "--blobs", f"{database}.blobs")
    assert strangers(database.parent) == []
    assert len(list(database.parent.rglob("*.blob"))) == 1


def test_a_pack(database: Path) -> None:
    """The packed file, the old one, and the folder of the old blobs."""
    zodbsh("pack", database, "-y")
    assert (database.parent / "my.fs.blobs.old").is_dir()
    assert strangers(database.parent) == []


def test_a_recovered_database(database: Path) -> None:
    """It belongs to whom the damaged one belongs to, blobs included, and has its mode."""
    zodbsh("recover", database, database.parent / "new.fs")
    assert strangers(database.parent) == []
    assert stat.S_IMODE((database.parent / "new.fs").stat().st_mode) == 0o660


def test_a_link_is_not_followed(database: Path) -> None:
    """A file with another name elsewhere keeps its owner: whoever owns the folder gets nothing else by that."""
    other = database.parent.parent / "secret"
    other.write_bytes(b"")
    os.link(other, f"{database}.lock")
    zodbsh("undo", database, tids(database)[-1], "-y")
    assert other.stat().st_uid == 0
