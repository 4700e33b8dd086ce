"""recover keeps all that is undamaged, invents nothing, says what is lost, and never touches the damaged file."""

import os
import struct

import pytest
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from recoveries import HEADER, Place, contents, make_database, oid_of, run, save

from zodbsh.errors import DatabaseNotFound, UsageError
from zodbsh.ops.recovery.recover import NothingRecovered
from zodbsh.publish import AlreadyExists


@pytest.fixture
def database(tmp_path, no_fsync):
    """See `make_database`."""
    path = str(tmp_path / "my.fs")
    make_database(path)
    return path


def test_a_sound_file_is_copied_byte_for_byte(database):
    """With an index that ZODB takes; nothing lost, nothing found."""
    result = run(database)
    assert result.clean
    assert (result.transactions, result.records, result.ranges, result.lost) == (6, 9, (), ())
    with open(database, "rb") as old, open(f"{database}.new", "rb") as new:
        assert old.read() == new.read()
    storage = ZODB.FileStorage.FileStorage(f"{database}.new", read_only=True)
    assert len(storage) == 4
    storage.close()


def test_records_are_kept_where_their_header_is_lost(database):
    """The transaction says so in its description."""
    sound = contents(database)
    place = Place(database)
    place.data[place.starts[1] : place.records[1][0][0]] = bytes(place.records[1][0][0] - place.starts[1])
    save(database, place.data)
    result = run(database)
    tid, _, _, _, records = sound[1]
    sound[1] = tid, " ", b"", b"recovered by zodbsh: the header of this transaction was lost", records
    assert contents(f"{database}.new") == sound
    assert [(one.tid, one.records, one.header) for one in result.damaged] == [(tid, len(records), False)]
    assert not result.lost_nothing


def test_a_lost_revision_is_named_with_what_the_object_shows_now(database):
    """By oid, tid, path and class; the object has an older state, that of the revision before."""
    b = oid_of(database, "b")
    place = Place(database)
    record = place.record(4, b)
    tids = [one[0] for one in contents(database)]
    # Its length no longer ends it where its transaction ends.
    place.data[record + 34 : record + 42] = struct.pack(">Q", 3)
    save(database, place.data)
    result = run(database)
    (lost,) = result.lost
    assert lost[:3] == (b, tids[4], record)
    assert (lost.state, lost.now, lost.path) == ("older", tids[1], "root.b")
    assert lost.class_ == "persistent.mapping.PersistentMapping"


def test_what_stands_between_two_damaged_places_is_kept(database):
    """And behind them."""
    sound = contents(database)
    place = Place(database)
    for number in (1, 3):
        start = place.starts[number]
        place.data[start : start + 40] = os.urandom(40)
    save(database, place.data)
    run(database)
    found = {one[0]: one for one in contents(f"{database}.new")}
    assert [found[sound[number][0]] for number in (0, 2, 4, 5)] == [sound[number] for number in (0, 2, 4, 5)]


@pytest.mark.parametrize("size", [7, 300])
def test_missing_bytes_shift_all_that_follows_and_cost_only_what_they_hit(database, size):
    """Pointers of what follows are led to where their records are now."""
    sound = contents(database)
    place = Place(database)
    at = place.starts[1] + 30
    del place.data[at : at + size]
    save(database, place.data)
    result = run(database)
    hit = [number for number, start in enumerate([*place.starts[1:], len(place.data) + size]) if start > at]
    first_whole = next(number for number, start in enumerate(place.starts) if start >= at + size)
    assert hit[0] == 1
    assert contents(f"{database}.new")[-(6 - first_whole) :] == sound[first_whole:]
    assert sum(one.bytes for one in result.shifted) == -size
    assert not result.lost_nothing


def test_a_record_is_kept_where_the_next_one_has_lost_its_first_byte(database):
    """Its data ends as it should, so that it is the other one that begins too early."""
    sound = contents(database)
    place = Place(database)
    first, second = place.records[1][0], place.records[1][1][0]
    del place.data[second : second + 1]
    save(database, place.data)
    run(database)
    assert contents(f"{database}.new")[1][4][first[1]] == sound[1][4][first[1]]


def test_bytes_put_in_between_transactions_cost_nothing_else(database):
    """They are reported as what could not be read."""
    sound = contents(database)
    place = Place(database)
    at = place.starts[2]
    place.data[at:at] = b"\x01junk" * 50
    save(database, place.data)
    result = run(database)
    assert contents(f"{database}.new") == sound
    assert [(one.start, one.end, one.kind) for one in result.ranges] == [(at, at + 250, "unreadable")]
    assert [(one.position, one.bytes) for one in result.shifted] == [(at + 250, 250)]


def test_a_part_that_is_there_twice_is_taken_once(database):
    """The other copy is reported as what does not fit."""
    sound = contents(database)
    place = Place(database)
    start, end = place.starts[1], place.starts[3]
    place.data[end:end] = place.data[start:end]
    save(database, place.data)
    result = run(database)
    assert contents(f"{database}.new") == sound
    assert [(one.start, one.end, one.kind) for one in result.ranges] == [(start, end, "misfit")]


def test_a_back_pointer_whose_record_is_lost_is_not_made_up(database):
    """The undo's revision is lost with what it points back to; the object shows the state before."""
    place = Place(database)
    pointer, a, _ = place.records[5][0]
    (back,) = struct.unpack_from(">Q", place.data, pointer + 42)
    place.data[back : back + 42] = bytes(42)
    save(database, place.data)
    result = run(database)
    lost = {one.position if hasattr(one, "position") else one.offset: one for one in result.lost}
    assert (lost[pointer].oid, lost[pointer].state) == (a, "older")
    assert a not in contents(f"{database}.new")[-1][4]


def test_an_unfinished_transaction_is_left_out_and_no_loss(database):
    """Nobody was told that it was committed."""
    place = Place(database)
    tail = HEADER.pack(2**62, 500, b"c", 0, 0, 0) + b"x" * 100
    save(database, place.data + tail)
    result = run(database)
    assert (result.tail, result.clean, result.transactions) == (len(tail), True, 6)


def test_a_file_cut_within_a_record_keeps_the_records_before_it(database):
    """Of the cut transaction, too."""
    place = Place(database)
    position, _, size = place.records[1][-1]
    save(database, place.data[: position + 42 + size - 5])
    result = run(database)
    assert (result.transactions, result.records) == (2, len(place.records[0]) + len(place.records[1]) - 1)
    expected = place.records[1][-1][1], "the file ends before it does"
    assert expected in [(one.oid, one.reason) for one in result.lost]


@pytest.mark.parametrize(("magic", "assumed"), [(b"FS30", False), (b"FS21", False), (b"\0\0\0\0", True)])
def test_the_magic_is_kept_or_guessed(database, magic, assumed):
    """Python 3's records make FS30 the guess, and that is said."""
    place = Place(database)
    place.data[:4] = magic
    save(database, place.data)
    result = run(database)
    assert (result.format, result.assumed is not None) == ("FS21" if magic == b"FS21" else "FS30", assumed)
    # A guess is a repair, though nothing is lost.
    assert (result.clean, result.lost_nothing) == (not assumed, True)
    assert result.transactions == 6
    with open(f"{database}.new", "rb") as file:
        assert file.read(4).decode() == result.format


@pytest.mark.parametrize("data", [b"", b"FS30", b"FS", os.urandom(5000), b"FS30" + bytes(100_000)])
def test_where_nothing_is_sound_nothing_is_written(tmp_path, data):
    """NothingRecovered, and no new file."""
    path = str(tmp_path / "bad.fs")
    save(path, data)
    with pytest.raises(NothingRecovered):
        run(path)
    assert os.listdir(tmp_path) == ["bad.fs"]


def test_an_undone_status_is_damage_in_a_file_of_today(database):
    """In one of Python 2's it may be true: the transaction is left out, as by ZODB, and that is no loss."""
    sound = contents(database)
    place = Place(database)
    place.data[place.starts[3] + 16 : place.starts[3] + 17] = b"u"
    save(database, place.data)
    assert run(database).lost_nothing
    assert contents(f"{database}.new") == sound
    place.data[:4] = b"FS21"
    save(database, place.data)
    result = run(database, f"{database}.21")
    assert (result.transactions, [one.kind for one in result.ranges]) == (5, ["undone"])


def test_a_database_within_a_damaged_record_is_not_taken_for_this_one(tmp_path, database, no_fsync):
    """A record that holds a whole Data.fs, its own header and its transaction's destroyed; nor one that is sound."""
    with open(database, "rb") as file:
        inner = file.read()
    path = str(tmp_path / "outer.fs")
    db = ZODB.DB(ZODB.FileStorage.FileStorage(path))
    with db.transaction() as connection:
        connection.root()["file"] = PersistentMapping(content=inner)
    with db.transaction() as connection:
        connection.root()["more"] = PersistentMapping(content=inner * 3)
    with db.transaction() as connection:
        connection.root()["last"] = 1
    db.close()
    sound = contents(path)
    place = Place(path)
    first, second = place.records[1][1][0], place.records[2][0][0]
    for start, end in ((place.starts[2], second + 42), (first, first + 42)):
        place.data[start:end] = os.urandom(end - start)
    save(path, place.data)
    run(path)
    found = contents(f"{path}.new")
    assert {one[0] for one in found} <= {one[0] for one in sound}
    for tid, _, _, _, records in found:
        assert records.items() <= next(one[4] for one in sound if one[0] == tid).items()
    assert found[-1] == sound[-1]


def test_tids_out_of_order_are_put_in_order(database):
    """Each transaction stands where it says, so that nothing speaks against it but its tid."""
    sound = contents(database)
    place = Place(database)
    later = struct.pack(">Q", sound[4][0] + 1)
    place.data[place.starts[2] : place.starts[2] + 8] = later
    for record, _, _ in place.records[2]:
        place.data[record + 8 : record + 16] = later
    save(database, place.data)
    result = run(database)
    found = contents(f"{database}.new")
    assert [one[0] for one in found] == sorted(one[0] for one in found)
    assert (len(found), result.records) == (6, 9)


@pytest.mark.parametrize("name", ["new.fs", "new.fs.index", "new.fs.old"])
def test_nothing_that_exists_is_overwritten(tmp_path, database, name):
    """Neither the new file, nor what would be taken for its index or its old copy."""
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(AlreadyExists):
        run(database, str(tmp_path / "new.fs"))
    assert (tmp_path / name).read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == sorted(["my.fs", "my.fs.index", "my.fs.lock", "my.fs.tmp", name])


def test_the_new_file_must_have_a_folder_and_a_path(tmp_path, database):
    """A folder that is missing, an address."""
    with pytest.raises(DatabaseNotFound):
        run(database, str(tmp_path / "no" / "new.fs"))
    with pytest.raises(UsageError):
        run(database, "zeo://localhost:1")


def test_a_dry_run_writes_nothing_and_says_the_same(tmp_path, database):
    """But for names, which only the new file can tell."""
    place = Place(database)
    place.data[place.starts[1] : place.starts[1] + 100] = bytes(100)
    save(database, place.data)
    before = sorted(os.listdir(tmp_path))
    dry = run(database, dry_run=True)
    assert (sorted(os.listdir(tmp_path)), dry.out) == (before, None)
    real = run(database)
    assert (dry.transactions, dry.records, dry.ranges) == (real.transactions, real.records, real.ranges)
    assert dry.damaged == real.damaged


def test_it_reads_beside_a_writer_and_through_a_link(tmp_path, database):
    """No lock is needed; a link is followed."""
    storage = ZODB.FileStorage.FileStorage(database)
    link = str(tmp_path / "link.fs")
    os.symlink(database, link)
    assert run(link, str(tmp_path / "new.fs")).clean
    storage.close()
