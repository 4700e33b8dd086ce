"""The native engine, its Python twin and ZODB give the same answers.

A reduced campaign; ``make differential`` runs it whole (ZODBSH_CAMPAIGN=1) and prints how many cases there were.
"""

import os
import random
import sys
from pathlib import Path

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZODB.serialize import referencesf

sys.path.insert(0, str(Path(__file__).parent))
from engines import NATIVE, answer, passes, read, scanners
from generate import records

from zodbsh.engine.columns import Entry, Options

WHOLE = bool(os.environ.get("ZODBSH_CAMPAIGN"))
RECORDS = 1_000_000 if WHOLE else 12_000
FLIPS = 20_000 if WHOLE else 400
CORPUS = Path(os.environ.get("ZODBSH_CORPUS") or "/nowhere")
needs_native = pytest.mark.skipif(not NATIVE, reason="the native engine is not built")
EVERYTHING = Options(history=True, tool_rows=True, previous=True, threads=1)
# transactions, records, objects, references, as the corpus counts them
COUNTS = {
    "plone-4.3.fs": (12, 4404, 4389, 7498),
    "zopache.fs": (57, 932, 413, 1676),
    "wor-small.fs": (95, 123, 123, 207),
    "wor-large.fs": (450, 1495, 430, 4234),
    "wikidocs.fs": (15, 1692, 1391, 15814),
    "zodbtools-py2_pickle1/data.fs": (67, 70, 8, 23),
    "zodbtools-nozext-py3_pickle3/data.fs": (67, 70, 8, 23),
}


def build(path, seed, transactions):
    """Make a database with a history: changes, undo, deletion, weak references, a BTree, a long record, a pack."""
    from persistent.wref import WeakRef

    rand = random.Random(seed)
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    for step in range(transactions):
        with db.transaction(f"step {step}") as connection:
            root = connection.root()
            connection.root()._p_changed = True
            tree = root.setdefault("tree", OOBTree())
            new = tree[f"key {step:03}"] = PersistentMapping(step=step, text="x" * rand.choice((5, 50, 3_000)))
            new["back"] = rand.choice(list(tree.values()))
            new["weak"] = WeakRef(rand.choice(list(tree.values())))
            if step and rand.random() < 0.3:
                del tree[rand.choice(list(tree.keys()))]
        if rand.random() < 0.3:
            manager = transaction.TransactionManager()
            try:
                db.undo(db.undoInfo(0, 1)[0]["id"], manager.get())
                manager.commit()
            except ZODB.POSException.UndoError:
                manager.abort()
        if step == transactions // 2:
            db.pack()
    db.close()
    return path


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Four databases to damage: two of Python 3, the same as Python 2 would have them."""
    folder = tmp_path_factory.mktemp("seeds")
    found = []
    for seed in range(2):
        path = build(folder / f"{seed}.fs", seed, 6)
        found.append(path.read_bytes())
        found.append(b"FS21" + path.read_bytes()[4:])
    return found


def compare(data, folder, options=EVERYTHING, **more):
    """Read a file by each engine, and compare all that they say; return the twin's."""
    path = folder / "compared.fs"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        found = {name: read(make, fd, len(data), options, **more) for name, make in passes().items()}
    finally:
        os.close(fd)
    first = found.pop("python")
    for other in found.values():
        assert other == first
    return first


@needs_native
def test_generated_records(capsys):
    """Class, references with their places, and what is wrong: the same for every record."""
    native, python = scanners()["native"], scanners()["python"]
    sound = agreed = 0
    for data in records(1, RECORDS):
        found = native(data)
        assert found == python(data), data
        sound += found.trouble is None
        if found.trouble is None:
            agreed += zodb_agrees(data, found)
    assert sound > RECORDS // 4
    assert agreed > RECORDS // 8
    with capsys.disabled():
        print(f"\n{RECORDS:,} records: {sound:,} decode, {agreed:,} of them compared with ZODB's referencesf")


def zodb_agrees(data, found):
    """Compare with what ZODB finds; False for what it cannot read (it is stricter about oids, and knows no limits)."""
    try:
        theirs = referencesf(data)
    except Exception:  # noqa: BLE001 - whatever ZODB stops at
        return False
    ours = [ref.oid.to_bytes(8, "big") for ref in found.references if not ref.weak and not ref.foreign]
    # Python 3's unpickler makes text of Python 2's strings; an oid that is no ASCII it may not read as we do.
    if any(len(oid) != 8 for oid in theirs):
        return False
    assert ours == theirs, data
    return True


@pytest.mark.parametrize("name", COUNTS)
def test_real_databases(name, tmp_path):
    """Each engine counts what ZODB counted."""
    if not (CORPUS / name).exists():
        pytest.skip("ZODBSH_CORPUS names no folder")
    data = (CORPUS / name).read_bytes()
    reached, found, _ = compare(data, tmp_path)
    assert reached.finished
    objects = sum(1 for _, _, state, _ in found["objects"].values() if isinstance(state, str))
    totals = found["totals"]
    assert (totals.transactions, totals.records, objects, totals.references) == COUNTS[name]
    assert found["undecodable"] == []
    if NATIVE:
        assert compare(data, tmp_path, EVERYTHING._replace(threads=3), chunk=4096)[:2] == (reached, found)


@pytest.mark.parametrize("chunk", [256, 300, 4096, 1 << 20])
@pytest.mark.parametrize("threads", [1, 3])
def test_chunks_and_threads_change_nothing(seeds, tmp_path, chunk, threads):
    """However a file is cut into pieces and whoever reads them."""
    for data in seeds:
        wanted = compare(data, tmp_path)
        assert compare(data, tmp_path, EVERYTHING._replace(threads=threads), chunk=chunk) == wanted
        assert wanted[0].finished


def test_every_cut(seeds, tmp_path, capsys):
    """A file that ends anywhere: the same end, the same columns."""
    count = 0
    for data in seeds[: None if WHOLE else 2]:
        for size in range(4, len(data), 1 if WHOLE else 97):
            compare(data[:size], tmp_path)
            count += 1
    with capsys.disabled():
        print(f"\n{count:,} cuts")


def test_flipped_bytes(seeds, tmp_path, capsys):
    """Wrong bytes anywhere: the same end, the same columns, the same words about records."""
    rand = random.Random(3)
    count = 0
    for data in seeds:
        for _ in range(FLIPS // len(seeds)):
            wrong = bytearray(data)
            for _ in range(rand.choice((1, 1, 1, 3))):
                wrong[rand.randrange(4, len(wrong))] ^= 1 << rand.randrange(8)
            compare(bytes(wrong), tmp_path, chunk=rand.choice((256, 1000, 1 << 20)))
            count += 1
    with capsys.disabled():
        print(f"\n{count:,} flips")


@pytest.mark.parametrize(
    "options", [Options(references=False, tool_rows=True), Options(history=True), Options(previous=True)], ids=str
)
def test_options(seeds, tmp_path, options):
    """Whatever a pass looks for."""
    for data in seeds:
        _, found, rows = compare(data, tmp_path, options)
        middle = rows[len(rows) // 2].tid
        compare(data, tmp_path, options, until=middle)
        compare(data, tmp_path, options._replace(since=middle))
        assert sum(row.records for row in rows) == found["totals"].records
        assert sum(row.data_bytes for row in rows) == found["totals"].data_bytes


def test_transactions_from_elsewhere(seeds):
    """What is added transaction by transaction gives the same columns in each engine."""
    rand = random.Random(7)
    transactions = []
    for tid in range(1, 40):
        entries = []
        for data in records(tid, rand.randrange(6), damage=0.2):
            oid = rand.choice((rand.randrange(200), rand.getrandbits(62)))
            entries.append(Entry(oid, tid, rand.choice((data, data, data, None)), rand.random() < 0.1))
        transactions.append((tid, entries))
    found = []
    for make in passes().values():
        taking = make(EVERYTHING)
        for tid, entries in transactions:
            taking.add(tid, entries, packed=tid < 10)
        found.append(answer(taking.finish()))
    assert all(other == found[0] for other in found)


def test_any_oids(tmp_path):
    """Dense, sparse or chosen with care: every object is found again."""
    patterns = [range(3_000), [number << 4 for number in range(3_000)], [number << 40 for number in range(3_000)]]
    patterns.append([random.Random(1).getrandbits(62) for _ in range(3_000)])
    for oids in patterns:
        for make in passes().values():
            taking = make(Options(references=False))
            for oid in oids:
                taking.add(1, [Entry(oid, 1, b"cmodule\nName\nq\x00.}q\x01.")])
            columns = taking.finish()
            assert [columns.oids[columns.find(oid)] for oid in oids] == list(oids)
            assert columns.find(12345678901234567) is None


def test_a_transaction_larger_than_a_chunk(tmp_path):
    """Its parts are put together, and its records come once."""
    path = tmp_path / "large.fs"
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    with db.transaction("large") as connection:
        for number in range(300):
            connection.root()[number] = PersistentMapping(text="x" * (number * 7 % 900))
    db.close()
    data = path.read_bytes()
    wanted = compare(data, tmp_path)
    assert compare(data, tmp_path, EVERYTHING._replace(threads=2), chunk=256) == wanted
    # Damage at its very end: nothing of it is taken.
    wrong = data[:-8] + bytes(8)
    assert compare(wrong, tmp_path, chunk=256) == compare(wrong, tmp_path)
    assert compare(wrong, tmp_path, chunk=256)[1]["totals"].records == 1
