"""A source: anything that yields records. A file read by us, or any ZODB storage.

Sources only read. What they give is fixed at the moment they are opened: later
commits and packs do not show (``refresh`` opens the door again, where there is
one).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from zodbsh.engine.census import Census
from zodbsh.engine.columns import Columns, Options, TransactionRow
from zodbsh.ids import MAX_ID
from zodbsh.progress import SILENT, Progress


class Transaction(NamedTuple):
    """One transaction's header.

    ``user``, ``description`` are raw bytes (UTF-8 by convention, not by
    promise), ``extension`` the raw pickle (empty mostly): never load it.
    ``length`` in bytes and ``position`` in the file are None where the source
    has none.
    """

    tid: int
    status: str
    user: bytes
    description: bytes
    extension: bytes
    length: int | None = None
    position: int | None = None


class Revision(NamedTuple):
    """One object's record in one transaction.

    ``data`` is None where the revision deletes the object (its creation was
    undone). ``data_tid`` is the tid of the transaction whose data this one
    points back to, None where it holds its own. ``position`` is where the
    record starts in the file, None where the source has none.
    """

    oid: int
    tid: int
    data: bytes | None
    data_tid: int | None = None
    position: int | None = None


class SourceInfo(NamedTuple):
    """What a source is: its name as the user gave it, its format, its size.

    ``format`` is ``FS30``, ``FS21`` or the storage's class name; ``meaning``
    says it in a sentence. ``bytes`` is None where the storage does not tell.
    ``tail`` counts bytes after the last whole transaction (in flight).
    ``damage`` says where and how the file is damaged, where the source ends
    before that.
    """

    name: str
    format: str
    meaning: str
    bytes: int | None
    tail: int = 0
    damage: str | None = None


class Source(Protocol):
    """What every reading command works on."""

    @property
    def last_tid(self) -> int:
        """The transaction this snapshot ends at; 0 in an empty database."""

    def info(self) -> SourceInfo:
        """Return what this source is."""

    def load(self, oid: int, at: int = MAX_ID) -> Revision:
        """Return the revision of ``oid`` current at tid ``at`` (inclusive); its data is never None.

        Raises ObjectNotFound where the object does not exist at that time.
        """

    def history(self, oid: int, at: int = MAX_ID) -> Iterator[Revision]:
        """Yield the object's revisions, newest first, deletions included; nothing for an unknown oid."""

    def transactions(self, first: int = 0, last: int = MAX_ID, *, reverse: bool = False) -> Iterator[Transaction]:
        """Yield the transactions with first <= tid <= last, oldest first (newest first with ``reverse``)."""

    def records(self, transaction: Transaction) -> Iterator[Revision]:
        """Yield every revision of one transaction in the order it holds them."""

    def transaction_of(self, revision: Revision) -> Transaction | None:
        """Return the transaction that wrote a revision, None where the source knows it no more."""

    def census(self, at: int = MAX_ID, progress: Progress = SILENT) -> Census:
        """Count everything once: the overview's figures."""

    def columns(
        self,
        at: int = MAX_ID,
        *,
        options: Options = Options(),  # noqa: B008 - immutable
        progress: Progress = SILENT,
        on_transactions: Callable[[list[TransactionRow]], None] | None = None,
    ) -> Columns:
        """Return every object as of tid ``at`` in the engine's columns, by one pass over all transactions.

        ``on_transactions`` receives what the pass goes through, in order.
        Raises FramingDamage, Unsupported where the storage lists no transactions.
        """

    def oids(self, at: int = MAX_ID) -> Iterator[int]:
        """Yield the oid of each object that exists at tid ``at``."""

    def blob_path(self, oid: int, tid: int) -> str | None:
        """Return the path of a blob's file, None where there is none or the source knows no blobs."""

    def close(self) -> None:
        """Release descriptors and connections; may be called twice."""
