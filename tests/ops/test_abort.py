"""``abort``: the stage dropped, the database untouched."""

from __future__ import annotations

import pytest

from zodbsh.db.session import Session
from zodbsh.db.spec import parse_spec
from zodbsh.ops.abort import AbortResult, abort_session, abort_stage, staged_objects
from zodbsh.stage import store
from zodbsh.stage.live import continue_stage, keep
from zodbsh.stage.model import StageConflict, make_stage


@pytest.fixture
def spec(path):
    return parse_spec(str(path))


@pytest.fixture
def staged(path):
    with Session.open(str(path)) as session:
        session.root.account.deposit(1)
        session.root.counter.value = 1
        return keep(session).stage


def test_nothing_to_drop(spec):
    found = staged_objects(spec)
    assert found == abort_stage(spec, found) == AbortResult(False, 0)


def test_the_stage_goes_and_nothing_else(spec, path, staged):
    before = path.read_bytes()
    found = staged_objects(spec)
    assert found == abort_stage(spec, found) == AbortResult(True, 2, stage_id=staged.id)
    assert store.load(spec) is None
    assert path.read_bytes() == before


def test_a_damaged_stage_goes_too(spec, path, staged):
    path.with_name("my.fs.stage").write_bytes(b"rubbish")
    assert abort_stage(spec, staged_objects(spec)) == AbortResult(True, None, damaged=True)
    assert not path.with_name("my.fs.stage").exists()


def test_in_a_session_both_go(spec, path, staged):
    with Session.open(str(path)) as session:
        continue_stage(session)
        session.root.account.entries.append("silent")
        assert abort_session(session) == AbortResult(True, 2)
        assert (session.root.account.balance, session.root.account.entries) == (10, [])
        assert abort_session(session) == AbortResult(False, 0)
    assert store.load(spec) is None


def test_memory():
    spec = parse_spec(":memory:")
    assert abort_stage(spec, staged_objects(spec)) == AbortResult(False, 0)


def test_another_stage_than_the_one_asked_about_stays(spec, staged):
    """It was replaced between the question and the answer."""
    found = staged_objects(spec)
    newer = store.save(spec, staged, replaces=staged.id)
    with pytest.raises(StageConflict):
        abort_stage(spec, found)
    assert store.load(spec) == newer


def test_a_session_drops_no_stage_but_its_own(spec, path):
    with Session.open(str(path), read_only=True) as session:
        session.root.account.deposit(1)
        theirs = store.save(spec, make_stage(session.pending()))
        assert abort_session(session) == AbortResult(True, 1, others=1)
    assert store.load(spec) == theirs
