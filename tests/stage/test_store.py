"""The stage's file: what is saved comes back, anything else is refused, and two writers do not overwrite each other."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zodbsh.db.changes import PROVISIONAL, Entry, Pending, Read
from zodbsh.db.spec import Spec, parse_spec
from zodbsh.errors import StorageIOError, Unsupported
from zodbsh.publish import OutcomeUnknown
from zodbsh.stage import store
from zodbsh.stage.format import MAGIC, StageDamaged, decode, encode
from zodbsh.stage.model import Stage, StageConflict, join, make_stage

DATA = b"\x80\x03cm\nC\nq\x00.\x80\x03N."


def stage(*entries, **more):
    found = entries or (Entry(5, 77, DATA), Entry(PROVISIONAL + 1, None, DATA))
    return Stage(77, found, **more)


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "my.fs"
    path.write_bytes(b"FS30")
    path.chmod(0o640)
    return parse_spec(str(path))


def referring_to(oid):
    """Return a record with one reference."""
    return b"\x80\x03cm\nC\nq\x00.\x80\x03C\x08" + oid.to_bytes(8, "big") + b"Q."


def test_what_is_saved_comes_back(spec, tmp_path):
    saved = store.save(spec, stage(reads=(Read(1, 2),), note="süß", user="carol", created=9))
    assert store.load(spec) == saved
    assert len(saved.id) == 32
    assert sorted(os.listdir(tmp_path)) == ["my.fs", "my.fs.stage"]
    assert stat.S_IMODE(os.stat(tmp_path / "my.fs.stage").st_mode) == 0o640


def test_nothing_is_none(spec):
    assert store.load(spec) is None
    assert store.drop(spec) is False


def test_dropping(spec, tmp_path):
    store.save(spec, stage())
    assert store.drop(spec) is True
    assert os.listdir(tmp_path) == ["my.fs"]


def test_a_stage_replaces_only_what_it_was_made_from(spec):
    """Whoever began without it, or with an older one, does not overwrite it."""
    first = store.save(spec, stage())
    with pytest.raises(StageConflict, match="another process staged"):
        store.save(spec, stage())
    second = store.save(spec, stage(note="2"), replaces=first.id)
    with pytest.raises(StageConflict, match="another process staged"):
        store.save(spec, stage(note="3"), replaces=first.id)
    assert store.load(spec) == second
    assert store.drop(spec, only=first.id) is False
    assert store.drop(spec, only=second.id) is True
    with pytest.raises(StageConflict, match="committed or dropped"):
        store.save(spec, stage(note="3"), replaces=second.id)
    assert store.load(spec) is None


def test_of_many_writers_at_once_one_wins(spec):
    """The others hear of it."""
    outcomes = []

    def write(number):
        try:
            outcomes.append(store.save(spec, stage(note=str(number))))
        except StageConflict:
            outcomes.append(None)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (outcome for outcome in outcomes if outcome is not None)
    assert store.load(spec) == winner


def test_a_chain_of_writers_loses_no_link(spec):
    """Each process continues what it found: of 40 additions none is lost."""

    def add(number):
        for _ in range(1000):
            before = store.load(spec)
            entry = Entry(number, 1, DATA)
            after = stage(*(before.entries if before else ()), entry)
            try:
                store.save(spec, after, replaces=before.id if before else "")
            except StageConflict:
                continue
            return

    threads = [threading.Thread(target=add, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry.oid for entry in store.load(spec).entries} == set(range(40))


@pytest.mark.parametrize("position", [0, 5, 9, 30, 50, 60, 70, 80, 100, -1, -20, -40])
def test_a_flipped_bit_is_seen(spec, tmp_path, position):
    store.save(spec, stage(note="a note"))
    path = tmp_path / "my.fs.stage"
    data = bytearray(path.read_bytes())
    data[position] ^= 4
    path.write_bytes(data)
    with pytest.raises(StageDamaged):
        store.load(spec)
    with pytest.raises(StageDamaged):
        store.save(spec, stage())
    assert store.drop(spec) is True
    assert store.load(spec) is None


def test_a_cut_anywhere_is_seen(spec, tmp_path):
    store.save(spec, stage(note="a note"))
    path = tmp_path / "my.fs.stage"
    data = path.read_bytes()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(StageDamaged):
            store.load(spec)


def signed(body):
    return body + hashlib.sha256(body).digest()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.data())
def test_any_content_is_refused_or_a_stage(content, data):
    """Even under a right checksum: no length is trusted, and nothing else is raised."""
    whole = encode(stage(id="0" * 32, note="n", reads=(Read(1, 2),)), {})[:-32]
    place = data.draw(st.integers(0, len(whole)))
    mutated = whole[:place] + content + whole[place + data.draw(st.integers(0, 20)) :]
    for body in (MAGIC + content, mutated):
        try:
            found = decode(signed(body), "x")
        except StageDamaged:
            continue
        assert encode(found.stage, {}) == signed(body) or any(entry.blob_size for entry in found.entries)


@pytest.mark.parametrize(
    "entries",
    [
        (Entry(5, 1, DATA), Entry(5, 1, DATA)),
        (Entry(5, None, DATA),),
        (Entry(PROVISIONAL, 3, DATA),),
    ],
)
def test_entries_that_no_stage_has_are_refused(entries):
    """Twice the same object; a new object with a real oid; a stored one with a provisional oid."""
    with pytest.raises(StageDamaged):
        decode(encode(stage(*entries, id="0" * 32), {}), "x")


def test_blobs_are_the_stages_own(spec, tmp_path):
    """A new stage's are complete before it replaces the old one; then the old ones go."""
    content = tmp_path / "content"
    content.write_bytes(b"first")
    first = store.save(spec, stage(Entry(5, 77, DATA, str(content))))
    content.write_bytes(b"second")
    loaded = store.load(spec)
    assert loaded == first
    assert Path(loaded.entries[0].blob).read_bytes() == b"first"
    second = store.save(spec, stage(Entry(5, 77, DATA, str(content)), *loaded.entries[1:]), replaces=first.id)
    assert os.listdir(tmp_path / "my.fs.stage.blobs") == [f"{second.id}-0x05"]
    assert Path(store.load(spec).entries[0].blob).read_bytes() == b"second"
    store.drop(spec)
    assert not (tmp_path / "my.fs.stage.blobs").exists()


def test_a_missing_or_cut_blob_is_seen(spec, tmp_path):
    content = tmp_path / "content"
    content.write_bytes(b"first")
    blob = store.save(spec, stage(Entry(5, 77, DATA, str(content)))).entries[0].blob
    Path(blob).write_bytes(b"")
    with pytest.raises(StageDamaged, match="has 0 bytes, not 5"):
        store.load(spec)
    os.unlink(blob)
    with pytest.raises(StageDamaged, match="is missing"):
        store.load(spec)
    assert store.drop(spec) is True


def test_a_failed_save_leaves_the_old_stage(spec, tmp_path, monkeypatch):
    content = tmp_path / "content"
    content.write_bytes(b"first")
    first = store.save(spec, stage(Entry(5, 77, DATA, str(content))))

    def fail(*_args, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "publish", fail)
    with pytest.raises(StorageIOError, match="No space left on device; nothing was staged"):
        store.save(spec, stage(Entry(5, 77, DATA, str(content))), replaces=first.id)
    assert store.load(spec) == first
    assert len(os.listdir(tmp_path / "my.fs.stage.blobs")) == 1


def test_a_stage_whose_folder_could_not_be_synced_keeps_its_blobs(spec, tmp_path, monkeypatch):
    """It has its name, so it needs them; whether it survives a power failure is said to be unknown."""
    content = tmp_path / "content"
    content.write_bytes(b"first")

    def fail(_path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("zodbsh.publish.fsync_folder", fail)
    with pytest.raises(OutcomeUnknown):
        store.save(spec, stage(Entry(5, 77, DATA, str(content))))
    (entry,) = store.load(spec).entries
    assert Path(entry.blob).read_bytes() == b"first"


def test_a_blob_that_cannot_be_copied_leaves_none_behind(spec, tmp_path):
    content = tmp_path / "content"
    content.write_bytes(b"first")
    with pytest.raises(StorageIOError, match="nothing was staged"):
        store.save(spec, stage(Entry(5, 77, DATA, str(content)), Entry(6, 77, DATA, str(tmp_path / "gone"))))
    assert not (tmp_path / "my.fs.stage.blobs").exists()


def test_a_removal_that_may_not_last_is_told_as_such(spec, monkeypatch):
    store.save(spec, stage())

    def fail(_path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(store, "fsync_folder", fail)
    with pytest.raises(OutcomeUnknown, match="was removed, but its folder could not be synced"):
        store.drop(spec)
    assert store.load(spec) is None


KILLED = """
import os, signal, sys
from zodbsh.db.spec import parse_spec
from zodbsh.stage import store
from zodbsh.stage.model import Stage
from zodbsh.db.changes import Entry
calls, limit = 0, int(sys.argv[2])
def count(event, args):
    global calls
    if event in ("open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.truncate"):
        calls += 1
        if calls == limit:
            os.kill(os.getpid(), signal.SIGKILL)
spec = parse_spec(sys.argv[1])
before = store.load(spec)
entry = Entry(5, 77, before.entries[0].data, before.entries[0].blob)
sys.addaudithook(count)
store.save(spec, Stage(78, (entry,), note="after"), replaces=before.id)
print("done")
"""


def test_a_killed_save_leaves_one_stage_or_the_other(spec, tmp_path):
    """Whole, with its blobs, wherever it was killed; and the next save is none the worse."""
    content = tmp_path / "content"
    content.write_bytes(b"blob")
    before = store.save(spec, stage(Entry(5, 77, DATA, str(content)), note="before"))
    seen = set()
    for limit in range(1, 40):
        done = subprocess.run(
            [sys.executable, "-c", KILLED, spec.path, str(limit)], capture_output=True, text=True, timeout=30
        )
        found = store.load(spec)
        assert Path(found.entries[0].blob).read_bytes() == b"blob"
        assert found.note in ("before", "after")
        seen.add(found.note)
        if done.stdout == "done\n":
            break
        assert done.returncode == -9
        if found.note == "before":
            assert found == before
        before = store.save(spec, stage(Entry(5, 77, DATA, str(content)), note="before"), replaces=found.id)
    assert done.stdout == "done\n"
    assert seen == {"before", "after"}
    leftovers = [name for name in os.listdir(tmp_path) if name.endswith(".new")]
    assert all(name.startswith(".my.fs.stage.") for name in leftovers)


def test_memory_has_no_stage():
    spec = Spec(":memory:", "memory")
    assert store.load(spec) is None
    with pytest.raises(Unsupported, match="in memory has no stage"):
        store.stage_path(spec)


def test_the_stage_of_a_uri_is_in_the_users_folder(tmp_path, monkeypatch):
    """Under a name that the URI determines; nobody else may read it."""
    monkeypatch.setattr("platformdirs.user_state_dir", lambda *_args, **_more: str(tmp_path / "state"))
    spec, other = parse_spec("zeo://localhost:1"), parse_spec("zeo://localhost:2")
    saved = store.save(spec, stage())
    assert (store.load(spec), store.load(other)) == (saved, None)
    path = store.stage_path(spec)
    assert os.path.dirname(path) == str(tmp_path / "state" / "stages")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_database_has_one_stage_under_all_its_names(spec, tmp_path):
    (tmp_path / "link.fs").symlink_to(tmp_path / "my.fs")
    saved = store.save(spec, stage())
    assert store.load(parse_spec(str(tmp_path / "link.fs"))) == saved
    assert store.load(parse_spec(f"file://{tmp_path}/my.fs")) == saved


def test_a_stage_that_is_no_file(spec, tmp_path):
    os.mkfifo(tmp_path / "my.fs.stage")
    with pytest.raises(StageDamaged, match="no regular file"):
        store.load(spec)
    assert store.drop(spec) is True


def test_new_objects_get_provisional_oids():
    """References to them follow; the root keeps its oid."""
    made = make_stage(
        Pending(
            9, (Entry(0, None, referring_to(12)), Entry(12, None, referring_to(13)), Entry(13, None, referring_to(7)))
        )
    )
    assert [entry.oid for entry in made.entries] == [0, PROVISIONAL + 1, PROVISIONAL + 2]
    assert [entry.data for entry in made.entries] == [
        referring_to(PROVISIONAL + 1), referring_to(PROVISIONAL + 2), referring_to(7),
    ]  # fmt: skip


def test_joining_what_does_not_overlap():
    """The new objects of both stay apart."""
    ours = make_stage(Pending(9, (Entry(1, 5, referring_to(50)), Entry(50, None, DATA))))
    joined = join(ours, Pending(11, (Entry(2, 6, referring_to(PROVISIONAL + 1)), Entry(PROVISIONAL + 1, None, DATA))))
    assert joined.base_tid == 11
    numbers = [entry.oid for entry in joined.entries]
    assert len(set(numbers)) == 4
    assert joined.entries[2].data == referring_to(numbers[3])
    assert joined.entries[0].data == referring_to(numbers[1])


def test_joining_what_overlaps_is_refused():
    ours = make_stage(Pending(9, (Entry(1, 5, DATA),)))
    with pytest.raises(StageConflict, match=r"\(0x01\)"):
        join(ours, Pending(9, (Entry(1, 5, DATA),)))
