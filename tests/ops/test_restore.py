"""restore gives back what was, verified before it gets its name, and loses nothing that is in the way."""

import errno
import io
import itertools
import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import transaction
import ZODB
import ZODB.FileStorage

sys.path.insert(0, str(Path(__file__).parent))
from backups import blobs_in
from faults import at_call, failing_with, killed_at

from zodbsh.db.locks import DatabaseLocked, write_lock
from zodbsh.errors import StorageIOError, UsageError
from zodbsh.filestorage.repository import BackupDamaged, BackupNotFound
from zodbsh.ids import MAX_ID, tid_text
from zodbsh.ops.backups.check import check_backups
from zodbsh.ops.backups.restore import restore, stream
from zodbsh.publish import AlreadyExists, DiskFullError, OutcomeUnknown
from zodbsh.times import tid_time, time_tid


@pytest.fixture
def three(sample):
    """Three transactions, each backed up; by tid what was then."""
    states = {}
    for step in range(3):
        tid = sample.change()
        sample.backup(compress=step == 1)
        states[tid] = sample.state()
    return states


def opened(path, blobs=None):
    """Return how many objects ZODB finds, and read all of them."""
    storage = ZODB.FileStorage.FileStorage(str(path), blob_dir=blobs and str(blobs))
    found = 0
    for record in storage.iterator():
        for data in record:
            storage.loadSerial(data.oid, data.tid)
            found += 1
    storage.close()
    return found


def test_the_newest_state(sample, three):
    """File, index and blobs are those of the source, and ZODB opens them."""
    result = sample.restore()
    out = Path(result.path)
    assert out.read_bytes() == sample.content()
    assert blobs_in(f"{out}.blobs") == sample.state()[1]
    assert (result.last_tid, result.cut, result.blobs) == (max(three), 0, 4)
    assert sorted(path.name for path in sample.folder.glob("out.fs*")) == ["out.fs", "out.fs.blobs", "out.fs.index"]
    index = ZODB.fsIndex.fsIndex.load(f"{out}.index")
    assert index["pos"] == len(sample.content())
    assert opened(out, f"{out}.blobs")


@pytest.mark.parametrize("which", range(3))
def test_at_a_step(sample, three, which):
    """--at with a step's last transaction is that step, blobs included."""
    tid, state = sorted(three.items())[which]
    assert sample.restored(at=tid) == state
    # Between two transactions it is the earlier one.
    assert sample.restored(at=tid + 1) == state


def test_at_within_a_step(sample):
    """The content is cut after the last transaction that is not later."""
    states = {}
    for _ in range(4):
        tid = sample.change()
        states[tid] = sample.state()
    sample.backup()
    for tid, state in states.items():
        assert sample.restored(at=tid) == state
    result = sample.restore(at=min(states))
    assert result.cut == len(sample.content()) - len(states[min(states)][0])


def test_at_before_the_first_transaction(sample, three):
    """There is nothing to restore, and the oldest state is named."""
    with pytest.raises(BackupNotFound) as caught:
        sample.restore(at=1)
    assert "The oldest state is of" in caught.value.hint
    assert not list(sample.folder.glob("*out.fs*"))


def test_before_a_pack_the_earlier_backup_is_exact(sample):
    """What a pack took is restored from the full backup before it, byte for byte."""
    sample.backup()
    tid = sample.change()
    state = sample.state()
    sample.backup()
    sample.change()
    sample.pack()
    packed = sample.state()
    sample.backup()
    assert sample.restored(at=tid) == state
    assert sample.restored() == packed
    assert sample.restored(at=time_tid(tid_time(2**63))) == packed


def test_a_damaged_backup_of_another_time(sample, three):
    """It is in nobody's way who asks for what another one has."""
    for path in Path(sample.backups).glob("*.manifest"):
        path.unlink()
    os.truncate(max(Path(sample.backups).glob("*.fs")), 700)
    tid = sample.change()
    sample.pack()
    sample.backup(full=True)
    assert sample.restored(at=tid) == sample.state()
    with pytest.raises(BackupDamaged):
        sample.restore(at=min(three))


def test_among_the_backups(sample, three):
    """A database there would be taken for a backup."""
    with pytest.raises(UsageError, match="among the backups"):
        restore(sample.backups, os.path.join(sample.backups, "out.fs"))


def test_repozos_folder_has_no_manifests(sample, three):
    """Times are found by reading the data, sums compared by MD5."""
    for path in Path(sample.backups).glob("*.manifest"):
        path.unlink()
    for tid, state in three.items():
        assert sample.restored(at=tid)[0] == state[0]
    newest = max(Path(sample.backups).glob("*.deltafs"))
    content = bytearray(newest.read_bytes())
    content[-200] ^= 1
    newest.write_bytes(content)
    with pytest.raises(BackupDamaged, match="MD5"):
        sample.restore()


@pytest.mark.parametrize("suffix", ["manifest", "dat"])
def test_a_step_that_nothing_vouches_for(sample, three, suffix):
    """It is restored, and named: a byte that rotted in it shows to nobody. gzip has a checksum of its own."""
    folder = Path(sample.backups)
    for path in [*folder.glob("*.manifest"), *folder.glob("*.dat")]:
        if path.suffix != ".manifest" or suffix == "dat":
            path.unlink()
    if suffix == "manifest":
        assert sample.restore().findings == ()
        max(folder.glob("*.manifest")).unlink()
    newest = max(folder.glob("*.deltafs"))
    content = bytearray(newest.read_bytes())
    content[-200] ^= 1
    newest.write_bytes(content)
    found = sample.restore(name="rotten.fs").findings
    first = min(folder.glob("*.fs"))
    assert [finding.kind for finding in found] == ["step-unchecked"] * len(found)
    names = [newest] if suffix == "manifest" else [first, newest]
    assert [finding.message.partition(":")[0] for finding in found] == list(map(str, names))
    assert stream(sample.backups, io.BytesIO()).findings == found
    said = [text for text in check_backups(sample.backups).not_checked if "neither a manifest nor a .dat" in text]
    assert len(said) == 1
    assert "MD5" not in said[0]


def test_nothing_is_overwritten(sample, three):
    """Not the file, not the remains of another database, not a folder of blobs."""
    for name in ("out.fs", "out.fs.index", "out.fs.old", "out.fs.stage", "out.fs.blobs/x"):
        path = sample.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
        with pytest.raises(AlreadyExists):
            sample.restore()
        assert path.read_bytes() == b"mine"
        path.unlink()
        if path.parent != sample.folder:
            path.parent.rmdir()
    link = sample.folder / "out.fs"
    link.symlink_to("nowhere")
    with pytest.raises(AlreadyExists):
        sample.restore()
    link.unlink()
    for out in (str(sample.folder), str(sample.folder / "no" / "out.fs"), ""):
        with pytest.raises(UsageError):
            restore(sample.backups, out)


def test_force_keeps_the_old_ones(sample, three):
    """The file and its blobs stay as `.old`, in the place of earlier ones; a stale index goes."""
    tids = sorted(three)
    sample.restore(at=tids[0])
    out = sample.folder / "out.fs"
    before, blobs = out.read_bytes(), blobs_in(f"{out}.blobs")
    for tid in tids[1:]:
        result = sample.restore(force=True, at=tid)
        assert result.old == f"{out}.old"
        assert out.read_bytes() == three[tid][0]
        assert blobs_in(f"{out}.blobs") == three[tid][1]
        assert Path(result.old).read_bytes() == before
        assert blobs_in(f"{out}.blobs.old") == blobs
        assert opened(out, f"{out}.blobs")
        before, blobs = out.read_bytes(), blobs_in(f"{out}.blobs")
    assert not [path.name for path in sample.folder.iterdir() if path.name.startswith(".")]


def test_an_old_that_is_later_is_not_overwritten(sample, three):
    """A second --force does not cost the original: its `.old` has transactions that the replaced one has not."""
    sample.restore()
    out = sample.folder / "out.fs"
    original = out.read_bytes()
    sample.restore(force=True, at=min(three))
    before = out.read_bytes()
    with pytest.raises(AlreadyExists, match="later transactions") as caught:
        sample.restore(force=True, at=min(three))
    assert caught.value.exit_code == 2
    assert "Move it away" in caught.value.hint
    assert out.read_bytes() == before
    old = sample.folder / "out.fs.old"
    assert old.read_bytes() == original
    old.rename(sample.folder / "kept.fs")
    assert sample.restore(force=True).old == str(old)


def test_an_index_that_cannot_be_written_is_no_reason_to_fail(sample, three, monkeypatch):
    """The database has its name by then, and whoever opens it makes an index."""
    replace = os.replace

    def refuse(source, target):
        if str(target).endswith("out.fs.index"):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    sample.restore()
    assert sorted(path.name for path in sample.folder.glob("*out.fs*")) == ["out.fs", "out.fs.blobs"]


def test_force_keeps_mode_and_link(sample, three):
    """The file behind a link is replaced, its mode stays."""
    real = sample.folder / "real.fs"
    shutil.copy(sample.path, real)
    os.chmod(real, 0o640)
    out = sample.folder / "out.fs"
    out.symlink_to("real.fs")
    sample.restore(force=True, at=min(three))
    assert out.is_symlink()
    assert real.read_bytes() == three[min(three)][0]
    assert real.stat().st_mode & 0o777 == 0o640


def test_a_database_in_use(sample, three):
    """Exit 4: whoever has it open would write into a file that has lost its name."""
    sample.restore()
    out = str(sample.folder / "out.fs")
    with write_lock(out), pytest.raises(DatabaseLocked):
        sample.restore(force=True)


def test_damaged_data(sample, three):
    """The file and the place are named, and what can still be had; nothing is written."""
    tids = sorted(three)
    first, second, third = (path for path in sorted(Path(sample.backups).iterdir()) if "fs" in path.suffix)
    content = bytearray(third.read_bytes())
    content[len(content) // 2] ^= 1
    third.write_bytes(content)
    with pytest.raises(BackupDamaged) as caught:
        sample.restore()
    assert third.name in caught.value.message
    assert f"--at {tids[1]:016x}" in caught.value.hint
    assert sample.restored(at=tids[1]) == three[tids[1]]
    second.write_bytes(second.read_bytes()[:-20])
    with pytest.raises(BackupDamaged, match="decompress") as caught:
        sample.restore()
    assert f"--at {tids[0]:016x}" in caught.value.hint
    os.truncate(first, 100)
    with pytest.raises(BackupDamaged, match="100 bytes of"):
        sample.restore()
    first.unlink()
    with pytest.raises(BackupNotFound):
        sample.restore()
    assert not list(sample.folder.glob("*out.fs*"))


def test_a_missing_increment(sample, three):
    """What follows it is no continuation of what is before it."""
    _, second, _ = (path for path in sorted(Path(sample.backups).iterdir()) if "fs" in path.suffix)
    second.unlink()
    with pytest.raises(BackupDamaged, match="a step before it is missing"):
        sample.restore()


@pytest.mark.parametrize("suffixes", [(), ("manifest",), ("manifest", "dat")])
def test_what_comes_before_a_missing_increment(sample, three, suffixes):
    """--at reaches it, and the error about what comes later says so."""
    folder = Path(sample.backups)
    min(folder.glob("*.deltafsz")).unlink()
    for suffix in suffixes:
        for path in folder.glob(f"*.{suffix}"):
            path.unlink()
    first = min(three)
    assert sample.restored(at=first)[0] == three[first][0]
    if "dat" in suffixes:
        # Nothing says where the last one begins: its first transaction does.
        with pytest.raises(BackupDamaged):
            sample.restore()
        return
    for at in (max(three), first + 1, MAX_ID):
        with pytest.raises(BackupDamaged, match="a step before it is missing") as caught:
            sample.restore(at=at)
        assert f"--at {tid_text(first)}`" in caught.value.hint


def test_a_damaged_manifest(sample, three):
    """It does not vouch for anything."""
    manifest = max(Path(sample.backups).glob("*.manifest"))
    manifest.write_bytes(manifest.read_bytes().replace(b'"start":', b'"start":1', 1))
    with pytest.raises(BackupDamaged, match="checksum"):
        sample.restore()


def test_damaged_and_missing_blobs(sample, three):
    """A blob that is not what its manifest says ends it; without blobs the file can be had."""
    victim = max(Path(sample.backups).rglob("*.blob"), key=lambda path: path.name)
    content = victim.read_bytes()
    victim.unlink()
    with pytest.raises(BackupDamaged, match="missing"):
        sample.restore()
    victim.write_bytes(content[:-1] + b"X")
    with pytest.raises(BackupDamaged, match="not what its manifest says"):
        sample.restore()
    assert not list(sample.folder.glob("*out.fs*"))
    assert sample.restored(at=min(three)) == three[min(three)]
    result = sample.restore(with_blobs=False)
    assert Path(result.path).read_bytes() == sample.content()
    assert not os.path.exists(f"{result.path}.blobs")


def test_blobs_that_the_backup_never_had(sample):
    """They are findings; the rest is restored."""
    sample.change()
    min(Path(sample.blobs).rglob("*.blob")).unlink()
    sample.backup()
    result = sample.restore()
    assert [finding.kind for finding in result.findings] == ["blob-missing"]
    assert result.blobs == 1


def test_two_records_of_a_blob_in_one_transaction(sample):
    """ZODB writes them for an undo of several transactions; the blob is one, in the backup and out of it."""
    sample.change()
    sample.change()
    db = ZODB.DB(ZODB.FileStorage.FileStorage(sample.path, blob_dir=sample.blobs))
    # Only the blob's own changes can be undone: the root's are others.
    with db.transaction() as connection, connection.root()["blob"].open("w") as file:
        file.write(b"one")
    with db.transaction() as connection, connection.root()["blob"].open("w") as file:
        file.write(b"two")
    db.undoMultiple([entry["id"] for entry in db.undoLog(0, 2)])
    transaction.commit()
    db.close()
    data, wanted = sample.state()
    result = sample.backup()
    assert result.blobs == len(wanted)
    check = check_backups(sample.backups)
    assert (check.ok, check.blobs) == (True, len(wanted))
    assert sample.restore().blobs == len(wanted)
    assert sample.restored() == (data, wanted)


def test_blobs_elsewhere(sample, three):
    """--blobs names the folder; copies are files of their own."""
    result = sample.restore(blobs=str(sample.folder / "my blobs"), copy_blobs=True)
    assert blobs_in(result.blob_folder) == sample.state()[1]
    assert all(path.stat().st_nlink == 1 for path in Path(result.blob_folder).rglob("*.blob"))


def test_to_a_pipe(sample, three):
    """The same bytes, cut at the time; damage ends it."""
    for tid, (content, _) in three.items():
        out = io.BytesIO()
        result = stream(sample.backups, out, at=tid)
        assert out.getvalue() == content
        assert result.last_tid == tid
    newest = max(Path(sample.backups).glob("*.deltafs"))
    found = bytearray(newest.read_bytes())
    found[len(found) // 2] ^= 1
    newest.write_bytes(found)
    with pytest.raises(BackupDamaged):
        stream(sample.backups, io.BytesIO())


def test_disk_full(sample, three, monkeypatch):
    """Room is asked for first."""
    usage = shutil.disk_usage(sample.folder)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(DiskFullError):
        sample.restore()


def _calls(seed):
    step = 1 if os.environ.get("ZODBSH_CAMPAIGN") else 6
    return itertools.count(1 + seed % step, step)


def _case(sample, folder, *, force):
    """Return a copy of the backups with a database in the way or none, and its two states."""
    shutil.copytree(sample.backups, folder / "backups")
    if force:
        shutil.copy(sample.path, folder / "out.fs")
        shutil.copytree(sample.blobs, folder / "out.fs.blobs")


def _look(out, *, force, old, new):
    """Return which of the two states is there; both have their blobs."""
    if not force and not out.exists():
        return "none"
    content, blobs = out.read_bytes(), blobs_in(f"{out}.blobs")
    wanted = {old[0]: old, new[0]: new}[content][1]
    # A database may find the other one's blobs beside its own, never less than its own.
    missing = wanted.items() - blobs.items()
    return ("new" if content == new[0] else "old") + (" without blobs" if missing else "")


@pytest.mark.parametrize("force", [False, True])
def test_killed_at_every_call(sample, three, tmp_path_factory, force):
    """There is the old database or the new one, each with its blobs, or none as before; a second run ends well."""
    tid = min(three)
    new, old = three[tid], sample.state()
    for number in _calls(force):
        folder = tmp_path_factory.mktemp("killed")
        _case(sample, folder, force=force)
        out = folder / "out.fs"
        finished = killed_at(
            number, lambda out=out, folder=folder: restore(str(folder / "backups"), str(out), at=tid, force=force)
        )
        found = _look(out, force=force, old=old, new=new)
        if finished:
            assert found == "new"
            break
        # Between two renames there is a moment without a folder of blobs; it is there as `.old`.
        if found == "old without blobs":
            assert blobs_in(f"{out}.blobs.old") == old[1], number
            assert not os.path.exists(f"{out}.blobs"), number
            os.rename(f"{out}.blobs.old", f"{out}.blobs")
        else:
            assert found in (("old", "new") if force else ("none", "new")), number
        if force and found == "new":
            # What it replaced is not lost by doing it again.
            with pytest.raises(AlreadyExists, match="later transactions"):
                restore(str(folder / "backups"), str(out), at=tid, force=True)
            assert Path(f"{out}.old").read_bytes() == old[0], number
            continue
        restore(str(folder / "backups"), str(out), at=tid, force=True)
        assert _look(out, force=True, old=old, new=new) == "new", number
        assert blobs_in(f"{out}.blobs") == new[1], number
        if found.startswith("old"):
            assert old[1].items() <= blobs_in(f"{out}.blobs.old").items(), number


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_failing_at_every_call(sample, three, tmp_path_factory, force, error):
    """All is as it was, or all is done; no temporary file stays."""
    tid = min(three)
    new, old = three[tid], sample.state()
    for number in _calls(force + error):
        folder = tmp_path_factory.mktemp("failing")
        _case(sample, folder, force=force)
        out = folder / "out.fs"
        failed = []
        with at_call(number, failing_with(error, failed)) as seen, suppress(StorageIOError, OutcomeUnknown):
            restore(str(folder / "backups"), str(out), at=tid, force=force)
        found = _look(out, force=force, old=old, new=new)
        assert found in (("old", "new") if force else ("none", "new")), (number, failed)
        if found == "old":
            assert blobs_in(f"{out}.blobs") == old[1], (number, failed)
            # A second name of the file, where the new one could not take its place.
            assert not os.path.exists(f"{out}.old") or os.path.samefile(out, f"{out}.old"), (number, failed)
        left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        assert not left or failed in (["unlink"], ["rmdir"], ["open"]), (number, failed, left)
        if seen[0] < number:
            break
