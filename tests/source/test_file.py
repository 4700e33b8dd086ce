"""A file read by us gives ZODB's answers, at every tid, and is left as it was."""

import hashlib
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import transaction
import ZODB.FileStorage
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.fsIndex import fsIndex
from ZODB.utils import u64

from zodbsh.engine.census import Census
from zodbsh.errors import ExitCode, ObjectNotFound
from zodbsh.filestorage.damage import FramingDamage
from zodbsh.record.decode import references
from zodbsh.source.base import SourceInfo
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot

CORPUS = {
    "plone-4.3.fs": ("FS21", 12, 4404, 4389, 7498),
    "zopache.fs": ("FS21", 57, 932, 413, 1676),
    "wor-small.fs": ("FS21", 95, 123, 123, 207),
    "wor-large.fs": ("FS21", 450, 1495, 430, 4234),
    "wikidocs.fs": ("FS30", 15, 1692, 1391, 15814),
    "zodbtools-py2_pickle1/data.fs": ("FS21", 67, 70, 8, 23),
    "zodbtools-nozext-py3_pickle3/data.fs": ("FS30", 67, 70, 8, 23),
}


def agree(source, storage, witness):
    """Assert that the source answers everything as the storage does."""
    oids = {u64(oid) for oid in storage._index} | {1 << 50}
    found = witness.transactions(storage)
    tids = [entry[0] for entry in found]
    for oid in oids:
        for at in [0, *tids, *(tid - 1 for tid in tids), 2**63]:
            try:
                revision = source.load(oid, at)
                ours = revision.data, revision.tid
            except ObjectNotFound:
                ours = None
            assert ours == witness.load(storage, oid, at)
        history = [(revision.tid, revision.data) for revision in source.history(oid)]
        assert history == ([] if oid == 1 << 50 else witness.history(storage, oid))
    ours = [
        (
            entry.tid, entry.status, entry.user, entry.description, entry.extension,
            [(r.oid, r.tid, r.data, r.data_tid) for r in source.records(entry)],
        )
        for entry in source.transactions()
    ]  # fmt: skip
    assert ours == found
    assert [entry.tid for entry in source.transactions(reverse=True)] == tids[::-1]
    some = tids[len(tids) // 3 : len(tids) // 2 + 1]
    for reverse in (False, True):
        ranged = [entry.tid for entry in source.transactions(some[0], some[-1], reverse=reverse)]
        assert ranged == (some[::-1] if reverse else some)
    packed = max((entry.tid for entry in source.transactions() if entry.status == "p"), default=0)
    for at in (2**63, tids[len(tids) // 2]):
        existing = {oid for oid in oids if witness.load(storage, oid, at)}
        found = list(source.oids(at))
        assert found == sorted(found)
        # A pack keeps data that a later undo points to, but not as history: before it, we may know more.
        assert set(found) == existing if at >= packed else set(found) >= existing
    assert source.last_tid == u64(storage.lastTransaction())


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_random_histories_read_as_zodb_reads_them(tmp_path_factory, witness, seed):
    """Loads at every tid, histories, transactions and objects agree through undo, deletion and pack."""
    storage = witness.make_history(tmp_path_factory.mktemp("history") / "Data.fs", seed)
    source = FileSource(storage._file_name)
    agree(source, storage, witness)
    census = source.census()
    records = [record for entry in witness.transactions(storage) for record in entry[5]]
    current = {oid: witness.load(storage, oid, 2**63) for oid, *_ in records}
    sizes = [len(found[0]) for found in current.values() if found]
    own = sum(len(data) for *_, data, shared in records if data is not None and shared is None)
    assert (census.transactions, census.records) == (len(witness.transactions(storage)), len(records))
    assert (census.objects, census.current_bytes, census.old_bytes) == (len(sizes), sum(sizes), own - sum(sizes))
    source.close()
    storage.close()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("index", ["fresh", "stale", "none", "wrong"])
def test_a_large_file_is_read_the_same_through_its_index(tmp_path, witness, monkeypatch, seed, index):
    """Whether the saved index fits, lags behind, is gone or lies: the answers are the same."""
    monkeypatch.setattr("zodbsh.filestorage.lookup.SCANNED_SIZE", 0)
    path = tmp_path / "Data.fs"
    witness.make_history(path, seed, steps=10).close()
    saved = Path(f"{path}.index").read_bytes()
    storage = witness.make_history(path, seed + 100, steps=10, packs=index != "stale")
    storage.close()
    if index == "stale":
        Path(f"{path}.index").write_bytes(saved)
    elif index == "none":
        os.remove(f"{path}.index")
    elif index == "wrong":
        loaded = fsIndex.load(f"{path}.index")
        oid = loaded["index"].minKey()
        loaded["index"][oid] = 30
        loaded["index"].save(loaded["pos"], f"{path}.index")
    # ZODB would believe the lying index, so it reads a copy without one.
    copy = tmp_path / "copy.fs"
    copy.write_bytes(path.read_bytes())
    storage = ZODB.FileStorage.FileStorage(str(copy), read_only=True)
    source = FileSource(str(path))
    agree(source, storage, witness)
    source.close()
    storage.close()


def test_a_hostile_index_is_not_run(tmp_path, witness, monkeypatch):
    """An index that would run code when unpickled is ignored."""
    monkeypatch.setattr("zodbsh.filestorage.lookup.SCANNED_SIZE", 0)
    witness.make_history(tmp_path / "Data.fs", 1).close()

    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "pwned"),)

    (tmp_path / "Data.fs.index").write_bytes(pickle.dumps(Canary()))
    source = FileSource(str(tmp_path / "Data.fs"))
    assert source.load(0).oid == 0
    assert source.census().objects == len(list(source.oids()))
    source.close()
    assert sorted(os.listdir(tmp_path)) == ["Data.fs", "Data.fs.index", "Data.fs.lock", "Data.fs.tmp"]


def test_a_small_files_index_is_not_even_opened(tmp_path, witness):
    """What a small file's index says cannot mislead: it is not read."""
    witness.make_history(tmp_path / "Data.fs", 2).close()
    os.remove(tmp_path / "Data.fs.index")
    os.mkfifo(tmp_path / "Data.fs.index")
    with_fifo = FileSource(str(tmp_path / "Data.fs"))
    assert with_fifo.load(0).oid == 0
    with_fifo.close()


@pytest.mark.parametrize("large", [False, True])
def test_every_cut_is_refused_or_read_to_a_whole_snapshot(tmp_path, witness, monkeypatch, large):
    """A cut file opens as of an earlier transaction, or says where it is damaged; ignoring that gives the snapshot."""
    monkeypatch.setattr("zodbsh.filestorage.framing._PAUSE", 0)
    if large:
        monkeypatch.setattr("zodbsh.filestorage.lookup.SCANNED_SIZE", 0)
    witness.make_history(tmp_path / "Data.fs", 7, steps=4, packs=False).close()
    raw = (tmp_path / "Data.fs").read_bytes()
    whole = FileSource(str(tmp_path / "Data.fs"))
    entries = list(whole.transactions())
    borders = {entries[0].position: 0} | {entry.position + entry.length: entry.tid for entry in entries}
    expected = {at: {r.oid: whole.load(r.oid, at) for r in _existing(whole, at)} for at in borders.values()}
    whole.close()
    cut = str(tmp_path / "cut.fs")
    for size in range(4, len(raw)):
        Path(cut).write_bytes(raw[:size])
        border = max(at for at in borders if at <= size)
        last_tid = borders[border]
        damaged = size - border > 16
        if damaged:
            with pytest.raises(FramingDamage, match="is damaged at offset") as caught:
                FileSource(cut)
            assert caught.value.exit_code == ExitCode.DAMAGED
            assert caught.value.damage.position == (border + 8 if size - border > 22 else size)
            assert "--ignore-damage" in caught.value.hint
        for ignore_damage in (True,) if damaged else (True, False):
            source = FileSource(cut, ignore_damage=ignore_damage)
            assert source.last_tid == last_tid
            assert source.info().tail == (0 if damaged else size - border)
            assert (source.info().damage is not None) == damaged
            assert {oid: source.load(oid) for oid in source.oids()} == expected[last_tid]
            source.close()


def _existing(source, at):
    return [source.load(oid, at) for oid in source.oids(at)] if at else []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_end_in_damage_or_in_answers(tmp_path, witness, monkeypatch, data):
    """Whatever byte is changed, every question is answered or refused as damage or absence."""
    monkeypatch.setattr("zodbsh.filestorage.framing._PAUSE", 0)
    path = tmp_path / "seed.fs"
    if not path.exists():
        witness.make_history(path, 11, steps=8).close()
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(4, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / "flipped.fs").write_bytes(raw)
    for ignore_damage in (False, True):
        try:
            source = FileSource(str(tmp_path / "flipped.fs"), ignore_damage=ignore_damage)
        except FramingDamage:
            assert not ignore_damage
            continue
        try:
            assert source.census().objects == len(list(source.oids()))
            for entry in source.transactions():
                for record in source.records(entry):
                    list(source.history(record.oid))
        except FramingDamage:
            # A previous pointer is only seen to be wrong where it is followed.
            pass
        source.close()


def test_reading_leaves_everything_as_it_was(tmp_path, witness):
    """Content, mode, times and neighbours are the same after every kind of reading."""
    witness.make_history(tmp_path / "Data.fs", 3).close()
    os.chmod(tmp_path / "Data.fs", 0o640)

    def state():
        return {
            entry.name: (hashlib.sha256(Path(entry.path).read_bytes()).digest(), *entry.stat()[:5], *entry.stat()[8:10])
            for entry in os.scandir(tmp_path)
        }

    before = state()
    source = FileSource(str(tmp_path / "Data.fs"))
    source.census()
    for oid in source.oids():
        list(source.history(oid))
        source.blob_path(oid, 1)
    for entry in source.transactions(reverse=True):
        list(source.records(entry))
    source.close()
    source.close()
    assert state() == before


def test_no_zodb_and_no_foreign_code_is_imported(tmp_path, witness):
    """An audit hook sees no import beyond the standard library and zodbsh, no unpickling, and no write."""
    witness.make_history(tmp_path / "Data.fs", 4).close()
    code = """
import sys
import zodbsh.source.file, zodbsh.source.snapshot
loaded = set(sys.modules)
def hook(event, arguments):
    if event in ("pickle.find_class", "exec", "compile", "os.system", "subprocess.Popen", "os.remove", "os.mkdir"):
        raise SystemExit(f"{event} {arguments}")
    if event == "open" and arguments[2] & 3:
        raise SystemExit(f"open {arguments}")
sys.addaudithook(hook)
source = zodbsh.source.file.FileSource(sys.argv[1])
census = source.census()
snapshot = zodbsh.source.snapshot.Snapshot(source)
classes = {snapshot.class_of(oid) for oid in source.oids()}
for entry in source.transactions():
    for record in source.records(entry):
        list(source.history(record.oid))
assert classes == {row.class_ for row in census.classes}
foreign = [name for name in sys.modules if name.split(".")[0] in
           ("ZODB", "persistent", "BTrees", "transaction", "zodbpickle", "click", "rich", "prompt_toolkit", "pickle")]
assert not foreign, foreign
assert not {name for name in set(sys.modules) - loaded if not name.startswith("encodings")}
print(len(classes))
"""
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path / "Data.fs")], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("1\n", "")


@pytest.mark.parametrize("layout", ["bushy", "lawn"])
def test_blobs_are_found_where_zodb_keeps_them(tmp_path, layout):
    """Both layouts of a blob folder are known, by marker or by ZODB's rule for its absence."""
    path, folder = str(tmp_path / "Data.fs"), tmp_path / "Data.fs.blobs"
    folder.mkdir()
    (folder / ".layout").write_text(layout)
    # Whoever lets ZODB create the file loses the blob folder too.
    (tmp_path / "Data.fs").write_bytes(b"FS30")
    storage = ZODB.FileStorage.FileStorage(path, blob_dir=str(folder))
    connection = ZODB.DB(storage).open()
    blob = connection.root()["blob"] = Blob(b"content")
    transaction.commit()
    blob._p_activate()
    oid, tid = u64(blob._p_oid), u64(blob._p_serial)
    expected = storage.loadBlob(blob._p_oid, blob._p_serial)
    connection.close()
    connection.db().close()
    if layout == "lawn":
        (folder / ".layout").unlink()
    for source in (FileSource(path), FileSource(path, blob_dir=str(folder))):
        assert source.blob_path(oid, tid) == expected
        assert source.blob_path(oid, tid + 1) is None
        assert source.blob_path(0, tid) is None
        source.close()
    elsewhere = FileSource(path, blob_dir=str(tmp_path / "none"))
    assert elsewhere.blob_path(oid, tid) is None
    elsewhere.close()


def test_an_empty_database_has_nothing(tmp_path):
    """Four bytes are a database without a transaction."""
    (tmp_path / "Data.fs").write_bytes(b"FS30")
    source = FileSource(str(tmp_path / "Data.fs"))
    assert source.info() == SourceInfo(source.path, "FS30", "FileStorage written by Python 3", 4, 0)
    assert (source.last_tid, list(source.oids()), list(source.transactions())) == (0, [], [])
    assert source.census() == Census(0, 0, 0, None, None, 0, 0, ())
    with pytest.raises(ObjectNotFound, match=f"no object 0x00 in {source.path}"):
        source.load(0)
    source.close()


def test_a_snapshot_reads_records_as_of_its_tid(tmp_path, witness):
    """Records, classes and absence are those of the snapshot's tid; a record is decoded once."""
    path = str(tmp_path / "Data.fs")
    storage = ZODB.FileStorage.FileStorage(path)
    connection = ZODB.DB(storage).open()
    connection.root()["a"] = PersistentMapping()
    transaction.commit()
    first, oid = u64(storage.lastTransaction()), u64(connection.root()["a"]._p_oid)
    connection.root()["b"] = PersistentMapping()
    transaction.commit()
    other = u64(connection.root()["b"]._p_oid)
    source = FileSource(path)
    past, now = Snapshot(source, first), Snapshot(source)
    assert (past.tid, now.tid, past.source) == (first, source.last_tid, source)
    assert (past.class_of(oid), past.class_of(other)) == ("persistent.mapping.PersistentMapping", None)
    assert [ref.oid for ref in past.record(0).references] == [oid]
    assert [ref.oid for ref in now.record(0).references] == [oid, other]
    assert now.record(0) is now.record(0)
    assert now.load(0) == source.load(0)
    source.close()
    connection.close()
    connection.db().close()


def test_the_corpus_counts():
    """Transactions, records, objects and references are those the corpus's README gives."""
    corpus = os.environ.get("ZODBSH_CORPUS", "")
    if not os.path.isdir(corpus):
        pytest.skip("ZODBSH_CORPUS names no folder")
    found = {}
    for name in CORPUS:
        source = FileSource(os.path.join(corpus, name))
        census = source.census()
        data = (r.data for t in source.transactions() for r in source.records(t) if r.data and r.data_tid is None)
        counted = sum(len(references(record)) for record in data)
        found[name] = (source.info().format, census.transactions, census.records, census.objects, counted)
        assert len(list(source.oids())) == census.objects == sum(row.objects for row in census.classes)
        source.close()
    assert found == CORPUS
