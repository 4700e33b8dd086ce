"""ZODB's own tests of packing, iterating and recovering, on a storage that our pack has packed."""

from __future__ import annotations

import time

import pytest
from persistent.TimeStamp import TimeStamp
from ZODB.FileStorage import FileStorage
from ZODB.tests import (
    IteratorStorage,
    PackableStorage,
    RecoveryStorage,
    RevisionStorage,
    StorageTestBase,
    TransactionalUndoStorage,
)
from ZODB.utils import u64

from zodbsh.db.spec import parse_spec
from zodbsh.ops.packing.pack import CollectionRefused, pack


@pytest.fixture(autouse=True)
def quick(no_fsync):
    """Nothing need be durable here."""


class PackedByUs(FileStorage):
    """ZODB's storage, closed while our command packs its file, and opened again."""

    def pack(self, t, referencesf, gc=None):
        tid = u64(TimeStamp(*time.gmtime(t)[:5], t % 60).raw())
        path = self._file_name
        self.close()
        try:
            pack(parse_spec(path), tid=tid, collect=gc is not False)
        except CollectionRefused as exc:
            # Without a root everything is garbage; ZODB says so with a KeyError.
            raise KeyError(0) from exc
        finally:
            self.__init__(path)


class _Base(StorageTestBase.StorageTestBase):
    def setUp(self):
        super().setUp()
        self._storage = PackedByUs("FileStorageTests.fs", create=True)


class TestPackable(
    _Base,
    PackableStorage.PackableStorageWithOptionalGC,
    PackableStorage.PackableUndoStorage,
    TransactionalUndoStorage.TransactionalUndoStorage,
    RevisionStorage.RevisionStorage,
    IteratorStorage.IteratorStorage,
    IteratorStorage.ExtendedIteratorStorage,
):
    """What needs a storage that others write to while it is packed has no meaning for a command that takes the lock."""

    use_extension_bytes = True
    testPackWhileWriting = testPackNowWhileWriting = testPackLotsWhileWriting = None  # noqa: N815 - ZODB's names


class TestRecovery(_Base, RecoveryStorage.RecoveryStorage):
    """Transactions copied from one storage to another that is packed meanwhile."""

    def setUp(self):
        super().setUp()
        self._dst = PackedByUs("Dest.fs", create=True)

    def tearDown(self):
        self._dst.close()
        super().tearDown()

    def new_dest(self):
        return PackedByUs("Dest.fs")
