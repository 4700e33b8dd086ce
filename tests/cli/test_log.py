"""``zodbsh log`` from the command line: ranges, objects, formats."""

from __future__ import annotations

import json

import pytest
import ZODB
from persistent.mapping import PersistentMapping
from program import in_process as zodbsh

from zodbsh.cli.cmd_log import is_range
from zodbsh.ids import from_bytes, tid_text
from zodbsh.times import iso_text, time_text


def json_of(*arguments):
    status, out, err = zodbsh(*arguments, "--format", "json")
    assert (status, err) == (0, "")
    return json.loads(out)


@pytest.fixture
def database(tmp_path):
    """Three transactions: the root, an object, its change; path and tids."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)
    tids = [from_bytes(db.lastTransaction())]
    for number, note in enumerate(("make", "ch\x1bange\n.quit"), 1):
        with db.transaction(note) as connection:
            connection.root().setdefault("a", PersistentMapping())["x"] = number
        tids.append(from_bytes(db.lastTransaction()))
    db.close()
    return path, tids


def test_the_log_as_people_see_it(database):
    """A line a transaction, newest first; what an application wrote into the note cannot drive the terminal."""
    path, tids = database
    sizes = [entry["bytes"] for entry in json_of("log", path)]
    assert zodbsh("log", path) == (0, "".join(
        f"{tid_text(tid)}  {time_text(tid)}  {objects:>14} {size:>4} bytes  {note}\n"
        for tid, objects, size, note in (
            (tids[2], "1 object", sizes[0], r"ch\x1bange\n.quit"), (tids[1], "2 objects", sizes[1], "make"),
            (tids[0], "1 object", sizes[2], "initial database creation"),
        )
    ), "")  # fmt: skip


def test_the_log_as_json(database):
    """The documented keys; one object a line with ndjson."""
    path, tids = database
    entries = json_of("log", path, "-n", 1)
    assert entries == [{
        "tid": tid_text(tids[2]), "time": iso_text(tids[2]), "user": "", "description": "ch\x1bange\n.quit",
        "status": " ", "objects": 1, "bytes": entries[0]["bytes"],
    }]  # fmt: skip
    _, out, _ = zodbsh("log", path, "--format", "ndjson")
    assert [json.loads(line)["tid"] for line in out.splitlines()] == [tid_text(tid) for tid in reversed(tids)]


def test_the_log_as_csv(database):
    """The same as columns."""
    path, tids = database
    _, out, _ = zodbsh("log", path, "--until", tid_text(tids[1]), "-n", 1, "--format", "csv")
    head, row = out.splitlines()
    assert head == "tid,time,user,description,status,objects,bytes"
    assert row.startswith(f"{tid_text(tids[1])},{iso_text(tids[1])},,make, ,2,")


def test_ranges_and_times(database):
    """min..max as argument or option, --since and --until; both ends count."""
    path, tids = database
    texts = [tid_text(tid) for tid in tids]
    assert [entry["tid"] for entry in json_of("log", path, f"{texts[1]}..")] == [texts[2], texts[1]]
    assert [entry["tid"] for entry in json_of("log", path, f"..{texts[1]}")] == [texts[1], texts[0]]
    assert [entry["tid"] for entry in json_of("log", path, "--range", f"{texts[1]}..{texts[1]}")] == [texts[1]]
    assert [entry["tid"] for entry in json_of("log", path, "--since", texts[1], "--until", texts[1])] == [texts[1]]
    assert json_of("log", path, "--until", "2001-01-01") == []
    assert len(json_of("log", path, "--since", "1 hour ago")) == 3


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("..", True), ("03f8a1b2c3d4e5f6..", True), ("2 days ago..now", True), ("root['a..b']", False), ("/a..b", False)],
)
def test_a_range_is_told_from_a_target(text, is_one):
    """Two dots make a range, except within a path."""
    assert is_range(text) is is_one


def test_the_revisions_of_an_object(database):
    """Each with what changed, as people see it and as JSON."""
    path, tids = database
    assert zodbsh("log", path, "root.a") == (0, f"""root.a  0x01

{tid_text(tids[2])}  {time_text(tids[2])}  changed  ch\\x1bange\\n.quit
    ~ ['x']: 1 -> 2

{tid_text(tids[1])}  {time_text(tids[1])}  new  make
    + ['x']: 1
""", "")  # fmt: skip
    newest, oldest = json_of("log", path, "root.a")
    assert newest == {
        "tid": tid_text(tids[2]), "time": iso_text(tids[2]), "user": "", "description": "ch\x1bange\n.quit",
        "status": " ", "objects": 1, "bytes": newest["bytes"], "oid": "0x01", "path": "root.a",
        "class": "persistent.mapping.PersistentMapping", "change": "changed", "restored_tid": None,
        "attributes": [{"name": "['x']", "old": 1, "new": 2}], "trouble": None,
    }  # fmt: skip
    assert oldest["attributes"] == [{"name": "['x']", "old": None, "new": 1, "missing": "old"}]
    _, out, _ = zodbsh("log", path, "root.a", "-n", 1, "--format", "csv")
    assert out.splitlines()[1].endswith(",changed,['x'],1,2")


def test_what_is_not_there_is_an_error(database):
    """A target that leads nowhere, a range that is none."""
    path, _ = database
    assert zodbsh("log", path, "root.b") == (3, "", "error: root has no key 'b'\nhint: It has .a.\n")
    assert zodbsh("log", path, "x..y")[0] == 2
    assert zodbsh("log", path + "s")[0] == 3


def test_long_texts_are_cut_for_people(tmp_path):
    """A line a transaction in the log; whole in show --all and in JSON."""
    path, text = str(tmp_path / "my.fs"), "d" * 60_000
    db = ZODB.DB(path)
    with db.transaction(text) as connection:
        connection.root()["n"] = 1
    db.close()
    (entry, *_) = json_of("log", path)
    assert entry["description"] == text
    cut = f"{'d' * 200}... (60,000 characters)"
    assert [line.split("  ")[-1] for line in zodbsh("log", path, "-n", 1)[1].splitlines()] == [cut]
    assert zodbsh("log", path, "root", "-n", 1)[1].splitlines()[2].split("  ")[-1] == cut
    _, out, _ = zodbsh("show", path, entry["tid"])
    assert f"  description  {'d' * 400}... (60,000 characters: --all)\n" in out
    _, out, _ = zodbsh("show", path, entry["tid"], "--all")
    assert f"  description  {text}\n" in out


def test_the_log_of_a_value_says_in_what_it_lies(database):
    """And has only the value's own changes."""
    path, tids = database
    assert zodbsh("log", path, "/a/x", "-n", 1) == (0, f"""root.a['x']  a value in root.a 0x01

{tid_text(tids[2])}  {time_text(tids[2])}  changed  ch\\x1bange\\n.quit
    ~ ['x']: 1 -> 2
""", "")  # fmt: skip
