"""``zodbsh show`` from the command line."""

from __future__ import annotations

import json

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from program import in_process as zodbsh

from zodbsh.ids import from_bytes, tid_text
from zodbsh.source.file import FileSource
from zodbsh.times import iso_text, time_text


@pytest.fixture
def database(tmp_path):
    """A root, then an object with user, note and extension; path and tids."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)
    tids = [from_bytes(db.lastTransaction())]
    connection = db.open()
    connection.root()["a"] = PersistentMapping(x=1)
    transaction.get().setUser("ann", "")
    transaction.get().note("make")
    transaction.get().setExtendedInfo("request", "/a\x1b")
    transaction.commit()
    tids.append(from_bytes(db.lastTransaction()))
    db.close()
    return path, tids


def test_a_transaction_as_people_see_it(database):
    """Metadata, extension and objects, with paths, classes, sizes."""
    path, (first, tid) = database
    source = FileSource(path)
    [found] = source.transactions(tid)
    sizes = [len(source.load(oid).data) for oid in (0, 1)]
    was = len(source.load(0, first).data)
    source.close()
    text = f"{sizes[0]} bytes (was {was} bytes)"
    assert zodbsh("show", path, tid_text(tid)) == (0, f"""{tid_text(tid)}
  time         {time_text(tid)}
  status       committed
  user         {found.user.decode()}
  description  make
  extension    {{'request': '/a\\x1b'}}
  objects      2 objects, {sum(sizes)} bytes, {found.length} bytes in the file at {found.position:,}

  object  class                                 oid   change   {"size":>{len(text)}}
  root    persistent.mapping.PersistentMapping  0x00  changed  {text}
  root.a  persistent.mapping.PersistentMapping  0x01  new      {f"{sizes[1]} bytes":>{len(text)}}
""", "")  # fmt: skip


def test_a_transaction_as_json(database):
    """The documented keys."""
    path, (first, tid) = database
    source = FileSource(path)
    [found] = source.transactions(tid)
    sizes = [len(source.load(oid).data) for oid in (0, 1)]
    was = len(source.load(0, first).data)
    source.close()
    status, out, err = zodbsh("show", path, "now", "--format", "json")
    class_ = "persistent.mapping.PersistentMapping"
    assert (status, err) == (0, "")
    assert json.loads(out) == {
        "tid": tid_text(tid), "time": iso_text(tid), "status": " ", "user": found.user.decode(), "description": "make",
        "extension": {"request": "/a\x1b"}, "extension_trouble": None, "position": found.position,
        "length": found.length, "bytes": sum(sizes),
        "objects": [
            {"oid": "0x00", "path": "root", "part_of": False, "class": class_, "bytes": sizes[0], "old_bytes": was,
             "change": "changed", "restored_tid": None},
            {"oid": "0x01", "path": "root.a", "part_of": False, "class": class_, "bytes": sizes[1], "old_bytes": None,
             "change": "new", "restored_tid": None},
        ],
        "objects_more": 0,
    }  # fmt: skip


def test_a_transaction_as_csv_is_its_objects(database):
    """One line an object; the limit counts."""
    path, (_, tid) = database
    _, out, _ = zodbsh("show", path, tid_text(tid), "--format", "csv", "-n", 1)
    lines = out.splitlines()
    assert lines[0] == "oid,path,class,change,bytes,old_bytes"
    assert lines[1].startswith("0x00,root,persistent.mapping.PersistentMapping,changed,")
    assert len(lines) == 2
    assert "  (... and 1 more: --all)\n" in zodbsh("show", path, tid_text(tid), "-n", 1)[1]


def test_a_missing_transaction_offers_its_neighbours(database):
    """Exit status 3, and the nearest tids."""
    path, (first, tid) = database
    status, out, err = zodbsh("show", path, tid_text(first + 1))
    assert (status, out) == (3, "")
    assert err == (
        f"error: {path}: no transaction {tid_text(first + 1)}\n"
        f"hint: The nearest: {tid_text(first)} ({time_text(first)}) and {tid_text(tid)} ({time_text(tid)}).\n"
    )
    assert zodbsh("show", path, "not a time")[0] == 2
