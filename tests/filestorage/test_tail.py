"""A tail's file has the layout that docs/formats.md gives, and believes nothing that it says of itself."""

from __future__ import annotations

import hashlib
from struct import pack

import pytest

from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.tail import (
    TailBlob,
    TailDamaged,
    TailHeader,
    TailNotFound,
    check_tail,
    read_tail,
    tail_name,
    tails_beside,
    write_tail,
)

BASE, REST = b"FS30" + b"b" * 50, b"the tail"
HEADER = TailHeader(
    b"FS30", len(BASE), 7, 8, 9, 2, len(REST), 1, hashlib.sha256(BASE).digest(), hashlib.sha256(REST).digest()
)
BLOBS = (TailBlob(0x2A, 8, 1234),)


@pytest.fixture
def path(tmp_path):
    source, target = tmp_path / "my.fs", tmp_path / "my.fs.undone"
    source.write_bytes(BASE + REST)
    with DataFile(str(source)) as file, open(target, "wb") as out:
        write_tail(out, file, HEADER, BLOBS)
    return target


def layout(*, magic=b"ZODBTL01", blobs=1, length=8, digest=None) -> bytes:
    """Return the bytes by the table in the document."""
    start = magic + b"FS30" + pack(">7Q", len(BASE), 7, 8, 9, 2, length, blobs) + HEADER.base_digest + HEADER.digest
    listed = pack(">3Q", 0x2A, 8, 1234)
    return start + REST + listed + (digest or hashlib.sha256(start + listed).digest())


def test_the_layout(path):
    """What is written is what the document says, and is read again."""
    assert path.read_bytes() == layout()
    tail = read_tail(str(path))
    assert (tail.header, tail.blobs) == (HEADER, BLOBS)
    assert tail.blobs[0].name == "0x2a-0000000000000008.blob"
    with DataFile(str(path)) as file:
        check_tail(tail, file)
        assert file.read(tail.start, len(REST)) == REST


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ZODBTL01",
        layout(magic=b"ZODBTL02"),
        layout(blobs=2),
        layout(blobs=1 << 60),
        layout(length=1 << 63),
        layout(digest=bytes(32)),
        layout() + b"x",
    ],
)
def test_what_is_no_tail(path, data):
    """Whatever is not exactly as it was written is refused, without much being read."""
    path.write_bytes(data)
    with pytest.raises(TailDamaged):
        read_tail(str(path))


def test_other_transactions(path):
    """The transactions have a digest of their own."""
    path.write_bytes(path.read_bytes().replace(REST, REST[::-1]))
    tail = read_tail(str(path))
    with DataFile(str(path)) as file, pytest.raises(TailDamaged):
        check_tail(tail, file)


def test_names(tmp_path):
    """Tails are found by their name, the newest first; a folder of blobs is none."""
    path = str(tmp_path / "my.fs")
    names = [tail_name(path, 1, 2), tail_name(path, 1, 2, 1)]
    assert names == [f"{path}.undone-0000000000000001-0000000000000002{end}" for end in ("", ".1")]
    for name in names:
        open(name, "wb").close()
    (tmp_path / "my.fs.undone-0000000000000001-0000000000000002.blobs").mkdir()
    (tmp_path / "my.fs.undone-old").touch()
    assert sorted(tails_beside(path)) == names
    with pytest.raises(TailNotFound):
        read_tail(str(tmp_path))
