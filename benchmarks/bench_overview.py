"""The overview of a Data.fs beside ZODB's own ``fstest`` on the same file.

    python benchmarks/bench_overview.py [--megabytes 100] [--rounds 7]

Both walk the whole file and check its framing; ours also counts objects and
bytes by class, and reads the root. The file (accounts in a BTree, some of them
with old revisions) is made once and kept in the system's temporary folder.
Claim: ours takes no longer. Exits 1 where it does.
"""

import argparse
import os
import random
import sys
import tempfile

import transaction
import ZODB.FileStorage
from BTrees.IOBTree import IOBTree
from common import show, side_by_side
from persistent.mapping import PersistentMapping
from ZODB.scripts.fstest import check

from zodbsh.source.file import FileSource


def make_file(megabytes: int) -> str:
    """Return the path of a Data.fs of about so many megabytes, mostly small records."""
    path = os.path.join(tempfile.gettempdir(), f"zodbsh-bench-{megabytes}.fs")
    if os.path.exists(path):
        return path
    rand = random.Random(megabytes)
    temporary = f"{path}.{os.getpid()}"
    storage = ZODB.FileStorage.FileStorage(temporary, create=True)
    connection = ZODB.DB(storage, cache_size=5000).open()
    accounts = connection.root()["accounts"] = IOBTree()
    number = 0
    while storage.getSize() < megabytes * 1_000_000:
        group = accounts[number] = PersistentMapping()
        for member in range(20):
            note = "x" * rand.randrange(20, 240)
            group[member] = PersistentMapping(owner=f"owner {number}", balance=number, note=note)
            number += 1
        for _ in range(8):
            accounts[rand.randrange(0, number, 20)][rand.randrange(20)]["balance"] += 1
        transaction.commit()
    connection.close()
    connection.db().close()
    for suffix in (".index", ".lock", ".tmp"):
        os.remove(temporary + suffix)
    os.rename(temporary, path)
    return path


def overview(path: str) -> None:
    """Read what `zodbsh inspect` shows of a database."""
    source = FileSource(path)
    source.info()
    source.census()
    source.load(0)
    source.close()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    path = make_file(options.megabytes)
    medians = side_by_side(options.rounds, {"zodbsh overview": lambda: overview(path), "fstest": lambda: check(path)})
    title = f"{os.path.getsize(path):,} bytes, {FileSource(path).census().records:,} records"
    return 0 if show(title, medians, at_most=1.0) else 1


if __name__ == "__main__":
    sys.exit(main())
