"""The engine and the commands on it, beside the tools that answer the same questions, on the same file.

    python benchmarks/bench_engine.py [--objects 1000000] [--rounds 3] [--memory-only]

Whole commands are timed, each as a process of its own; the slow peers run once
a round, in turn with ours. The file (a million objects, 0.5 GB) is made once and
kept in the system's temporary folder. Memory is the peak of a whole process;
the bound is 64 bytes an object and 8 a reference, beyond 100 MB. Exits 1 where
a claim is not met.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial

from common import faster, peak_memory, program, side_by_side
from database import make_database

from zodbsh.engine import chosen
from zodbsh.engine.columns import Options


def zodbsh(*arguments: str) -> Callable[[], None]:
    return program(["-m", "zodbsh", *arguments])


def script(name: str, *arguments: str) -> Callable[[], None]:
    return program(["-m", f"ZODB.scripts.{name}", *arguments])


def bulk_pass(path: str, threads: int) -> float:
    """Return the seconds of one pass that finds everything."""
    fd = os.open(path, os.O_RDONLY)
    try:
        began = time.perf_counter()
        taking = chosen.Pass(Options(threads=threads))
        taking.read(fd, 4, os.fstat(fd).st_size)
        return time.perf_counter() - began
    finally:
        os.close(fd)


def measure_pass(path: str, rounds: int) -> bool:
    works = {f"{threads} thread{'s' * (threads > 1)}": partial(bulk_pass, path, threads) for threads in (1, 2)}
    one, two = side_by_side(rounds * 2 + 1, works).values()
    rate = os.path.getsize(path) / one / 1e9
    print(f"bulk pass ({chosen.ENGINE} engine), cache warm")
    print(f"  one thread   {rate:.2f} GB/s (at least 0.8 claimed: {'met' if rate >= 0.8 else 'NOT MET'})")
    print(
        f"  two threads  {one / two:.2f} times one (at least 1.6 claimed: {'met' if one / two >= 1.6 else 'NOT MET'})"
    )
    return rate >= 0.8 and one / two >= 1.6


def measure_memory(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY)
    taking = chosen.Pass(Options())
    taking.read(fd, 4, os.fstat(fd).st_size)
    columns = taking.finish()
    os.close(fd)
    objects, references = len(columns), len(columns.targets)
    bound = 100_000_000 + 64 * objects + 8 * references
    print(f"peak memory, {objects:,} objects, {references:,} references: at most {bound / 1e6:.0f} MB claimed")
    met = True
    for arguments in (
        ["usage", path],
        ["verify", path, "--level", "references"],
        ["verify", path],
        ["refs", path, "1"],
    ):
        peak = peak_memory(["-m", "zodbsh", *arguments])
        met = met and peak <= bound
        name = " ".join(word for word in arguments if word != path)
        print(f"  zodbsh {name:28} {peak / 1e6:8.0f} MB  ({'met' if peak <= bound else 'NOT MET'})")
    return met


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-only", action="store_true")
    options = parser.parse_args()
    path = make_database(options.objects)
    print(f"{os.path.getsize(path):,} bytes")
    met = [measure_memory(path)]
    if not options.memory_only:
        met.append(measure_pass(path, options.rounds))
        run = partial(side_by_side, options.rounds)
        analyze = script("analyze", path)
        usage = {"zodbsh usage": zodbsh("usage", path), "analyze": analyze}
        met.append(faster("what takes the space, and what a pack would free", run(usage), at_least=25))
        usage = {"zodbsh usage --format csv": zodbsh("usage", path, "--format", "csv"), "analyze": analyze}
        met.append(faster("what takes the space, the same figures", run(usage), at_least=25))
        refs = {"zodbsh refs": zodbsh("refs", path, "0x1234"), "fsoids": script("fsoids", path, "0x1234")}
        met.append(faster("who refers to an object", run(refs), at_least=20))
        verify = {
            "zodbsh verify --level references": zodbsh("verify", path, "--level", "references"),
            "fsrefs": script("fsrefs", path),
            "zodbverify": program(["-m", "zodbverify", "-f", path]),
        }
        met.append(faster("does every reference lead somewhere", run(verify), at_least=20))
        trees = {"zodbsh verify": zodbsh("verify", path), "checkbtrees": script("checkbtrees", path)}
        # checkbtrees takes minutes, and ever more of them for each object: one round is enough to see how far it is.
        once = side_by_side(1, trees, warm_up=False)
        met.append(faster("are the BTrees sound, too (one round)", once, at_least=40))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
