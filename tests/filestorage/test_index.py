"""The saved index is parsed without unpickling, and believed only where the file bears it out."""

import pickle
import struct
from pathlib import Path

import pytest
import transaction
import ZODB.FileStorage
from hypothesis import given
from hypothesis import strategies as some
from persistent.mapping import PersistentMapping
from ZODB.fsIndex import fsBucket, fsIndex

from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.index import Index, IndexDoubt, check_index, index_bytes, parse_index, read_index


@pytest.fixture
def stored(tmp_path):
    """A Data.fs with 300 objects in 60 transactions, and the index ZODB saved for it."""
    path = str(tmp_path / "Data.fs")
    storage = ZODB.FileStorage.FileStorage(path)
    connection = ZODB.DB(storage).open()
    for number in range(60):
        connection.root()[number] = PersistentMapping({place: PersistentMapping() for place in range(4)})
        transaction.commit()
    expected = {int.from_bytes(oid, "big"): place for oid, place in storage._index.items()}
    end = storage.getSize()
    connection.close()
    connection.db().close()
    return path, expected, end


def doubt(path):
    index = read_index(f"{path}.index")
    if isinstance(index, IndexDoubt):
        return index
    with DataFile(path) as file:
        return check_index(file, index)


def test_what_zodb_saves_is_read(stored):
    """End, positions and order are those of ZODB's own index, which stands every check."""
    path, expected, end = stored
    index = read_index(f"{path}.index")
    assert (index.end, dict(index.items()), len(index)) == (end, expected, len(expected))
    assert {oid: index.get(oid) for oid in expected} == expected
    assert (index.get(max(expected) + 1), index.get(1 << 40)) == (None, None)
    assert doubt(path) is None


def test_buckets_are_what_zodb_takes(stored):
    """Whoever opens the file for writing can build ZODB's index from the checked one."""
    path, expected, _ = stored
    rebuilt = fsIndex()
    for prefix, bucket in read_index(f"{path}.index").buckets.items():
        rebuilt._data[prefix] = fsBucket().fromString(bucket)
    assert {int.from_bytes(oid, "big"): place for oid, place in rebuilt.items()} == expected


BUCKET = b"\x00\x00\x00\x01" + b"\x00\x00\x00\x00\x00\x2a" + b"\x00\x00\x00\x00\x00\x63"
FORMS = {
    "Python 2, protocol 1": b"J\xe8\x03\x00\x00.(U\x06\0\0\0\0\0\0U\x10" + BUCKET + b"t.N.",
    "Python 2, memo": b"M\xe8\x03.(U\x06\0\0\0\0\0\0q\x01T\x10\0\0\0" + BUCKET + b"q\x02tq\x03.N.",
    "protocol 0 position": b"I1000\n.(U\x06\0\0\0\0\0\0p1\nU\x10" + BUCKET + b"t.N.",
    "long position": b"L1000L\n.\x80\x02U\x06\0\0\0\0\0\0U\x10" + BUCKET + b"\x86.\x80\x02N.",
    "protocol 3": b"\x80\x03\x8a\x02\xe8\x03.\x80\x03C\x06\0\0\0\0\0\0C\x10" + BUCKET + b"\x86q\x00.\x80\x03N.",
    "long bytes": b"\x80\x03M\xe8\x03.\x80\x03C\x06\0\0\0\0\0\0B\x10\0\0\0" + BUCKET + b"\x86.\x80\x03N.",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_way_zodb_has_written_it_is_read(form):
    """Versions of ZODB and Python wrote the same index in different opcodes."""
    index = parse_index(FORMS[form])
    assert (index.end, dict(index.items())) == (1000, {0: 42, 1: 99})


class Canary:
    def __reduce__(self):
        return pytest.fail, ("the index was unpickled",)


def pair(prefix, bucket):
    return pickle.dumps((prefix, bucket), 3)


HOSTILE = {
    "empty": b"",
    "canary as position": pickle.dumps(Canary(), 3),
    "canary as pair": pickle.dumps(1000, 3) + pickle.dumps(Canary(), 3) + pickle.dumps(None, 3),
    "canary in pair": pickle.dumps(1000, 3) + pickle.dumps((b"\0" * 6, Canary()), 3) + pickle.dumps(None, 3),
    "canary after the end": pickle.dumps(1000, 3) + pickle.dumps(None, 3) + pickle.dumps(Canary(), 3),
    "older form": pickle.dumps({"pos": 1000, "index": {}}, 2),
    "negative": pickle.dumps(-1, 3) + pickle.dumps(None, 3),
    "huge": pickle.dumps(1 << 200, 3) + pickle.dumps(None, 3),
    "no end": pickle.dumps(1000, 3) + pair(b"\0" * 6, BUCKET),
    "short prefix": pickle.dumps(1000, 3) + pair(b"\0" * 5, BUCKET) + pickle.dumps(None, 3),
    "odd bucket": pickle.dumps(1000, 3) + pair(b"\0" * 6, BUCKET[:-1]) + pickle.dumps(None, 3),
    "unsorted bucket": pickle.dumps(1000, 3)
    + pair(b"\0" * 6, BUCKET[2:4] + BUCKET[:2] + BUCKET[4:])
    + pickle.dumps(None, 3),
    "twice": pickle.dumps(1000, 3) + 2 * pair(b"\0" * 6, BUCKET) + pickle.dumps(None, 3),
    "long string": b"\x80\x03M\xe8\x03.\x80\x03C\x06\0\0\0\0\0\0B\xff\xff\xff\xff",
    "negative string": b"M\xe8\x03.(U\x06\0\0\0\0\0\0T\xff\xff\xff\xff",
    "protocol 4": pickle.dumps(1000, 4) + pickle.dumps(None, 4),
    "text": b"I12 34\n.N.",
}


@pytest.mark.parametrize("case", HOSTILE)
def test_anything_else_is_a_doubt(case):
    """Nothing is run, nothing is raised: the answer says that the file must be scanned."""
    assert isinstance(parse_index(HOSTILE[case]), IndexDoubt)


def test_every_cut_index_is_a_doubt(stored):
    """An index that ends early is not used."""
    raw = Path(f"{stored[0]}.index").read_bytes()
    assert all(isinstance(parse_index(raw[:size]), IndexDoubt) for size in range(len(raw)))


def test_flipped_bits_never_mislead(stored):
    """An index with one bit changed is doubted, or gives positions that the file's recent records bear out."""
    path, expected, end = stored
    raw = Path(f"{path}.index").read_bytes()
    believed = 0
    with DataFile(path) as file:
        for bit in range(0, len(raw) * 8, 7):
            changed = bytearray(raw)
            changed[bit // 8] ^= 1 << bit % 8
            index = parse_index(bytes(changed))
            if isinstance(index, Index) and check_index(file, index) is None:
                believed += 1
                assert (index.end, dict(index.items())) == (end, expected)
    # All of this file's transactions are checked, so a wrong position is always found.
    assert believed < 10


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda end, index: index.save(end - 1, ""), "no transaction ends at"),
        (lambda end, index: index.save(end + 1, ""), "it ends at"),
        (lambda end, index: index.save(3, ""), "it ends before the file begins"),
        (lambda end, index: index.__delitem__(b"\0" * 7 + b"\5"), "it misses the record at"),
        (lambda end, index: index.__setitem__(b"\0" * 7 + b"\5", 4), "it misses the record at"),
        (lambda end, index: index.__setitem__(b"\0" * 6 + b"\5\5", 50), "it holds objects that are not in the file"),
    ],
)
def test_an_index_of_another_file_is_doubted(stored, tmp_path, change, reason):
    """A stale or wrong index does not fit the file's end, its recent records, or its objects."""
    path, expected, end = stored
    index = fsIndex()
    for oid, place in expected.items():
        index[struct.pack(">Q", oid)] = place
    saved = []
    index.save = lambda position, _: saved.append(position)
    change(end, index)
    fsIndex.save(index, saved[0] if saved else end, f"{path}.index")
    assert doubt(path).reason.startswith(reason)


def test_what_cannot_be_read_is_a_doubt(tmp_path):
    """A missing index, a folder, or a file larger than any index are not read."""
    (tmp_path / "folder.index").mkdir()
    (tmp_path / "huge.index").write_bytes(bytes(2 << 20))
    for name in ("missing", "folder", "huge", "nul\0byte"):
        assert isinstance(read_index(str(tmp_path / f"{name}.index")), IndexDoubt)


@given(some.integers(4, 2**62), some.dictionaries(some.integers(0, 2**64 - 1), some.integers(4, 2**48 - 1)))
def test_a_saved_index_is_what_zodb_saves(tmp_path_factory, end, positions):
    """Byte for byte."""
    theirs = tmp_path_factory.mktemp("index") / "index"
    index = fsIndex()
    for oid, position in positions.items():
        index[oid.to_bytes(8, "big")] = position
    index.save(end, str(theirs))
    assert b"".join(index_bytes(end, sorted(positions.items()))) == theirs.read_bytes()
