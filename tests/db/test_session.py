"""A live session: its modes, what is pending on it, and that looking at that changes nothing."""

from __future__ import annotations

import os
import re
import sys
from contextlib import closing
from pathlib import Path

import BTrees.OOBTree
import pytest
import transaction
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.POSException import ReadOnlyError

from zodbsh.db.changes import PROVISIONAL
from zodbsh.db.imports import ModuleFailed
from zodbsh.db.locks import DatabaseLocked
from zodbsh.db.open import translated
from zodbsh.db.session import Session, SessionReadOnly
from zodbsh.db.writer import CannotSave
from zodbsh.errors import DamagedDatabase, DatabaseNotFound, NoPermission, ObjectNotFound, UsageError
from zodbsh.ids import from_bytes
from zodbsh.record.decode import decode_record
from zodbsh.source.file import FileSource


@pytest.fixture
def session(path):
    with Session.open(str(path)) as opened:
        yield opened


def summary(session):
    return [(entry.oid, entry.serial, entry.new) for entry in session.pending().entries]


def test_the_root_by_attribute_and_by_item(session):
    assert session.root.account is session.root["account"]
    assert sorted(session.root) == ["account", "counter", "plain"]
    assert ("account" in session.root, len(session.root)) == (True, 3)
    assert isinstance(session.root(), PersistentMapping)
    session.root.new = 1
    del session.root.plain
    assert sorted(session.root()) == ["account", "counter", "new"]
    assert repr(session.root) == "<root: account, counter, new>"
    assert dir(session.root) == ["account", "counter", "get", "items", "keys", "new", "values"]
    with pytest.raises(AttributeError, match="the root has no entry 'nothing'"):
        _ = session.root.nothing
    with pytest.raises(AttributeError, match="write root"):
        session.root.items = 1


def test_showing_the_root_loads_nothing_else(session):
    repr(session.root)
    assert session.root()["account"]._p_changed is None


def test_a_free_lock_opens_read_write(session):
    assert (session.mode, session.mode_reason, session.writable) == ("read-write", "", True)
    session.root.account.deposit(5)
    committed = session.commit(note="more", user="carol")
    assert committed.objects == 1
    with closing(FileSource(session.spec.path)) as source:
        (last,) = source.transactions(committed.tid)
        assert (last.tid, last.description, last.user) == (committed.tid, b"more", b"carol")


def test_a_held_lock_opens_read_only(path, session):
    """It says who holds it; edits can be made, and pend."""
    with Session.open(str(path)) as second:
        assert second.mode == "read-only"
        assert second.mode_reason == f"{path}: already open for writing in this process"
        second.root.account.deposit(1)
        second.root.extra = PersistentMapping()
        assert [(oid, new) for oid, _, new in summary(second)] == [(1, False), (0, False), (PROVISIONAL, True)]
        with pytest.raises(DatabaseLocked):
            second.commit()
        with pytest.raises(ReadOnlyError, match=re.escape(second.mode_reason)):
            transaction.commit()
        transaction.abort()


def test_a_read_only_session_is_a_snapshot(path, witness):
    """What others commit, and what they pack away, does not reach it; nothing appears beside the file."""
    before = sorted(os.listdir(path.parent))
    with Session.open(str(path), read_only=True) as session:
        assert (session.mode, session.mode_reason) == ("read-only", "as asked")
        assert sorted(os.listdir(path.parent)) == before
        with witness(path) as root:
            root["account"].balance = 99
            del root["counter"]
        with witness(path) as root:
            root._p_jar.db().pack()
        transaction.begin()
        assert session.root.account.balance == 10
        assert session.root.counter.value == 0
        with pytest.raises(SessionReadOnly):
            session.commit()


def test_a_time_in_the_past(path, witness):
    """The state after that transaction; commits are refused, edits pend."""
    with closing(FileSource(str(path))) as source:
        tid = source.last_tid
    with witness(path) as root:
        root["account"].balance = 99
    with Session.open(str(path), at=tid) as session:
        assert session.base_tid == tid
        assert session.root.account.balance == 10
        assert session.mode_reason.startswith("as of 20")
        session.root.fresh = PersistentMapping()
        assert len(session.pending().entries) == 2


def test_a_missing_path_creates_nothing(tmp_path):
    with pytest.raises(DatabaseNotFound):
        Session.open(str(tmp_path / "no.fs"))
    assert os.listdir(tmp_path) == []


def test_damage_is_refused_before_anything_is_written(path):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    before = sorted(os.listdir(path.parent))
    with pytest.raises(DamagedDatabase, match="repeated length") as caught:
        Session.open(str(path))
    assert caught.value.hint == (
        f"Nothing was changed. `zodbsh recover {path} NEW` saves what is sound into a new file; "
        f"`zodbsh inspect {path} --ignore-damage` reads what comes before."
    )
    assert (path.read_bytes(), sorted(os.listdir(path.parent))) == (bytes(data), before)


def test_an_empty_database_gets_a_root_with_the_first_commit(tmp_path):
    """Opening it writes nothing."""
    path = tmp_path / "empty.fs"
    path.write_bytes(b"FS30")
    with Session.open(str(path)) as session:
        assert path.read_bytes() == b"FS30"
        session.root.x = 1
        assert summary(session) == [(0, None, True)]
        session.commit()
    with Session.open(str(path)) as session:
        assert session.root.x == 1


def test_a_time_before_there_was_a_root_is_an_error(path):
    with pytest.raises(ObjectNotFound, match="the database is not as old as"):
        Session.open(str(path), at=1 << 56)


def test_memory_is_ready_to_use():
    with Session.open(":memory:") as session:
        assert session.dirty_count() == 0
        session.root.x = 1
        session.commit()
        assert session.root.x == 1


def test_asking_what_is_pending_changes_nothing(session, bank):
    """Objects stay as they are: no oid, no jar, registered or not as before; asked twice, the answer is the same."""
    account, fresh = session.root.account, bank.Account(3)
    account.friend = fresh
    registered = list(session.connection._registered_objects)
    first = session.pending()
    assert [(entry.oid, entry.new) for entry in first.entries] == [(1, False), (PROVISIONAL, True)]
    assert session.pending() == first
    assert (fresh._p_oid, fresh._p_jar, account._p_changed) == (None, None, True)
    assert session.connection._registered_objects == registered
    assert session.connection._savepoint_storage is None


def test_asking_then_aborting_restores_everything(session, bank):
    session.root.account.deposit(1)
    session.root.account.friend = fresh = bank.Account(3)
    session.pending()
    transaction.abort()
    assert session.root.account.balance == 10
    assert not hasattr(session.root.account, "friend")
    assert session.pending().entries == ()
    # An object that believes to be stored would be lost here.
    session.root.fresh = fresh
    session.commit()
    with Session.open(":memory:"):
        pass
    assert fresh._p_oid is not None
    assert session.root.fresh.balance == 3


def test_asking_then_committing_by_hand_saves_everything(session, bank, path, witness):
    session.root.account.friend = bank.Account(3)
    session.root.account.friend.friend = bank.Account(4)
    session.pending()
    session.dirty()
    transaction.commit()
    session.close()
    with witness(path) as root:
        assert (root["account"].friend.balance, root["account"].friend.friend.balance) == (3, 4)


def test_pending_is_what_a_commit_writes(session, bank, path):
    """Byte for byte, new oids apart."""
    session.root.account.friend = bank.Point(3, 4)
    session.root.tree = BTrees.OOBTree.OOBTree({str(number): bank.Account(number) for number in range(200)})
    pending = session.pending()
    session.commit()
    stored = {}
    with closing(FileSource(str(path))) as source:
        (last,) = source.transactions(source.last_tid)
        for revision in source.records(last):
            stored[revision.oid] = revision.data
    assert len(stored) == len(pending.entries)
    sizes = sorted(len(data) for data in stored.values())
    assert sorted(len(entry.data) for entry in pending.entries) == sizes
    changed = [entry for entry in pending.entries if not entry.new]
    assert {entry.oid for entry in changed} == {0, 1}


def test_savepoints_are_pending_too(session, bank):
    """Also of a rolled-back one nothing is left."""
    session.root.account.deposit(1)
    first = transaction.savepoint()
    session.root.account.friend = bank.Account(3)
    transaction.savepoint()
    session.root.counter.value = 5
    assert [(oid, new) for oid, _, new in summary(session)] == [(1, False), (3, True), (2, False)]
    assert session.dirty_count() == 3
    first.rollback()
    assert [(oid, new) for oid, _, new in summary(session)] == [(1, False)]
    assert decode_record(session.pending().entries[0].data).state.get("balance") == 11
    transaction.abort()
    assert session.root.account.balance == 10


def test_objects_added_and_out_of_reach_pend(session, bank):
    session.connection.add(bank.Account(7))
    assert [(new,) for _, _, new in summary(session)] == [(True,)]


def test_an_object_marked_unchanged_does_not_pend(session):
    session.root.account.deposit(1)
    session.root.account._p_changed = False
    assert session.pending().entries == ()


def test_what_cannot_be_saved_is_named_and_the_session_lives_on(session):
    session.root.account.handle = open(os.devnull)  # noqa: SIM115
    with pytest.raises(CannotSave, match=r"cannot save bank\.Account 0x01, attribute 'handle': .*pickle"):
        session.pending()
    session.root.account.handle.close()
    del session.root.account.handle
    session.root.account.deposit(1)
    session.commit()
    assert session.root.account.balance == 11


def test_an_undo_cannot_pend(session):
    session.root.account.deposit(1)
    session.commit()
    session.db.undo(session.db.undoInfo()[0]["id"])
    with pytest.raises(CannotSave, match="TransactionalUndo"):
        session.pending()
    transaction.commit()
    assert session.root.account.balance == 10


def test_reads_that_a_change_depends_on_pend(path, witness):
    """A BTree notes the nodes above a changed bucket."""
    with witness(path) as root:
        root["tree"] = BTrees.OOBTree.OOBTree({number: number for number in range(200)})
    with Session.open(str(path)) as session:
        session.root.tree[0] = "changed"
        pending = session.pending()
        (entry,) = pending.entries
        (read,) = pending.reads
        assert decode_record(entry.data).class_.name == "OOBucket"
        assert read == (from_bytes(session.root.tree._p_oid), from_bytes(session.root.tree._p_serial))


def test_revert_and_mark_changed(session):
    account = session.root.account
    account.entries.append(1)
    session.revert(1)
    assert account.entries == []
    account.entries.append(2)
    session.mark_changed(1)
    assert session.dirty_count() == 1
    session.commit()
    session.connection.cacheMinimize()
    assert account.entries == [2]
    account.deposit(1)
    session.revert(1)
    assert (account.balance, session.pending().entries) == (10, ())
    with pytest.raises(UsageError, match="not loaded"):
        session.revert(77)


def test_a_new_object_cannot_be_reverted(session, bank):
    fresh = bank.Account()
    session.connection.add(fresh)
    with pytest.raises(UsageError, match="no stored state"):
        session.revert(from_bytes(fresh._p_oid))


def test_abort_forgets_silent_mutations_too(session):
    session.root.account.entries.append(1)
    session.abort()
    assert session.root.account.entries == []


def test_blobs_pend_with_their_files(tmp_path, bank):
    path, blobs = tmp_path / "b.fs", tmp_path / "blobs"
    import ZODB.FileStorage

    ZODB.DB(ZODB.FileStorage.FileStorage(str(path), blob_dir=str(blobs))).close()
    with Session.open(str(path), blobs=str(blobs)) as session:
        session.root.full = Blob(b"content")
        session.root.empty = Blob()
        entries = [entry for entry in session.pending().entries if entry.blob]
        assert sorted(Path(entry.blob).read_bytes() for entry in entries) == [b"", b"content"]
        with session.root.full.open("w") as file:
            with pytest.raises(CannotSave, match="still open for writing"):
                session.pending()
            file.write(b"other")
        transaction.savepoint()
        entries = [entry for entry in session.pending().entries if entry.blob]
        assert sorted(Path(entry.blob).read_bytes() for entry in entries) == [b"", b"other"]
        transaction.commit()
        with session.root.full.open() as file:
            assert file.read() == b"other"
        assert session.pending().entries == ()


def test_modules_are_imported_into_the_names(path, bank):
    with Session.open(str(path), modules=["bank", "os.path"]) as session:
        assert session.modules == {"bank": bank, "os": os}
        assert set(session.namespace()) == {"root", "db", "connection", "transaction", "bank", "os"}


def test_import_paths_go_first_and_leave_with_the_session(path, tmp_path, monkeypatch):
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "only_here.py").write_text("x = 1\n")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    with Session.open(str(path), import_paths=["more"], modules=["only_here"]) as session:
        assert sys.path[0] == str(tmp_path / "more")
        assert session.modules["only_here"].x == 1
    assert sys.path == before
    del sys.modules["only_here"]


def test_the_current_folder_is_not_searched(path, tmp_path, monkeypatch):
    (tmp_path / "lying_about.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    with pytest.raises(ModuleFailed) as caught:
        Session.open(str(path), modules=["lying_about"])
    assert caught.value.hint == "Give the folder that holds it with -p DIR."


def test_a_module_that_fails_shows_its_own_frames(path, tmp_path):
    (tmp_path / "src" / "broken_module.py").write_text("def boom():\n    return 1 / 0\n\n\nboom()\n")
    with pytest.raises(ModuleFailed) as caught:
        Session.open(str(path), modules=["broken_module"])
    assert caught.value.message == "cannot import 'broken_module': ZeroDivisionError: division by zero"
    told = caught.value.traceback
    assert told.count("File ") == 2
    assert "return 1 / 0" in told
    assert "zodbsh" not in told
    # The lock is free again.
    with Session.open(str(path)) as session:
        assert session.writable


@pytest.mark.parametrize("read_only", [False, True])
def test_empty_file_has_a_root_that_is_no_change(tmp_path, read_only):
    """A file with nothing but its first four bytes opens; its root is uncommitted once something is in it."""
    path = tmp_path / "empty.fs"
    path.write_bytes(b"FS30")
    with Session.open(str(path), read_only=read_only) as session:
        assert dict(session.root()) == {}
        assert (summary(session), session.dirty_count(), bool(session.dirty())) == ([], 0, False)
        session.root.x = 1
        assert summary(session) == [(0, None, True)]
        session.abort()
        assert dict(session.root()) == {}
        assert summary(session) == []


def test_first_commit_of_an_empty_file_holds_its_root(tmp_path):
    """Also where only another object was added."""
    path = tmp_path / "empty.fs"
    path.write_bytes(b"FS30")
    with Session.open(str(path)) as session:
        session.connection.add(PersistentMapping())
        assert session.commit().objects == 2
    with Session.open(str(path)) as session:
        assert dict(session.root()) == {}
        assert session.base_tid > 0


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("my.fs.lock", "my.fs.lock: Permission denied"),
        ("/other", "my.fs: /other: Permission denied"),
        (None, "my.fs: Permission denied"),
    ],
)
def test_an_error_names_each_file_once(file, message):
    """A sidecar's name says which database it belongs to."""
    with pytest.raises(NoPermission) as caught, translated("my.fs"):
        raise PermissionError(13, "Permission denied", file)
    assert caught.value.message == message
