"""How long until the shell's first prompt, against ptpython with ZODB imported and the same file open.

    pip install ptpython pexpect
    python benchmarks/bench_shell.py [--rounds 11]

Both run in a terminal of their own (pexpect); measured from the start of the
process to the prompt on the screen. Claim: zodbsh is no later. Exits 1 where
it is.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import pexpect
from common import environment, program, show, side_by_side

PTPYTHON = """
import ZODB, ZODB.FileStorage
db = ZODB.DB(ZODB.FileStorage.FileStorage({path!r}))
connection = db.open()
root = connection.root
from ptpython.repl import embed
embed(globals(), locals(), history_filename={history!r})
"""


def first_prompt(arguments: list[str], prompt: str, home: str) -> float:
    """Return the seconds from the start of a process to its prompt; then end it."""
    variables = environment(
        HOME=home, XDG_STATE_HOME=home, XDG_CONFIG_HOME=home, TERM="xterm-256color", PROMPT_TOOLKIT_NO_CPR="1"
    )
    began = time.perf_counter()
    child = pexpect.spawn(sys.executable, arguments, env=variables, timeout=60, dimensions=(40, 120))
    child.expect(prompt)
    took = time.perf_counter() - began
    child.close(force=True)
    return took


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        database = str(Path(folder, "small.fs"))
        program(["-m", "zodbsh", "init", database])()
        peer = PTPYTHON.format(path=database, history=str(Path(folder, "history")))
        medians = side_by_side(
            rounds,
            {
                "zodbsh shell": lambda: first_prompt(["-m", "zodbsh", "shell", database], ">>>", folder),
                "ptpython with ZODB": lambda: first_prompt(["-c", peer], ">>>", folder),
            },
        )
    return 0 if show("to the first prompt", medians, at_most=1.0) else 1


if __name__ == "__main__":
    sys.exit(main())
