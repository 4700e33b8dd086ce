"""Every blob has its file, every blob file its record."""

import shutil

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from ZODB.blob import Blob
from ZODB.utils import u64

from zodbsh.ops.verify import verify
from zodbsh.source.file import FileSource


@pytest.fixture(params=["bushy", "lawn"])
def database(tmp_path, no_fsync, request):
    """Three blobs: one changed, one whose change was undone."""
    path, folder = tmp_path / "my.fs", tmp_path / "my.fs.blobs"
    storage = ZODB.FileStorage.FileStorage(str(path))
    blobs = ZODB.blob.BlobStorage(str(folder), storage, layout=request.param)
    db = ZODB.DB(blobs)
    with db.transaction() as connection:
        for number in range(3):
            blob = connection.root()[number] = Blob()
            with blob.open("w") as file:
                file.write(b"content")
    with db.transaction() as connection, connection.root()[0].open("w") as file:
        file.write(b"more")
    with db.transaction("changed") as connection, connection.root()[1].open("w") as file:
        file.write(b"more")
    manager = transaction.TransactionManager()
    db.undo(db.undoInfo(0, 1)[0]["id"], manager.get())
    manager.commit()
    db.close()
    return path


def look(path, **options):
    source = FileSource(str(path), unchecked=True, **options)
    try:
        return verify(source).findings
    finally:
        source.close()


def files(path):
    return sorted(path.parent.glob("my.fs.blobs/**/*.blob"))


def test_sound_blobs(database):
    """Old revisions' files belong to records, too."""
    assert len(files(database)) == 6
    assert look(database) == ()


def test_a_missing_file_names_the_blob(database):
    """By its path from the root."""
    for file in files(database):
        file.unlink()
    found = look(database)
    assert [(finding.kind, finding.message) for finding in found] == [
        ("blob-missing", f"root[{number}] has no blob file") for number in range(3)
    ]


def test_a_file_that_belongs_to_no_record(database):
    """Neither to an object nor to one of its revisions."""
    file = files(database)[0]
    other = file.with_name("0x0123456789abcdef.blob")
    other.write_bytes(b"")
    shutil.copytree(file.parent, file.parent.with_name("0x7e"))
    kinds = [finding.kind for finding in look(database)]
    # The file that is dated after the database's last transaction is not judged.
    assert set(kinds) == {"blob-orphaned"}


def test_a_file_that_cannot_be_read(database):
    """A folder in its place, say."""
    last = {}
    for file in files(database):
        last[file.parent] = file
    for file in last.values():
        file.unlink()
        file.mkdir()
    assert {finding.kind for finding in look(database)} <= {"blob-missing", "blob-unreadable"}
    assert look(database)


def test_no_folder_is_no_finding(database):
    """Nothing is known to be missing; the option that helps is named."""
    (database.parent / "my.fs.blobs").rename(database.parent / "elsewhere")
    source = FileSource(str(database), unchecked=True)
    result = verify(source)
    source.close()
    assert result.ok
    assert [line for line in result.not_checked if "--blobs" in line] == [
        "the files of 3 blobs: no folder of blob files is known (--blobs DIR)"
    ]
    assert look(database, blob_dir=str(database.parent / "elsewhere")) == ()


def test_strange_things_in_the_folder(database):
    """What is none of ZODB's business is none of ours; a loop of links ends."""
    folder = database.parent / "my.fs.blobs"
    (folder / "0x00").mkdir(exist_ok=True)
    (folder / "0x00" / "0x01").symlink_to(folder)
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "tmp" / "0x01.blob").write_bytes(b"")
    (folder / "note.txt").write_text("x")
    assert look(database) == ()


def test_the_oid_of_a_blob(database):
    """The finding's oid is ZODB's."""
    for file in files(database):
        file.unlink()
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(database), read_only=True))
    with db.transaction() as connection:
        wanted = {u64(connection.root()[number]._p_oid) for number in range(3)}
    db.close()
    assert {finding.oid for finding in look(database)} == wanted
