"""Data.fs files built byte by byte, so that a test knows every offset in them."""

import struct
from typing import NamedTuple

import pytest


class Built(NamedTuple):
    """A file's bytes, where each transaction starts, and where each record is by (tid, oid)."""

    data: bytes
    transactions: dict
    records: dict

    @property
    def end(self):
        return len(self.data)


def build_file(*transactions, magic=b"FS30"):
    """Build a FileStorage from (tid, status, {oid: bytes | None | tid to point back to})."""
    data, starts, places, newest = bytearray(magic), {}, {}, {}
    for tid, status, records in transactions:
        start = starts[tid] = len(data)
        body, here = b"", {}
        header_length = 23 + len(b"user") + len(b"note")
        for oid, content in records.items():
            place = start + header_length + len(body)
            if isinstance(content, bytes):
                length, tail = len(content), content
            else:
                length, tail = 0, struct.pack(">Q", places[content, oid] if content else 0)
            body += struct.pack(">QQQQHQ", oid, tid, newest.get(oid, 0), start, 0, length) + tail
            here[oid] = places[tid, oid] = place
        if status != b"u":
            newest.update(here)
        length = header_length + len(body)
        data += struct.pack(">QQcHHH", tid, length, status, 4, 4, 0) + b"usernote" + body + struct.pack(">Q", length)
    return Built(bytes(data), starts, places)


@pytest.fixture
def no_pause(monkeypatch):
    """Look again at damage at once: in these tests nobody writes meanwhile."""
    monkeypatch.setattr("zodbsh.filestorage.framing._PAUSE", 0)
    monkeypatch.setattr("zodbsh.filestorage.indexcheck._PAUSE", 0)


@pytest.fixture
def build():
    return build_file


@pytest.fixture
def sample():
    """Three transactions, the last one with a change, a pointer back and a deletion."""
    return build_file(
        (1, b"p", {0: b"root one", 1: b"one", 2: b"two"}),
        (2, b" ", {1: b"one changed", 3: b"three"}),
        (3, b" ", {1: 1, 2: None, 0: b"root two"}),
    )


@pytest.fixture
def write(tmp_path):
    """Write bytes to a file and return its path."""

    def write(data, name="Data.fs"):
        path = tmp_path / name
        path.write_bytes(data)
        return str(path)

    return write
