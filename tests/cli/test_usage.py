"""``zodbsh usage`` from the command line: text, JSON, CSV, exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import ZODB
import ZODB.FileStorage
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from program import in_process as zodbsh

from zodbsh.ids import from_bytes, tid_text
from zodbsh.times import tid_time

CORPUS = Path(os.environ.get("ZODBSH_CORPUS", ""))
needs_corpus = pytest.mark.skipif(
    not (os.environ.get("ZODBSH_CORPUS") and CORPUS.is_dir()), reason="ZODBSH_CORPUS names no folder"
)
MAPPING = "persistent.mapping.PersistentMapping"


def found(*arguments: object) -> object:
    """Return a command's JSON."""
    status, out, err = zodbsh(*arguments, "--format", "json")
    assert (status, err) == (0, "")
    return json.loads(out)


@pytest.fixture
def database(tmp_path, no_fsync, clean_transaction):
    """A mapping of 1,000 bytes, a shared one, a tree; an old revision and garbage."""
    path = tmp_path / "my.fs"
    database = ZODB.DB(str(path))
    with database.transaction() as connection:
        root = connection.root()
        shared = PersistentMapping(text="s" * 400)
        root["a"] = PersistentMapping(text="a" * 1000, shared=shared)
        root["tree"] = OOBTree({str(number): PersistentMapping(n=number) for number in range(100)})
        root["tree"]["5"]["shared"] = shared
        root["gone"] = PersistentMapping(text="g" * 300)
    with database.transaction() as connection:
        del connection.root()["gone"]
    database.close()
    return path


def test_classes_as_people_see_them(database):
    """The classes, all together, and a bar of what a pack would free."""
    rows = {row["class"]: row for row in found("usage", database)}
    assert rows[MAPPING]["objects"] == 104
    status, out, err = zodbsh("usage", database)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["class", "objects", "size", "old", "records", "old", "size"]
    assert lines[1].split()[:2] == [MAPPING, "104"]
    assert [line.split()[0] for line in lines[2:4]] == ["BTrees.OOBTree.OOBucket", "BTrees.OOBTree.OOBTree"]
    old = sum(row["old_records"] for row in rows.values())
    assert lines[5].startswith("3 classes: ")
    assert lines[5].endswith(f"{old} old records, {sum(row['old_bytes'] for row in rows.values())} bytes")
    assert lines[6].startswith("A pack now would free ")
    assert lines[7].strip("[]#=.") == ""
    assert len(lines[7]) == 42
    assert lines[8].startswith("  # old revisions  ")
    assert lines[9].startswith("  = garbage  ")
    assert lines[9].endswith(" in 1 unreachable object")
    assert all(len(line) <= 80 for line in lines)


def test_classes_as_json(database):
    """The documented keys, largest first; a pack makes what is old and unreachable go."""
    before = found("usage", database)
    assert [list(row) for row in before] == [["class", "objects", "bytes", "old_records", "old_bytes"]] * 3
    assert [row["bytes"] for row in before] == sorted((row["bytes"] for row in before), reverse=True)
    assert found("usage", database, "--top", 1) == before[:1]
    zodbsh("pack", database, "-y")
    after = {row["class"]: row for row in found("usage", database)}
    assert after[MAPPING]["objects"] == before[0]["objects"] - 1
    assert {(row["old_records"], row["old_bytes"]) for row in after.values()} == {(0, 0)}
    assert "0 bytes in 0 unreachable objects" in zodbsh("usage", database)[1]


def test_ndjson_is_a_line_a_class(database):
    """The items of the list, one to a line."""
    status, out, _ = zodbsh("usage", database, "--format", "ndjson")
    assert status == 0
    assert [json.loads(line) for line in out.splitlines()] == found("usage", database)


@needs_corpus
@pytest.mark.parametrize("name", ["zodbtools-nozext-py3_pickle3", "zodbtools-py2_pickle1"])
def test_csv_is_zodbtools_to_the_byte(name):
    """Columns, values, order and line ends of ``zodb analyze --csv``."""
    run = subprocess.run(
        [sys.executable, "-m", "zodbsh", "usage", CORPUS / name / "data.fs", "--format", "csv"],
        capture_output=True, timeout=60,
    )  # fmt: skip
    assert (run.returncode, run.stderr) == (0, b"")
    assert run.stdout == (CORPUS / name / "zanalyze.csv.ok").read_bytes()


@needs_corpus
@pytest.mark.parametrize("name", ["plone-4.3.fs", "wikidocs.fs", "wor-large.fs", "wor-small.fs", "zopache.fs"])
def test_real_databases_have_answers(name):
    """Old databases, with none of their classes here: every form of the question."""
    path = CORPUS / name
    classes = found("usage", path)
    paths = found("usage", path, "--by", "path")
    objects = sum(row["objects"] for row in classes)
    assert paths[0]["path"] == "root"
    assert 0 < paths[0]["retained_objects"] <= objects
    months = found("usage", path, "--by", "month")
    written = sum(row["bytes"] + row["old_bytes"] for row in classes)
    assert months[-1]["total_bytes"] == written
    assert sum(row["bytes"] for row in found("usage", path, "--by", "user")) == written
    for by in ("class", "path", "transaction", "month", "user"):
        assert zodbsh("usage", path, "--by", by)[0] == 0


def test_paths_as_people_see_them(database):
    """A tree: what each entry retains, what is left out, what shared objects belong to."""
    rows = {row["path"]: row for row in found("usage", database, "--by", "path")}
    status, out, err = zodbsh("usage", database, "--by", "path", "--top", 3)
    assert (status, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "retained objects own path class"
    assert lines[1].endswith(f"root {MAPPING}")
    assert lines[2].endswith("root.tree BTrees.OOBTree.OOBTree")
    assert " 1.1 KB root.a " in lines[7]
    assert lines[6].endswith("(... and 97 more: --top)")
    assert [path for path in ("root.a", "root.tree", "root.a['shared']") if path in rows] == [
        "root.a", "root.tree", "root.a['shared']",
    ]  # fmt: skip
    assert list(rows["root.tree"]) == ["path", "oid", "class", "bytes", "retained_bytes", "retained_objects"]
    # The shared object is not the tree's.
    assert rows["root.a"]["retained_bytes"] == rows["root.a"]["bytes"]
    status, out, _ = zodbsh("usage", database, "--by", "path", "--format", "csv", "--depth", 1)
    assert out.splitlines()[0] == "path,oid,class,bytes,retained_bytes,retained_objects"
    assert [line.split(",")[0] for line in out.splitlines()[1:]] == ["root", "root.tree", "root.a", "root.a['shared']"]


def test_growth_as_people_see_it(database):
    """Bars are plain characters within 80 columns; a transaction's tid can be pasted."""
    storage = ZODB.FileStorage.FileStorage(str(database), read_only=True)
    tids = [from_bytes(found.tid) for found in storage.iterator()]
    storage.close()
    moment = tid_time(tids[0])
    status, out, _ = zodbsh("usage", database, "--by", "month")
    assert status == 0
    head, line = out.splitlines()
    assert head.split() == ["month", "transactions", "records", "size", "total"]
    assert line.startswith(f"{moment:%Y-%m} ")
    assert line.endswith("#" * 24)
    assert len(line) <= 80
    status, out, _ = zodbsh("usage", database, "--by", "transaction", "--top", 2)
    lines = out.splitlines()
    assert lines[1].startswith(tid_text(tids[1]))
    assert lines[1].endswith("#" * 10)
    assert lines[3].startswith("(... and 1 more transaction, ")
    status, out, _ = zodbsh("usage", database, "--by", "user")
    assert out.splitlines()[1].startswith("(no user) ")
    assert found("usage", database, f"{tid_text(tids[1])}..{tid_text(tids[1])}", "--by", "user")[0]["transactions"] == 1


def test_a_range_and_a_time(database):
    """A range bounds what counts; --at looks back."""
    storage = ZODB.FileStorage.FileStorage(str(database), read_only=True)
    tids = [tid_text(from_bytes(found.tid)) for found in storage.iterator()]
    storage.close()
    (row,) = found("usage", database, f"{tids[2]}..")
    assert (row["class"], row["objects"], row["old_records"]) == (MAPPING, 1, 0)
    assert "pack" not in zodbsh("usage", database, f"{tids[2]}..")[1]
    assert found("usage", database, "--at", tids[1]) == found("usage", database, f"..{tids[1]}")
    assert "A pack then would have freed" in zodbsh("usage", database, "--at", tids[1])[1]
    assert "root['gone']" not in {row["path"] for row in found("usage", database, "--by", "path")}
    assert "root.gone" in {row["path"] for row in found("usage", database, "--by", "path", "--at", tids[1])}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--depth", "2"], "--depth is about --by path"),
        (["2020-01-01..", "--by", "path"], "what an object retains is known of a point in time only"),
        (["--top", "0"], "Invalid value for '--top'"),
        (["--by", "magic"], "Invalid value for '--by'"),
        (["yesterday-ish"], "not a range of transactions"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(database, arguments, message):
    """Exit 2, with what is wrong."""
    status, out, err = zodbsh("usage", database, *arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_damage_is_refused(database):
    """Exit 6 as in every reading command; with --ignore-damage what comes before is counted."""
    raw = bytearray(database.read_bytes())
    raw[-4] ^= 0xFF
    database.write_bytes(raw + b"more")
    for by in ("class", "path", "transaction", "month", "user"):
        assert zodbsh("usage", database, "--by", by)[0] == 6
    assert found("usage", database, "--ignore-damage", "--by", "month")[0]["transactions"] == 2


def test_an_empty_database_and_one_in_memory(tmp_path, no_fsync):
    """No objects, no transactions: said in a line, an empty list as JSON."""
    path = tmp_path / "empty.fs"
    ZODB.FileStorage.FileStorage(str(path)).close()
    assert zodbsh("usage", path) == (0, "no objects\n", "")
    assert zodbsh("usage", path, "--by", "path") == (0, "there is no root object\n", "")
    for by in ("transaction", "month", "user"):
        assert zodbsh("usage", path, "--by", by) == (0, "no transactions\n", "")
        assert found("usage", path, "--by", by) == []
    assert found("usage", path) == found("usage", path, "--by", "path") == []
    assert zodbsh("usage", path, "--format", "csv")[1] == (
        "Class Name,T.Count,T.Bytes,Pct,AvgSize,C.Count,C.Bytes,O.Count,O.Bytes\n"
    )
    (row,) = found("usage", ":memory:")
    assert (row["class"], row["objects"]) == (MAPPING, 1)
    assert found("usage", ":memory:", "--by", "path")[0]["path"] == "root"


def test_names_from_a_file_pass_the_gate(tmp_path, no_fsync, clean_transaction):
    """A user's name with control characters, or that looks like a dot command, does nothing."""
    path = tmp_path / "my.fs"
    database = ZODB.DB(str(path))
    with database.transaction() as connection:
        connection.root()["a"] = 1
        connection.transaction_manager.get().user = ".undo\x1b[31m"
    database.close()
    out = zodbsh("usage", path, "--by", "user", "--format", "table")[1]
    assert "\\x2eundo\\x1b[31m" in out
    assert "\x1b" not in out


def test_a_closed_pipe_is_silent(database):
    """`| head -1` ends it without a word."""
    run = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m zodbsh usage {database} --by path --top 1000 | head -1"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert run.stderr == ""
    assert run.stdout.split() == ["retained", "objects", "own", "path", "class"]
