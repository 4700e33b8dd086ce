"""What start-up imports: it decides how long a command takes before it does anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import ZODB

HEAVY = {"ZODB", "BTrees", "persistent", "transaction", "zodbpickle", "ZEO", "prompt_toolkit", "rich", "pygments",
         "asyncio", "multiprocessing"}  # fmt: skip
PROGRAM = """
import sys
from zodbsh.cli.main import main
try:
    main({arguments!r})
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""


def imported(*arguments: str) -> set[str]:
    """Return the modules that are loaded when a command line is done."""
    code = PROGRAM.format(arguments=list(arguments))
    run = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stderr.split())


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)
    with db.transaction() as connection:
        connection.root()["n"] = 1
    db.close()
    return path


def test_version_imports_no_library() -> None:
    """``--version`` is answered before click is imported."""
    modules = imported("--version")
    assert not modules & (HEAVY | {"click"})
    own = {"zodbsh", "zodbsh.cli", "zodbsh.cli.main", "zodbsh.engine"}
    assert {name for name in modules if name.startswith("zodbsh")} == own


def test_version_names_the_engine_that_runs() -> None:
    """What is said without loading the engine is what is loaded."""
    from zodbsh.engine import chosen, engine_name

    assert engine_name() == chosen.ENGINE


def test_help_imports_no_command() -> None:
    """``--help`` reads its table and imports none of the commands."""
    modules = imported("--help")
    assert not modules & HEAVY
    assert not {name for name in modules if name.startswith(("zodbsh.cli.cmd_", "zodbsh.ops.", "zodbsh.shell"))}


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "{}"),
        ("inspect", "{}", "root"),
        ("inspect", "{}", "--format", "json"),
        ("log", "{}"),
        ("status", "{}"),
        ("diff", "{}"),
        ("pack", "{}", "--dry-run"),
        ("usage", "{}"),
        ("verify", "{}"),
        ("refs", "{}", "root"),
        ("why", "{}", "root"),
        ("find", "{}"),
    ],
    ids=" ".join,
)
def test_reading_a_file_imports_neither_zodb_nor_a_terminal_library(database: str, arguments: tuple[str, ...]) -> None:
    """A reading command on a file needs none of the heavy libraries when its output is piped."""
    assert not imported(*(argument.format(database) for argument in arguments)) & HEAVY
