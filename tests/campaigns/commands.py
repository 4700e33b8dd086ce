"""The commands that the campaigns try, one entry each."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fixtures import (
    BACKUPS,
    DAMAGED,
    NAME,
    TID,
    backed_up,
    damaged,
    database,
    nothing,
    only_backups,
    other_database,
    staged,
    superseded,
    taken_back,
    to_pack,
    to_take_back,
    undoable,
)
from folder_states import both, copies, only_database, packed, recovered, replaced, with_tail

BLOBS = ("--blobs", f"{NAME}.blobs")
SCRIPT = """
root['changed'] = 'x' * 3000
root['new'] = persistent.mapping.PersistentMapping(a=1)
root['blob-new'] = ZODB.blob.Blob(b'staged blob' * 700)
"""
# What the first backup makes once, and leaves.
FOLDER = frozenset({BACKUPS, f"{BACKUPS}/.zodbsh-backup.lock", f"{BACKUPS}/blobs", f"{BACKUPS}/blobs/.layout"})


class Command(NamedTuple):
    """A command, and how to judge what it leaves.

    ``make`` fills an empty folder, in which ``argv`` runs; ``{tid}`` in a word is the one that the fixture has noted.
    ``state`` reads that folder: before the command or after it, nothing else may ever be seen.
    ``done`` is how standard output, or standard error, says that the command
    worked. ``again`` are the exit statuses of the command when it is run once
    more after an interruption: ``done_already`` those where it had been done.
    ``twice`` tells that doing it again after it was done does more. ``troubled`` is
    the exit status where it was done, but something failed after that. ``program``
    is a script that runs in zodbsh's place. ``usual`` are names that may stay, whatever happens. ``in_the_way`` is a
    name that an interruption may leave, and that the command, run again, refuses to overwrite. ``threads`` tells that
    the order of its calls is not always the same.
    """

    name: str
    make: Callable[[Path], None]
    argv: tuple[str, ...]
    state: Callable[[Path], object]
    done: str
    again: frozenset[int] = frozenset({0})
    done_already: frozenset[int] = frozenset({0})
    twice: bool = False
    troubled: int = 0
    program: str | None = None
    usual: frozenset[str] = frozenset()
    in_the_way: str | None = None
    threads: bool = False

    def of(self, folder):
        """Return the command with the words that belong to a fixture."""
        noted = (folder / TID).read_text() if (folder / TID).exists() else ""
        return self._replace(argv=tuple(word.replace("{tid}", noted) for word in self.argv))


COMMANDS = [
    Command(
        "init", nothing, ("init", NAME, *BLOBS), both, "created",
        again=frozenset({0, 2}), done_already=frozenset({2}),
    ),
    Command(
        "run", database, ("run", NAME, *BLOBS, "-m", "ZODB.blob", "-m", "persistent.mapping", "-c", SCRIPT), both,
        "staged:", twice=True,
    ),
    Command("commit", staged, ("commit", NAME, *BLOBS), both, "committed:"),
    Command("pack", to_pack, ("pack", NAME, "-y", *BLOBS), packed, "packed up to", troubled=1),
    Command("abort", staged, ("abort", NAME, "-y"), both, "dropped: "),
    Command("backup", database, ("backup", NAME, BACKUPS), copies, "full backup", usual=FOLDER, threads=True),
    Command("increment", backed_up, ("backup", NAME, BACKUPS), copies, "increment backup", threads=True),
    Command(
        "keep", superseded, ("backup", NAME, BACKUPS, "--full", "--keep", "1"), copies, "full backup",
        troubled=1, threads=True,
    ),
    Command(
        "restore", only_backups, ("restore", BACKUPS, NAME), only_database, "restored my.fs",
        done_already=frozenset({2}), in_the_way=f"{NAME}.blobs",
    ),
    # Done again it would cost an `.old` that is later than what was restored: then it refuses.
    Command(
        "replace", other_database, ("restore", BACKUPS, NAME, "--force"), replaced, "restored my.fs", twice=True,
        done_already=frozenset({0, 2}),
    ),
    Command(
        "recover", damaged, ("recover", DAMAGED, NAME), recovered, "recovered ",
        done_already=frozenset({2}), in_the_way=f"{NAME}.blobs",
    ),
    Command("undo", undoable, ("undo", NAME, "{tid}", "-y", *BLOBS), both, "undone by:"),
    Command(
        "after", to_take_back, ("undo", NAME, "--after", "{tid}", "-y", *BLOBS), with_tail, "transactions taken off:",
        troubled=1,
    ),
    Command(
        "redo", taken_back, ("undo", NAME, "--redo", "-y", *BLOBS), with_tail, "transactions put back",
        done_already=frozenset({0, 3}), troubled=1,
    ),
]  # fmt: skip
