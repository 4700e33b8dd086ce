"""The folder of a database's blobs: found by itself, or named and there."""

from __future__ import annotations

from pathlib import Path

import pytest
from program import in_process, zodbsh

STORE = "import ZODB.blob; root['blob'] = ZODB.blob.Blob(b'hello')"
READING = (("inspect",), ("log",), ("verify",), ("usage",), ("diff",))
WRITING = (("pack", "-y"), ("commit",), ("run", "-c", "1"), ("undo", "--redo"), ("backup",))


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with the folder for blobs that belongs to its name."""
    path = tmp_path / "my.fs"
    assert zodbsh("init", path, "--blobs", f"{path}.blobs").returncode == 0
    return path


def test_what_writes_finds_the_folder_beside_the_database(database: Path) -> None:
    """A script stores a blob without naming the folder, and what commits the stage does not either."""
    assert zodbsh("run", database, "-c", STORE).returncode == 0
    assert zodbsh("commit", database).returncode == 0
    shown = zodbsh("shell", database, "-c", "print(root['blob'].open().read())")
    assert shown.stdout == "b'hello'\n"


def test_a_folder_that_is_not_marked_is_not_written_to(database: Path) -> None:
    """A folder that only has the name keeps what it has."""
    (Path(f"{database}.blobs") / ".layout").unlink()
    run = zodbsh("run", database, "--commit", "-c", STORE)
    assert (run.returncode, run.stderr.splitlines()[0]) == (8, f"error: {database} is open without its folder of blobs")
    assert not list(Path(f"{database}.blobs").rglob("*.blob"))


@pytest.mark.parametrize("words", READING + WRITING, ids=lambda words: words[0])
def test_a_folder_that_is_not_there_is_told_by_every_command(database: Path, words: tuple[str, ...]) -> None:
    """Exit status 3, the same words, and nothing is done without blobs instead."""
    verb, *rest = words
    more = [str(database.parent / "backups")] if verb == "backup" else []
    run = in_process(verb, str(database), *more, *rest, "--blobs", "mistyped")
    assert (run.status, run.out) == (3, "")
    assert run.err.startswith("error: there is no folder mistyped\nhint: ")
