"""``commit``: the stage applied and gone, or refused and kept."""

from __future__ import annotations

import io
import sys
from contextlib import closing

import pytest
from ZODB import ConflictResolution

from zodbsh.db import open as db_open
from zodbsh.db.locks import DatabaseLocked
from zodbsh.db.session import Session
from zodbsh.db.source import open_source
from zodbsh.db.spec import parse_spec
from zodbsh.errors import DamagedDatabase, StorageIOError, UsageError
from zodbsh.ops.commit import CommitResult, commit_session, commit_stage
from zodbsh.ops.conflict import ThreeSides, conflict_sides
from zodbsh.render.commit import ConflictView
from zodbsh.render.output import Output, emit
from zodbsh.stage import store
from zodbsh.stage.live import keep
from zodbsh.stage.model import StageConflict
from zodbsh.stage.replay import StageConflicts


@pytest.fixture
def spec(path):
    return parse_spec(str(path))


@pytest.fixture
def stage(path):
    def run(change, **options):
        with Session.open(str(path)) as session:
            change(session.root)
            return keep(session, **options).stage

    return run


def test_nothing_is_staged(spec, path):
    before = path.read_bytes()
    assert commit_stage(spec) == CommitResult(None, 0)
    assert path.read_bytes() == before


def test_the_stage_is_applied_and_gone(spec, path, stage, witness):
    """With the note and the user it was staged with, unless others are given."""
    stage(lambda root: root.account.deposit(1), note="staged", user="carol")
    done = commit_stage(spec, user="dave")
    assert (done.objects, done.resolved, done.before, done.trouble) == (1, (), False, None)
    assert store.load(spec) is None
    with witness(path) as root:
        assert root["account"].balance == 11
        (info,) = root._p_jar.db().undoInfo(0, 1)
        assert (info["description"], info["user_name"]) == ("staged", "dave")


def test_a_commit_imports_no_class(spec, stage, bank, path):
    """Not even those of the objects it stores."""
    stage(lambda root: setattr(root.account, "friend", bank.Account()))
    del sys.modules["bank"]
    commit_stage(spec)
    assert "bank" not in sys.modules


def test_a_resolution_imports_from_the_given_folder(spec, stage, bank, path, witness, tmp_path, monkeypatch):
    stage(lambda root: setattr(root.counter, "value", 5))
    with witness(path) as root:
        root["counter"].value = 3
    del sys.modules["bank"]
    folder = str(tmp_path / "src")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != folder])
    with pytest.raises(StageConflicts):
        commit_stage(spec)
    ConflictResolution._class_cache.clear()
    assert commit_stage(spec, import_paths=[folder]).resolved == (2,)
    assert folder not in sys.path


def test_a_conflict_keeps_the_stage(spec, path, stage, witness):
    made = stage(lambda root: root.account.deposit(1))
    with witness(path) as root:
        root["account"].balance = 50
    before = path.read_bytes()
    with pytest.raises(StageConflicts):
        commit_stage(spec)
    assert (path.read_bytes(), store.load(spec)) == (before, made)


def test_the_three_sides_of_a_conflict(spec, path, stage, witness):
    def change(root):
        root.account.deposit(1)
        root.account.ours = True

    stage(change)
    with witness(path) as root:
        root["account"].balance = 50
        root["account"].theirs = True
    with pytest.raises(StageConflicts) as caught:
        commit_stage(spec)
    with closing(open_source(str(path))) as source:
        result = conflict_sides(source, caught.value.sides)
        their_tid = source.last_tid
    (item,) = result.objects
    assert (item.path, item.class_, item.their_tid) == ("root.account", "bank.Account", their_tid)
    assert item.attributes[0] == ThreeSides("balance", 10, 50, 11)
    assert [side.name for side in item.attributes] == ["balance", "ours", "theirs"]
    out = io.StringIO()
    emit(ConflictView(result), Output(stdout=out, color="never"))
    assert out.getvalue() == (
        f"root.account  bank.Account 0x01  changed by {their_tid:016x} since\n"
        "           base       theirs     ours\n"
        "  balance  10         50         11\n"
        "  ours     (nothing)  (nothing)  True\n"
        "  theirs   (nothing)  True       (nothing)\n"
    )


def test_a_locked_database_keeps_the_stage(spec, path, stage):
    made = stage(lambda root: root.account.deposit(1))
    with Session.open(str(path)), pytest.raises(DatabaseLocked):
        commit_stage(spec)
    assert store.load(spec) == made


def test_a_damaged_database_keeps_the_stage(spec, path, stage):
    made = stage(lambda root: root.account.deposit(1))
    damaged = path.read_bytes()[:-1] + b"\xff"
    path.write_bytes(damaged)
    with pytest.raises(DamagedDatabase):
        commit_stage(spec)
    assert (path.read_bytes(), store.load(spec)) == (damaged, made)


def test_a_stage_that_cannot_be_removed_is_trouble_only(spec, path, stage, monkeypatch):
    stage(lambda root: root.account.deposit(1))

    def fail(*_args, **_more):
        raise StorageIOError("no")

    monkeypatch.setattr(store, "drop", fail)
    done = commit_stage(spec)
    assert done.tid is not None
    assert "will not be committed again" in done.trouble


def test_a_note_too_long_is_refused_before_anything(spec, path, stage):
    stage(lambda root: root.account.deposit(1))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="65,535"):
        commit_stage(spec, note="x" * 65_536)
    assert path.read_bytes() == before


def test_a_sessions_changes(path):
    with Session.open(str(path)) as session:
        assert commit_session(session) == CommitResult(None, 0)
        session.root.account.deposit(1)
        done = commit_session(session, note="n")
        assert (done.tid, done.objects) == (session.base_tid, 1)


def test_a_stage_that_was_dropped_while_we_waited_for_the_lock_is_not_committed(spec, path, stage, monkeypatch):
    """What is committed is what is there once the database is ours."""
    stage(lambda root: root.account.deposit(1))
    before, open_storage = path.read_bytes(), db_open.open_storage

    def slow(*args, **options):
        store.drop(spec)
        return open_storage(*args, **options)

    monkeypatch.setattr(db_open, "open_storage", slow)
    with pytest.raises(StageConflict, match="just now"):
        commit_stage(spec)
    assert path.read_bytes() == before
