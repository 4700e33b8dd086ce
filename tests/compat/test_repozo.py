"""repozo restores what zodbsh backs up, zodbsh what repozo does, and each goes on where the other stopped."""

import os
import random
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from ZODB.scripts import repozo

from zodbsh.db.spec import parse_spec
from zodbsh.ops.backups import backup as backup_module
from zodbsh.ops.backups.backup import backup
from zodbsh.ops.backups.check import check_backups
from zodbsh.ops.backups.listing import list_backups
from zodbsh.ops.backups.restore import restore


class Clock:
    """A clock that zodbsh and repozo share: a second passes between two steps."""

    def __init__(self, monkeypatch):
        self.moment = time.time() - 86_400
        monkeypatch.setattr(backup_module, "_now", lambda: datetime.fromtimestamp(self.tick(), UTC))
        monkeypatch.setattr(repozo, "gen_filedate", lambda options: time.gmtime(self.tick())[:6])

    def tick(self):
        self.moment += 1
        return self.moment


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


class Database:
    def __init__(self, folder):
        self.path = str(folder / "Data.fs")
        self.count = 0

    def change(self):
        self.count += 1
        db = ZODB.DB(ZODB.FileStorage.FileStorage(self.path))
        with db.transaction("change") as connection:
            connection.root()[f"n{self.count}"] = PersistentMapping(text="x" * 1000)
        db.close()
        return Path(self.path).read_bytes()

    def pack(self):
        db = ZODB.DB(ZODB.FileStorage.FileStorage(self.path))
        db.pack()
        db.close()


@pytest.fixture
def database(tmp_path, no_fsync):
    found = Database(tmp_path)
    found.change()
    return found


@pytest.fixture(params=["backups", "the backups"])
def folder(tmp_path, request):
    found = tmp_path / request.param
    found.mkdir()
    return str(found)


def ours(database, folder, **options):
    return backup(parse_spec(database.path), folder, **options)


def theirs(database, folder, *options):
    repozo.main([*options, "-B", "-r", folder, "-f", database.path])


def both_restore(folder, tmp_path, content):
    """Each of them restores the content."""
    out = tmp_path / f"restored-{os.urandom(4).hex()}"
    out.mkdir()
    repozo.main(["-R", "-r", folder, "-o", str(out / "theirs.fs"), "-D", "2999-01-01"])
    restore(folder, str(out / "ours.fs"))
    assert (out / "theirs.fs").read_bytes() == content
    assert (out / "ours.fs").read_bytes() == content
    for name in ("theirs.fs", "ours.fs"):
        storage = ZODB.FileStorage.FileStorage(str(out / name), read_only=True)
        assert len(storage)
        storage.close()


@pytest.mark.parametrize("compress", [False, True])
def test_repozo_restores_ours(database, folder, tmp_path, clock, compress):
    """Full backup and increments, compressed or not; repozo also verifies them and copies the index."""
    for step in range(3):
        content = database.change()
        result = ours(database, folder, compress=compress)
        assert result.kind == ("increment" if step else "full")
        both_restore(folder, tmp_path, content)
        repozo.main(["-V", "-r", folder])
        repozo.main(["-R", "-w", "-r", folder, "-o", str(tmp_path / "w.fs")])
        index = Path(folder, result.step.split(".")[0] + ".index")
        assert (tmp_path / "w.fs.index").read_bytes() == index.read_bytes()
    assert check_backups(folder).ok


@pytest.mark.parametrize("options", [(), ("-z",), ("-Q",), ("-z", "-Q")])
def test_we_restore_repozos(database, tmp_path, clock, options):
    """Its folders have no manifest; its MD5 sums are compared."""
    folder = str(tmp_path / "backups")
    os.mkdir(folder)
    for _ in range(3):
        content = database.change()
        theirs(database, folder, *options)
        both_restore(folder, tmp_path, content)
    assert check_backups(folder).ok
    assert [step.kind for step in list_backups(folder)] == ["full", "increment", "increment"]


@pytest.mark.parametrize("seed", range(6))
def test_they_take_turns(database, tmp_path, clock, seed):
    """Whoever made the last step, the other one continues it, through packs and changes of compression."""
    rand = random.Random(seed)
    folder = str(tmp_path / "backups")
    os.mkdir(folder)
    for _ in range(10):
        content = database.change()
        if rand.random() < 0.2:
            database.pack()
            content = Path(database.path).read_bytes()
        if rand.random() < 0.5:
            ours(database, folder, compress=rand.random() < 0.5)
        else:
            theirs(database, folder, *rand.sample(("-z", "-Q"), rand.randrange(3)))
        both_restore(folder, tmp_path, content)
        check = check_backups(folder)
        assert check.ok, check.findings
    assert any(step.kind == "increment" for step in list_backups(folder))


def test_the_index_is_the_same(database, tmp_path, clock):
    """repozo writes ZODB's index, we write its bytes."""
    for name, make in (("ours", ours), ("theirs", theirs)):
        (tmp_path / name).mkdir()
        make(database, str(tmp_path / name))
    (one,), (other,) = ((tmp_path / name).glob("*.index") for name in ("ours", "theirs"))
    assert one.read_bytes() == other.read_bytes()


def test_the_dat_line_is_the_same(database, tmp_path, clock, monkeypatch):
    """Path, range and MD5, as repozo writes them."""
    monkeypatch.setattr(clock, "tick", lambda: clock.moment)
    lines = []
    for make in (ours, theirs):
        folder = tmp_path / "backups"
        folder.mkdir()
        make(database, str(folder))
        lines += [path.read_text() for path in folder.glob("*.dat")]
        shutil.rmtree(folder)
    assert lines[0] == lines[1]


def test_a_lost_dat_file_is_written_anew(database, tmp_path, clock):
    """A full backup that was published without its line in `.dat` gets it with the next step."""
    folder = str(tmp_path / "backups")
    database.change()
    ours(database, folder)
    for path in Path(folder).iterdir():
        if path.suffix in (".dat", ".manifest"):
            path.unlink()
    content = database.change()
    assert ours(database, folder).kind == "increment"
    both_restore(folder, tmp_path, content)
    repozo.main(["-V", "-r", folder])
    theirs(database, folder, "-Q")
    both_restore(folder, tmp_path, content)
    assert check_backups(folder).ok


def test_a_rotten_step_of_repozos_is_not_vouched_for(database, tmp_path, clock):
    """Its MD5 is compared before it gets a manifest; a full backup takes its place."""
    folder = str(tmp_path / "backups")
    os.mkdir(folder)
    theirs(database, folder)
    (path,) = Path(folder).glob("*.fs")
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    result = ours(database, folder)
    assert (result.kind, result.reason) == ("full", "the last one is damaged")
    assert len(list(Path(folder).glob("*.manifest"))) == 1
    both_restore(folder, tmp_path, Path(database.path).read_bytes())


def test_zodbs_own_tests_of_full_backups(monkeypatch, no_fsync):
    """What ZODB's tests expect of repozo's full backup holds of ours."""
    suite = pytest.importorskip("ZODB.scripts.tests.test_repozo")

    class Ours(suite.Test_do_full_backup):
        def _callFUT(self, options):  # noqa: N802 - ZODB's name
            options.full = True
            monkeypatch.setattr(backup_module, "_now", lambda: datetime(*options.test_now, tzinfo=UTC))
            backup(parse_spec(options.file), options.repository)

    case = Ours("test_empty")
    try:
        case.test_empty()
    finally:
        case.tearDown()


@pytest.mark.parametrize("restoring", ["theirs", "ours"])
def test_zodbs_own_monte_carlo(restoring, monkeypatch, no_fsync):
    """ZODB's test of repozo, with our backup in the place of its own (and our restore of the newest state)."""
    suite = pytest.importorskip("ZODB.scripts.tests.test_repozo")
    monkeypatch.setattr(backup_module, "_now", lambda: datetime.fromtimestamp(time.time(), UTC))

    class Ours(suite.MonteCarloTests):
        def _callRepozoMain(self, argv):  # noqa: N802 - ZODB's name
            if argv[-1] == "Data.fs":
                backup(parse_spec("Data.fs"), self.backupdir, compress="-z" in argv)
            elif restoring == "ours" and "-D" not in argv:
                restore(self.backupdir, argv[-1], force=True)
            else:
                super()._callRepozoMain(argv)

        @suite.ZODB.tests.util.time_monotonically_increases
        def runTest(self):  # noqa: N802 - unittest's name
            self.saved_snapshots = []
            for i in range(19):
                self.mutate_pack_backup(i)
            for copy, moment in self.saved_snapshots:
                self.assertRestored(copy, moment)

    case = Ours()
    case.setUp()
    try:
        case.runTest()
    finally:
        case.tearDown()
    assert sys.modules["time"].time() > 1e9
