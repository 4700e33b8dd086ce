"""The commands that the campaigns try, one entry each."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import transaction
import ZODB
import ZODB.FileStorage
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from states import MISSING, database_state, stage_state
from ZODB.blob import Blob

from zodbsh.db.spec import parse_spec
from zodbsh.source.file import FileSource
from zodbsh.stage import store
from zodbsh.stage.applied import applied_by

NAME = "my.fs"
BLOBS = ("--blobs", f"{NAME}.blobs")
SCRIPT = """
root['changed'] = 'x' * 3000
root['new'] = persistent.mapping.PersistentMapping(a=1)
root['blob-new'] = ZODB.blob.Blob(b'staged blob' * 700)
"""


class Command(NamedTuple):
    """A command, and how to judge what it leaves.

    ``make`` fills an empty folder, in which ``argv`` runs. ``state`` reads that
    folder: before the command or after it, nothing else may ever be seen.
    ``done`` is how standard output, or standard error, says that the command
    worked. ``again`` are the exit statuses of the command when it is run once
    more after an interruption: ``done_already`` those where it had been done.
    ``twice`` tells that doing it again after it was done does more. ``troubled`` is
    the exit status where it was done, but something failed after that. ``program``
    is a script that runs in zodbsh's place.
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


def nothing(folder):
    """An empty folder."""


def database(folder):
    """A history with changes, an undone creation, a BTree, garbage, and blobs of which some revisions are old."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(folder / NAME), blob_dir=str(folder / f"{NAME}.blobs")))
    for step in range(6):
        with db.transaction(f"step {step}") as connection:
            root = connection.root()
            tree = root.setdefault("tree", OOBTree())
            for key in range(40 * step, 40 * step + 40):
                tree[f"key {key:04}"] = PersistentMapping(step=step, text="x" * 50)
            root["garbage"] = PersistentMapping(step=step)
            root["blob"] = Blob(f"blob {step} ".encode() * 500)
            root["kept blob"] = root.get("kept blob") or Blob(b"first")
            with root["kept blob"].open("w") as file:
                file.write(f"revision {step}".encode())
    manager = transaction.TransactionManager()
    db.undo(db.undoInfo(0, 1)[0]["id"], manager.get())
    manager.commit()
    db.close()


def staged(folder):
    """The database with a stage: a changed object, a new one, a blob."""
    database(folder)
    from zodbsh.db.session import Session
    from zodbsh.stage.live import keep

    with Session.open(str(folder / NAME), blobs=str(folder / f"{NAME}.blobs")) as session:
        session.root["changed"] = "x" * 3000
        session.root["new"] = PersistentMapping(a=1)
        session.root["blob-new"] = Blob(b"staged blob" * 700)
        keep(session)


def both(folder):
    """Return the state of the database and of its stage; one that was committed is none."""
    path = folder / NAME
    found = database_state(path)
    if found is MISSING:
        return (MISSING, MISSING)
    stage = store.load(parse_spec(str(path)))
    if stage is not None:
        with closing(FileSource(str(path))) as source:
            if applied_by(source, stage) is not None:
                return (found, MISSING)
    return (found, stage_state(path))


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
    Command("pack", database, ("pack", NAME, "-y", *BLOBS), both, "packed up to", troubled=1),
    Command("abort", staged, ("abort", NAME, "-y"), both, "dropped: "),
]  # fmt: skip
