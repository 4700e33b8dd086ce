"""How long zodbsh takes to start, against a bare interpreter.

    python benchmarks/bench_startup.py [--rounds 21]

Claims: `zodbsh --version` takes at most 4 times `python -c pass`, `zodbsh
inspect` of a small file at most 8 times. Exits 1 where one is not met.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from common import program, show, side_by_side


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=21)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        database = str(Path(folder, "small.fs"))
        program(["-m", "zodbsh", "init", database])()
        medians = side_by_side(
            rounds,
            {
                "zodbsh --version": program(["-m", "zodbsh", "--version"]),
                "zodbsh inspect": program(["-m", "zodbsh", "inspect", database]),
                "python -c pass": program(["-c", "pass"]),
            },
        )
    bare = medians.pop("python -c pass")
    bounds = {"zodbsh --version": 4.0, "zodbsh inspect": 8.0}
    met = [show(name, {name: medians[name], "python -c pass": bare}, at_most=bounds[name]) for name in medians]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
