"""What recover makes of several damages that meet in one place."""

import os
import struct

import pytest
import ZODB
import ZODB.FileStorage
from recoveries import RECORD, Place, contents, make_database, oid_of, records, run, save


@pytest.fixture
def database(tmp_path, no_fsync):
    """See `make_database`."""
    path = str(tmp_path / "Data.fs")
    make_database(path)
    return path


def test_a_record_that_another_seems_to_hold_is_kept(database):
    """Nothing confirms it, as its transaction's second length is gone; what seems to hold it reaches into the next."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(database))
    for large in ("", "x" * 100_000):
        with db.transaction() as connection:
            for name in "abc":
                connection.root()[name]["large"] = large
    db.close()
    sound, place = records(database), Place(database)
    (longer, oid, _), _ = place.records[-2][-2:]
    tid, end = struct.unpack_from(">Q", place.data, place.starts[-1])[0], place.starts[-1]
    header = RECORD.pack(oid, tid + 1, 0, len(place.data) + 9_999, 0, 50_000)
    # Nor does it look like a pickle, which would not end there.
    place.data[longer : longer + 43] = header + bytes(1)
    place.data[end - 8 : end] = bytes(8)
    place.data[end + 16] = 0
    save(database, place.data)
    run(database)
    kept = records(f"{database}.new")
    assert kept == [*sound[:-2], [*sound[-2][:-2], sound[-2][-1]], sound[-1]]


def test_a_record_behind_a_cut_is_kept(database):
    """A record whose end is missing, with the next transaction's beginning, seems to reach into one of that."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(database))
    for changes in ({"a": "a"}, {"b": "b" * 5_000, "c": "c"}, {"c": "last"}):
        with db.transaction() as connection:
            for name, text in changes.items():
                connection.root()[name]["added"] = text
    db.close()
    sound, place = records(database), Place(database)
    ((cut, _, size),), (_, (behind, _, _)) = place.records[-3:-1]
    # It is no pickle of today, which would have to end as one.
    place.data[cut + 42] = 0
    del place.data[cut + 42 + size - 27 : behind]
    save(database, place.data)
    run(database)
    kept = records(f"{database}.new")
    assert [one for one in kept if one[0] == sound[-2][1]] == [sound[-2][1:]]
    assert kept[-1] == sound[-1]


def test_a_back_pointer_tells_whose_record_it_is(database):
    """The revision before it has the oid of an object of which nothing else is left."""
    sound, place = records(database), Place(database)
    a, c = oid_of(database, "a"), oid_of(database, "c")
    # Nothing is left of c, and the change to which the undo leads back is part of a damaged transaction.
    place.data[place.record(1, c) : place.record(1, c) + 42] = bytes(42)
    place.data[place.starts[2] + 16] = 0
    newest = place.record(3, a)
    place.data[newest : newest + 8] = struct.pack(">Q", c)
    save(database, place.data)
    result = run(database)
    kept = records(f"{database}.new")
    assert kept == [sound[0], [one for one in sound[1] if one[0] != c], *sound[2:]]
    assert [(one.position, one.oid, one.repaired) for one in result.contradictions] == [(newest, a, True)]


def test_of_two_copies_that_differ_both_are_kept_and_reported(database):
    """One of them has damaged data: nothing tells which, and the one in its place is read."""
    sound, place = records(database), Place(database)
    oid = oid_of(database, "b")
    record = place.record(1, oid)
    *_, size = RECORD.unpack_from(place.data, record)
    place.data[place.starts[1] + 16] = 0
    copy = place.data[place.starts[1] : place.starts[2]]
    copy[record - place.starts[1] + 42 + size - 10] ^= 1
    save(database, place.data + copy)
    result = run(database)
    (one,) = result.contradictions
    assert (one.oid, one.repaired) == (oid, False)
    assert "one is a copy whose data is damaged" in one.message
    kept = records(f"{database}.new")
    assert len(kept[1]) == len(sound[1]) + 1
    assert contents(f"{database}.new")[1][4] == dict(sound[1])
    assert kept[2:] == sound[2:]


def test_what_may_be_lost_is_no_reason_to_change_an_oid(database):
    """The first revision left of a has the root's oid, of which nothing else is left: a's next keeps its own."""
    sound, place = records(database), Place(database)
    a = oid_of(database, "a")
    place.data[4 : place.starts[2]] = bytes(place.starts[2] - 4)
    first = place.record(2, a)
    place.data[first : first + 8] = bytes(8)
    save(database, place.data[: place.starts[-1]])
    os.unlink(f"{database}.index")
    result = run(database)
    assert records(f"{database}.new") == [[(0, sound[2][0][1])], *sound[3:-1]]
    assert [(one.position, one.repaired) for one in result.contradictions] == [(place.record(3, a), False)]
