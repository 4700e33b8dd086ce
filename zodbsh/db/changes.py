"""Uncommitted changes as data: what a session would write, and what a stage holds.

Nothing here imports ZODB: ``status`` and ``diff`` of a stage on disk need none.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

# An uncommitted new object's oid lies above this: no storage gives such oids
# (DemoStorage, the wildest, draws below 2**62), so a staged object is never
# mistaken for a stored one that took the same number meanwhile.
PROVISIONAL = 1 << 63


# The transaction extension's key under which a commit names the stage it applied.
STAGE_KEY = "zodbsh-stage"


class Entry(NamedTuple):
    """One object's uncommitted record.

    ``serial`` is the revision the change was made to, None for a new object.
    ``blob`` is the path of a file with the blob's content; None for an object
    that is no blob.
    """

    oid: int
    serial: int | None
    data: bytes
    blob: str | None = None

    @property
    def new(self) -> bool:
        """Whether the object does not exist in the database yet."""
        return self.serial is None


class Read(NamedTuple):
    """An object that was only read, but whose change would make the entries wrong.

    BTrees record these (``Connection.readCurrent``) for the nodes above a
    changed bucket. A commit fails where the serial is no longer current.
    """

    oid: int
    serial: int


class Changes(Protocol):
    """What a session's uncommitted changes and a stage have in common."""

    @property
    def base_tid(self) -> int:
        """The transaction the changes were made on top of."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        """One entry an object, in the order they are to be stored."""

    @property
    def reads(self) -> tuple[Read, ...]:
        """Objects that must not have changed, beside the entries' own."""


class Pending(NamedTuple):
    """A session's uncommitted changes (implements ``Changes``)."""

    base_tid: int
    entries: tuple[Entry, ...]
    reads: tuple[Read, ...] = ()


class DirtyObject(NamedTuple):
    """An object that would be saved, or that should be and would not.

    ``path`` is what leads to it from the root, as Python writes it; the oid's
    text where no path is known. ``names`` are the attributes or keys concerned,
    where that is known.
    """

    oid: int
    class_: str
    path: str
    names: tuple[str, ...] = ()


class SharedValue(NamedTuple):
    """One mutable value that several records hold: each gets its own copy on reload."""

    type_: str
    owners: tuple[DirtyObject, ...]


class Dirty(NamedTuple):
    """What a commit would save, and what ZODB would miss without a word.

    ``changed`` are registered objects, ``new`` those that become stored,
    ``silent`` were changed in place and never marked (not saved, and an abort
    leaves them as they are), ``shared`` are mutable values in two records,
    ``main_classes`` are classes (``module.name``) that no other process can
    import. ``missing_classes`` are shown as stand-ins in this session.
    """

    changed: tuple[DirtyObject, ...] = ()
    new: tuple[DirtyObject, ...] = ()
    silent: tuple[DirtyObject, ...] = ()
    shared: tuple[SharedValue, ...] = ()
    main_classes: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.changed or self.new or self.silent)


class MissingClass(NamedTuple):
    """A class that records name and Python cannot find.

    ``used_by`` is the oid of the first object met whose record names it (None
    where not known), ``reason`` what the import said, ``hint`` the option that
    would help.
    """

    module: str
    name: str
    used_by: int | None
    reason: str
    hint: str

    @property
    def dotted(self) -> str:
        return f"{self.module}.{self.name}"
