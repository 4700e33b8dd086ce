"""ZODB's own tests of undo, with ours in the place of its, on files that were taken back and put back."""

from __future__ import annotations

import base64
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from persistent.mapping import PersistentMapping
from ZODB.FileStorage import FileStorage
from ZODB.tests import ConflictResolution, RevisionStorage, StorageTestBase, TransactionalUndoStorage
from ZODB.tests.StorageTestBase import zodb_pickle
from ZODB.utils import u64

from zodbsh.db.source import open_source
from zodbsh.db.spec import parse_spec
from zodbsh.db.undo import NothingToUndo, write_undo
from zodbsh.ops.undoing.putback import find_tail, put_back
from zodbsh.ops.undoing.takeback import BeforeTheFirst, plan_take_back, take_back

_NAME = "FileStorageTests.fs"


@pytest.fixture(autouse=True)
def quick(no_fsync):
    """Nothing need be durable here."""


def there_and_back(path: str) -> None:
    """Take a file back to each of its last transactions and put it back; ZODB reads it each time."""
    whole = Path(path).read_bytes()
    spec = parse_spec(path)
    with closing(open_source(spec)) as source:
        tids = [found.tid for found in source.transactions()]
    for tid in tids[-4:]:
        with closing(open_source(spec)) as source:
            try:
                plan = plan_take_back(source, tid, spec=spec)
            except BeforeTheFirst:
                # These tests have no root.
                return
        take_back(spec, plan, force=True)
        with closing(FileStorage(path)) as storage:
            assert u64(storage.lastTransaction()) == tid
        if tid != tids[-1]:
            put_back(spec, find_tail(spec, None))
        assert Path(path).read_bytes() == whole


class Undo(
    StorageTestBase.StorageTestBase,
    TransactionalUndoStorage.TransactionalUndoStorage,
    RevisionStorage.RevisionStorage,
    ConflictResolution.ConflictResolvingTransUndoStorage,
):
    """Each of ZODB's tests of undo."""

    def setUp(self):
        super().setUp()
        self.open(create=True)

    def open(self, **options):
        self._storage = FileStorage(_NAME, **options)

    def _undo(self, tid, expected_oids=None, note=None):
        with ExitStack() as hold:
            return write_undo(
                self._storage, [u64(base64.decodebytes(tid + b"\n"))], name=_NAME, note=note or "undo", hold=hold
            )

    def tearDown(self):
        self._storage.close()
        there_and_back(_NAME)
        super().tearDown()


class UndoBehindATail(Undo):
    """The same, on a file with a root that already was there and back."""

    # They count all transactions of an empty file, give tids of long ago, or store a root of their own.
    testTransactionalUndoIterator = testLoadBeforeConsecutiveTids = testUndoLogMetadata = None  # noqa: N815
    testIndicesInUndoInfo = testIndicesInUndoLog = testTransactionalUndoAfterPack = None  # noqa: N815
    testTransactionalUndoAfterPackWithObjectUnlinkFromRoot = None  # noqa: N815

    def setUp(self):
        super().setUp()
        data = zodb_pickle(PersistentMapping())
        serial = None
        for _ in range(3):
            serial = self._dostore(b"\0" * 8, revid=serial, data=data, already_pickled=1)
        self._storage.close()
        there_and_back(_NAME)
        self.open()


def test_what_cannot_be_undone(tmp_path):
    """A transaction that the file has no more is told as such, not as a conflict."""
    with closing(FileStorage(str(tmp_path / "x.fs"))) as storage, pytest.raises(NothingToUndo):
        write_undo(storage, [5], name="x.fs", hold=ExitStack())
