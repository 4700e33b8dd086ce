"""A session and the stage on disk: continued, kept, committed, forgotten."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import transaction
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ConflictError

from zodbsh.db.open import Conflict, open_storage
from zodbsh.db.session import Session
from zodbsh.db.spec import parse_spec
from zodbsh.errors import Unsupported
from zodbsh.stage import store
from zodbsh.stage.format import StageDamaged
from zodbsh.stage.live import continue_stage, forget, keep
from zodbsh.stage.model import StageConflict
from zodbsh.stage.replay import replay


@contextmanager
def opened(path, **options):
    """Open a session that goes on with the stage."""
    with Session.open(str(path), **options) as session:
        continue_stage(session)
        yield session


def on_disk(path):
    return store.load(parse_spec(str(path)))


@pytest.fixture
def staged(path, bank):
    """A stage: the account has 11 and a friend with 3."""
    with opened(path) as session:
        session.root.account.deposit(1)
        session.root.account.friend = bank.Account(3)
        kept = keep(session, note="note", user="carol")
    assert (kept.saved, kept.changed, kept.new) == (True, 1, 1)
    return kept.stage


@pytest.mark.parametrize("options", [{}, {"read_only": True}])
def test_a_stage_is_continued(path, staged, options):
    """Its objects are there as they were staged, and count as uncommitted."""
    with opened(path, **options) as session:
        assert session.stage_id == staged.id
        assert session.dirty_count() == 2
        account = session.root.account
        assert (account.balance, account.friend.balance) == (11, 3)
        account.friend.deposit(1)
        kept = keep(session)
    assert (kept.saved, kept.changed, kept.new) == (True, 1, 1)
    assert (kept.stage.note, kept.stage.user, kept.stage.created) == ("note", "carol", staged.created)
    with opened(path, **options) as session:
        assert session.root.account.friend.balance == 4


def test_loading_a_stage_loads_no_class(path, staged):
    with opened(path) as session:
        assert session.connection._cache.cache_non_ghost_count == 0


def test_looking_leaves_the_stage_as_it_is(path, staged):
    with opened(path) as session:
        assert session.root.account.friend.balance == 3
        assert keep(session) == (staged, False)
    assert on_disk(path) == staged


def test_a_commit_by_hand_commits_the_stage(path, staged, witness):
    """And removes it from the disk."""
    with opened(path) as session:
        session.root.account.friend.deposit(1)
        transaction.commit()
        assert (session.stage_id, on_disk(path)) == (None, None)
        assert not session.pending().entries
    with witness(path) as root:
        assert (root["account"].balance, root["account"].friend.balance) == (11, 4)


def test_the_sessions_commit_removes_the_stage(path, staged):
    with opened(path) as session:
        assert session.commit(note="done").objects == 2
    assert on_disk(path) is None


def test_an_abort_by_hand_leaves_it_on_disk(path, staged):
    with opened(path) as session:
        transaction.abort()
        assert session.stage_id is None
        assert session.root.account.balance == 10
        assert not hasattr(session.root.account, "friend")
        assert keep(session) == (staged, False)
    assert on_disk(path) == staged


def test_what_follows_an_abort_joins_the_stage(path, staged, witness):
    """Nothing that was staged is lost to a script that begins with an abort."""
    with opened(path) as session:
        transaction.begin()
        session.root.counter.value = 7
        session.root.more = PersistentMapping()
        kept = keep(session)
    assert (kept.changed, kept.new) == (3, 2)
    with opened(path) as session:
        assert (session.root.account.balance, session.root.counter.value, session.root.more) == (11, 7, {})
        transaction.commit()
    with witness(path) as root:
        assert (root["account"].friend.balance, root["counter"].value, root["more"]) == (3, 7, {})


def test_what_follows_an_abort_and_overlaps_is_refused(path, staged):
    with opened(path) as session:
        transaction.abort()
        session.root.account.deposit(5)
        with pytest.raises(StageConflict, match="0x01"):
            keep(session)
    assert on_disk(path) == staged


def test_a_conflict_with_the_stage_shows_at_commit(path, staged, witness):
    """The serial is the one it was staged on, not today's."""
    with witness(path) as root:
        root["account"].balance = 50
    with opened(path) as session:
        assert session.root.account.balance == 11
        with pytest.raises(ConflictError):
            transaction.commit()
        transaction.abort()
        assert session.root.account.balance == 50
    with opened(path) as session, pytest.raises(Conflict):
        session.commit()
    assert on_disk(path) == staged


def test_a_stage_that_was_committed_already_is_removed(path, staged):
    """A process that was killed between the commit and the removal leaves no double deposit."""
    storage = open_storage(parse_spec(str(path)))
    replay(staged, storage, name="my.fs")
    storage.close()
    with Session.open(str(path)) as session:
        assert continue_stage(session) is None
        assert session.root.account.balance == 11
    assert on_disk(path) is None


def test_staging_twice_in_one_session(path):
    """The second takes the first's place; the commit removes it."""
    with opened(path) as session:
        session.root.account.deposit(1)
        first = keep(session).stage
        session.root.account.deposit(1)
        session.root.more = 1
        second = keep(session).stage
        assert (first.id != second.id, on_disk(path)) == (True, second)
        assert len(second.entries) == 2
        transaction.commit()
    assert on_disk(path) is None


def test_another_process_staged_meanwhile(path, staged):
    with opened(path) as session:
        session.root.counter.value = 1
        store.save(session.spec, staged, replaces=staged.id)
        with pytest.raises(StageConflict, match="another process"):
            keep(session)


def test_taking_every_change_back_leaves_no_stage(path, bank):
    with opened(path) as session:
        session.root.account.deposit(1)
        keep(session)
    with opened(path) as session:
        session.revert(1) if session.root.account.balance else None
        assert session.root.account.balance == 10
        assert keep(session) == (None, True)
    assert on_disk(path) is None


def test_forgetting(path, staged):
    with opened(path) as session:
        session.root.account.entries.append(1)
        assert forget(session) is True
        assert (session.root.account.balance, session.root.account.entries) == (10, [])
        assert forget(session) is False
    assert on_disk(path) is None


def test_the_past_does_not_go_on_with_a_stage(path, staged):
    with opened(path, at=staged.base_tid) as session:
        assert (session.stage_id, session.root.account.balance) == (None, 10)


def test_a_damaged_stage_is_not_continued(path, staged):
    stage_file = path.with_name("my.fs.stage")
    stage_file.write_bytes(stage_file.read_bytes()[:-1])
    with pytest.raises(StageDamaged), opened(path):
        pass


def test_blobs_are_continued(tmp_path, bank, witness):
    path, blobs = tmp_path / "b.fs", tmp_path / "blobs"
    import ZODB

    ZODB.DB(FileStorage(str(path), blob_dir=str(blobs))).close()
    with opened(path, blobs=str(blobs)) as session:
        session.root.one = Blob(b"one")
        session.root.two = Blob(b"two")
        keep(session)
    with opened(path, blobs=str(blobs)) as session:
        with session.root.one.open() as file:
            assert file.read() == b"one"
        with session.root.two.open("w") as file:
            file.write(b"three")
        keep(session)
    with opened(path, blobs=str(blobs), read_only=True) as session, session.root.two.open() as file:
        assert file.read() == b"three"
    with opened(path, blobs=str(blobs)) as session:
        transaction.commit()
    with witness(path, blobs) as root, root["one"].open() as one, root["two"].open() as two:
        assert (one.read(), two.read()) == (b"one", b"three")
    assert sorted(found.name for found in tmp_path.iterdir() if "stage" in found.name) == []


def test_savepoints_within_a_continued_stage(path, staged):
    with opened(path) as session:
        session.root.account.friend.deposit(1)
        point = transaction.savepoint()
        session.root.account.friend.deposit(1)
        session.root.account.deposit(1)
        point.rollback()
        assert (session.root.account.balance, session.root.account.friend.balance) == (11, 4)
        transaction.commit()
        assert (session.root.account.balance, session.root.account.friend.balance) == (11, 4)


def test_python_2s_format_takes_no_stage(tmp_path, path):
    path.write_bytes(b"FS21" + path.read_bytes()[4:])
    with opened(path) as session:
        assert session.mode == "read-only"
        session.root.x = 1
        with pytest.raises(Unsupported, match="Python 2's format"):
            keep(session)


def test_memory_takes_no_stage():
    with opened(":memory:") as session:
        session.root.x = 1
        with pytest.raises(Unsupported, match="in memory has no stage"):
            keep(session)
