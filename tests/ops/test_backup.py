"""backup copies what is sound, whole or not at all, and never loses what it has."""

import errno
import itertools
import os
import shutil
import stat
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping

sys.path.insert(0, str(Path(__file__).parent))
from backups import Sample, blobs_in
from faults import at_call, failing_with, killed_at

from zodbsh.db.spec import Spec, parse_spec
from zodbsh.errors import DatabaseNotFound, StorageIOError, Unsupported, UsageError
from zodbsh.filestorage.repository import BackupDamaged, read_folder
from zodbsh.ops.backups import backup as backup_module
from zodbsh.ops.backups import step as backupstep
from zodbsh.ops.backups.backup import backup
from zodbsh.ops.backups.blobs import BlobConflict
from zodbsh.ops.backups.check import check_backups
from zodbsh.ops.backups.judge import OtherDatabase
from zodbsh.ops.backups.lock import FolderBusy, folder_lock
from zodbsh.ops.backups.scan import SourceDamaged
from zodbsh.ops.packing.pack import pack as our_pack
from zodbsh.ops.verify import verify
from zodbsh.publish import DiskFullError, OutcomeUnknown
from zodbsh.source.file import FileSource


@pytest.mark.parametrize("full", [False, True])
def test_a_lost_full_backup(sample, full):
    """What belonged to it is named, once: there was one."""
    for _ in range(2):
        sample.change()
        sample.backup()
    (lost,) = Path(sample.backups).glob("*.fs")
    lost.unlink()
    result = sample.backup(full=full)
    assert (result.kind, result.reason) == ("full", "--full" if full else "the last one is lost")
    (finding,) = result.findings
    assert finding.kind == "backup-damaged"
    assert f"the full backup that {lost.with_suffix('.dat')} (and 3 more) belongs to is missing" in finding.message
    assert sample.backup().findings == ()
    assert sample.restored() == sample.state()


def test_full_then_increment_then_nothing(sample):
    """The first backup is full, then what is new, then nothing is written."""
    first = sample.backup()
    assert (first.kind, first.reason, first.start) == ("full", "there is none yet", 0)
    assert first.transactions == 2  # the root's own too
    tid = sample.change()
    second = sample.backup()
    assert (second.kind, second.reason) == ("increment", "")
    assert (second.start, second.end, second.last_tid) == (first.end, len(sample.content()), tid)
    assert (second.transactions, second.blobs, second.new_blobs) == (1, 2, 1)
    before = sample.names()
    third = sample.backup()
    assert (third.kind, third.step, third.last_tid) == ("none", None, tid)
    assert sample.names() == before
    assert sample.restored() == sample.state()


def test_what_is_written(sample):
    """A data file, index and manifest a step, a `.dat` for all; no temporary file."""
    first = sample.backup()
    sample.change()
    second = sample.backup(compress=True)
    stamps = [result.step.split(".")[0] for result in (first, second)]
    assert sample.names() == sorted(
        [f"{stamps[0]}.{suffix}" for suffix in ("fs", "dat", "index", "manifest")]
        + [f"{stamps[1]}.{suffix}" for suffix in ("deltafsz", "index", "manifest")]
    )


def test_nothing_appears_beside_the_database(sample):
    """The source is only read."""
    before = {
        path: (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes())
        for path in sample.folder.rglob("*")
        if path.is_file()
    }
    sample.backup()
    after = {
        path: (path.stat().st_mtime_ns, path.stat().st_mode, path.read_bytes())
        for path in sample.folder.rglob("*")
        if path.is_file() and not str(path).startswith(sample.backups)
    }
    assert after == before


def test_modes(sample):
    """The folder is the owner's; the files are for nobody who may not read the database."""
    os.chmod(sample.path, 0o440)
    sample.backup()
    assert stat.S_IMODE(os.stat(sample.backups).st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in Path(sample.backups).iterdir() if path.is_file()}
    assert modes <= {0, 0o040}


def test_a_pack_is_followed_by_a_full_backup(sample):
    """The content differs, so an increment would be no continuation."""
    sample.backup()
    sample.change()
    sample.pack()
    result = sample.backup()
    assert result.kind == "full"
    assert "as by a pack" in result.reason
    assert sample.restored() == sample.state()


def test_every_byte_of_the_last_backup_is_compared(sample):
    """A single byte changed in place, where no framing shows it, makes a full backup."""
    sample.change(size=100_000)
    sample.backup()
    content = bytearray(sample.content())
    content[len(content) - 50_000] ^= 1
    Path(sample.path).write_bytes(content)
    sample.change()
    before = len(read_folder(sample.backups).chains)
    result = sample.backup(keep=1)
    assert result.kind == "full"
    assert sample.restored() == sample.state()
    # Only damage changes bytes in place: it is said, and the good backup stays.
    assert [finding.kind for finding in result.findings] == ["changed-in-place"]
    assert len(read_folder(sample.backups).chains) == before + 1


def test_full_on_request(sample):
    """--full is a full backup also where nothing is new."""
    sample.backup()
    assert sample.backup(full=True).kind == "full"
    assert len(read_folder(sample.backups).chains) == 2


def test_a_missing_or_cut_data_file_makes_a_full_backup(sample):
    """An increment on top of what is not there would be worthless; one on top of what is left is good."""
    first = sample.backup().step
    for spoil, kind in (
        (lambda last: (Path(sample.backups) / last).unlink(), "increment"),
        (lambda last: os.truncate(Path(sample.backups) / last, 100), "full"),
        (lambda _: (Path(sample.backups) / first).unlink(), "increment"),
        (lambda _: [path.unlink() for path in Path(sample.backups).glob("*.fs")], "full"),
    ):
        sample.change()
        spoil(sample.backup().step)
        sample.change()
        result = sample.backup()
        assert result.kind == kind
        assert sample.restored() == sample.state()


def test_an_empty_database(tmp_path, no_fsync):
    """Four bytes are a database, too."""
    path = tmp_path / "Data.fs"
    path.write_bytes(b"FS30")
    result = backup(parse_spec(str(path)), str(tmp_path / "backups"))
    assert (result.kind, result.end, result.last_tid) == ("full", 4, 0)


def test_python_2(tmp_path, no_fsync, sample):
    """A file of Python 2 is bytes like any other."""
    path = tmp_path / "old.fs"
    path.write_bytes(b"FS21" + sample.content()[4:])
    assert backup(parse_spec(str(path)), str(tmp_path / "old backups")).kind == "full"


def test_a_transaction_in_flight_is_left_out(sample):
    """The snapshot ends at the last whole transaction; what follows comes with the next backup."""
    whole = sample.content()
    sample.change()
    later = sample.content()
    position = len(whole)
    in_flight = later[: position + 16] + b"c" + later[position + 17 : -5]
    Path(sample.path).write_bytes(in_flight)
    result = sample.backup()
    assert result.end == position
    Path(sample.path).write_bytes(later)
    assert sample.backup().kind == "increment"
    assert sample.restored()[0] == later


@pytest.mark.parametrize("place", [3_000, -3])
def test_a_damaged_source_is_refused(sample, place):
    """Exit 6, the hint names recover, nothing is written and nothing is pruned."""
    for _ in range(3):
        sample.change()
        sample.backup(full=True)
    before = sample.names()
    content = bytearray(sample.content())
    if place > 0:
        # A transaction's length, in its middle.
        place = content.index(content[4 + 8 : 4 + 16]) + 7
    content[place] ^= 0xFF
    Path(sample.path).write_bytes(content)
    with pytest.raises(SourceDamaged) as caught:
        sample.backup(full=True, keep=1)
    assert "zodbsh recover" in caught.value.hint
    assert sample.names() == before


def test_a_cut_source_is_refused(sample, monkeypatch):
    """A scan that ends before the file's end fails, wherever the last transaction was cut."""
    monkeypatch.setattr("zodbsh.filestorage.framing._PAUSE", 0)
    sample.backup()
    before, whole = sample.names(), sample.content()
    start = len(whole)
    sample.change(blob=False)
    content = sample.content()
    # So few bytes do not tell what they were: they are a writer's beginning.
    for cut in range(start + 17, len(content)):
        Path(sample.path).write_bytes(content[:cut])
        with pytest.raises(SourceDamaged):
            sample.backup(keep=1)
    assert sample.names() == before


def test_no_file_storage(sample):
    """Other storages are told what to do."""
    with pytest.raises(Unsupported, match="no FileStorage"):
        backup(Spec("zeo://localhost:1", "uri", uri="zeo://localhost:1"), sample.backups)
    with pytest.raises(DatabaseNotFound):
        backup(Spec("no.fs", "file", path=str(sample.folder / "no.fs")), str(sample.folder / "new"))
    assert not (sample.folder / "new").exists()


def test_a_database_behind_a_link(sample):
    """What the link leads to is backed up."""
    link = sample.folder / "link.fs"
    link.symlink_to("Data.fs")
    result = backup(Spec("link.fs", "file", path=str(link), blob_dir=sample.blobs), sample.backups)
    assert result.end == len(sample.content())


def test_a_backup_counts_where_older_ones_cannot_be_removed(sample, monkeypatch):
    """That is a finding: the new backup is whole, and older ones are no loss."""
    sample.backup()
    sample.change()
    unlink = os.unlink

    def refuse(path, **options):
        if str(path).endswith(".fs"):
            raise OSError(errno.EACCES, "Permission denied")
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        result = sample.backup(full=True, keep=1)
    assert [(finding.kind, finding.message) for finding in result.findings] == [
        ("not-pruned", "older backups could not be removed: Permission denied")
    ]
    assert sample.restored() == sample.state()


def test_keep(sample):
    """The newest full backups stay, with their increments and blobs; the others go."""
    for _ in range(3):
        sample.change()
        sample.backup(full=True)
        sample.change()
        sample.backup()
    sample.pack()
    result = sample.backup(keep=2)
    assert result.kind == "full"
    assert len(result.pruned.steps) == 4
    assert len(read_folder(sample.backups).chains) == 2
    assert result.pruned.blobs == 0
    result = sample.backup(keep=1)
    assert result.kind == "none"
    assert len(result.pruned.steps) == 2
    assert result.pruned.blobs == 6
    assert check_backups(sample.backups).ok
    assert sample.restored() == sample.state()


def test_nothing_is_pruned_for_a_bad_backup(sample):
    """The newest chain is read through before anything goes, --quick or not; where it is not good, everything stays."""
    for spoil in (_flip_data, _lose_blob):
        sample.backup(full=True)
        sample.change()
        sample.backup(full=True)
        spoil(sample)
        before = sample.names()
        with pytest.raises(BackupDamaged, match="no older backup was removed"):
            sample.backup(keep=1, quick=True)
        assert sample.names() == before
        sample.change(blob=False)


def _flip_data(sample):
    path = max(Path(sample.backups).glob("*.fs"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _lose_blob(sample):
    """Also beside the database, which would heal it."""
    for folder in (sample.backups, sample.blobs):
        max(Path(folder).rglob("*.blob"), key=lambda path: path.name).unlink()


def test_blobs_are_linked_once(sample):
    """A blob file is linked where it can be, and found again by later backups."""
    sample.backup()
    (oid, tid), content = next(iter(blobs_in(sample.blobs).items()))
    (stored,) = Path(sample.backups).rglob(f"0x{tid:016x}.blob")
    assert stored.read_bytes() == content
    assert stored.stat().st_nlink == 2
    assert sample.backup(full=True).new_blobs == 0
    assert oid


def test_copies_of_blobs(sample):
    """--copy-blobs makes files of their own, as does another file system."""
    sample.backup(copy_blobs=True)
    assert all(path.stat().st_nlink == 1 for path in Path(sample.backups).rglob("*.blob"))
    assert sample.restored() == sample.state()


def test_a_missing_blob_is_a_finding(sample):
    """Its file is missing beside the database and in every backup; the rest is backed up."""
    sample.change()
    victim = min(Path(sample.blobs).rglob("*.blob"))
    victim.rename(sample.folder / "aside")
    result = sample.backup()
    assert [finding.kind for finding in result.findings] == ["blob-missing"]
    sample.change()
    assert len(sample.backup().findings) == 1
    # It is said again where nothing is new, and taken when it is there again.
    assert len(sample.backup().findings) == 1
    (sample.folder / "aside").rename(victim)
    result = sample.backup()
    assert (result.kind, result.findings) == ("full", ())
    assert sample.restored() == sample.state()


def test_the_undone_creation_of_a_blob_lacks_no_file(sample):
    """Undone, brought back and undone again, with a record that leads to the first undoing: no blob is missed."""
    sample.change(blob=False)
    sample.change()
    for _ in range(3):
        sample.undo()
    assert sample.backup().findings == ()
    assert sample.restored() == sample.state()


def test_a_blob_that_only_an_older_backup_has(sample):
    """It is kept with the new backup, so that pruning does not take the last copy."""
    state = sample.state()
    sample.backup(copy_blobs=True)
    for victim in Path(sample.blobs).rglob("*.blob"):
        victim.unlink()
    result = sample.backup(full=True, keep=1)
    assert "an earlier backup has it" in result.findings[0].message
    assert sample.restored() == state


def test_blobs_of_an_unknown_folder(sample):
    """One finding says that no folder is known."""
    result = backup(Spec(sample.path, "file", path=sample.path), sample.backups)
    assert [finding.message for finding in result.findings] == [
        "the database has 1 blobs, but no folder of blobs is known (--blobs DIR)"
    ]


def test_a_bad_blob_beside_the_database(sample):
    """The backup keeps its good copy, whatever kind of backup it is, and the database's file is named."""
    state = sample.state()
    sample.backup(copy_blobs=True)
    (path,) = Path(sample.blobs).rglob("*.blob")
    os.chmod(path, 0o600)
    path.write_bytes(b"other")
    for full in (True, False):
        result = sample.backup(full=full)
        (finding,) = result.findings
        assert (finding.kind, finding.message.startswith(f"{path} has 5 bytes")) == ("blob-damaged", True)
        assert sample.restored() == state
    (kept,) = Path(sample.backups, "blobs").rglob("*.blob")
    os.chmod(kept, 0o600)
    kept.write_bytes(b"bad, too")
    with pytest.raises(BlobConflict, match=str(path)):
        sample.backup(full=True)


def test_an_unreadable_blob_beside_the_database(sample, monkeypatch):
    """It ends no backup: the file is named, and taken when it can be read."""
    (path,) = Path(sample.blobs).rglob("*.blob")
    state = sample.state()
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda name, mode: name != str(path))
        for kind in ("full", "none"):
            result = sample.backup()
            assert result.kind == kind
            (finding,) = result.findings
            assert (finding.kind, finding.message) == ("blob-missing", f"{path} cannot be read")
    assert sample.backup().findings == ()
    assert sample.restored() == state
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda name, mode: name != str(path))
        for full in (False, True):
            (finding,) = sample.backup(full=full).findings
            assert (finding.kind, finding.message.partition(":")[0]) == ("blob-damaged", f"{path} cannot be read")
    assert sample.restored() == state


def test_another_database(sample, tmp_path):
    """Its backups are not continued, and above all not pruned."""
    sample.backup()
    before = sample.names()
    other = Sample(tmp_path / "other")
    for empty in (False, True):
        other.change() if not empty else Path(other.path).write_bytes(b"FS30")
        with pytest.raises(OtherDatabase):
            backup(other.spec, sample.backups, full=True, keep=1)
    assert sample.names() == before


def test_another_database_that_was_packed(sample, tmp_path):
    """Not one transaction is common: it is no later state of what is there."""
    sample.backup()
    before = sample.names()
    other = Sample(tmp_path / "other")
    other.change()
    other.change()
    other.pack()
    with pytest.raises(OtherDatabase, match="not one of their transactions"):
        backup(other.spec, sample.backups, keep=1)
    for path in Path(sample.backups).glob("*.manifest"):
        path.unlink()
    with pytest.raises(OtherDatabase, match="not one of their transactions"):
        backup(other.spec, sample.backups, keep=1)
    assert sample.names() == [name for name in before if not name.endswith(".manifest")]


def test_whoever_says_that_it_is_the_same_loses_nothing(sample, tmp_path):
    """A small database may have been written anew altogether, and packed: --full begins again, and removes nothing."""
    sample.backup()
    before = sample.names()
    other = Sample(tmp_path / "other")
    other.change()
    other.pack()
    result = backup(other.spec, sample.backups, full=True, keep=1)
    assert result.kind == "full"
    assert "none of their transactions" in result.notes[-1]
    assert set(before) <= set(sample.names())


def test_a_common_transaction_within_a_step(sample):
    """After a pack that took the first one and the last one, what a step holds between them tells the database."""
    sample.change()
    sample.change()
    sample.backup()
    sample.change()
    sample.pack()
    assert sample.backup(keep=1).kind == "full"
    assert sample.restored() == sample.state()


def test_a_database_that_was_taken_back(sample):
    """It is backed up in full, and what is later than it stays, --keep or not."""
    sample.backup()
    early = sample.content()
    later = sample.change()
    sample.backup()
    state = sample.state()
    Path(sample.path).write_bytes(early)
    os.unlink(f"{sample.path}.index")
    result = sample.backup(keep=1)
    assert (result.kind, result.pruned.steps) == ("full", ())
    assert "taken back" in result.reason
    assert "no older backup was removed" in result.notes[0]
    assert sample.restored(at=later) == state
    sample.change()
    assert sample.backup().kind == "increment"


def test_a_database_that_was_taken_back_and_went_on(sample):
    """The reason of the full backup does not speak of a pack."""
    sample.backup()
    early = sample.content()
    sample.change(size=10)
    sample.backup()
    Path(sample.path).write_bytes(early)
    os.unlink(f"{sample.path}.index")
    sample.change(size=2000)
    assert "taken back" in sample.backup().reason


def test_the_databases_own_blob_folder_is_no_place(sample):
    """A backup into the folder where the database's blobs are named `blobs` would mix them."""
    with pytest.raises(UsageError, match="blobs of a database"):
        backup(sample.spec, str(sample.folder))
    assert not (sample.folder / ".zodbsh-backup.lock").exists()


def test_a_rotten_blob_in_the_backup_is_replaced(sample):
    """The database still has it as the manifest says."""
    sample.backup(copy_blobs=True)
    (path,) = Path(sample.backups).rglob("*.blob")
    os.chmod(path, 0o600)
    path.write_bytes(b"rotten")
    sample.change()
    sample.backup(full=True)
    assert check_backups(sample.backups).ok


@pytest.mark.parametrize("options", [{"keep": 1}, {"full": True}, {}])
def test_blobs_of_the_newest_backup_are_healed(sample, options):
    """Also where nothing is new: with --keep and --full by content, else where the file is missing."""
    sample.backup(copy_blobs=True)
    sample.backup(copy_blobs=True, full=True)
    (path,) = Path(sample.backups).rglob("*.blob")
    good = path.read_bytes()
    os.chmod(path, 0o600)
    if options:
        path.write_bytes(b"x" * len(good))
    else:
        path.unlink()
    result = sample.backup(copy_blobs=True, **options)
    assert [finding.kind for finding in result.findings] == ["blob-replaced"]
    assert path.read_bytes() == good
    assert check_backups(sample.backups).ok


def test_nothing_is_pruned_for_a_rotten_blob(sample):
    """Where the database has no good file for it, older backups stay."""
    sample.backup()
    sample.backup(full=True)
    before = sample.names()
    (path,) = Path(sample.backups).rglob("*.blob")
    size = path.stat().st_size
    os.chmod(path, 0o600)
    # Linked: the database's is the same file.
    path.write_bytes(b"x" * size)
    with pytest.raises(BackupDamaged, match="no older backup was removed"):
        sample.backup(keep=1)
    assert sample.names() == before


def test_two_backups_at_once(sample):
    """The second one is told who is at work."""
    os.mkdir(sample.backups)
    with folder_lock(sample.backups), pytest.raises(FolderBusy) as caught:
        sample.backup()
    assert str(os.getpid()) in caught.value.message


def test_two_backups_in_one_second(sample, monkeypatch):
    """The later one takes the next second, and waits for it."""
    moments = [backup_module._now()]
    moments += [moments[0]] * 4
    monkeypatch.setattr(backup_module, "_now", lambda: moments.pop(0) if len(moments) > 1 else _second_later(moments))
    first = sample.backup(full=True)
    second = sample.backup(full=True)
    assert second.step > first.step
    assert second.notes == ()


def _second_later(moments):
    from datetime import timedelta

    moments[0] += timedelta(seconds=1)
    return moments[0]


def test_a_clock_that_went_back(sample, monkeypatch):
    """Names stay in the order of the backups, and a note says so."""
    first = sample.backup()
    moment = backup_module._now().replace(year=2020)
    monkeypatch.setattr(backup_module, "_now", lambda: moment)
    sample.change()
    second = sample.backup()
    assert second.step > first.step
    assert "of the future" in second.notes[0]
    assert sample.restored() == sample.state()


def test_disk_full(sample, monkeypatch):
    """Room is asked for before anything is written; where it is gone meanwhile, nothing is left."""
    sample.backup()
    before, blobs = sample.names(), blobs_in(sample.backups + "/blobs")
    sample.change()
    usage = shutil.disk_usage(sample.backups)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda _: usage._replace(free=10))
        with pytest.raises(DiskFullError):
            sample.backup()
    with monkeypatch.context() as patched:
        patched.setattr(backupstep, "copy_range", lambda *args, **kwargs: failing_with(errno.ENOSPC)(None))
        with pytest.raises(DiskFullError):
            sample.backup()
    assert sample.names() == before
    assert blobs_in(sample.backups + "/blobs") == blobs


def test_blobs_of_a_killed_backup_go(sample):
    """What it took and a pack has removed since belongs to nothing."""
    sample.change()
    number = next(
        n for n in itertools.count(1) if not killed_at(n, sample.backup) and list(Path(sample.backups).rglob("*.blob"))
    )
    assert number
    sample.pack()
    sample.backup()
    assert check_backups(sample.backups).ok


def test_what_is_written_wrong_is_no_backup(sample, monkeypatch):
    """The data file is read back from the disk before it counts."""
    sample.backup()
    before = sample.names()
    sample.change()
    original = backupstep.copy_range

    def spoil(file, start, end, out, **options):
        digests = original(file, start, end, out, **options)
        out.seek(10)
        out.write(b"x")
        return digests

    monkeypatch.setattr(backupstep, "copy_range", spoil)
    with pytest.raises(BackupDamaged):
        sample.backup(keep=1)
    assert sample.names() == before


def _calls(seed):
    """Return which calls to end at: all in a campaign, else every fourth; each list ends at the first one too many."""
    step = 1 if os.environ.get("ZODBSH_CAMPAIGN") else 6
    return itertools.count(1 + seed % step, step)


def _copy_of(sample, folder):
    shutil.copytree(sample.folder, folder)
    copy = Sample(folder)
    copy.count = sample.count
    return copy


@pytest.mark.parametrize("options", [{}, {"full": True, "keep": 1, "copy_blobs": True}, {"compress": True}])
def test_killed_at_every_call(sample, tmp_path_factory, options):
    """What is there is a whole backup, older or newer; the next run tidies up and goes on."""
    sample.backup(copy_blobs=True)
    old = sample.state()
    sample.change()
    new = sample.state()
    for number in _calls(len(options)):
        case = _copy_of(sample, tmp_path_factory.mktemp("killed") / "case")
        finished = killed_at(number, lambda case=case: case.backup(**options))
        content, blobs = case.restored()
        assert content in (old[0], new[0]), number
        if not finished:
            assert blobs == (old if content == old[0] else new)[1] or len(blobs) == 1
        case.backup()
        assert case.restored() == new, number
        check = check_backups(case.backups)
        assert check.ok, (number, check.findings)
        if finished:
            break


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("options", [{}, {"full": True, "keep": 1}])
def test_failing_at_every_call(sample, tmp_path_factory, error, options):
    """Nothing is left half done, and no temporary file."""
    sample.backup()
    old = sample.state()
    sample.change()
    new = sample.state()
    for number in _calls(len(options) + error):
        case = _copy_of(sample, tmp_path_factory.mktemp("failing") / "case")
        failed = []
        with at_call(number, failing_with(error, failed)) as seen, suppress(StorageIOError, OutcomeUnknown):
            case.backup(**options)
        content, _ = case.restored()
        assert content in (old[0], new[0]), number
        # What cannot be removed stays, for the next run.
        assert failed == ["unlink"] or not read_folder(case.backups).leftovers, number
        case.backup()
        assert case.restored() == new, number
        check = check_backups(case.backups)
        assert check.ok, (number, check.findings)
        if seen[0] < number:
            break


def test_beside_a_live_writer(sample):
    """Backups beside commits: each is a state that was there, and the last one is the newest."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(sample.path, blob_dir=sample.blobs))
    stop = threading.Event()

    def write():
        number = 0
        while not stop.is_set():
            number += 1
            with db.transaction() as connection:
                connection.root()["count"] = number

    writer = threading.Thread(target=write)
    writer.start()
    try:
        results = [sample.backup() for _ in range(20)]
    finally:
        stop.set()
        writer.join()
        db.close()
    assert sum(result.kind == "full" for result in results) == 1
    sample.backup()
    assert sample.restored() == sample.state()
    assert check_backups(sample.backups).ok


def test_beside_a_live_packer(sample):
    """Whatever moment a backup meets, it restores to a sound database with its blobs."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(sample.path, blob_dir=sample.blobs))
    stop = threading.Event()
    with db.transaction() as connection:
        # Something that stays as it is tells that it is the same database.
        connection.root()["constant"] = PersistentMapping()

    def work():
        for number in itertools.count():
            if stop.is_set():
                return
            with db.transaction() as connection:
                root = connection.root()
                root[f"n{number % 7}"] = PersistentMapping(number=number)
                with root["blob"].open("w") as file:
                    file.write(b"x" * number)
            if number % 3 == 0:
                db.pack()
                shutil.rmtree(sample.blobs + ".old", ignore_errors=True)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for number in range(100 if os.environ.get("ZODBSH_CAMPAIGN") else 10):
            assert sample.backup(keep=2, compress=number % 2 == 0).findings == ()
            result = sample.restore(f"{number}.fs")
            source = FileSource(result.path, unchecked=True)
            assert verify(source).findings == ()
            source.close()
    finally:
        stop.set()
        worker.join()
        db.close()
    assert check_backups(sample.backups).ok


@pytest.mark.parametrize("pack", [Sample.pack, lambda sample: our_pack(sample.spec)], ids=["ZODB's", "ours"])
def test_a_pack_while_blobs_are_taken(sample, monkeypatch, pack):
    """The blobs that it takes away are not missing: the backup begins anew with the packed file."""
    sample.change()
    packed = []
    original = backupstep.take_blobs

    def take(*args, **kwargs):
        if not packed:
            packed.append(True)
            pack(sample)
        return original(*args, **kwargs)

    monkeypatch.setattr(backupstep, "take_blobs", take)
    result = sample.backup()
    assert result.findings == ()
    assert sample.restored() == sample.state()


def test_a_read_only_folder(sample):
    """The system's refusal is told."""
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    os.mkdir(sample.backups, 0o500)
    with pytest.raises(StorageIOError):
        sample.backup()
