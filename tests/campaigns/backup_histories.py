"""Random histories of a database with blobs, backed up again and again, and restored: pure functions of a seed."""

from __future__ import annotations

import os
import random
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

import transaction
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.POSException import UndoError
from ZODB.serialize import referencesf
from ZODB.utils import u64

from zodbsh.analysis.blobfolder import BlobFile, blob_files
from zodbsh.db.spec import Spec
from zodbsh.filestorage.repository import read_folder
from zodbsh.ids import MAX_ID
from zodbsh.ops.backups import backup as backup_module
from zodbsh.ops.backups.backup import backup
from zodbsh.ops.backups.check import check_backups
from zodbsh.ops.backups.judge import OtherDatabase
from zodbsh.ops.backups.restore import restore


class Clock:
    """Every look at it is a second later."""

    def __init__(self):
        self.moment = datetime.now(UTC) - timedelta(days=1)

    def __call__(self):
        self.moment += timedelta(seconds=1)
        return self.moment


class History:
    """A database that lives through random transactions, undos and packs."""

    def __init__(self, seed, folder, *, blobs=True):
        self.rand = random.Random(seed)
        self.folder = Path(folder)
        self.path = str(self.folder / "Data.fs")
        self.blobs = str(self.folder / "blobs") if blobs else None
        self.packed_at = 0
        self.names = self.doubted = 0

    def step(self):
        """Open the database with ZODB, do one to five things, close it."""
        storage = ZODB.FileStorage.FileStorage(self.path, blob_dir=self.blobs)
        db = ZODB.DB(storage)
        try:
            for _ in range(self.rand.randint(1, 5)):
                self.rand.choice((self._change, self._change, self._change, self._undo, self._drop))(db)
            if self.rand.random() < 0.25:
                self._pack(storage)
        finally:
            db.close()
        if self.rand.random() < 0.5:
            os.unlink(self.path + ".index")

    def _change(self, db):
        rand = self.rand
        with db.transaction("change") as connection:
            root = connection.root()
            for _ in range(rand.randint(1, 3)):
                self.names += 1
                name = f"n{rand.randrange(20)}"
                if self.blobs and rand.random() < 0.4:
                    blob = root.get(name)
                    if not isinstance(blob, Blob):
                        blob = root[name] = Blob()
                    with blob.open("w") as file:
                        file.write(rand.randbytes(rand.choice((0, 1, 1000, 70_000))))
                else:
                    root[name] = PersistentMapping(text=rand.randbytes(rand.choice((1, 100, 5_000))))

    def _drop(self, db):
        with db.transaction("drop") as connection:
            root = connection.root()
            if root:
                del root[self.rand.choice(sorted(root))]

    def _undo(self, db):
        infos = [info for info in db.undoInfo(0, 5) if "initial" not in str(info["description"])]
        if not infos:
            return
        manager = transaction.TransactionManager()
        try:
            db.undo(self.rand.choice(infos)["id"], manager.get())
            manager.commit()
        except UndoError:
            manager.abort()

    def _pack(self, storage):
        transactions = [record.tid for record in storage.iterator()]
        tid = self.rand.choice(transactions)
        from persistent.TimeStamp import TimeStamp

        storage.pack(TimeStamp(tid).timeTime(), referencesf)
        shutil.rmtree(self.path + ".old", ignore_errors=True)

    def state(self):
        """Return the file's bytes and the blobs of its records: an undo that fails leaves a blob file behind."""
        storage = ZODB.FileStorage.FileStorage(self.path, read_only=True)
        named = {(u64(record.oid), u64(record.tid)) for found in storage.iterator() for record in found}
        storage.close()
        blobs = blobs_in(self.blobs) if self.blobs else {}
        return Path(self.path).read_bytes(), {key: blobs[key] for key in blobs.keys() & named}


def blobs_in(folder):
    """Return the content of every blob file by oid and tid."""
    layout = Path(folder, ".layout").read_text().strip() if os.path.exists(folder) else "bushy"
    return {
        (found.oid, found.tid): Path(found.path).read_bytes()
        for found in blob_files(str(folder), layout)
        if isinstance(found, BlobFile)
    }


def last_tid(path):
    storage = ZODB.FileStorage.FileStorage(path, read_only=True)
    tid = u64(storage.lastTransaction())
    storage.close()
    return tid


def back_up(history, repository, **options):
    """Back a history up; where a pack has left nothing that tells it from another one, say that it is the same."""
    spec = Spec(history.path, "file", path=history.path, blob_dir=history.blobs)
    try:
        return backup(spec, repository, **options)
    except OtherDatabase as exc:
        if "--full" not in exc.hint:
            raise
        history.doubted += 1
        result = backup(spec, repository, **options | {"full": True})
        assert result.pruned.steps == ()
        return result


def rot(rand, repository):
    """Change a file of the newest full backup or of an increment on top of it: a byte, its end, or all of it."""
    chain = read_folder(repository).chains[-1]
    name = rand.choice(chain.steps).name
    path = Path(repository, name)
    content = path.read_bytes()
    place = rand.randrange(len(content))
    if name.endswith("z"):
        # Of gzip's header not every bit says something; a digest is of what comes out.
        place = rand.randrange(10, len(content))
    how = rand.choice(("byte", "byte", "byte", "cut", "gone"))
    if how == "byte":
        path.write_bytes(content[:place] + bytes((content[place] ^ rand.randrange(1, 256),)) + content[place + 1 :])
    elif how == "cut":
        os.truncate(path, place)
    else:
        path.unlink()
    return name, how


def live_on(history, repository, clock):
    """Go on when a file has rotted: the next backup depends on nothing rotten, and says so, and comes back."""
    rand = history.rand
    name, how = rot(rand, repository)
    if rand.random() < 0.8:
        history.step()
    with mock.patch.object(backup_module, "_now", clock):
        result = back_up(history, repository, keep=rand.choice((None, 1)))
    out = Path(history.folder, "after rot")
    out.mkdir()
    restored = restore(repository, str(out / "Data.fs"))
    assert restored.findings == ()
    found = Path(out, "Data.fs").read_bytes(), blobs_in(str(out / "Data.fs.blobs"))
    assert found == history.state(), f"{name} {how}: another state"
    chain = [step.name for step in read_folder(repository).chains[-1].steps]
    # Where a pack makes it full in any case, or the last step is gone altogether, nothing depends on the rotten one.
    assert name not in chain, f"{name} {how}: a {result.kind} one on top of it"
    return result.kind, tuple(finding.kind for finding in result.findings)


def live_through(seed, folder):
    """Make a history and back it up along the way; every state that was backed up comes back.

    Then a file of the last backup rots. Return how many states came back, what became of the last backup, and how often
    it had to be said that the database is the same.
    """
    history = History(seed, folder, blobs=seed % 3 != 0)
    rand = history.rand
    repository = str(Path(folder, "the backups"))
    out = Path(folder, "out")
    states, kept = {}, set()
    clock = Clock()
    with mock.patch.object(backup_module, "_now", clock):
        for _ in range(rand.randint(2, 6)):
            history.step()
            keep = rand.choice((None, None, None, 1, 2))
            result = back_up(
                history,
                repository,
                full=rand.random() < 0.15,
                compress=rand.random() < 0.3,
                keep=keep,
                copy_blobs=rand.random() < 0.3,
            )
            assert result.findings == (), result.findings
            if result.pruned.steps:
                kept.clear()
            # A pack changes the bytes of a state; before and after it the same transaction is the last one.
            states.setdefault(last_tid(history.path), []).append(history.state())
            kept.add(last_tid(history.path))
            check = check_backups(repository)
            assert check.ok, check.findings
    states[MAX_ID] = [history.state()]
    for tid in (*sorted(kept), MAX_ID):
        known = states[tid]
        out.mkdir()
        target = str(out / "Data.fs")
        result = restore(repository, target, at=tid, copy_blobs=rand.random() < 0.5)
        assert result.findings == (), result.findings
        found = Path(target).read_bytes(), blobs_in(target + ".blobs")
        assert found in known, f"seed {seed}: another state at {tid:016x}: {len(found[0])} bytes, {len(found[1])} blobs"
        shutil.rmtree(out)
    return len(kept) + 1, live_on(history, repository, clock), history.doubted
