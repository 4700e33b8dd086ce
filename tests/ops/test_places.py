"""Paths of uncommitted objects, known without a walk through the database."""

from __future__ import annotations

from contextlib import closing

import BTrees.OOBTree
import pytest
from persistent.mapping import PersistentMapping

import zodbsh.ops.places as module
from zodbsh.db.session import Session
from zodbsh.db.source import open_source
from zodbsh.db.spec import parse_spec
from zodbsh.ops.diff import diff_changes, diff_session
from zodbsh.ops.dirty import dirty
from zodbsh.ops.places import keep_with_places, places_of_changes
from zodbsh.ops.status import session_status, status
from zodbsh.stage import store
from zodbsh.stage.live import continue_stage
from zodbsh.stage.model import StagePlace


@pytest.fixture
def wide(path, witness):
    """A tree of many objects."""
    with witness(path) as root:
        root["tree"] = BTrees.OOBTree.OOBTree({f"{number:04}": PersistentMapping() for number in range(2000)})
    return path


@pytest.fixture
def no_walk(monkeypatch):
    """Let the walk from the root see no more than a few objects."""
    real = module.places_of
    monkeypatch.setattr(module, "places_of", lambda snapshot, oids: real(snapshot, oids, budget=200))


def test_what_was_changed_was_come_to_on_some_way(wide, no_walk):
    """In the session and, because the stage keeps the path, later too."""
    with Session.open(str(wide)) as session:
        session.root.tree["1234"]["x"] = PersistentMapping()
        session.root.tree["1500"].data["silent"] = 1
        wanted = ["root.tree['1234']", "root.tree['1234']['x']"]
        assert [item.path for item in session_status(session).staged] == wanted
        assert [item.path for item in diff_session(session).objects] == wanted
        assert [item.path for item in dirty(session).silent] == ["root.tree['1500']"]
        keep_with_places(session)
    with closing(open_source(str(wide))) as source:
        stage = store.load(parse_spec(str(wide)))
        assert [item.path for item in status(source, stage).staged] == wanted
        assert [item.path for item in diff_changes(source, stage).objects] == wanted
    with Session.open(str(wide)) as session:
        continue_stage(session)
        session.root.account.balance = 5
        kept = keep_with_places(session)
    assert [place.path for place in kept.stage.places] == ["root.account", *wanted]


def test_a_place_that_is_no_longer_right_is_not_used(wide):
    """The object is found where it is now."""
    with Session.open(str(wide)) as session:
        session.root.account.balance = 5
        stage = keep_with_places(session).stage
    assert stage.places == (StagePlace(1, "root.account"),)
    with Session.open(str(wide)) as session:
        session.root.moved = session.root.account
        del session.root.account
        session.commit()
    with closing(open_source(str(wide))) as source:
        assert places_of_changes(source, stage)[1].path == "root.moved"


def test_a_bucket_keeps_its_trees_place(wide, no_walk):
    with Session.open(str(wide)) as session:
        session.root.tree["1234"] = None
        stage = keep_with_places(session).stage
    assert [(place.path, place.internal) for place in stage.places] == [("root.tree", True)]
    assert store.load(parse_spec(str(wide))) == stage
