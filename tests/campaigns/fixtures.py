"""What the commands of commands.py are run in: databases, stages, folders of backups, damaged files, tails."""

import shutil
from contextlib import closing
from datetime import UTC, datetime, timedelta
from unittest import mock

import transaction
import ZODB
import ZODB.FileStorage
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from states import content_digest
from ZODB.blob import Blob

from zodbsh.db.spec import parse_spec
from zodbsh.ops.backups import backup as backup_module
from zodbsh.source.file import FileSource

NAME = "my.fs"
BACKUPS = "backups"
DAMAGED = "damaged.fs"
# Notes beside a fixture: a tid for the command's words; tids to restore; what the whole database is.
TID, TIDS, WHOLE_STATE = "tid", "tids", "whole"


def nothing(folder):
    """An empty folder."""


def open_database(folder, name=NAME):
    """Open a database with its blobs, as an application does."""
    return ZODB.DB(ZODB.FileStorage.FileStorage(str(folder / name), blob_dir=str(folder / f"{name}.blobs")))


def database(folder):
    """A history with changes, an undone creation, a BTree, garbage, and blobs of which some revisions are old."""
    db = open_database(folder)
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


def undoable(folder):
    """The database, and the tid of its last transaction, which brings an object back and changes blobs."""
    database(folder)
    (folder / TID).write_text(f"{tids(folder)[-1]:016x}")


def to_pack(folder):
    """The database, and a note of what it is."""
    database(folder)
    (folder / WHOLE_STATE).write_text(content_digest(folder / NAME))


def to_take_back(folder):
    """The database, a note of what it is, and the tid of a transaction that has three after it."""
    to_pack(folder)
    (folder / TID).write_text(f"{tids(folder)[-4]:016x}")


def taken_back(folder):
    """The database that was taken back, with the tail that was kept."""
    from zodbsh.ops.undoing.takeback import plan_take_back, take_back

    to_take_back(folder)
    spec = parse_spec(str(folder / NAME))
    with closing(FileSource(spec.path)) as source:
        plan = plan_take_back(source, tids(folder)[-4], spec=spec)
    take_back(spec, plan)


def damaged(folder):
    """A database under another name, the last transaction of which was never finished."""
    database(folder)
    (folder / NAME).rename(folder / DAMAGED)
    (folder / f"{NAME}.blobs").rename(folder / f"{DAMAGED}.blobs")
    for name in (f"{NAME}.index", f"{NAME}.lock", f"{NAME}.tmp"):
        (folder / name).unlink()
    with open(folder / DAMAGED, "ab") as file:
        file.write(bytes.fromhex("7f00000000000000") + (5000).to_bytes(8, "big") + b"c" + b"\0" * 300)


def backed_up(folder):
    """A full backup and an increment, of which states are noted, and a database that has gone on since."""
    database(folder)
    clock = _Clock()
    noted = []
    for step in range(2):
        with mock.patch.object(backup_module, "_now", clock):
            backup_module.backup(parse_spec(str(folder / NAME)), str(folder / BACKUPS))
        noted.append(f"{tids(folder)[-1]:016x}")
        _go_on(folder, step)
    (folder / TIDS).write_text("\n".join(noted))


def superseded(folder):
    """The same, where only the newest state is to be kept."""
    backed_up(folder)
    (folder / TIDS).unlink()


def only_backups(folder):
    """A folder of backups, and no database."""
    backed_up(folder)
    for name in (NAME, f"{NAME}.index", f"{NAME}.lock", f"{NAME}.tmp"):
        (folder / name).unlink()
    shutil.rmtree(folder / f"{NAME}.blobs")


def other_database(folder):
    """A folder of backups, and a database that has gone on since; what that is, is noted."""
    backed_up(folder)
    (folder / WHOLE_STATE).write_text(content_digest(folder / NAME))


def tids(folder):
    """Return the tids of the database's transactions."""
    with closing(FileSource(str(folder / NAME))) as source:
        return [found.tid for found in source.transactions()]


def _go_on(folder, step):
    db = open_database(folder)
    with db.transaction(f"later {step}") as connection:
        root = connection.root()
        root[f"later {step}"] = PersistentMapping(text="y" * 6000)
        root["blob"] = Blob(f"later {step} ".encode() * 800)
        with root["kept blob"].open("w") as file:
            file.write(f"later {step}".encode())
    db.close()


class _Clock:
    """Every look at it is a second later, and yesterday."""

    def __init__(self):
        self.moment = datetime.now(UTC) - timedelta(days=1)

    def __call__(self):
        self.moment += timedelta(seconds=1)
        return self.moment
