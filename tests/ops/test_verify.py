"""verify finds what is broken, names it, goes on, and leaves what is sound alone."""

import importlib
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZODB.utils import p64, u64

from zodbsh.filestorage.manifest import ManifestDamaged
from zodbsh.ids import MAX_ID
from zodbsh.ops.verify import verify
from zodbsh.publish import AlreadyExists
from zodbsh.source.file import FileSource
from zodbsh.source.storage import StorageSource


@pytest.fixture
def database(tmp_path, no_fsync):
    """A sound database: a BTree of 200 mappings, one of them changed twice, an undo."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(ZODB.FileStorage.FileStorage(path))
    with db.transaction("tree") as connection:
        tree = connection.root()["tree"] = OOBTree()
        for number in range(200):
            tree[f"key {number:03}"] = PersistentMapping(number=number)
    for step in range(2):
        with db.transaction(f"step {step}") as connection:
            connection.root()["tree"]["key 007"]["step"] = step
    manager = transaction.TransactionManager()
    db.undo(db.undoInfo(0, 1)[0]["id"], manager.get())
    manager.commit()
    db.close()
    return path


def look(path, **options):
    source = FileSource(str(path), unchecked=True)
    try:
        return verify(source, **options)
    finally:
        source.close()


def kinds(result):
    return sorted({finding.kind for finding in result.findings})


def oid_of(path, key):
    storage = ZODB.FileStorage.FileStorage(path, read_only=True)
    db = ZODB.DB(storage)
    with db.transaction() as connection:
        oid = u64(connection.root()["tree"][key]._p_oid)
    db.close()
    return oid


def lose(path, key):
    """Delete an object that is still referred to, as a broken application would."""
    oid = oid_of(path, key)
    storage = ZODB.FileStorage.FileStorage(path)
    change = transaction.TransactionManager().begin()
    meta = ZODB.Connection.TransactionMetaData()
    storage.tpc_begin(meta)
    storage.deleteObject(p64(oid), storage.load(p64(oid))[1], meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    storage.close()
    change.abort()
    return oid


def test_a_sound_database_is_sound(database):
    """Nothing is found, everything is counted, and what cannot be known is said."""
    result = look(database)
    assert result.findings == ()
    assert result.ok
    assert not result.damaged
    # The root, the tree, its buckets, 200 mappings; the undo shares an older record's data.
    storage = ZODB.FileStorage.FileStorage(database, read_only=True)
    assert result.checked.objects == len(storage)
    assert result.checked.transactions == sum(1 for _ in storage.iterator())
    assert result.checked.records == sum(1 for found in storage.iterator() for _ in found)
    storage.close()
    assert result.checked.trees == 1
    assert any("checksum" in sentence for sentence in result.not_checked)


def test_a_dangling_reference_names_its_referrer_by_path(database):
    """The object that refers to a missing one is told by oid, place and path; ZODB's fsrefs finds the same."""
    missing = lose(database, "key 042")
    result = look(database)
    assert kinds(result) == ["dangling"]
    (found,) = result.findings
    assert found.message == f"root.tree['key 042'] refers to 0x{missing:02x}, which does not exist"
    # What refers is the bucket.
    done = subprocess.run([sys.executable, "-m", "ZODB.scripts.fsrefs", database], capture_output=True, text=True)
    assert re.search(rf"oid 0x{found.oid:x} (?s:.*)oid 0x{missing:x} ", done.stdout), done.stdout
    assert not result.ok


def test_levels_leave_out_and_say_so(database):
    """A level looks no deeper than it says, and names what it left out."""
    lose(database, "key 042")
    framing = look(database, level="framing")
    assert framing.ok
    assert framing.checked.references is None
    assert [line for line in framing.not_checked if "--level" in line and "write-manifest" not in line] == [
        "whether records decode (--level records)",
        "whether references lead somewhere (--level references)",
        "BTrees and blobs (--level all)",
    ]
    assert look(database, level="records").ok
    assert not look(database, level="references").ok


def test_a_record_that_does_not_decode_is_named(database):
    """It is a finding of its own, with the place in the file."""
    oid = oid_of(database, "key 100")
    data = bytearray(Path(database).read_bytes())
    position = data.index(struct.pack(">Q", oid), 4)
    while data[position + 42 : position + 44] != b"\x80\x03":
        position = data.index(struct.pack(">Q", oid), position + 1)
    data[position + 43] = 0x7F
    Path(database).write_bytes(data)
    result = look(database, level="references")
    assert kinds(result) == ["undecodable"]
    (found,) = result.findings
    assert (found.oid, found.offset) == (oid, position)


def test_damage_does_not_end_the_check(database):
    """Framing damage in the middle is named, and a dangling reference behind it is found as well."""
    missing = lose(database, "key 150")
    data = bytearray(Path(database).read_bytes())
    # The third transaction's tid goes back in time.
    place = 4
    for _ in range(2):
        place += struct.unpack_from(">Q", data, place + 8)[0] + 8
    struct.pack_into(">Q", data, place, 1)
    Path(database).write_bytes(data)
    result = look(database)
    assert result.damaged
    assert "dangling" in kinds(result)
    assert any(f"0x{missing:02x}" in finding.message for finding in result.findings if finding.kind == "dangling")


def test_every_cut_within_a_transaction_is_damage(tmp_path, no_fsync, monkeypatch):
    """Of a file that ends within a record something is always said."""
    monkeypatch.setattr("zodbsh.filestorage.framing._PAUSE", 0)
    path = tmp_path / "small.fs"
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping(b=1)
    db.close()
    whole = path.read_bytes()
    borders, position = {4}, 4
    while position < len(whole):
        position += struct.unpack_from(">Q", whole, position + 8)[0] + 8
        borders.add(position)
    cut = tmp_path / "cut.fs"
    for size in range(5, len(whole)):
        # Up to the status byte nobody can tell a cut from a transaction that is just being written.
        if size in borders or any(border < size <= border + 16 for border in borders):
            continue
        cut.write_bytes(whole[:size])
        assert look(cut, level="framing").damaged, size


def test_a_pointer_to_a_foreign_record_is_damage(database):
    """The pointer to an object's earlier record must lead to a record of that object."""
    oid = oid_of(database, "key 007")
    data = bytearray(Path(database).read_bytes())
    position = data.rindex(struct.pack(">Q", oid))
    while struct.unpack_from(">Q", data, position + 16)[0] == 0:
        position = data.rindex(struct.pack(">Q", oid), 0, position)
    struct.pack_into(">Q", data, position + 16, 60)
    Path(database).write_bytes(data)
    result = look(database, level="framing")
    assert result.damaged
    # The field's place, as of every other field.
    assert (result.findings[0].oid, result.findings[0].offset) == (oid, position + 16)


def test_garbage_is_no_fault(database):
    """What nothing leads to is counted, and the database is sound."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(database))
    with db.transaction() as connection:
        del connection.root()["tree"]["key 003"]
    db.close()
    result = look(database)
    assert result.ok
    assert result.garbage == 1


def test_what_a_pack_left_is_sound(database):
    """Old records of packed transactions may refer to objects whose first revisions the pack removed."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(database))
    with db.transaction() as connection:
        for value in connection.root()["tree"].values():
            value["again"] = 1
    db.pack()
    db.close()
    assert look(database).findings == ()


def test_the_past_can_be_verified(database):
    """What was lost later was there then."""
    before = FileSource(database)
    tid = before.last_tid
    before.close()
    lose(database, "key 042")
    assert look(database, at=tid).ok
    assert not look(database, at=MAX_ID).ok


def test_any_storage_can_be_verified():
    """References and trees are checked without a file."""
    db = ZODB.DB(None)
    with db.transaction() as connection:
        tree = connection.root()["tree"] = OOBTree()
        tree["a"] = PersistentMapping()
    result = verify(StorageSource(db.storage, "memory", owned=False))
    assert result.ok
    assert result.checked.trees == 1
    assert any("storage" in sentence for sentence in result.not_checked)
    db.close()


def test_a_broken_tree_is_found(database):
    """A bucket's keys out of order are a finding, and ZODB alone would not have told."""
    data = bytearray(Path(database).read_bytes())
    place = data.index(b"key 010")
    data[place : place + 7] = b"key 001"
    Path(database).write_bytes(data)
    result = look(database)
    assert kinds(result) == ["tree-order"]


def test_every_flip_is_a_report(database):
    """Whatever byte is wrong: a result, never an error; and what lies behind the damage is still read."""
    data = Path(database).read_bytes()
    for place in range(4, len(data), 97):
        wrong = bytearray(data)
        wrong[place] ^= 4
        Path(database).write_bytes(wrong)
        result = look(database)
        assert result.checked.transactions > 0
    # A status that nobody knows costs one transaction's framing, not the paths of what is sound.
    missing = lose_after_flip(database, data)
    (found,) = (finding for finding in look(database).findings if finding.kind == "dangling")
    assert found.message == f"root.tree['key 042'] refers to 0x{missing:02x}, which does not exist"
    assert found.tid


def lose_after_flip(path, data):
    Path(path).write_bytes(data)
    missing = lose(path, "key 042")
    wrong = bytearray(Path(path).read_bytes())
    wrong[4 + 16] = ord("?")
    Path(path).write_bytes(wrong)
    return missing


@pytest.mark.parametrize("kind", ["MappingStorage", "DemoStorage"])
def test_a_pack_of_another_storage_leaves_nothing_dangling(kind):
    """Its pack takes old revisions without a trace: what exists now is not missed in the past."""
    storage = getattr(importlib.import_module(f"ZODB.{kind}"), kind)()
    db = ZODB.DB(storage)
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping(b=PersistentMapping())
    with db.transaction() as connection:
        connection.root()["a"]["b"]["n"] = 1
    db.pack()
    with db.transaction() as connection:
        connection.root()["a"]["b"]["n"] = 2
    assert verify(StorageSource(storage, "other", owned=False)).findings == ()
    db.close()


def test_an_index_of_what_was_written_since_is_no_finding(database):
    """A writer may save it while the check runs; the snapshot ends before that."""
    source = FileSource(database, unchecked=True)
    db = ZODB.DB(ZODB.FileStorage.FileStorage(database))
    with db.transaction() as connection:
        connection.root()["more"] = 1
    db.close()
    assert verify(source).ok
    source.close()


def test_names_are_looked_at_before_the_database(database, tmp_path):
    """A manifest that cannot be written or read is an error at once, not after hours."""
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(AlreadyExists):
        look(database, write=str(tmp_path / "taken"))
    with pytest.raises(ManifestDamaged):
        look(database, manifest=str(tmp_path / "taken"))


def test_damage_is_not_told_again_as_a_wrong_index(database):
    """The index is right about a file that was damaged since."""
    data = bytearray(Path(database).read_bytes())
    data[4 + 16] = ord("?")
    Path(database).write_bytes(data)
    result = look(database, level="framing")
    assert kinds(result) == ["framing"]
    assert any("saved index" in sentence for sentence in result.not_checked)
