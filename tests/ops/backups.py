"""A database with blobs, changed step by step, for the tests of backup and restore."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import transaction
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.utils import u64

from zodbsh.analysis.blobfolder import BlobFile, blob_files
from zodbsh.db.spec import Spec
from zodbsh.ops.backups.backup import backup
from zodbsh.ops.backups.restore import restore


class Sample:
    """A database, its folder of blobs, and a folder of its backups."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir(exist_ok=True)
        self.path = str(self.folder / "Data.fs")
        self.blobs = str(self.folder / "blobs")
        self.backups = str(self.folder / "backups")
        self.count = 0
        self.spec = Spec(self.path, "file", path=self.path, blob_dir=self.blobs)

    def change(self, *, blob=True, size=1000):
        """Commit an object, and a blob; return the tid."""
        self.count += 1
        db = ZODB.DB(ZODB.FileStorage.FileStorage(self.path, blob_dir=self.blobs))
        with db.transaction("change") as connection:
            root = connection.root()
            root[f"n{self.count}"] = PersistentMapping(text=os.urandom(size))
            if blob:
                root["blob"] = root.get("blob") or Blob()
                with root["blob"].open("w") as file:
                    file.write(f"blob {self.count}".encode() * 100)
        tid = u64(db.storage.lastTransaction())
        db.close()
        return tid

    def undo(self):
        """Undo the last transaction."""
        db = ZODB.DB(ZODB.FileStorage.FileStorage(self.path, blob_dir=self.blobs))
        manager = transaction.TransactionManager()
        db.undo(db.undoInfo(0, 1)[0]["id"], manager.get())
        manager.commit()
        db.close()

    def pack(self):
        db = ZODB.DB(ZODB.FileStorage.FileStorage(self.path, blob_dir=self.blobs))
        db.pack()
        db.close()
        shutil.rmtree(self.blobs + ".old", ignore_errors=True)

    def backup(self, **options):
        return backup(self.spec, self.backups, **options)

    def restore(self, name="out.fs", **options):
        return restore(self.backups, str(self.folder / name), **options)

    def content(self):
        return Path(self.path).read_bytes()

    def names(self):
        """Return the names of all files in the folder of backups, blobs left out, temporary files and the lock too."""
        return sorted(name for name in os.listdir(self.backups) if name not in ("blobs", ".zodbsh-backup.lock"))

    def restored(self, **options):
        """Restore to a new place; return the content, and that of the blobs."""
        out = self.folder / f"restored-{os.urandom(4).hex()}"
        out.mkdir()
        target = str(out / "Data.fs")
        restore(self.backups, target, **options)
        found = Path(target).read_bytes(), blobs_in(target + ".blobs")
        shutil.rmtree(out)
        return found

    def state(self):
        return self.content(), blobs_in(self.blobs)


def blobs_in(folder):
    """Return the content of every blob file by oid and tid."""
    if not os.path.isdir(folder):
        return {}
    layout = Path(folder, ".layout").read_text().strip()
    return {
        (found.oid, found.tid): Path(found.path).read_bytes()
        for found in blob_files(str(folder), layout)
        if isinstance(found, BlobFile)
    }


class Clock:
    def __init__(self):
        self.moment = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)

    def __call__(self):
        self.moment += timedelta(seconds=1)
        return self.moment
