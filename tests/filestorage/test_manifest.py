"""A manifest names each record whose bytes changed, through a pack, too."""

import random
import struct

import pytest
import transaction
import ZODB
import ZODB.FileStorage
import ZODB.TimeStamp
from hypothesis import given
from hypothesis import strategies as st
from persistent.mapping import PersistentMapping
from ZODB.serialize import referencesf

from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.manifest import Comparison, ManifestDamaged, ManifestNotFound, write_manifest
from zodbsh.publish import AlreadyExists


@pytest.fixture
def database(tmp_path, no_fsync):
    """Four transactions, the last an undo."""
    path = tmp_path / "my.fs"
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    for step in range(3):
        with db.transaction(f"step {step}") as connection:
            connection.root()[f"new {step}"] = PersistentMapping(step=step)
            connection.root()["new 0"]["step"] = step
    manager = transaction.TransactionManager()
    db.undo(db.undoInfo(0, 1)[0]["id"], manager.get())
    manager.commit()
    db.close()
    return path


def write(path, name="manifest"):
    with DataFile(str(path)) as file:
        return write_manifest(file, file.limit, str(path.parent / name))


def compare(path, name="manifest"):
    with DataFile(str(path)) as file:
        found = Comparison(file, str(path.parent / name))
        return list(found), found.packed


def places(data):
    """Yield tid, position, end and the records (oid, position, end of data) of each transaction."""
    position = 4
    while position < len(data):
        tid, length, _, *sizes = struct.unpack_from(">QQcHHH", data, position)
        record, records = position + 23 + sum(sizes), []
        while record < position + length:
            oid, size = struct.unpack_from(">Q", data, record)[0], struct.unpack_from(">Q", data, record + 34)[0]
            records.append((oid, record, record + 42 + size))
            record += 42 + (size or 8)
        yield tid, position, position + length + 8, records
        position += length + 8


def test_the_same_file_is_the_same(database):
    """Nothing is found, also when transactions were added."""
    summary = write(database)
    assert summary.transactions == 5
    assert compare(database) == ([], 0)
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(database)))
    with db.transaction() as connection:
        connection.root()["more"] = 1
    db.close()
    assert compare(database) == ([], 0)


def test_every_changed_byte_is_named(database):
    """By its transaction; one in a record's data by that record and no other."""
    write(database)
    data = database.read_bytes()
    for tid, position, end, records in places(data):
        for place in range(position, end):
            wrong = bytearray(data)
            wrong[place] ^= 1 << random.Random(place).randrange(8)
            database.write_bytes(wrong)
            found, packed = compare(database)
            assert found, place
            assert packed == 0
            assert {finding.tid for finding in found} == {tid}, place
            inside = [(oid, start) for oid, start, stop in records if start + 42 <= place < stop]
            if inside:
                assert [(finding.oid, finding.offset) for finding in found] == inside


def test_a_pack_is_no_change(database):
    """What a pack removed or rewrote is counted; a record that it kept is still compared."""
    write(database)
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(database)))
    db.pack()
    db.close()
    found, packed = compare(database)
    assert found == []
    assert packed > 0
    data = bytearray(database.read_bytes())
    # The object that the second step made, and nobody touched since.
    tid, oid, start, stop = next(
        (tid, oid, start, stop) for tid, *_, found in places(data) for oid, start, stop in found if oid == 2
    )
    data[stop - 3] ^= 1
    database.write_bytes(data)
    found, _ = compare(database)
    assert [(finding.kind, finding.oid, finding.tid) for finding in found] == [("manifest-changed", oid, tid)]
    assert start == found[0].offset


def test_a_manifest_that_was_cut_or_changed_is_refused(database):
    """A digest that cannot be trusted says nothing."""
    write(database)
    path = database.parent / "manifest"
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ManifestDamaged):
            compare(database)
    for place in range(0, len(whole), 7):
        wrong = bytearray(whole)
        wrong[place] ^= 1
        path.write_bytes(wrong)
        with pytest.raises(ManifestDamaged):
            compare(database)
    path.write_bytes(whole + b"\n")
    with pytest.raises(ManifestDamaged):
        compare(database)


@given(st.binary(max_size=300))
def test_any_other_file_is_no_manifest(tmp_path_factory, raw):
    """Whatever it holds: one clear error."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "manifest").write_bytes(b"zodbsh-manifest 1 FS30 0000000000000000\n" + raw)
    (folder / "my.fs").write_bytes(b"FS30")
    with pytest.raises(ManifestDamaged):
        compare(folder / "my.fs")


def test_the_manifest_of_another_database_is_refused(database, tmp_path):
    """Nothing of it is in this file, so nothing of it has changed."""
    write(database)
    other = tmp_path / "other.fs"
    ZODB.DB(ZODB.FileStorage.FileStorage(str(other))).close()
    with pytest.raises(ManifestDamaged, match="another database"):
        compare(other)


def test_a_manifest_never_replaces_a_file(database):
    """An older manifest is worth keeping; and a missing one is told."""
    write(database)
    with pytest.raises(AlreadyExists):
        write(database)
    with pytest.raises(ManifestNotFound):
        compare(database, "other")


def test_whole_transactions_that_a_pack_took_are_no_change(tmp_path, no_fsync):
    """Also the first one, which stays where it was with less in it, and the last before the time of the pack."""
    path = tmp_path / "my.fs"
    storage = ZODB.FileStorage.FileStorage(str(path))
    db = ZODB.DB(storage)
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping()
        connection.root()["b"] = PersistentMapping()
    with db.transaction() as connection:
        connection.root()["a"]["n"] = 1
    with db.transaction() as connection:
        connection.root()["a"]["n"] = 2
    storage.pack(ZODB.TimeStamp.TimeStamp(storage.lastTransaction()).timeTime() - 1e-5, referencesf, gc=False)
    db.close()
    # Where packed transactions are compared again without another pack, nothing is forgiven.
    write(path)
    data = path.read_bytes()
    assert data[20:21] == b"p"
    path.write_bytes(data[:12] + bytes([data[12] ^ 1]) + data[13:])
    assert compare(path)[0] != []
    path.write_bytes(data)
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    with db.transaction() as connection:
        del connection.root()["b"]
    write(path, "second")
    db.pack()
    db.close()
    assert compare(path, "second")[0] == []


def test_a_transaction_that_was_cut_off_is_one_finding(database):
    """Its tid is told, not each of its records."""
    write(database)
    data = database.read_bytes()
    *_, (tid, position, _, _) = places(data)
    database.write_bytes(data[:position])
    found, packed = compare(database)
    assert [(finding.kind, finding.tid) for finding in found] == [("manifest-missing", tid)]
    assert packed == 0
