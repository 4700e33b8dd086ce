"""``status``: what waits, and whether it still fits."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing

import BTrees.OOBTree
import pytest

from zodbsh.db.changes import PROVISIONAL
from zodbsh.db.session import Session
from zodbsh.db.source import open_source
from zodbsh.db.spec import parse_spec
from zodbsh.ops.commit import commit_stage
from zodbsh.ops.dirty import dirty
from zodbsh.ops.status import StagedObject, status
from zodbsh.stage import store
from zodbsh.stage.live import keep


@pytest.fixture
def stage(path):
    def run(change):
        with Session.open(str(path)) as session:
            change(session.root)
            return keep(session).stage

    return run


def look(path):
    with closing(open_source(str(path))) as source:
        return status(source, load(path))


def load(path):
    return store.load(parse_spec(str(path)))


def test_a_clean_database(path):
    with closing(open_source(str(path))) as source:
        found = status(source, None)
        assert (found.base_tid, found.last_tid, found.staged) == (source.last_tid, source.last_tid, ())


def test_each_object_with_its_path(path, stage, bank):
    def change(root):
        root.account.deposit(1)
        root.account.friend = bank.Account()
        root["a-b"] = BTrees.OOBTree.OOBTree(one=1)

    made = stage(change)
    found = look(path)
    sizes = [len(entry.data) for entry in made.entries]
    assert found.staged == (
        StagedObject("root.account", 1, "bank.Account", "changed", sizes[0], False),
        StagedObject("root.account.friend", PROVISIONAL + 1, "bank.Account", "new", sizes[1], False),
        StagedObject("root", 0, "persistent.mapping.PersistentMapping", "changed", sizes[2], False),
        StagedObject("root['a-b']", PROVISIONAL + 2, "BTrees.OOBTree.OOBTree", "new", sizes[3], False),
    )
    assert (found.changed, found.new, found.base_tid) == (2, 2, made.base_tid)


def test_what_cannot_be_reached_goes_by_its_oid(path, bank):
    with Session.open(str(path)) as session:
        session.connection.add(bank.Account())
        keep(session)
    assert [item.path for item in look(path).staged] == ["0x8000000000000001"]


def test_a_bucket_goes_by_its_tree(path, stage, witness):
    with witness(path) as root:
        root["tree"] = BTrees.OOBTree.OOBTree({number: number for number in range(200)})
    stage(lambda root: root.tree.__setitem__(100, "x"))
    (item,) = look(path).staged
    assert (item.path, item.class_) == ("root.tree", "BTrees.OOBTree.OOBucket")


def test_what_others_changed_since_is_outdated(path, stage, witness):
    def change(root):
        root.account.deposit(1)
        root.counter.value = 1

    stage(change)
    with witness(path) as root:
        root["account"].balance = 3
    found = look(path)
    assert [(item.path, item.outdated) for item in found.staged] == [("root.account", True), ("root.counter", False)]
    assert found.base_tid < found.last_tid


def test_a_stage_that_was_committed_is_told(path, stage, monkeypatch):
    made = stage(lambda root: root.account.deposit(1))
    monkeypatch.setattr(store, "drop", lambda *_args, **_more: True)
    done = commit_stage(parse_spec(str(path)))
    assert load(path) == made
    found = look(path)
    assert (found.applied_by, found.staged) == (done.tid, ())
    again = commit_stage(parse_spec(str(path)))
    assert (again.tid, again.before) == (done.tid, True)


def test_of_a_session_what_zodb_misses_is_told_too(path):
    with Session.open(str(path)) as session:
        session.root.account.entries.append(1)
        found = status(session.source(), session.pending(), dirty=dirty(session))
        assert (found.staged, [item.path for item in found.dirty.silent]) == ((), ["root.account"])


def test_looking_imports_no_class(path, stage, bank, monkeypatch):
    """And no ZODB where the database is a file: a process of its own shows it."""
    stage(lambda root: setattr(root.account, "friend", bank.Account()))
    code = (
        "import sys\n"
        "from zodbsh.cli.main import main\n"
        f"sys.argv = ['zodbsh', '{{}}', {str(path)!r}]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "loaded = [name for name in ('ZODB', 'persistent', 'bank', 'prompt_toolkit') if name in sys.modules]\n"
        "print(loaded, file=sys.stderr)"
    )
    for verb in ("status", "diff"):
        done = subprocess.run([sys.executable, "-c", code.format(verb)], capture_output=True, text=True, check=True)
        assert "root.account.friend" in done.stdout
        assert done.stderr == "[]\n"
