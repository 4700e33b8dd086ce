"""What the benchmarks share: running things in turn, and showing medians and their ratio."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parent.parent


def environment(**more: str) -> dict[str, str]:
    """Return an environment with the checkout importable, and compiled as an installed program is."""
    mine = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return mine | {"PYTHONPATH": str(REPOSITORY)} | more


def program(arguments: list[str]) -> Callable[[], None]:
    """Return a call that runs this Python with ``arguments``, its output dropped."""

    def run() -> None:
        subprocess.run([sys.executable, *arguments], check=True, env=environment(), stdout=subprocess.DEVNULL)

    return run


def side_by_side(
    rounds: int, works: Mapping[str, Callable[[], float | None]], *, warm_up: bool = True
) -> dict[str, float]:
    """Return each work's median seconds over so many rounds, each round running every work once.

    Taking turns, all meet the same machine, whose pace changes from minute to
    minute. One round before warms the caches and does not count; without
    ``warm_up`` they are warm. A work that
    returns a number has measured itself.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + warm_up):
        for name, work in works.items():
            began = time.perf_counter()
            measured = work()
            seconds[name].append(time.perf_counter() - began if measured is None else measured)
    return {name: median(values[warm_up:]) for name, values in seconds.items()}


def show(title: str, medians: Mapping[str, float], *, at_most: float | None = None) -> bool:
    """Print the medians and the first one's ratio to each other one; tell whether all are ``at_most``."""
    (ours, own), *peers = medians.items()
    print(title)
    print(f"  {ours:32} {own * 1000:10.1f} ms")
    met = True
    for peer, theirs in peers:
        ratio = own / theirs
        verdict = ""
        if at_most is not None:
            verdict = f"  (at most {at_most:g} claimed: {'met' if ratio <= at_most else 'NOT MET'})"
            met = met and ratio <= at_most
        print(f"  {peer:32} {theirs * 1000:10.1f} ms   ratio {ratio:.2f}{verdict}")
    return met


def faster(title: str, medians: Mapping[str, float], *, at_least: float) -> bool:
    """Print how many times as fast the first one is as each other one; tell whether all are ``at_least``."""
    (ours, own), *peers = medians.items()
    print(title)
    print(f"  {ours:40} {own:8.2f} s")
    met = True
    for peer, theirs in peers:
        times = theirs / own
        met = met and times >= at_least
        verdict = "met" if times >= at_least else "NOT MET"
        print(f"  {peer:40} {theirs:8.2f} s   {times:.1f} times as fast (at least {at_least:g} claimed: {verdict})")
    return met


def peak_memory(arguments: list[str]) -> int:
    """Return the most memory that this Python took with ``arguments``, in bytes; its output is dropped."""
    code = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
        "_, status, usage = os.wait4(child.pid, 0)\n"
        "print(usage.ru_maxrss * (1 if sys.platform == 'darwin' else 1024))\n"
        "sys.exit(os.waitstatus_to_exitcode(status))\n"
    )
    command = [sys.executable, "-c", code, sys.executable, *arguments]
    done = subprocess.run(command, check=True, env=environment(), capture_output=True, text=True)
    return int(done.stdout)
