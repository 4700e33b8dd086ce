"""The saved index is compared with the whole file, both ways; what ZODB saves is right."""

import os
import shutil
from pathlib import Path

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from ZODB.fsIndex import fsIndex
from ZODB.utils import p64

from zodbsh.engine.chosen import Pass
from zodbsh.engine.columns import Newest, Options
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.indexcheck import check_saved_index
from zodbsh.filestorage.structs import MAGIC_SIZE
from zodbsh.findings import Finding
from zodbsh.source.columns import file_columns

pytestmark = pytest.mark.usefixtures("no_pause")


@pytest.fixture
def stored(tmp_path, no_fsync):
    """Thirty objects in ten transactions, one whose creation was undone."""
    path = str(tmp_path / "Data.fs")
    db = ZODB.DB(path)
    for number in range(9):
        with db.transaction() as connection:
            connection.root()[number] = PersistentMapping({place: PersistentMapping() for place in range(2)})
    with db.transaction() as connection:
        connection.root()["gone"] = PersistentMapping()
    shutil.copy(path, f"{path}.before")
    manager = transaction.TransactionManager()
    db.undo(db.undoInfo(0, 1)[0]["id"], manager.get())
    manager.commit()
    db.close()
    return path


def newest_of(file):
    taking = Pass(Options(references=False))
    reached = taking.read(file.fd, MAGIC_SIZE, file.limit)
    return Newest(taking.finish()), reached.end


def look(path):
    with DataFile(path) as file:
        return list(check_saved_index(file, *newest_of(file)))


def saved(path):
    """What ZODB finds in the index: positions by oid, and the end."""
    found = fsIndex.load(f"{path}.index")
    return {int.from_bytes(oid, "big"): position for oid, position in found["index"].items()}, found["pos"]


def change(path, changes, *, end=None):
    """Save the index with other positions (None removes an object), or another end."""
    positions, right_end = saved(path)
    index = fsIndex()
    for oid, position in (positions | changes).items():
        if position is not None:
            index[p64(oid)] = position
    index.save(right_end if end is None else end, f"{path}.index")


def write_later(path):
    """Commit a new object and a change, and put the index of before back in place."""
    raw = Path(f"{path}.index").read_bytes()
    db = ZODB.DB(path)
    with db.transaction() as connection:
        connection.root()["later"] = PersistentMapping()
        connection.root()[3]["changed"] = True
    db.close()
    Path(f"{path}.index").write_bytes(raw)


def test_what_zodb_saves_is_right(stored):
    """The object whose creation was undone is in ZODB's index, at the record that says so."""
    with DataFile(stored) as file:
        newest, end = newest_of(file)
        assert (dict(newest), end) == saved(stored)
    assert look(stored) == []


def test_what_zodb_saves_after_a_pack_is_right(stored):
    """Packing moves every record, and removes the object whose creation was undone."""
    db = ZODB.DB(stored)
    db.pack()
    db.close()
    assert look(stored) == []


def test_no_index_is_no_finding(stored):
    """ZODB makes a new one when it opens the file."""
    os.remove(f"{stored}.index")
    assert look(stored) == []


def test_an_older_index_is_compared_with_the_file_as_it_was_then(stored):
    """It is right where it was right then, whatever was written since."""
    write_later(stored)
    assert look(stored) == []
    positions, _ = saved(stored)
    change(stored, {4: positions[4] + 1})
    assert [finding.oid for finding in look(stored)] == [4]


def test_an_index_saved_after_the_snapshot_is_compared_with_the_file_as_it_is_by_then(stored):
    """Beside a writer, this is no fault either."""
    with DataFile(stored) as file:
        newest, end = newest_of(file)
        db = ZODB.DB(stored)
        with db.transaction() as connection:
            connection.root()["later"] = PersistentMapping()
        db.close()
        assert saved(stored)[1] > end
        assert list(check_saved_index(file, newest, end)) == []
        change(stored, {0: 4})
        assert [finding.oid for finding in check_saved_index(file, newest, end)] == [0]


def test_the_index_of_another_file_under_the_same_name_says_nothing(stored):
    """A pack puts a new file and its index in place while the old file is read."""
    with DataFile(stored) as file:
        newest, end = newest_of(file)
        os.replace(f"{stored}.before", stored)
        Path(f"{stored}.index").write_bytes(b"of the other file")
        assert list(check_saved_index(file, newest, end)) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "a length beyond its end at byte 0"),
        (b"garbage", "no end position at byte 1"),
        (b"K\x01.N.", "it ends before the file begins"),
    ],
)
def test_what_cannot_be_parsed_is_found_once(stored, content, reason):
    """With the reason why it cannot be used."""
    Path(f"{stored}.index").write_bytes(content)
    assert look(stored) == [Finding("index", None, None, None, f"the saved index cannot be used: {reason}")]


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_found_once(stored, make):
    """A folder, a FIFO, a link that leads nowhere: nothing waits, nothing fails."""
    os.remove(f"{stored}.index")
    make(Path(f"{stored}.index"))
    (finding,) = look(stored)
    assert (finding.kind, finding.oid) == ("index", None)
    assert finding.message.startswith("the saved index cannot be used: it ")


def test_each_fault_names_its_object(stored):
    """A wrong position, an object too many (at 0, too), and one that is lacking."""
    positions, _ = saved(stored)
    wrong = positions[5] + 1
    change(stored, {5: wrong, 6: None, 77: 123, 78: 0, 1 << 40: 99})
    assert look(stored) == [
        Finding("index", oid, None, offset, message)
        for oid, offset, message in [
            (5, wrong, f"the saved index has its newest record at {wrong}, but that is at {positions[5]}"),
            (77, 123, "the saved index has it at 123, but the file has no record of it"),
            (78, 0, "the saved index has it at 0, but the file has no record of it"),
            (1 << 40, 99, "the saved index has it at 99, but the file has no record of it"),
            (6, positions[6], f"the saved index does not have the object, whose newest record is at {positions[6]}"),
        ]
    ]


def test_an_object_that_is_lacking_is_found_beside_one_too_many(stored):
    """Equal numbers of objects do not hide it."""
    change(stored, {6: None, 78: 0})
    assert [finding.oid for finding in look(stored)] == [78, 6]


def test_an_index_that_ends_where_no_transaction_does(stored):
    """Neither before the file's end nor behind it."""
    for wrong in (saved(stored)[1] + add for add in (-1, 1, 1000)):
        change(stored, {}, end=wrong)
        message = f"the saved index ends at {wrong}, where no transaction ends"
        assert look(stored) == [Finding("index", None, None, None, message)]
        change(stored, {}, end=os.path.getsize(stored))


def test_a_hundred_are_named_and_the_others_counted(tmp_path, no_fsync):
    """A wholly wrong index does not fill the screen."""
    path = str(tmp_path / "Data.fs")
    db = ZODB.DB(path)
    with db.transaction() as connection:
        connection.root().update({number: PersistentMapping() for number in range(300)})
    db.close()
    change(path, dict.fromkeys(range(1, 151), 4) | dict.fromkeys(range(151, 301)))
    found = look(path)
    assert [finding.oid for finding in found] == [*range(1, 101), None, *range(151, 251), None]
    assert [finding.message for finding in found if finding.oid is None] == [
        "the saved index is wrong about 50 more objects",
        "the saved index lacks 50 more objects",
    ]


def test_damage_before_an_older_index_hides_only_what_was_written_since(stored, no_pause):
    """Other objects are compared all the same: the damaged record's is found, and one that is lacking."""
    positions, _ = saved(stored)
    write_later(stored)
    change(stored, {5: None})
    with open(stored, "r+b") as damaged:
        damaged.seek(positions[8] + 32)
        damaged.write(b"\xff\xff")
    with DataFile(stored) as file:
        damages = []
        found = file_columns(file, damages.append, options=Options(references=False))
        oids = [finding.oid for finding in check_saved_index(file, Newest(found.columns), file.limit)]
    assert damages
    assert {8, 5} <= set(oids)
    assert not {0, 4} & set(oids)


def test_every_flipped_bit_is_found_or_changes_nothing(stored):
    """Nothing that misleads ZODB goes unnoticed."""
    raw = Path(f"{stored}.index").read_bytes()
    right = saved(stored)
    harmless = 0
    for bit in range(len(raw) * 8):
        flipped = bytearray(raw)
        flipped[bit // 8] ^= 1 << bit % 8
        Path(f"{stored}.index").write_bytes(flipped)
        if not look(stored):
            harmless += 1
            assert saved(stored) == right
    # The protocol's number, and what stores into a memo that nobody reads.
    assert harmless < 30
