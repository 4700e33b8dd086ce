"""recover: a number that others contradict is repaired where they decide, and reported either way."""

import os
import struct

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from recoveries import Place, contents, make_database, oid_of, records, run, save

from zodbsh.ids import oid_text


@pytest.fixture
def database(tmp_path, no_fsync):
    """See `make_database`."""
    path = str(tmp_path / "my.fs")
    make_database(path)
    return path


@pytest.mark.parametrize(
    ("what", "number"), [("status", 2), ("ending", 2), ("previous", 2), ("tid", 2), ("length", 3), ("transaction", 4)]
)
def test_one_wrong_number_costs_no_record(database, what, number):
    """A status, a repeated length, a previous pointer, a header's tid or length, a record's place of its header."""
    sound = contents(database)
    place = Place(database)
    start, record = place.starts[number], place.records[number][0][0]
    at, raw = {
        "status": (start + 16, b"?"),
        "ending": (place.starts[number + 1] - 8, b"\xff" * 8),
        "previous": (record + 16, b"\x00" * 7 + b"\x09"),
        "tid": (start, b"\xff" * 8),
        "length": (start + 8, b"\x00\x00\x00\x00\x7f\xff\xff\xff"),
        "transaction": (record + 24, b"\x00" * 7 + b"\x05"),
    }[what]
    place.data[at : at + len(raw)] = raw
    save(database, place.data)
    result = run(database)
    assert result.lost_nothing
    assert contents(f"{database}.new") == sound


@pytest.mark.parametrize("record", [0, 1, 3])
@pytest.mark.parametrize(
    ("at", "number"), [(8, 10), (8, -10), (8, 1 << 36), (24, 10), (24, -2), (24, 1 << 40), (24, 1 << 63), (16, 1 << 63)]
)
def test_a_wrong_number_of_one_of_several_records_costs_nothing(database, record, at, number):
    """Its tid or the place of its transaction, be it the first; where it says that an earlier one comes later."""
    sound = contents(database)
    place = Place(database)
    field = place.records[1][record][0] + at
    (right,) = struct.unpack_from(">Q", place.data, field)
    place.data[field : field + 8] = struct.pack(">Q", right + number)
    save(database, place.data)
    result = run(database)
    assert (result.lost_nothing, result.clean) == (True, False)
    assert contents(f"{database}.new") == sound


@pytest.mark.parametrize("at", ["header", "record"])
@pytest.mark.parametrize("number", [10, -10])
def test_of_two_tids_neither_is_believed(database, at, number):
    """The first transaction's header and its only record: nothing else tells when it was."""
    sound = contents(database)
    place = Place(database)
    field = place.starts[0] if at == "header" else place.records[0][0][0] + 8
    (right,) = struct.unpack_from(">Q", place.data, field)
    place.data[field : field + 8] = struct.pack(">Q", right + number)
    save(database, place.data)
    result = run(database)
    assert contents(f"{database}.new")[1:] == sound[1:]
    ((start, name, oid, tid, repaired, message),) = result.contradictions
    assert (start, name, oid, repaired, result.lost_nothing) == (4, "tid", None, False, False)
    assert f"{right if tid != right else right + number:016x}" in message


def test_a_place_that_only_one_record_tells_is_reported(database):
    """A transaction of one record, which says that it stands elsewhere."""
    sound = contents(database)
    place = Place(database)
    record = place.records[4][0][0]
    place.data[record + 31] ^= 4
    save(database, place.data)
    result = run(database)
    assert contents(f"{database}.new") == sound
    assert [(one.position, one.field, one.repaired) for one in result.contradictions] == [
        (record + 24, "transaction", True)
    ]


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("bit", [1, 5, 9])
@pytest.mark.parametrize("indexed", [False, True])
def test_a_wrong_oid_is_repaired_where_the_revisions_tell(database, number, bit, indexed):
    """The first of several revisions, one between, and the newest; with and without the saved index."""
    sound = contents(database)
    place = Place(database)
    names = {1: "a", 2: "a", 3: "a", 4: "b", 5: "a"}
    record = place.record(number, oid_of(database, names[number]))
    place.data[record + 7 - bit // 8] ^= 1 << bit % 8
    save(database, place.data)
    if not indexed:
        os.unlink(f"{database}.index")
    result = run(database)
    assert contents(f"{database}.new") == sound
    assert [(one.position, one.field, one.repaired) for one in result.contradictions] == [(record, "oid", True)]
    assert (result.lost_nothing, result.clean) == (True, False)


def damaged_numbers(result):
    return [(one.position, one.field, one.repaired) for one in result.contradictions]


def test_a_pointer_to_another_objects_record_is_repaired_where_all_else_fits(database):
    """The record itself says whose it is, and so does the one that it points to."""
    sound = contents(database)
    place = Place(database)
    a, b = oid_of(database, "a"), oid_of(database, "b")
    record = place.record(4, b)
    place.data[record + 16 : record + 24] = struct.pack(">Q", place.record(1, a))
    save(database, place.data)
    result = run(database)
    assert damaged_numbers(result) == [(record + 16, "previous", True)]
    assert contents(f"{database}.new") == sound


def test_two_wrong_oids_of_one_object_are_kept_as_they_are(database):
    """Nothing refers to the one or the other."""
    place = Place(database)
    b = oid_of(database, "b")
    first, second = place.record(1, b), place.record(4, b)
    place.data[first + 7], place.data[second + 7] = 0x41, 0x61
    save(database, place.data)
    os.unlink(f"{database}.index")
    result = run(database)
    assert (second, "oid", False) in damaged_numbers(result)
    assert not any(one.repaired for one in result.contradictions)
    assert [found[4].keys() & {0x41, 0x61, b} for found in contents(f"{database}.new")][1::3] == [{0x41}, {0x61}]


def test_a_pointer_to_a_record_whose_oid_was_repaired_is_no_reason_to_change_it_again(database):
    """The record that points there wrongly is named."""
    place = Place(database)
    a, b = oid_of(database, "a"), oid_of(database, "b")
    wrong, pointing = place.record(2, a), place.record(4, b)
    place.data[wrong + 7] = 0x40 | a
    place.data[pointing + 16 : pointing + 24] = struct.pack(">Q", wrong)
    save(database, place.data)
    os.unlink(f"{database}.index")
    assert damaged_numbers(run(database)) == [(wrong, "oid", True), (pointing, "oid", False)]


def test_a_record_that_denies_its_objects_earlier_revisions_is_reported(database):
    """A new object's record with the oid of another: it is kept, and nothing says that nothing is lost."""
    place = Place(database)
    b = oid_of(database, "b")
    # The pointer of b's second revision says that there is none before it.
    record = place.record(4, b)
    place.data[record + 16 : record + 24] = bytes(8)
    save(database, place.data)
    result = run(database)
    assert [(one.position, one.repaired) for one in result.contradictions] == [(record, False)]
    assert not result.lost_nothing


def test_a_record_that_took_another_objects_oid_is_reported(database):
    """Of a damaged transaction or not: c's only record says it is a second one of b."""
    place = Place(database)
    b, c = oid_of(database, "b"), oid_of(database, "c")
    record = place.record(1, c)
    place.data[record : record + 8] = struct.pack(">Q", b)
    save(database, place.data)
    os.unlink(f"{database}.index")
    result = run(database)
    assert not result.lost_nothing
    (one,) = result.contradictions
    assert (one.oid, one.repaired) == (b, False)
    assert record == one.position or f"another record of it, at {record}:" in one.message
    assert len(contents(f"{database}.new")[1][4]) == len(place.records[1]) - 1


@pytest.mark.parametrize("damaged", [False, True])
def test_both_records_of_an_object_in_one_transaction_are_kept(database, damaged):
    """Of a damaged transaction, too: c's record has b's oid now, and one of the two is reported."""
    sound = records(database)
    place = Place(database)
    b, c = oid_of(database, "b"), oid_of(database, "c")
    record = place.record(1, c)
    place.data[record : record + 8] = struct.pack(">Q", b)
    if damaged:
        place.data[place.starts[1] + 16] = 0
    save(database, place.data)
    result = run(database)
    kept = [(b if oid == c else oid, data) for oid, data in sound[1]]
    assert sorted(records(f"{database}.new")[1]) == sorted(kept)
    assert [(one.oid, one.repaired) for one in result.contradictions if one.field == "oid"][:1] == [(b, False)]


@pytest.mark.parametrize("damaged", [False, True])
def test_two_undone_in_one_transaction_contradict_nothing(database, damaged):
    """ZODB writes two records of an object then, and both are kept in their order."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(database))
    manager = transaction.TransactionManager()
    newest = [one["id"] for one in db.undoInfo(0, 6) if one["description"] in ("change 0", "change 1")]
    db.undo(db.undoInfo(0, 1)[0]["id"], manager.get())
    manager.commit()
    db.undoMultiple(newest, manager.get())
    manager.commit()
    db.close()
    sound, place = records(database), Place(database)
    assert [oid for oid, _ in sound[-1]] == [oid_of(database, "a")] * 2
    if damaged:
        place.data[place.starts[-1] + 16] = 0
        save(database, place.data)
    result = run(database)
    assert (result.contradictions, result.clean) == ((), not damaged)
    assert records(f"{database}.new") == sound


@pytest.mark.parametrize("oid", [0x43, 0x77665544332211])
def test_an_object_that_nobody_refers_to_may_be_one_that_is_missing(database, oid):
    """An only revision whose oid became one that is not in use: both are named, wherever the record is."""
    place = Place(database)
    c = oid_of(database, "c")
    record = place.record(1, c)
    place.data[record : record + 8] = struct.pack(">Q", oid)
    save(database, place.data)
    os.unlink(f"{database}.index")
    result = run(database)
    ((position, name, found, tid, repaired, message),) = result.contradictions
    assert (position, name, found, repaired) == (record, "oid", oid, False)
    assert (tid, result.lost_nothing) == (contents(database)[1][0], False)
    assert message == (
        f"nobody refers to this object, and {oid_text(c)}, root['c'], is referred to and missing: it may be that one"
    )


def test_more_contradictions_than_are_looked_at_are_counted(database, monkeypatch):
    """And nobody says that nothing was lost."""
    monkeypatch.setattr("zodbsh.filestorage.salvage.chain._MOST", 1)
    place = Place(database)
    b = place.record(1, oid_of(database, "b"))
    for number in (2, 3):
        record = place.records[number][0][0]
        place.data[record + 16 : record + 24] = struct.pack(">Q", b)
    save(database, place.data)
    result = run(database)
    assert (len(result.contradictions), result.contradictions_more, result.lost_nothing) == (1, 1, False)


def test_what_a_pack_leaves_denies_nothing(database):
    """Two packed records of an object, one for an undo that came after the pack time: neither points to the other."""
    place = Place(database)
    # As ZODB's writePackedDataRecord (fspack.py).
    for start, found in zip(place.starts[:5], place.records, strict=False):
        place.data[start + 16 : start + 17] = b"p"
        for record, _, _ in found:
            place.data[record + 16 : record + 24] = bytes(8)
    save(database, place.data)
    assert run(database).clean
    # Where the transactions are written one by one, too.
    place.data[4] ^= 1
    save(database, place.data)
    assert run(database, f"{database}.two").contradictions == ()
