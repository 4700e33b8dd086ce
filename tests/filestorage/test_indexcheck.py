"""A saved index is held against the file."""

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping

from zodbsh.filestorage.index import Index, read_index
from zodbsh.ops.verify import verify
from zodbsh.source.file import FileSource


@pytest.fixture
def database(tmp_path, no_fsync):
    """A database with its index, and an object whose creation was undone."""
    path = tmp_path / "my.fs"
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    for step in range(4):
        with db.transaction(f"step {step}") as connection:
            connection.root()[f"new {step}"] = PersistentMapping(step=step)
    manager = transaction.TransactionManager()
    db.undo(db.undoInfo(0, 1)[0]["id"], manager.get())
    manager.commit()
    db.close()
    return path


def look(path):
    source = FileSource(str(path), unchecked=True)
    try:
        return [finding for finding in verify(source, level="framing").findings if finding.kind == "index"]
    finally:
        source.close()


def test_the_index_that_zodb_saves_is_right(database):
    """Deleted objects included; no index is no fault either."""
    assert look(database) == []
    (database.parent / "my.fs.index").unlink()
    assert look(database) == []


def test_an_older_index_is_not_wrong(database):
    """It is compared with what the file was when it was saved."""
    saved = (database.parent / "my.fs.index").read_bytes()
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(database)))
    with db.transaction() as connection:
        connection.root()["more"] = PersistentMapping()
    db.close()
    (database.parent / "my.fs.index").write_bytes(saved)
    assert look(database) == []


def test_every_flipped_bit_is_found_or_changes_nothing(database):
    """ZODB accepts most of them without a word."""
    path = database.parent / "my.fs.index"
    saved = path.read_bytes()
    right = dict(read_index(str(path)).items())
    found = 0
    for place in range(len(saved)):
        for bit in range(8):
            wrong = bytearray(saved)
            wrong[place] ^= 1 << bit
            path.write_bytes(wrong)
            parsed = read_index(str(path))
            if look(database):
                found += 1
            else:
                assert isinstance(parsed, Index)
                assert dict(parsed.items()) == right
    assert found > 4 * len(saved)


def test_a_wrong_position_names_the_object(database):
    """Oid and both positions are told."""
    path = database.parent / "my.fs.index"
    right = dict(read_index(str(path)).items())
    storage_index = ZODB.fsIndex.fsIndex()
    for oid, position in right.items():
        storage_index[oid.to_bytes(8, "big")] = position + (8 if oid == 2 else 0)
    end = read_index(str(path)).end
    storage_index.save(end, str(path))
    (finding,) = look(database)
    assert (finding.oid, finding.offset) == (2, right[2] + 8)
    assert str(right[2]) in finding.message
