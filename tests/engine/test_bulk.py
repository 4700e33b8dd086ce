"""The bulk pass gives the careful scan's answers, whatever its chunks, and stops where that finds damage."""

import os
import random
from pathlib import Path

import pytest
import transaction
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from ZODB.utils import u64

from zodbsh.engine.bulk import bulk_pass
from zodbsh.engine.census import ClassCensus
from zodbsh.engine.classes import ClassTable
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.framing import Verdict, examine, scan_file
from zodbsh.progress import Silent
from zodbsh.source.classes import UNDECODABLE, class_part


@pytest.fixture
def seed(tmp_path):
    """A Data.fs with changes, an undo, an undone creation and a record larger than small chunks."""
    path = tmp_path / "Data.fs"
    database = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    for step in range(6):
        with database.transaction(f"step {step}") as connection:
            connection.root()[f"new {step}"] = PersistentMapping(text="x" * 50 * step * step)
            if step:
                connection.root()["new 0"]["step"] = step
    for number in (0, 2):
        manager = transaction.TransactionManager()
        database.undo(database.undoInfo(0, 9)[number]["id"], manager.get())
        manager.commit()
    database.close()
    return path


def passed(path, **options):
    with DataFile(str(path)) as file:
        return bulk_pass(file.fd, file.limit, class_part, **options)


@pytest.mark.parametrize("chunk", [50, 51, 64, 97, 128, 500, 4096, 1 << 20])
def test_the_size_of_chunks_changes_nothing(seed, chunk):
    """Headers, class parts and data that cross a chunk's border are put together."""
    found = passed(seed, chunk=chunk)
    assert found == passed(seed)
    with DataFile(str(seed)) as file:
        careful = scan_file(file)
    assert (found.end, found.positions, found.pointers) == (careful.end, careful.positions, careful.pointers)
    assert found.reached
    assert found.pointers


def test_the_census_is_zodbs(seed):
    """Objects and bytes are those that ZODB loads, by the class it loads."""
    storage = ZODB.FileStorage.FileStorage(str(seed), read_only=True)
    loaded = {u64(oid): storage.load(oid) for oid in storage._index if storage.lastTid(oid)}
    records = [(record.data, record.data_txn) for entry in storage.iterator() for record in entry]
    own = sum(len(data) for data, shared in records if data is not None and shared is None)
    current = sum(len(data) for data, _ in loaded.values())
    found = passed(seed)
    census = found.census()
    assert found.totals.last_tid == u64(storage.lastTransaction())
    assert (census.records, census.objects) == (len(records), len(loaded))
    assert (census.current_bytes, census.old_bytes) == (current, own - current)
    assert census.classes == (ClassCensus("persistent.mapping.PersistentMapping", len(loaded), current),)
    storage.close()


def test_a_pass_ends_at_a_tid(seed):
    """Nothing of later transactions counts, and the pass says that it went as far as it should."""
    with DataFile(str(seed)) as file:
        whole = bulk_pass(file.fd, file.limit, class_part)
        part = bulk_pass(file.fd, file.limit, class_part, until=whole.totals.last_tid - 1)
        shorter = bulk_pass(file.fd, part.end, class_part)
    assert part == shorter
    assert (part.reached, part.totals.transactions) == (True, whole.totals.transactions - 1)


def test_cuts_and_flips_stop_it_where_the_careful_scan_finds_something(seed, tmp_path, monkeypatch):
    """Over every cut and hundreds of flips the two agree on the last sound transaction and all before it."""
    monkeypatch.setattr("zodbsh.filestorage.framing._PAUSE", 0)
    raw = seed.read_bytes()
    rand = random.Random(3)
    cases = [raw[:size] for size in range(4, len(raw), 9)]
    for _ in range(400):
        changed = bytearray(raw)
        changed[rand.randrange(4, len(raw))] ^= 1 << rand.randrange(8)
        cases.append(bytes(changed))
    path = tmp_path / "case.fs"
    stops = 0
    for case in cases:
        path.write_bytes(case)
        found = passed(path, chunk=rand.choice([64, 300, 1 << 20]))
        with DataFile(str(path)) as file:
            careful = scan_file(file)
            step = examine(file, found.end, found.totals.last_tid or 0)
        assert (found.end, found.totals.last_tid or 0) == (careful.end, careful.last_tid)
        assert step.verdict is not Verdict.SOUND
        assert bool(step.damages) == bool(careful.damages)
        assert found.reached == (found.end == len(case))
        if found.reached:
            assert (found.positions, found.pointers) == (careful.positions, careful.pointers)
        stops += not found.reached
    assert stops > 300


def test_a_pass_reports_how_far_it_is(seed):
    """Progress counts bytes of the file and ends with the phase."""
    seen = []

    class Recorder(Silent):
        def start(self, title, total, unit):
            seen.append((title, total, unit))

        def advance(self, done):
            seen.append(done)

        def finish(self):
            seen.append("finish")

    passed(seed, chunk=1024, progress=Recorder())
    size = Path(seed).stat().st_size
    assert (seen[0], seen[-1]) == (("reading", size, "bytes"), "finish")
    assert seen[1] == 4
    assert len(set(seen[1:-1])) > 2
    assert seen[-2] < size
    assert seen[1:-1] == sorted(seen[1:-1])


def test_a_class_is_decoded_once_however_often_it_comes():
    """Records with the same class part are told apart from others by their bytes."""
    calls = []

    def class_of(data):
        calls.append(data)
        return class_part(data)

    table = ClassTable(class_of)
    plain = b"\x80\x03cmodule\nName\nq\x00.\x80\x03}."
    other = b"\x80\x03cmodule\nOther\nq\x00.\x80\x03}."
    arguments = b"\x80\x03cmodule\nName\nq\x00)\x86q\x01.\x80\x03}."
    broken = b"\x80\x03broken"
    records = [plain, other, arguments, plain + b"more", arguments, broken, broken]
    numbers = [table.number(data)[0] for data in records]
    assert [table.names[number] for number in numbers] == [
        "module.Name", "module.Other", "module.Name", "module.Name", "module.Name", UNDECODABLE, UNDECODABLE,
    ]  # fmt: skip
    assert len(calls) == 5


def test_the_corpus_is_read_to_the_end():
    """No file of real applications stops the pass, and no class in them is unknown."""
    corpus = os.environ.get("ZODBSH_CORPUS", "")
    if not os.path.isdir(corpus):
        pytest.skip("ZODBSH_CORPUS names no folder")
    files = [path for path in Path(corpus).rglob("*.fs") if path.is_file()]
    assert len(files) == 7
    for path in files:
        found = passed(path, chunk=1000)
        assert (found.reached, found.end) == (True, path.stat().st_size)
        assert UNDECODABLE not in found.classes
