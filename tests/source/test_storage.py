"""Any ZODB storage gives the answers that the same history gives as a file."""

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.DemoStorage import DemoStorage
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import StorageError
from ZODB.tests.MVCCMappingStorage import MVCCMappingStorage
from ZODB.utils import p64, u64

from zodbsh.errors import DamagedDatabase, ExitCode, ObjectNotFound, Unsupported
from zodbsh.source.base import SourceInfo
from zodbsh.source.file import FileSource
from zodbsh.source.storage import StorageSource, StorageUnavailable


def answers(source):
    """Return all that a source says, positions and sizes in the file left out."""
    entries = list(source.transactions())
    tids = [entry.tid for entry in entries]
    records = {t.tid: [r._replace(position=None) for r in source.records(t)] for t in entries}
    oids = [*sorted({record.oid for found in records.values() for record in found}), 1 << 40]
    loads = {}
    for oid in oids:
        for at in [*tids, tids[0] - 1, 2**64 - 1]:
            try:
                revision = source.load(oid, at)
                loads[oid, at] = revision.tid, revision.data
            except ObjectNotFound:
                loads[oid, at] = None
    return {
        "transactions": [entry._replace(length=None, position=None) for entry in entries],
        "reverse": [entry.tid for entry in source.transactions(tids[1], reverse=True)],
        "range": [entry.tid for entry in source.transactions(tids[2], tids[-2])],
        "records": records,
        "loads": loads,
        "histories": {oid: [(r.tid, r.data) for r in source.history(oid)] for oid in oids},
        "past histories": {oid: [(r.tid, r.data) for r in source.history(oid, tids[3])] for oid in oids},
        "oids": [list(source.oids(at)) for at in [2**64 - 1, *tids]],
        "census": [source.census(at) for at in [2**64 - 1, *tids]],
        "written": [source.transaction_of(records[tid][0]).tid for tid in tids if records[tid]],
        "last": source.last_tid,
    }


@pytest.mark.parametrize("seed", range(8))
def test_a_storage_says_what_the_file_says(tmp_path, witness, seed):
    """Undo, deletion and pack included, ZODB's FileStorage as a source equals our reading of its file."""
    storage = witness.make_history(tmp_path / "Data.fs", seed)
    file, ours = FileSource(str(tmp_path / "Data.fs")), StorageSource(storage, "it")
    assert answers(ours) == answers(file)
    meaning = "storage ZODB.FileStorage.FileStorage.FileStorage"
    assert ours.info() == SourceInfo("it", "FileStorage", meaning, file.info().bytes)
    file.close()
    ours.close()
    ours.close()


def commit_some(database):
    """Commit five transactions: objects, changes, a blob."""
    with database.transaction("one") as connection:
        connection.root()["a"] = PersistentMapping(value=1)
    for value in range(3):
        with database.transaction(f"change {value}") as connection:
            connection.root()["a"]["value"] = value
            connection.root()[f"b{value}"] = PersistentMapping()
            connection.transaction_manager.get().setExtendedInfo("key", value)


def copy_transactions(storage, path):
    """Write a storage's transactions to a new FileStorage; ZODB's own copy fails on a database in memory."""
    copy = ZODB.FileStorage.FileStorage(path)
    for entry in storage.iterator():
        meta = TransactionMetaData(entry.user, entry.description, entry.extension)
        copy.tpc_begin(meta, entry.tid, entry.status)
        for record in entry:
            copy.restore(record.oid, record.tid, record.data, "", record.data_txn, meta)
        copy.tpc_vote(meta)
        copy.tpc_finish(meta)
    copy.close()


@pytest.mark.parametrize("factory", [MappingStorage, DemoStorage, MVCCMappingStorage])
def test_databases_in_memory_are_sources(tmp_path, factory):
    """A copy of the same transactions in a file says the same."""
    storage = factory()
    database = ZODB.DB(storage)
    commit_some(database)
    copy_transactions(storage, str(tmp_path / "Data.fs"))
    file, ours = FileSource(str(tmp_path / "Data.fs")), StorageSource(storage, "memory", owned=False)
    ours_say, file_says = answers(ours), answers(file)
    assert len(ours_say["transactions"]) == 5
    assert ours_say["census"][0].objects == 5
    assert ours_say == file_says
    file.close()
    ours.close()
    database.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the server leaves its iterators open
def test_a_server_is_a_source(tmp_path, witness):
    """Over ZEO the answers are those of the file behind the server."""
    zeo = pytest.importorskip("ZEO")
    witness.make_history(tmp_path / "Data.fs", 5).close()
    address, stop = zeo.server(str(tmp_path / "Data.fs"), threaded=True)
    try:
        ours = StorageSource(zeo.client(address), "zeo")
        file = FileSource(str(tmp_path / "Data.fs"))
        said, expected = answers(ours), answers(file)
        assert said == expected
        assert ours.info().format == "ClientStorage"
        file.close()
        ours.close()
    finally:
        stop()


def test_a_source_ends_where_it_was_opened():
    """Later commits do not show, neither by oid nor in transactions nor in figures."""
    storage = MappingStorage()
    database = ZODB.DB(storage)
    commit_some(database)
    source = StorageSource(storage, "memory")
    before = answers(source)
    commit_some(database)
    assert answers(source) == before
    database.close()


def test_a_storage_without_iteration_says_so():
    """Objects are read; what needs the transactions is unsupported, exit 8."""

    class Plain(MappingStorage):
        iterator = property()

    storage = Plain()
    database = ZODB.DB(storage)
    commit_some(database)
    source = StorageSource(storage, "plain", owned=False)
    assert source.load(0).oid == 0
    assert [revision.oid for revision in source.history(0)] == [0] * 5
    assert list(source.history(1 << 40)) == []
    for ask in (source.census, lambda: list(source.oids()), lambda: list(source.transactions())):
        with pytest.raises(Unsupported, match="plain: Plain does not list its transactions") as caught:
            ask()
        assert caught.value.exit_code == ExitCode.UNSUPPORTED
    database.close()


def test_an_extension_is_not_loaded(tmp_path):
    """A transaction whose extension would run code when unpickled is only handed over."""
    import os
    import pickle

    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    storage = ZODB.FileStorage.FileStorage(str(tmp_path / "Data.fs"))
    hostile = pickle.dumps({"x": Canary()}, 3)
    meta = TransactionMetaData("", "", hostile)
    storage.tpc_begin(meta)
    storage.store(p64(0), p64(0), b"data", "", meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    for source in (StorageSource(storage, "it", owned=False), FileSource(str(tmp_path / "Data.fs"))):
        assert [entry.extension for entry in source.transactions()] == [hostile]
        assert len(list(source.history(0))) == source.census().records == 1
        source.close()
    storage.close()
    assert not (tmp_path / "pwned").exists()


def test_what_a_storage_raises_is_translated():
    """A lost server is an I/O error, damage is damage, whoever asks."""

    class Broken(MappingStorage):
        error = StorageError("gone")

        def loadBefore(self, oid, tid):  # noqa: N802 - ZODB's name
            raise self.error

        def iterator(self, start=None, stop=None):
            raise self.error

    storage = Broken()
    source = StorageSource(storage, "broken")
    for error, expected in (
        (StorageError("gone"), StorageUnavailable),
        (ConnectionResetError("reset"), StorageUnavailable),
        (ZODB.FileStorage.format.CorruptedError("bad"), DamagedDatabase),
    ):
        storage.error = error
        for ask in (lambda: source.load(0), lambda: list(source.transactions()), source.census):
            with pytest.raises(expected):
                ask()


def test_a_blobs_file_is_the_storages(tmp_path):
    """The path is the one the storage gives; objects without a blob have none."""
    storage = ZODB.FileStorage.FileStorage(str(tmp_path / "Data.fs"), blob_dir=str(tmp_path / "blobs"))
    database = ZODB.DB(storage)
    connection = database.open()
    blob = connection.root()["blob"] = Blob(b"content")
    transaction.commit()
    blob._p_activate()
    source = StorageSource(storage, "it", owned=False)
    oid, tid = u64(blob._p_oid), u64(blob._p_serial)
    assert source.blob_path(oid, tid) == storage.loadBlob(blob._p_oid, blob._p_serial)
    assert source.blob_path(0, tid) is None
    plain = StorageSource(MappingStorage(), "memory")
    assert plain.blob_path(oid, tid) is None
    connection.close()
    database.close()
