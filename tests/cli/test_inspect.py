"""``zodbsh inspect`` from the command line: text, JSON, CSV, raw bytes, exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import NamedTuple

import persistent
import pytest
import ZODB
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from program import Run
from program import in_process as zodbsh
from ZODB.utils import p64

from zodbsh.ids import from_bytes, tid_text
from zodbsh.times import iso_text, time_text

CORPUS = Path(os.environ.get("ZODBSH_CORPUS", ""))
needs_corpus = pytest.mark.skipif(
    not (os.environ.get("ZODBSH_CORPUS") and CORPUS.is_dir()), reason="ZODBSH_CORPUS names no folder"
)


class Made(NamedTuple):
    """A database's path, and the tids of its transactions."""

    path: str
    tids: list[int]


@pytest.fixture
def database(tmp_path, monkeypatch):
    """The accounts of the tutorial, three of them; the first one was used twice."""
    module = types.ModuleType("account")
    module.Account = type("Account", (persistent.Persistent,), {"__module__": "account"})
    monkeypatch.setitem(sys.modules, "account", module)
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)
    tids = [from_bytes(db.lastTransaction())]
    with db.transaction("first accounts") as connection:
        accounts = OOBTree()
        for number in range(1, 4):
            accounts[f"account-{number}"] = module.Account()
            accounts[f"account-{number}"].balance = 10 * number
        accounts["account-1"].history = [10]
        accounts["account-1"].friend = accounts["account-2"]
        connection.root()["accounts"] = accounts
        connection.root()["title"] = "My bank"
    tids.append(from_bytes(db.lastTransaction()))
    with db.transaction("deposit") as connection:
        account = connection.root()["accounts"]["account-1"]
        account.balance, account.history = 15, [10, 5]
    tids.append(from_bytes(db.lastTransaction()))
    db.close()
    return Made(path, tids)


def test_the_overview_as_people_see_it(database):
    """Format, size, counts, first and last transaction, the root's entries, the classes."""
    size = os.path.getsize(database.path)
    first, last = database.tids[0], database.tids[2]
    found = zodbsh("inspect", database.path, "--format", "json").json
    sizes = [f"{found[key]} bytes" for key in ("current_bytes", "old_bytes")]
    classes = "".join(
        f"  {row['class']:36}  {row['objects']:7}  {row['bytes']} bytes\n" for row in found["classes"]
    )  # fmt: skip
    assert zodbsh("inspect", database.path) == Run(0, f"""{database.path}
  format        FS30: FileStorage written by Python 3
  size          {size / 1000:.1f} KB ({size:,} bytes)
  transactions  3
  objects       5
  records       7
  current       {sizes[0]}
  old           {sizes[1]} in 2 old records
  first         {time_text(first)} ({tid_text(first)})
  last          {time_text(last)} ({tid_text(last)})

root
  key       class                   oid            size
  accounts  BTrees.OOBTree.OOBTree  0x01      {found["root"][0]["bytes"]} bytes
  title     str                     embedded

classes
  class                                 objects       size
{classes}""", "")  # fmt: skip


def test_the_overview_as_json(database):
    """Every documented key, values included."""
    source = ZODB.DB(database.path, read_only=True)
    sizes = {oid: len(source.storage.load(p64(oid))[0]) for oid in range(5)}
    source.close()
    found = zodbsh("inspect", database.path, "--format", "json").json
    assert found == {
        "format": "FS30",
        "meaning": "FileStorage written by Python 3",
        "bytes": os.path.getsize(database.path),
        "tail_bytes": 0,
        "damage": None,
        "transactions": 3,
        "records": 7,
        "objects": 5,
        "current_bytes": sum(sizes.values()),
        "old_bytes": found["old_bytes"],
        "first_tid": tid_text(database.tids[0]),
        "first_time": iso_text(database.tids[0]),
        "last_tid": tid_text(database.tids[2]),
        "last_time": iso_text(database.tids[2]),
        "root": [
            {"key": "accounts", "class": "BTrees.OOBTree.OOBTree", "oid": "0x01", "bytes": sizes[1]},
            {"key": "title", "class": "str", "oid": None, "bytes": None},
        ],
        "root_more": 0,
        "root_trouble": None,
        "classes": sorted(
            [
                {"class": "account.Account", "objects": 3, "bytes": sizes[2] + sizes[3] + sizes[4]},
                {"class": "BTrees.OOBTree.OOBTree", "objects": 1, "bytes": sizes[1]},
                {"class": "persistent.mapping.PersistentMapping", "objects": 1, "bytes": sizes[0]},
            ],
            key=lambda row: -row["bytes"],
        ),
    }
    assert found["old_bytes"] > 0


def test_an_object_as_people_see_it(database):
    """Its facts, attributes, what is embedded, and where its references lead."""
    run = zodbsh("inspect", database.path, "root.accounts['account-1']")
    tid = database.tids[2]
    lines = run.out.split("\n")
    record = next(line for line in lines if line.startswith("  record"))
    friend = next(line for line in lines if line.startswith("  friend   "))
    assert run == Run(0, f"""root.accounts['account-1']
  object   0x02  account.Account
  changed  {time_text(tid)} ({tid_text(tid)})
{record}

attributes
  balance  15
  history  [10, 5]
{friend}

embedded in this record
  1 list

references, to objects with records of their own
  from    class            oid
  friend  account.Account  {friend.split()[-1].strip(">")}
""", "")  # fmt: skip
    assert friend.startswith("  friend   <account.Account 0x0")


def test_an_object_as_json(database):
    """The documented keys; the state with markers, the references with their class."""
    found = zodbsh("inspect", database.path, "/accounts/account-1", "--format", "json").json
    friend = found["references"][0]["oid"]
    assert found == {
        "oid": "0x02",
        "tid": tid_text(database.tids[2]),
        "time": iso_text(database.tids[2]),
        "path": "root.accounts['account-1']",
        "class": "account.Account",
        "bytes": found["bytes"],
        "position": found["position"],
        "embedded": False,
        "owner": None,
        "part_of": None,
        "state": {
            "balance": 15, "history": [10, 5], "friend": {"@ref": [friend[2:].zfill(16), "account.Account"]},
        },
        "references": [
            {
                "via": ".friend", "oid": friend, "class": "account.Account", "exists": True, "weak": False,
                "database": None,
            },
        ],
        "references_more": 0,
        "references_to_nodes": 0,
    }  # fmt: skip


def test_a_btree_as_json_has_items(database):
    """Its own record as state, its content flattened and bounded."""
    found = zodbsh("inspect", database.path, "root.accounts", "-n", 2, "--format", "json").json
    assert found["state"].keys() == {"@kv"}
    assert [item["key"] for item in found["items"]] == ["account-1", "account-2"]
    assert [item["value"].keys() for item in found["items"]] == [{"@ref"}, {"@ref"}]
    assert (found["items_more"], found["items_counted"]) == (1, True)


def test_items_beyond_the_limit_are_counted(tmp_path):
    """A large BTree costs a screen, and the exact number of the others."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)
    with db.transaction() as connection:
        connection.root()["tree"] = OOBTree({number: str(number) for number in range(12_345)})
    db.close()
    lines = zodbsh("inspect", path, "root.tree", "--limit", 2).out.split("\n")
    start = lines.index("items")
    assert lines[start + 1 : start + 4] == ["  [0]  '0'", "  [1]  '1'", "  (... and 12,343 more: --all)"]
    rows = zodbsh("inspect", path, "root.tree", "--all", "--format", "csv").out.splitlines()
    assert (len(rows), rows[0], rows[-1]) == (12_346, "name,class,oid,value", "12344,str,,'12344'")


def test_a_value_by_itself_is_shown(tmp_path):
    """On one line, or by line; so much of a long one as suits a person, all of it with --all and in CSV."""
    path, lines = str(tmp_path / "my.fs"), [f"line {number}" for number in range(100)]
    db = ZODB.DB(path)
    with db.transaction() as connection:
        connection.root().update(a=2, none=None, empty={}, text="\n".join(lines), long="x" * 60_000, bell="\x07\n.e")
    db.close()

    def shown(name, *options):
        run = zodbsh("inspect", path, f"/{name}", *options)
        assert (run.status, run.err) == (0, "")
        return run.out.split("\n\nvalue\n")[1].splitlines()

    assert shown("a") == ["  2"]
    assert shown("none") == ["  None"]
    assert shown("empty") == ["  {}"]
    assert shown("bell") == ["  \\x07", "  \\x2ee"]
    assert shown("text") == [*(f"  {line}" for line in lines[:40]), "  (100 lines, 789 characters: --all)"]
    assert shown("text", "--all") == [f"  {line}" for line in lines]
    cut, hint = shown("long")
    assert (len(cut) <= 402, cut[-26:], hint) == (True, "xx'... (60,000 characters)", "  (--all shows all of it)")
    assert shown("long", "--all") == [f"  '{'x' * 60_000}'"]
    assert zodbsh("inspect", path, "/a", "--format", "csv").out.splitlines() == [
        "name,class,oid,value",
        "root.a,int,,2",
    ]


def test_an_embedded_value_says_where_it_lies(database):
    """The value, and the record that embeds it."""
    run = zodbsh("inspect", database.path, "root.accounts['account-1'].history")
    assert "  lies     embedded in the record of 0x02, root.accounts['account-1']\n" in run.out
    assert run.out.endswith("items\n  [0]  10\n  [1]  5\n")
    found = zodbsh("inspect", database.path, "/accounts/account-1/history/1", "--format", "json").json
    assert (found["state"], found["embedded"], found["oid"], found["class"]) == (5, True, "0x02", "int")
    assert found["owner"] == {"oid": "0x02", "path": "root.accounts['account-1']"}


def test_depth_opens_objects(database):
    """Level by level, indented; as JSON under ``inside``."""
    run = zodbsh("inspect", database.path, "root", "--depth", 3)
    assert (
        "  accounts  <BTrees.OOBTree.OOBTree 0x01>\n    'account-1'  <account.Account 0x02>\n      balance  15\n"
        in run.out
    )
    found = zodbsh("inspect", database.path, "root", "--depth", 2, "--format", "json").json
    tree, title = found["inside"]["items"]
    assert (tree["step"], title["step"], title["value"]) == (".accounts", ".title", "My bank")
    assert [item["step"] for item in tree["inside"]["items"]] == [f"['account-{n}']" for n in (1, 2, 3)]


def test_an_object_as_it_was(database):
    """``--at`` shows the revision current then; the overview says what it leaves out."""
    past = tid_text(database.tids[1])
    assert zodbsh("inspect", database.path, "0x02", "--at", past, "--format", "json").json["state"]["balance"] == 10
    run = zodbsh("inspect", database.path, "--at", past)
    assert f"({past}): later transactions are not counted\n" in run.out
    assert "  transactions  2\n" in run.out


def test_raw_bytes_come_through_a_pipe(database):
    """The record, byte for byte, and nothing else."""
    db = ZODB.DB(database.path, read_only=True)
    data = db.storage.load(p64(2))[0]
    db.close()
    command = [sys.executable, "-m", "zodbsh", "inspect", database.path, "0x02", "--raw"]
    run = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    assert (run.returncode, run.stdout, run.stderr) == (0, data, b"")


def test_a_record_is_disassembled(database):
    """One instruction a line, with its offset; as JSON a list."""
    lines = zodbsh("inspect", database.path, "0x02", "--disassemble").out.split("\n")
    assert lines[1:4] == [
        "       0  PROTO           3",
        "       2  GLOBAL          <class account.Account>",
        "      19  BINPUT          0",
    ]  # fmt: skip
    found = zodbsh("inspect", database.path, "0x02", "--disassemble", "--format", "json").json
    assert found[1] == {"offset": 2, "opcode": "GLOBAL", "argument": {"@cls": ["account", "Account"]}}


@pytest.mark.parametrize(
    ("target", "status", "code", "message"),
    [
        ("root.acounts", 3, "target-not-found", "root has no key 'acounts'"),
        ("root.accounts['acount-1']", 3, "target-not-found", "root.accounts has no key 'acount-1'"),
        ("0xff", 3, "object-not-found", "no object 0xff in {}"),
        ("root.accounts[", 2, "target-syntax", "not a key at character 15 of the target: the target ends"),
        ("accounts", 2, "target-syntax", "not a target: 'accounts'"),
    ],
)
def test_what_is_wrong_with_a_target_is_said(database, target, status, code, message):
    """As JSON on stderr, with the exit status; nothing on stdout."""
    run = zodbsh("inspect", database.path, target, "--format", "json")
    error = json.loads(run.err)["error"]
    assert (run.status, run.out, error["code"], error["message"]) == (status, "", code, message.format(database.path))


def test_options_for_an_object_need_one(database):
    """``--raw`` of a whole database is a wrong command line."""
    run = zodbsh("inspect", database.path, "--raw")
    assert (run.status, run.out) == (2, "")
    assert run.err == "error: --raw, --disassemble and --depth are about one object\nhint: Name a TARGET.\n"


def test_damage_is_refused_or_read_up_to(database):
    """A file with a flipped header: exit 6; with --ignore-damage what comes before, and where the damage is."""
    with open(database.path, "rb+") as file:
        content = file.read()
        place = content.index(database.tids[2].to_bytes(8, "big"))
        file.seek(place + 8)
        file.write(b"\x00\x00\x00\x00\x00\x00\x00\x07")
    run = zodbsh("inspect", database.path)
    assert (run.status, run.out) == (6, "")
    hint = (
        f"hint: `zodbsh inspect {database.path} --ignore-damage` reads what comes before the damage; "
        f"`zodbsh recover {database.path} NEW` saves what is sound into a new file.\n"
    )
    assert run.err.endswith(hint)
    found = zodbsh("inspect", database.path, "--ignore-damage", "--format", "json").json
    assert (found["transactions"], found["last_tid"]) == (2, tid_text(database.tids[1]))
    assert found["damage"].startswith(f"offset {place + 8}")
    state = zodbsh("inspect", database.path, "0x02", "--ignore-damage", "--format", "json").json["state"]
    assert state["balance"] == 10


def test_an_unfinished_tail_is_said(database):
    """What a writer has not finished is not part of the snapshot, and the overview says so."""
    with open(database.path, "rb+") as file:
        content = file.read()
        start = content.index(database.tids[2].to_bytes(8, "big"))
        file.seek(start + 16)
        file.write(b"c")
    run = zodbsh("inspect", database.path)
    assert f"  unfinished    {len(content) - start} bytes after the last whole transaction are ignored\n" in run.out
    assert "  transactions  2\n" in run.out


def test_memory_has_an_overview():
    """Any storage can be looked at."""
    found = zodbsh("inspect", ":memory:", "--format", "json").json
    assert (found["format"], found["objects"], found["root"]) == ("MappingStorage", 1, [])


def test_strings_of_a_file_cannot_drive_the_terminal(tmp_path):
    """Control characters in keys and values are shown as escapes, in paths too."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)
    with db.transaction() as connection:
        connection.root()["\x1b[31mred\u202e"] = PersistentMapping({".quit\n": "\x07"})
    db.close()
    runs = [zodbsh("inspect", path), zodbsh("inspect", path, "0x01"), zodbsh("inspect", path, "root", "--depth", 2)]
    text = "".join(run.out for run in runs)
    assert not {"\x1b", "\u202e", "\x07"} & set(text)
    assert r"root['\x1b[31mred\u202e']" in text
    assert not any(line.lstrip().startswith(".") for line in text.split("\n"))


README = {
    "plone-4.3.fs": ("FS21", 12, 4404, 4389),
    "zopache.fs": ("FS21", 57, 932, 413),
    "wor-small.fs": ("FS21", 95, 123, 123),
    "wor-large.fs": ("FS21", 450, 1495, 430),
    "wikidocs.fs": ("FS30", 15, 1692, 1391),
    "zodbtools-py2_pickle1": ("FS21", 67, 70, 8),
    "zodbtools-nozext-py3_pickle3": ("FS30", 67, 70, 8),
}


@needs_corpus
@pytest.mark.parametrize("name", README)
def test_real_databases_are_counted(name):
    """Format, transactions, records and objects as the corpus's README counts them; a log and a show of each."""
    found = CORPUS / name
    path = str(found if found.is_file() else next(found.glob("*.fs")))
    overview = zodbsh("inspect", path, "--format", "json").json
    counts = tuple(overview[key] for key in ("format", "transactions", "records", "objects"))
    assert counts == README[name]
    assert sum(row["objects"] for row in overview["classes"]) == README[name][3]
    entries = zodbsh("log", path, "--format", "json").json
    assert len(entries) == README[name][1]
    assert sum(entry["objects"] for entry in entries) == README[name][2]
    assert (entries[0]["tid"], entries[-1]["tid"]) == (overview["last_tid"], overview["first_tid"])
    for tid in (overview["first_tid"], overview["last_tid"]):
        shown = zodbsh("show", path, tid, "-n", 50, "--format", "json").json
        entry = next(entry for entry in entries if entry["tid"] == tid)
        assert len(shown["objects"]) + shown["objects_more"] == entry["objects"]
    for arguments in (["inspect", path], ["inspect", path, "root"], ["inspect", path, "root", "--depth", "3"]):
        run = zodbsh(*arguments)
        assert (run.status, run.err) == (0, "")


@needs_corpus
def test_a_python_2_site_is_walked():
    """Plone's content by slash path, none of its classes installed."""
    path = str(CORPUS / "plone-4.3.fs")
    found = zodbsh("inspect", path, "/Application/Plone/news", "--format", "json").json
    assert (found["class"], found["path"]) == (
        "Products.ATContentTypes.content.folder.ATFolder", "root.Application.Plone.news",
    )  # fmt: skip
    assert found["state"]["id"] == "news"
    run = zodbsh("inspect", path, "root.Application.Plone.portal_catalog._catalog.uids", "-n", 3)
    assert run.status == 0
