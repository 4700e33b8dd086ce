"""A live session on what Python 2 stored."""

from __future__ import annotations

import datetime as dt
import os
import struct
from contextlib import closing
from pathlib import Path

import pytest
from persistent.mapping import PersistentMapping
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, z64

from zodbsh.db.session import Session
from zodbsh.db.standins import StandIn
from zodbsh.ids import to_bytes
from zodbsh.source.file import FileSource

CHILD = 0x80C3  # as 8 bytes it is no ASCII, and no UTF-8
CORPUS = os.environ.get("ZODBSH_CORPUS", "")


def short(raw: bytes) -> bytes:
    """Return the instruction that Python 2 wrote for a short str."""
    return b"U" + bytes([len(raw)]) + raw


def reference(oid: int, module: bytes, name: bytes) -> bytes:
    """Return a reference as Python 2's ZODB wrote it."""
    return b"(" + short(p64(oid)) + b"c" + module + b"\n" + name + b"\ntQ"


@pytest.fixture
def old(tmp_path):
    """A Data.fs of Python 2: the root with strings of all kinds, a time, a pattern, and a child."""
    moment = dt.datetime(2009, 3, 2, 1, 0, 0)
    state = moment.__reduce__()[1][0]
    assert isinstance(state, bytes)
    root = b"cpersistent.mapping\nPersistentMapping\nq\x01.}q\x02U\x04data}(" + b"".join(
        short(key) + value
        for key, value in [
            (b"name", short("Jürgen".encode())),
            (b"latin", short(b"J\xfcrgen")),
            (b"when", b"cdatetime\ndatetime\n(" + short(state) + b"tR"),
            (b"pattern", b"cre\n_compile\n(" + short(b"a(?i)") + b"K\x00tR"),
            (b"child", reference(CHILD, b"old.app", b"Page")),
        ]
    )
    child = b"(cold.app\nPage\nq\x01Nt.}q\x02(U\x05titleq\x03U\x04Newsq\x04U\x06parentq\x05" + reference(
        0, b"persistent.mapping", b"PersistentMapping"
    )
    path = tmp_path / "old.fs"
    storage = FileStorage(str(path))
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    storage.store(z64, z64, root + b"us.", "", meta)
    storage.store(p64(CHILD), z64, child + b"u.", "", meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    storage.close()
    content = path.read_bytes()
    path.write_bytes(b"FS21" + content[4:])
    return path


def test_strings_of_python_2_are_text_where_they_are_utf_8_and_bytes_otherwise(old):
    """ZODB alone stops at the first byte that is not ASCII."""
    with Session.open(str(old)) as session:
        assert session.mode == "read-only"
        assert session.root.name == "Jürgen"
        assert session.root.latin == b"J\xfcrgen"
        assert session.root.when == dt.datetime(2009, 3, 2, 1, 0, 0)


def test_any_oid_leads_to_its_object(old):
    """An oid whose bytes are no text is followed, there and back."""
    with Session.open(str(old)) as session:
        child = session.root.child
        assert (child._p_oid, child.title) == (to_bytes(CHILD), "News")
        assert child.parent is session.root()
        assert type(child.parent) is PersistentMapping


def test_a_call_that_fails_on_python_3_hides_nothing_else(old):
    """The value is a stand-in that names what was called; it is listed among the missing classes."""
    with Session.open(str(old)) as session:
        assert isinstance(session.root.pattern, StandIn)
        assert repr(session.root.pattern) == "<stand-in for re._compile>"
        assert "re._compile" in {missing.dotted for missing in session.missing}


@pytest.mark.skipif(not Path(CORPUS).is_dir() or not CORPUS, reason="ZODBSH_CORPUS names no folder of databases")
def test_every_object_of_every_old_database_loads():
    """With none of their classes installed."""
    paths = [path for path in sorted(Path(CORPUS).glob("**/*.fs")) if path.read_bytes()[:4] == b"FS21"]
    assert paths
    for path in paths:
        with Session.open(str(path)) as session, closing(FileSource(str(path))) as source:
            for oid in source.oids():
                session.connection.get(struct.pack(">Q", oid))._p_activate()
