"""recover keeps all that is undamaged, invents nothing, says what is lost, and never touches the damaged file."""

import os
import struct

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.utils import u64

from zodbsh.db.spec import Spec
from zodbsh.errors import DatabaseNotFound, UsageError
from zodbsh.ids import oid_text
from zodbsh.ops.recover import NothingRecovered, recover
from zodbsh.publish import AlreadyExists, DiskFullError

HEADER, RECORD = struct.Struct(">QQcHHH"), struct.Struct(">QQQQHQ")


@pytest.fixture
def database(tmp_path, no_fsync):
    """Root with a, b, c; a changed twice, b once; the last change of a undone."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(ZODB.FileStorage.FileStorage(path))
    with db.transaction("begin") as connection:
        for name in "abc":
            connection.root()[name] = PersistentMapping(text=name * 100)
    for step in range(2):
        with db.transaction(f"change {step}") as connection:
            connection.root()["a"]["step"] = step
    with db.transaction("b") as connection:
        connection.root()["b"]["step"] = "b"
    manager = transaction.TransactionManager()
    db.undo(db.undoInfo(1, 2)[0]["id"], manager.get())
    manager.commit()
    db.close()
    return path


class Place:
    """Where the transactions and records of a sound file are."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = bytearray(file.read())
        self.starts, self.records = [], []
        at = 4
        while at < len(self.data):
            _, length, _, *texts = HEADER.unpack_from(self.data, at)
            place = at + 23 + sum(texts)
            found = []
            while place < at + length:
                oid, _, _, _, _, size = RECORD.unpack_from(self.data, place)
                found.append((place, oid, size))
                place += 42 + (size or 8)
            self.starts.append(at)
            self.records.append(found)
            at += length + 8

    def record(self, number, oid):
        return next(place for place, found, _ in self.records[number] if found == oid)


def save(path, data):
    with open(path, "wb") as file:
        file.write(data)


def run(path, out=None, **options):
    with open(path, "rb") as file:
        before = file.read()
    result = recover(Spec(path, "file", path=path), out or f"{path}.new", **options)
    with open(path, "rb") as file:
        assert file.read() == before
    return result


def contents(path):
    """Return what ZODB reads: by tid, status, user, description and records."""
    storage = ZODB.FileStorage.FileStorage(path, read_only=True)
    found = [
        (u64(one.tid), one.status, one.user, one.description, {u64(record.oid): record.data for record in one})
        for one in storage.iterator()
    ]
    storage.close()
    return found


def oid_of(path, name):
    storage = ZODB.FileStorage.FileStorage(path, read_only=True)
    db = ZODB.DB(storage)
    with db.transaction() as connection:
        oid = u64(connection.root()[name]._p_oid)
    db.close()
    return oid


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
    monkeypatch.setattr("zodbsh.filestorage.salvagechain._MOST", 1)
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
    for start, records in zip(place.starts[:5], place.records, strict=False):
        place.data[start + 16 : start + 17] = b"p"
        for record, _, _ in records:
            place.data[record + 16 : record + 24] = bytes(8)
    save(database, place.data)
    assert run(database).clean
    # Where the transactions are written one by one, too.
    place.data[4] ^= 1
    save(database, place.data)
    assert run(database, f"{database}.two").contradictions == ()


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
