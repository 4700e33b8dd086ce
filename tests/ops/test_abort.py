"""``abort``: the stage dropped, the database untouched."""

from __future__ import annotations

import pytest

from zodbsh.db.session import Session
from zodbsh.db.spec import parse_spec
from zodbsh.ops.abort import AbortResult, abort_session, abort_stage, staged_objects
from zodbsh.stage import store
from zodbsh.stage.live import continue_stage, keep


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
    assert staged_objects(spec) == abort_stage(spec) == AbortResult(False, 0)


def test_the_stage_goes_and_nothing_else(spec, path, staged):
    before = path.read_bytes()
    assert staged_objects(spec) == AbortResult(True, 2)
    assert abort_stage(spec) == AbortResult(True, 2)
    assert store.load(spec) is None
    assert path.read_bytes() == before


def test_a_damaged_stage_goes_too(spec, path, staged):
    path.with_name("my.fs.stage").write_bytes(b"rubbish")
    assert abort_stage(spec) == AbortResult(True, None, damaged=True)
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
    assert abort_stage(parse_spec(":memory:")) == AbortResult(False, 0)
