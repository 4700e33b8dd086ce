"""A pack beside ZODB's own, whole programs on the same file.

    python benchmarks/bench_pack.py [--objects 1000000] [--rounds 3]

Each round packs a fresh copy with each. ZODB's program opens the file with its
saved index and packs it; ours also checks the framing, writes a copy that is on
the disk (ZODB syncs nothing), compares it record by record, follows every
reference in it, and saves the index. Claims: ours takes at most an eighth of the time,
and no more memory than the engine's bound (64 bytes an object, 8 a reference, and 100 MB).
The two results are compared byte by byte. Exits 1 where a claim is not met.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
import time

from common import environment, show, side_by_side
from database import make_database

from zodbsh.source.file import FileSource

_THEIRS = """
import sys, time
from ZODB.FileStorage import FileStorage
from ZODB.serialize import referencesf
storage = FileStorage(sys.argv[1])
storage.pack(time.time(), referencesf)
storage.close()
"""
_BYTES_AN_OBJECT, _BYTES_A_REFERENCE, _BASE = 64, 8, 100_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    original = make_database(arguments.objects)
    folder = tempfile.mkdtemp(prefix="zodbsh-bench-pack-")
    peaks: list[int] = []

    def packed(name: str, command: list[str]) -> float:
        path = os.path.join(folder, name)
        for suffix in ("", ".index"):
            shutil.copyfile(original + suffix, path + suffix)
        # What copying left to be written is not the pack's.
        os.sync()
        began = time.perf_counter()
        child = subprocess.Popen([sys.executable, *command, path], env=environment(), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = status
        if status:
            raise SystemExit(f"{name}: the program failed")
        if name == "ours.fs":
            peaks.append(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
        return time.perf_counter() - began

    try:
        medians = side_by_side(
            arguments.rounds,
            {
                "zodbsh pack": lambda: packed("ours.fs", ["-m", "zodbsh", "pack", "-y"]),
                "FileStorage.pack": lambda: packed("theirs.fs", ["-c", _THEIRS]),
            },
            warm_up=False,
        )
        same = filecmp.cmp(os.path.join(folder, "ours.fs"), os.path.join(folder, "theirs.fs"), shallow=False)
    finally:
        shutil.rmtree(folder)
    source = FileSource(original)
    columns = source.columns()
    source.close()
    bound = _BASE + _BYTES_AN_OBJECT * len(columns) + _BYTES_A_REFERENCE * columns.totals.references
    size = os.path.getsize(original)
    met = show(f"a pack of {size / 1e6:.0f} MB, {len(columns):,} objects", medians, at_most=1 / 8)
    print(f"  {medians['FileStorage.pack'] / medians['zodbsh pack']:.1f} times as fast")
    print(f"  peak memory {max(peaks) / 1e6:.0f} MB (at most {bound / 1e6:.0f} MB claimed)")
    print(f"  the packed files are {'the same' if same else 'DIFFERENT'}")
    return 0 if met and same and max(peaks) <= bound else 1


if __name__ == "__main__":
    raise SystemExit(main())
