"""Backup and restore beside repozo, whole commands on the same file.

    python benchmarks/bench_backup.py [--objects 1000000] [--rounds 3]

The peers differ in what they do: repozo neither scans the database's framing nor reads back what it wrote; its
``--verify`` is counted separately. Before an increment both read what the last backup has and compare it with the
database, unless they are told to be quick: then zodbsh still compares the database with the digests of all of it,
repozo with those of the last increment (here there is none, so that is all of it, too).
The file (a million objects, 0.5 GB) is made once and kept in the temporary folder. Exits 1 where a claim is not
met.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import peak_memory, program, show, side_by_side
from database import make_database


def zodbsh(*arguments: str) -> Callable[[], None]:
    return program(["-m", "zodbsh", *arguments])


def repozo(*arguments: str) -> Callable[[], None]:
    return program(["-m", "ZODB.scripts.repozo", *arguments])


def anew(folder: Path, *works: Callable[[], None]) -> Callable[[], None]:
    """Return a call that does the works with an empty folder."""

    def run() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for work in works:
            work()

    return run


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    path = make_database(options.objects)
    print(f"{os.path.getsize(path):,} bytes")
    with tempfile.TemporaryDirectory(prefix="zodbsh-bench-backup-") as name:
        met = compare(path, Path(name), options.rounds)
    return 0 if met else 1


def compare(path: str, folder: Path, rounds: int) -> bool:
    ours, theirs, out = folder / "ours", folder / "theirs", folder / "out"
    full = {
        "zodbsh backup (verified)": anew(ours, zodbsh("backup", path, str(ours))),
        "repozo -BF": anew(theirs, repozo("-BF", "-r", str(theirs), "-f", path)),
        "repozo -BF, repozo -V": anew(
            theirs, repozo("-BF", "-r", str(theirs), "-f", path), repozo("-V", "-r", str(theirs))
        ),
    }
    show("a full backup", side_by_side(rounds, full))
    nothing = {
        "zodbsh backup": zodbsh("backup", path, str(ours)),
        "repozo -B": repozo("-B", "-r", str(theirs), "-f", path),
    }
    met = show("nothing new, the backup read and compared", side_by_side(rounds, nothing), at_most=0.5)
    quick = {
        "zodbsh backup --quick": zodbsh("backup", path, str(ours), "--quick"),
        "repozo -BQ": repozo("-BQ", "-r", str(theirs), "-f", path),
    }
    show("nothing new, the backup not read", side_by_side(rounds, quick))
    restore = {
        "zodbsh restore (verified)": anew(out, zodbsh("restore", str(ours), str(out / "Data.fs"))),
        "repozo -R -w": anew(out, repozo("-R", "-w", "-r", str(theirs), "-o", str(out / "Data.fs"))),
    }
    show("a restore", side_by_side(rounds, restore))
    verify = {
        "zodbsh backup --verify": zodbsh("backup", "--verify", str(ours)),
        "repozo -V": repozo("-V", "-r", str(theirs)),
    }
    show("is the backup as it was written", side_by_side(rounds, verify))
    compressed = {
        "zodbsh backup": zodbsh("backup", path, str(ours)),
        "repozo -B": repozo("-B", "-r", str(theirs), "-f", path),
    }
    anew(ours, zodbsh("backup", path, str(ours), "--compress"))()
    anew(theirs, repozo("-BFz", "-r", str(theirs), "-f", path))()
    show("nothing new, a compressed backup read and compared", side_by_side(rounds, compressed))
    shutil.rmtree(ours)
    peak = peak_memory(["-m", "zodbsh", "backup", path, str(ours)])
    print(f"peak memory of a full backup: {peak / 1e6:.0f} MB")
    return met


if __name__ == "__main__":
    sys.exit(main())
