"""What a bulk pass yields: one snapshot of a database in flat columns, and what it met on the way.

Objects have dense numbers, in the order in which the pass met them; oids stand
at the border. Columns are buffers of unsigned numbers (``Q`` 8 bytes, ``I`` 4):
arrays of Python's or memory of the native engine, the same to whoever reads.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from zodbsh.ids import MAX_ID
from zodbsh.progress import Progress

NONE = 0xFFFFFFFF
"""No object: where a column of dense numbers has nothing to say."""

MISSING = 0xFFFFFFFF
"""In the column of classes: an object that is only referred to."""

DELETED = 0xFFFFFFFE
"""In the column of classes: an object that ceased to exist."""

WEAK = 0x80000000
"""In a column of targets: the bit of a weak reference; the dense number is below it."""

POINTS_BACK = 1 << 63
"""In the column ``where``: the bit of a record that shares an older one's data, or deletes."""

NO_OFFSET = 0xFFFFFFFF

MAX_DANGLING = 1_000_000
"""So many references that dangled at their time are kept; more are counted."""


class Totals(NamedTuple):
    """What a pass counts.

    ``data_bytes`` are those of records with data of their own; ``references``
    the ordinary references in them (neither weak nor into other databases).
    """

    transactions: int = 0
    records: int = 0
    data_bytes: int = 0
    references: int = 0
    first_tid: int | None = None
    last_tid: int | None = None


class Undecodable(NamedTuple):
    """A record that does not decode: ``offset`` in its data, and the reason."""

    oid: int
    tid: int
    where: int
    offset: int
    reason: str


class Dangled(NamedTuple):
    """A reference in the record of ``oid`` at ``where`` to what did not exist when it was written."""

    oid: int
    tid: int
    where: int
    target: int


class OddPrevious(NamedTuple):
    """A record whose pointer to its object's record before it leads elsewhere than to the one that the pass met.

    ``previous`` is 0 where it says that there is none, though there is. A pack leaves such records in transactions of
    its status: those are not told of.
    """

    oid: int
    tid: int
    where: int
    previous: int


class ToolRow(NamedTuple):
    """A class as zodbtools' ``analyze`` counts it: every record counts for the class its object had first.

    ``total`` are all records with data, ``old`` those that a later one supersedes, each with bytes; ``objects`` all
    that ever had data.
    """

    class_: str
    total: int
    total_bytes: int
    objects: int
    old: int
    old_bytes: int


class Reference(NamedTuple):
    """A reference as the engine sees it; ``offset`` is where the oid's 8 bytes stand, None where they do not."""

    oid: int
    offset: int | None
    weak: bool
    foreign: bool


class Scanned(NamedTuple):
    """One record: its class as text, its references in the order of its bytes, and why it does not decode, if so."""

    class_: str
    references: tuple[Reference, ...]
    trouble: tuple[int, str] | None = None


class Entry(NamedTuple):
    """One record for ``Pass.add``.

    ``where`` is a position in the file, or the tid where there is none. ``data``
    None deletes the object. ``points_back`` says that an older record holds the data. ``previous`` is where the
    object's record before this one is said to be, 0 for none.
    """

    oid: int
    where: int
    data: bytes | None
    points_back: bool = False
    previous: int = 0


class TransactionRow(NamedTuple):
    """One transaction that a pass went through: ``length`` with its repetition, ``data_bytes`` as in Totals."""

    tid: int
    position: int
    length: int
    records: int
    data_bytes: int
    user: bytes


class Reached(NamedTuple):
    """How far a pass came: the position after the last sound transaction and its tid.

    ``finished`` tells that nothing stopped it: it met its limit, or a tid above ``until``.
    """

    end: int
    last_tid: int
    finished: bool


class Options(NamedTuple):
    """What a pass looks for.

    ``references`` decodes every record whole; without it only classes are read
    and nothing is said about what decodes. ``history`` checks each record's
    references against what existed at its time; those of packed transactions, which a database may begin with, at
    the time of the last of them. ``since`` counts nothing before
    that tid. ``tool_rows`` fills `Columns.tool_rows`, ``previous`` `Columns.odd_previous`. ``threads`` 0 means as
    many as there are processors, within reason.
    """

    references: bool = True
    history: bool = False
    since: int = 0
    tool_rows: bool = False
    previous: bool = False
    threads: int = 0


class Column(Protocol):
    """A column: a sequence of numbers that is also a buffer."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> int: ...

    def __iter__(self) -> Iterator[int]: ...


class Columns:
    """One snapshot.

    By dense number: ``oids`` (Q), ``where`` (Q) of the newest record (and
    `POINTS_BACK`), ``sizes`` (Q) of its data, ``classes`` (I), and in ``targets``
    (I) its references: ``counts`` (I) of them from ``starts`` (Q) on. A target is
    a dense number, with the bit `WEAK` for a weak reference; references into
    other databases are left out. ``look_up`` turns an oid into its
    number, or `NONE`. By class number: ``class_names``, and ``class_records``, ``class_bytes`` over all records
    (bytes of their own data).
    """

    def __init__(
        self,
        *,
        oids: Column,
        where: Column,
        sizes: Column,
        classes: Column,
        starts: Column,
        counts: Column,
        targets: Column,
        find: Callable[[int], int],
        class_names: Sequence[str],
        class_records: Sequence[int],
        class_bytes: Sequence[int],
        tool_rows: Sequence[ToolRow],
        totals: Totals,
        undecodable: Sequence[Undecodable],
        dangled: Sequence[Dangled],
        dangled_more: int,
        odd_previous: Sequence[OddPrevious],
        placed: Callable[[bytes, bytes, bytes], bool] | None = None,
    ) -> None:
        self.oids, self.where, self.sizes, self.classes = oids, where, sizes, classes
        self.starts, self.counts, self.targets = starts, counts, targets
        self.look_up = find
        self.class_names, self.class_records, self.class_bytes = class_names, class_records, class_bytes
        self.tool_rows, self.totals = tool_rows, totals
        self.undecodable, self.dangled, self.dangled_more = undecodable, dangled, dangled_more
        self.odd_previous = odd_previous
        self._placed = placed

    def __len__(self) -> int:
        return len(self.oids)

    def find(self, oid: int) -> int | None:
        """Return an object's dense number, None for an oid that the pass never met."""
        number = self.look_up(oid)
        return None if number == NONE else number

    def exists(self, number: int) -> bool:
        """Tell whether an object exists at the snapshot's time."""
        return self.classes[number] < DELETED

    def class_name(self, number: int) -> str | None:
        """Return an object's class as text, None for one that does not exist."""
        class_ = self.classes[number]
        return self.class_names[class_] if class_ < DELETED else None

    def position(self, number: int) -> int:
        """Return where an object's newest record is."""
        return self.where[number] & ~POINTS_BACK

    def placed(self, prefix: bytes, suffixes: bytes, positions: bytes) -> bool:
        """Tell whether the newest records of some objects are where they are said to be.

        Their oids share the first 6 bytes, ``prefix``; ``suffixes`` has the last 2 of each, ``positions`` 6 bytes each.
        """
        if self._placed is not None:
            return self._placed(prefix, suffixes, positions)
        for place in range(len(suffixes) // 2):
            number = self.find(int.from_bytes(prefix + suffixes[2 * place : 2 * place + 2], "big"))
            position = int.from_bytes(positions[6 * place : 6 * place + 6], "big")
            if number is None or self.classes[number] == MISSING or self.position(number) != position:
                return False
        return True

    def forget_references(self) -> None:
        """Let go of the memory that sizes and references take; what remains finds objects and their records."""
        self.sizes = self.starts = self.targets = array("Q")
        self.counts = array("I")

    def forget(self) -> None:
        """Let go of all memory; no question can be asked any more."""
        self.forget_references()
        self.oids = self.where = array("Q")
        self.classes = array("I")
        self.look_up = lambda _: NONE
        self._placed = None

    def references(self, number: int) -> list[tuple[int, bool]]:
        """Return an object's references as dense numbers, each with whether it is weak."""
        start, targets = self.starts[number], self.targets
        found = (targets[index] for index in range(start, start + self.counts[number]))
        return [(target & ~WEAK, target >= WEAK) for target in found]


class Newest(Mapping[int, int]):
    """Where each object's newest record is, deletions included: positions by oid."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    def __getitem__(self, oid: int) -> int:
        number = self._columns.find(oid)
        if number is None or self._columns.classes[number] == MISSING:
            raise KeyError(oid)
        return self._columns.position(number)

    def __iter__(self) -> Iterator[int]:
        columns = self._columns
        return (oid for oid, class_ in zip(columns.oids, columns.classes, strict=True) if class_ != MISSING)

    def __len__(self) -> int:
        classes = array("I", self._columns.classes)
        return len(classes) - classes.count(MISSING)

    def placed(self, prefix: bytes, suffixes: bytes, positions: bytes) -> bool:
        """Tell whether records are where they are said to be (see `Columns.placed`)."""
        return self._columns.placed(prefix, suffixes, positions)

    def holds_data(self, oid: int) -> bool:
        """Tell whether an object's newest record has data of its own."""
        number = self._columns.find(oid)
        return number is not None and self._columns.where[number] < POINTS_BACK


class Pass(Protocol):
    """A walk over a database that fills columns; feed it in the order of the transactions."""

    def __init__(self, options: Options = ...) -> None: ...

    def read(
        self,
        fd: int,
        start: int,
        limit: int,
        *,
        last_tid: int = 0,
        until: int = MAX_ID,
        progress: Progress = ...,
        on_transactions: Callable[[list[TransactionRow]], None] | None = None,
        chunk: int = ...,
    ) -> Reached:
        """Take the sound transactions of a Data.fs from ``start``, before which ``last_tid`` is the last one.

        Stops before the first transaction that is not whole and sound, without
        saying why. Raises OSError.
        """

    def add(self, tid: int, entries: Iterable[Entry], *, packed: bool = False) -> None:
        """Take one transaction from elsewhere; ``packed`` says that a pack went over it."""

    def finish(self) -> Columns:
        """Return the columns; the pass is over."""
