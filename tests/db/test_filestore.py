"""Opening a FileStorage for writing: what ZODB leaves to luck."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import stat
import subprocess
import sys

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage

from zodbsh.db.filestore import CommitUnknown, SoundFileStorage
from zodbsh.db.locks import DatabaseLocked, write_lock
from zodbsh.db.open import NotWritable, open_storage
from zodbsh.db.session import Session
from zodbsh.db.spec import parse_spec
from zodbsh.errors import DamagedDatabase, DatabaseNotFound, NoPermission, StorageIOError, Unsupported
from zodbsh.ids import from_bytes

HOLDER = """
import sys
from ZODB.FileStorage import FileStorage
storage = FileStorage(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


class Bomb:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (self.canary,)


def beside(path):
    return sorted(name for name in os.listdir(path.parent) if name.startswith("my.fs"))


def test_a_lock_names_its_holder(path):
    """Its pid and its command."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DatabaseLocked) as caught:
            open_storage(parse_spec(str(path)))
        holder.stdin.close()
        holder.wait()
    told = f"{path}: locked by process {holder.pid}"
    assert caught.value.message.startswith(told)
    if sys.platform == "linux":
        assert caught.value.message.startswith(f"{told} ({sys.executable} -c ")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("content", [b"", b" not a number\n", b"9" * 5000, b"\xff\xfe"])
def test_a_strange_lock_file_names_nobody(path, content):
    """The pid is a stranger's text."""
    with open(f"{path}.lock", "r+b") as lock:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        os.pwrite(lock.fileno(), content, 0)
        with pytest.raises(DatabaseLocked) as caught:
            open_storage(parse_spec(str(path)))
    assert caught.value.message == f"{path}: locked by another process"


@pytest.mark.parametrize("suffix", [".lock", ".tmp", ".index", ".index.index_tmp"])
def test_a_sidecar_that_is_a_symlink_is_refused(path, tmp_path, suffix):
    """ZODB would write through it."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    sidecar = path.with_name(path.name + suffix)
    sidecar.unlink(missing_ok=True)
    sidecar.symlink_to(victim)
    with pytest.raises(Unsupported, match="symbolic link"):
        open_storage(parse_spec(str(path)))
    assert victim.read_bytes() == b"precious"


def test_a_symlink_to_the_database_is_locked_under_both_names(path, tmp_path):
    """ZODB locks only the name it is given."""
    link = tmp_path / "link.fs"
    link.symlink_to(path)
    storage = open_storage(parse_spec(str(link)))
    with pytest.raises(DatabaseLocked):
        open_storage(parse_spec(str(path)))
    storage.close()
    open_storage(parse_spec(str(path))).close()


def test_python_2s_format_is_not_written_to(path):
    path.write_bytes(b"FS21" + path.read_bytes()[4:])
    before = path.read_bytes()
    with pytest.raises(NotWritable, match="Python 2's format"):
        open_storage(parse_spec(str(path)))
    assert path.read_bytes() == before


@pytest.mark.parametrize("cut", [1, 8, 30, 200])
def test_a_cut_file_is_refused(path, cut):
    """Nothing appears beside it, and ZODB does not get to truncate it."""
    data = path.read_bytes()[:-cut]
    path.write_bytes(data)
    for name in beside(path)[1:]:
        (path.parent / name).unlink()
    with pytest.raises(DamagedDatabase):
        open_storage(parse_spec(str(path)))
    assert (path.read_bytes(), beside(path)) == (data, ["my.fs"])


def test_the_beginning_of_a_header_is_refused(path):
    """ZODB would cut these bytes off without a word."""
    data = path.read_bytes() + b"\x03" * 10
    path.write_bytes(data)
    with pytest.raises(DamagedDatabase, match="10 bytes are too few"):
        open_storage(parse_spec(str(path)))
    assert path.read_bytes() == data


def test_a_dead_writers_transaction_is_set_aside(path, witness):
    """What was never finished was never committed; ZODB keeps it in a file of its own."""
    before = path.read_bytes()
    with witness(path) as root:
        root["late"] = 1
    late = path.read_bytes()[len(before) :]
    path.write_bytes(before + late[:16] + b"c" + late[17:])
    open_storage(parse_spec(str(path))).close()
    assert path.read_bytes() == before
    (path.parent / "my.fs.tr0").unlink()


def test_a_file_deleted_meanwhile_is_not_created(path, monkeypatch):
    import zodbsh.db.filestore as module

    real = module.require_sound
    monkeypatch.setattr(module, "require_sound", lambda *args: (real(*args), path.unlink()))
    with pytest.raises(DatabaseNotFound):
        SoundFileStorage(str(path))
    assert not path.exists()


def test_what_appears_beside_a_private_database_is_private(path):
    """ZODB's temporary file holds what is being committed."""
    for name in beside(path)[1:]:
        (path.parent / name).unlink()
    path.chmod(0o600)
    with Session.open(str(path)) as session:
        session.root.x = 1
        session.commit()
    assert beside(path) == ["my.fs", "my.fs.index", "my.fs.lock", "my.fs.tmp"]
    assert {stat.S_IMODE((path.parent / name).stat().st_mode) for name in beside(path)} == {0o600}


def test_a_hostile_index_runs_nothing(path, tmp_path):
    """ZODB would load it as a pickle."""
    canary = tmp_path / "canary"
    (tmp_path / "my.fs.index").write_bytes(pickle.dumps(Bomb(str(canary)), 2))
    with Session.open(str(path)) as session:
        assert session.root.account.balance == 10
    assert not canary.exists()


def test_a_good_index_is_used(path, witness):
    with witness(path) as root:
        for number in range(50):
            root[str(number)] = PersistentMapping()
    storage = open_storage(parse_spec(str(path)))
    assert storage._used_index == 1
    assert len(storage) == 53
    storage.close()


def test_a_stale_index_is_caught_up_with(path, witness, tmp_path):
    """What was committed after it was saved is there too."""
    old = (tmp_path / "my.fs.index").read_bytes()
    with witness(path) as root:
        root["late"] = PersistentMapping()
    (tmp_path / "my.fs.index").write_bytes(old)
    with Session.open(str(path)) as session:
        assert session.root.late == {}
        session.root.later = PersistentMapping()
        session.commit()
    with witness(path) as root:
        assert sorted(root) == ["account", "counter", "late", "later", "plain"]


def test_nested_storages_are_as_safe(path, tmp_path):
    """A FileStorage inside a URI reads its index strictly, too, and is scanned before it is opened for writing."""
    pytest.importorskip("zodburi")
    canary = tmp_path / "canary"
    (tmp_path / "my.fs.index").write_bytes(pickle.dumps(Bomb(str(canary)), 2))
    uri = f"demo:(file://{path})/(memory://changes)"
    holder = open_storage(parse_spec(str(path)))
    with Session.open(uri) as session:
        assert session.writable, "the base may be in use"
        session.root.account.deposit(1)
        session.commit()
    holder.close()
    assert not canary.exists()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedDatabase):
        open_storage(parse_spec(uri))
    changes = f"demo:(memory://base)/(file://{path})"
    with pytest.raises(DamagedDatabase):
        open_storage(parse_spec(changes))
    path.unlink()
    with pytest.raises(DatabaseNotFound):
        open_storage(parse_spec(uri))
    assert not path.exists()


@pytest.fixture
def small_files(path):
    """Let files grow only a little beyond the database; what Python has in its buffers fails when it is flushed."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))

    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, old)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("slack", [0, 1, 10, 100, 500])
def test_a_full_disk_leaves_the_database_as_it_was(path, small_files, slack, witness):
    """Byte for byte, at once and after closing; and the session can go on."""
    before = path.read_bytes()
    with Session.open(str(path)) as session:
        session.root.big = "x" * 600
        small_files(len(before) + slack)
        with pytest.raises(StorageIOError) as caught:
            session.commit()
        assert caught.value.exit_code == 7
        assert path.read_bytes() == before
        transaction.abort()
        assert sorted(session.root) == ["account", "counter", "plain"]
        small_files(1 << 30)
        session.root.small = 1
        session.commit()
    with witness(path) as root:
        assert sorted(root) == ["account", "counter", "plain", "small"]


def test_a_full_disk_while_the_objects_are_gathered(path, small_files, witness):
    """The temporary file overflows first: nothing has reached the database."""
    before = path.read_bytes()
    with Session.open(str(path)) as session:
        session.root.big = "x" * 200_000
        small_files(50_000)
        with pytest.raises(StorageIOError):
            session.commit()
        transaction.abort()
        small_files(1 << 30)
        assert path.read_bytes() == before
        session.root.small = 1
        session.commit()
    with witness(path) as root:
        assert root["small"] == 1


def test_an_error_at_the_very_end_is_unknown(path, monkeypatch):
    """The transaction may be durable: the error names its tid and how to find out."""
    monkeypatch.setattr(
        sys.modules["ZODB.FileStorage.FileStorage"], "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "I/O error"))
    )
    with Session.open(str(path)) as session:
        session.root.x = 1
        with pytest.raises(CommitUnknown) as caught:
            session.commit()
    assert caught.value.exit_code == 9
    storage = FileStorage(str(path), read_only=True)
    assert caught.value.tid == from_bytes(storage.lastTransaction())
    storage.close()
    assert f"zodbsh show {path} {caught.value.tid:016x}" in caught.value.hint


def test_what_a_large_transaction_took_beside_the_database_is_given_back(path, small_files):
    """The temporary file is empty after any commit, also a failed one; an index that cannot be saved is none."""
    temporary, index = path.with_name(path.name + ".tmp"), path.with_name(path.name + ".index")
    with Session.open(str(path)) as session:
        session.root.big = "x" * 200_000
        session.commit()
        assert temporary.stat().st_size == 0
        index.unlink()
        session.root.big = "y" * 300_000
        small_files(250_000)
        with pytest.raises(StorageIOError):
            session.commit()
        transaction.abort()
        assert temporary.stat().st_size == 0
        small_files(10)
    assert sorted(each.name for each in path.parent.glob(path.name + "*")) == [
        path.name, path.name + ".lock", path.name + ".tmp",
    ]  # fmt: skip


def test_a_link_among_the_folders_makes_no_second_lock(path, tmp_path):
    """The database is opened for writing by a path that leads over a link to its folder."""
    (tmp_path / "link").symlink_to(tmp_path)
    storage = SoundFileStorage(str(tmp_path / "link" / path.name))
    storage.close()


def test_a_file_that_may_not_be_written_is_not_locked_either(path, monkeypatch):
    """Replacing it needs no right to the file itself; whoever took that right away meant it."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(NoPermission, match="may not be written"), write_lock(str(path)):
        pass


def test_the_write_lock_is_zodbs(path, tmp_path):
    """Under the name given and, for a symlink, the file's own; whoever comes by either is refused, and told by whom."""
    (tmp_path / "link.fs").symlink_to(path)
    with write_lock(str(tmp_path / "link.fs")):
        for name in (path, tmp_path / "link.fs"):
            with pytest.raises(DatabaseLocked, match="already open for writing in this process"):
                SoundFileStorage(str(name))
    FileStorage(str(path)).close()


def test_a_blob_takes_all_it_is_given_or_fails(path, tmp_path):
    """Where a quota lets only a part through ZODB's own file says nothing; the script's error is the disk's."""
    (tmp_path / "blobs").mkdir()
    with Session.open(str(path), blobs=str(tmp_path / "blobs")) as session:
        blob = Blob()
        session.root.blob = blob
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            with pytest.raises(OSError, match="File too large"), blob.open("w") as file:
                file.write(b"x" * 5000)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        transaction.abort()


def test_a_saved_index_that_gets_no_name_is_not_left(path, monkeypatch):
    storage = SoundFileStorage(str(path))
    replace = os.replace

    def fail(*_names):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zodbsh.db.filestore.os.replace", fail)
    storage.close()
    monkeypatch.setattr("zodbsh.db.filestore.os.replace", replace)
    assert not path.with_name(f"{path.name}.index.index_tmp").exists()


def test_the_data_is_durable_before_the_transaction_is_done(path, monkeypatch):
    """The first sync finds it in flight, whole; blobs and the folders down to them are synced before."""
    synced = []
    size = path.stat().st_size

    def fsync(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}") if sys.platform == "linux" else str(path)
        synced.append((os.path.basename(name), path.read_bytes()[size:][16:17]))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(sys.modules["ZODB.FileStorage.FileStorage"], "fsync", lambda _: synced.append("done"))
    storage = SoundFileStorage(str(path), blob_dir=f"{path}.blobs")
    database = ZODB.DB(storage)
    with database.transaction() as connection:
        connection.root()["blob"] = Blob(b"content")
    database.close()
    last = synced.index("done")
    assert synced[last - 1] == (path.name, b"c")
    if sys.platform == "linux":
        names = [name for name, _ in synced[: last - 1]]
        assert names[0].endswith(".blob")
        assert f"{path.name}.blobs" in names
        assert len(names) == 10


def test_what_cannot_be_synced_is_not_committed(path, monkeypatch):
    """The data's own sync fails: the file is as it was, and the error says so."""
    before = path.read_bytes()
    with Session.open(str(path)) as session:
        session.root.x = 1
        with monkeypatch.context() as patch:
            sync = os.fsync
            calls = iter([OSError(5, "Input/output error")])

            def fsync(descriptor):
                for error in calls:
                    raise error
                sync(descriptor)

            patch.setattr(os, "fsync", fsync)
            with pytest.raises(StorageIOError, match="nothing changed"):
                session.commit()
        assert path.read_bytes() == before
        transaction.abort()
