"""``zodbsh refs`` and ``zodbsh why`` from the command line."""

from __future__ import annotations

import json

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from persistent.wref import WeakRef
from program import in_process as zodbsh

from zodbsh.db.session import Session
from zodbsh.db.spec import parse_spec

CLASS = "persistent.mapping.PersistentMapping"


@pytest.fixture
def path(tmp_path):
    """root.a (1) and root.b (2) share 3; 4 refers to 5, and both are garbage; 9 is missing."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)
    connection = db.open()
    root = connection.root()
    objects = [PersistentMapping() for _ in range(5)]
    for obj in objects:
        connection.add(obj)
    a, b, shared, top, below = objects
    a["x"], b["y"], b["w"], top["below"] = shared, shared, WeakRef(a), below
    root["a"], root["b"], root["top"] = a, b, top
    transaction.commit()
    del root["top"]
    transaction.commit()
    connection.close()
    db.close()
    return path


def test_refs_as_people_see_them(path):
    """Both directions; a weak reference is marked; no line begins with a dot."""
    assert zodbsh("refs", path, "root.b") == (0, f"""root.b
  object  0x02  {CLASS}

refers to
  via    class                                 oid   object
  ['y']  {CLASS}  0x03  root.a['x']
  ['w']  {CLASS}  0x01  root.a       weak

is referred to by
  object  via  class                                 oid
  root    .b   {CLASS}  0x00
""", "")  # fmt: skip


def test_one_direction_with_its_levels(path):
    """Deeper levels stand below what they belong to."""
    assert zodbsh("refs", path, "0x03", "--in", "--depth", "2") == (0, f"""root.a['x']
  object  0x03  {CLASS}

is referred to by
  object    via    class                                 oid
  root.a    ['x']  {CLASS}  0x01
    root    .a     {CLASS}  0x00
    root.b  ['w']  {CLASS}  0x02  weak
  root.b    ['y']  {CLASS}  0x02
    root    .b     {CLASS}  0x00
""", "")  # fmt: skip


def test_refs_as_json_and_csv(path):
    """The documented keys, and one line a reference."""
    found = json.loads(zodbsh("refs", path, "0x03", "--format", "json")[1])
    assert (found["oid"], found["out"]) == ("0x03", [])
    assert [(link["oid"], link["class"], link["path"], link["via"]) for link in found["in"]] == [
        ("0x01", CLASS, "root.a", "['x']"), ("0x02", CLASS, "root.b", "['y']"),
    ]  # fmt: skip
    lines = zodbsh("refs", path, "0x03", "--in", "--format", "csv")[1].splitlines()
    assert lines[0] == "direction,level,from,via,oid,path,class,exists,weak,database"
    assert len(lines) == 3


def test_the_limit_says_what_it_left_out(path):
    """And --all shows it."""
    assert "  (... and 1 more: --all)\n" in zodbsh("refs", path, "0x03", "-n", 1)[1]
    assert "more" not in zodbsh("refs", path, "0x03", "-n", 1, "--all")[1]


def test_an_oid_that_nobody_knows_is_not_found(path):
    """Exit status 3, for both."""
    status, out, err = zodbsh("refs", path, "0xfff")
    assert (status, out) == (3, "")
    assert err.startswith("error: no object 0x0fff in ")
    assert zodbsh("why", path, "0xfff")[0] == 3


def test_why_prints_paths_and_nothing_else(path):
    """One a line, so that another command can take them."""
    assert zodbsh("why", path, "0x03") == (0, "root.a['x']\n", "")
    assert zodbsh("why", path, "0x03", "--all", 5) == (0, "root.a['x']\nroot.b['y']\n", "")


def test_garbage_is_shown_with_the_top_of_its_island(path):
    """What nothing else refers to, and the way from there."""
    status, out, err = zodbsh("why", path, "0x05")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[:3] == ["0x05", f"  object   0x05  {CLASS}", "  garbage  the root does not reach it"]
    assert "top of the island" in lines
    assert lines[-1] == "  the way from there: 0x04['below']"
    found = json.loads(zodbsh("why", path, "0x05", "--format", "json")[1])
    assert (found["reachable"], found["paths"]) == (False, [])
    assert found["island"]["tops"][0]["objects"][0]["oid"] == "0x04"


def test_both_are_dot_commands(path):
    """In a session DATABASE is left out."""
    session = Session.open(parse_spec(path), read_only=True)
    try:
        assert zodbsh("why", "0x03", session=session) == (0, "root.a['x']\n", "")
        assert "root.b" in zodbsh("refs", "0x03", session=session)[1]
    finally:
        session.close()
