"""A file written record by record is one that ZODB reads."""

import pytest
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, u64

from zodbsh.filestorage import writer as module
from zodbsh.filestorage.framing import scan_framing
from zodbsh.filestorage.writer import DataWriter


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "new.fs")


def test_zodb_reads_what_was_written(path):
    """Headers, texts, data in pieces, back-pointers, deletions, previous pointers."""
    with open(path, "w+b") as file:
        writer = DataWriter(file)
        writer.begin(1 << 40, status=b"p", user=b"me", description=b"first", extension=b"")
        first = writer.data(1, b"one")
        writer.data(2, b"two")
        writer.finish()
        writer.begin(2 << 40)
        writer.stream(1, 6, iter([b"one", b"two"]))
        writer.finish()
        writer.begin(3 << 40, description=b"third")
        writer.pointer(1, first)
        writer.pointer(2, 0)
        writer.finish()
        writer.flush()
    assert scan_framing(path) == []
    storage = FileStorage(path, read_only=True)
    found = [
        (u64(one.tid) >> 40, one.status, one.user, one.description, [(u64(record.oid), record.data) for record in one])
        for one in storage.iterator()
    ]
    assert found == [
        (1, "p", b"me", b"first", [(1, b"one"), (2, b"two")]),
        (2, " ", b"", b"", [(1, b"onetwo")]),
        (3, " ", b"", b"third", [(1, b"one"), (2, None)]),
    ]
    assert [u64(one["tid"]) >> 40 for one in storage.history(p64(1), 9)] == [3, 2, 1]
    storage.close()


def test_a_transaction_longer_than_the_buffer_gets_its_length(path, monkeypatch):
    """The header is written over when the length is known."""
    monkeypatch.setattr(module, "_BUFFER", 100)
    with open(path, "w+b") as file:
        writer = DataWriter(file)
        for tid in range(1, 10):
            writer.begin(tid, user=b"u" * 30)
            for oid in range(10):
                writer.data(oid, b"x" * 70)
            writer.finish()
        writer.flush()
    assert scan_framing(path) == []


def test_a_cancelled_transaction_leaves_no_trace(path):
    """As long as it has no record."""
    with open(path, "w+b") as file:
        writer = DataWriter(file, b"FS21")
        writer.begin(1, user=b"nobody")
        writer.cancel()
        writer.flush()
    with open(path, "rb") as file:
        assert file.read() == b"FS21"
