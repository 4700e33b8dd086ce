"""Beside a process that commits, aborts and packs, a reader sees whole snapshots only."""

import os
import random
import subprocess
import sys
import time

import pytest

from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot

ACCOUNTS, TOTAL = 12, 12_000
COMMITS, PACKS = 1000, 10

WRITER = """
import random, sys, time
import ZODB.FileStorage, transaction
from persistent.mapping import PersistentMapping
from ZODB.Connection import TransactionMetaData
from ZODB.utils import p64

path, accounts, total, commits, packs = sys.argv[1], *map(int, sys.argv[2:])
rand = random.Random(1)
storage = ZODB.FileStorage.FileStorage(path)
database = ZODB.DB(storage)
connection = database.open()
root = connection.root()
for number in range(accounts):
    root[number] = PersistentMapping(balance=total // accounts, note="")
transaction.commit()
print("ready", flush=True)
for commit in range(1, commits + 1):
    giver, taker = rand.sample(range(accounts), 2)
    amount = rand.randrange(1, 50)
    root[giver]["balance"] -= amount
    root[taker]["balance"] += amount
    # Now and then a transaction takes more than one write to the file.
    root[taker]["note"] = "x" * rand.choice([10, 100, 100, 40_000])
    transaction.commit()
    if commit % 5 == 0:
        aborted = TransactionMetaData()
        storage.tpc_begin(aborted)
        storage.store(p64(1), storage.getTid(p64(1)), b"aborted" * rand.randrange(20_000), "", aborted)
        storage.tpc_vote(aborted)
        storage.tpc_abort(aborted)
    if commit % (commits // packs) == 0:
        database.pack()
print("packed", flush=True)
connection.close()
database.close()
"""


@pytest.mark.parametrize("large", [False, True])
def test_a_reader_beside_a_writer_and_its_packs_sees_whole_snapshots(tmp_path, monkeypatch, large):
    """Through a thousand transfers and ten packs every snapshot has the same sum, and nothing looks damaged."""
    if large:
        # Read as a large file is: its end by its last bytes, its objects by the saved index.
        monkeypatch.setattr("zodbsh.filestorage.lookup.SCANNED_SIZE", 0)
    path = str(tmp_path / "Data.fs")
    arguments = [path, *map(str, (ACCOUNTS, TOTAL, COMMITS // (1 + large), PACKS // (1 + large)))]
    writer = subprocess.Popen([sys.executable, "-c", WRITER, *arguments], stdout=subprocess.PIPE, text=True)
    assert writer.stdout.readline() == "ready\n"
    rand = random.Random(2)
    reads, tids, inodes, tails = 0, set(), set(), 0
    while writer.poll() is None:
        source = FileSource(path)
        inodes.add(os.fstat(source._reader.file.fd).st_ino)
        tids.add(source.last_tid)
        tails += bool(source.info().tail)
        assert balance(source) == TOTAL
        if rand.random() < 0.3:
            # The snapshot stays what it was while the writer goes on, or packs the file away.
            time.sleep(rand.random() / 50)
            assert balance(source) == TOTAL
            census = source.census()
            assert (census.objects, census.last_tid) == (ACCOUNTS + 1, source.last_tid)
            last = next(source.transactions(reverse=True))
            assert last.tid == source.last_tid
            assert all(record.tid == last.tid for record in source.records(last))
        reads += 1
        source.close()
    assert writer.stdout.read() == "packed\n"
    assert writer.wait() == 0
    writer.stdout.close()
    assert reads > 20
    assert len(tids) > 20
    assert len(inodes) > 1


def balance(source):
    snapshot = Snapshot(source)
    accounts = {reference.oid for reference in snapshot.record(0).references}
    assert len(accounts) == ACCOUNTS
    return sum(snapshot.record(oid).state.get("data").get("balance") for oid in accounts)
