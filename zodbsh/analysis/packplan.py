"""What a pack keeps: ZODB's own meaning of it, and one thing more, computed on any source.

The meaning is that of ``ZODB/FileStorage/fspack.py``. Up to the pack time, the
revision of an object that is current then is kept if the root reaches it; a
revision that a later one points back to is kept too. What follows the pack time
is kept whole. Without garbage collection every current revision is kept.

More is kept than ZODB keeps where that would lose data: what a later record, or
a revision that is pointed back to, refers to is kept, although the root did not
reach it at the pack time.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from typing import NamedTuple

from zodbsh.engine import chosen
from zodbsh.engine.columns import DELETED, NONE, POINTS_BACK, Columns, Options, Reference, Undecodable
from zodbsh.engine.packing import Later, Pointer
from zodbsh.filestorage.damage import Damage, FramingDamage
from zodbsh.filestorage.structs import DATA_HEADER, NUMBER, PACKED, STATUS_OFFSET
from zodbsh.ids import MAX_ID, ROOT_OID
from zodbsh.progress import SILENT, Progress
from zodbsh.record.classpart import class_part
from zodbsh.record.decode import RecordError, references_of_any
from zodbsh.source.base import Revision, Source
from zodbsh.source.columns import check_histories, file_columns
from zodbsh.source.file import FileSource

_RECORD_HEADER = DATA_HEADER.size
_DELETIONS = "(deletions)"


class ClassRemoval(NamedTuple):
    """What a pack takes from one class: objects, revisions, bytes of their own data with 42 for each header."""

    class_: str
    objects: int
    revisions: int
    bytes: int


class Dangling(NamedTuple):
    """A reference that leads nowhere, or (``target`` None) a record that cannot be read.

    ``oid`` is the object whose record holds it (None: the database has no
    root), ``class_`` the object's class, ``reason`` one sentence.
    """

    oid: int | None
    class_: str
    target: int | None
    reason: str


@dataclass(frozen=True)
class Plan:
    """What stays of the time up to ``tid``.

    ``columns`` are those of that time; ``marks`` has a 1, by dense number, where an object's current revision stays.
    ``targets`` (with ``target_oids``) are what later records point back to, current or not: positions in a file,
    ascending, else tids. Of a file, ``border`` is the position after the pack time, ``end`` that after the last
    transaction, ``later_columns`` are those of what is between, without references. ``redundant`` says that a pack
    went over this time already; then nothing is to be done. ``dangling`` are references of what stays that lead
    nowhere at the pack time; ``undecodable`` are records that do not tell what they refer to: what collection would
    take from under them cannot be known.
    """

    tid: int
    columns: Columns
    marks: bytearray
    targets: array[int]
    target_oids: array[int]
    later: Later
    dangling: tuple[Dangling, ...]
    undecodable: tuple[Dangling, ...]
    redundant: bool
    border: int = 0
    end: int = 0
    later_columns: Columns | None = None

    @property
    def unsure(self) -> bool:
        """Whether it cannot be known what is garbage: records that stay cannot be read, or there is no root."""
        return bool(self.undecodable) or any(finding.oid is None for finding in self.dangling)

    def removed(self) -> Iterator[int]:
        """Yield the dense numbers of the objects that will be gone altogether."""
        classes = self.columns.classes
        states = zip(classes, self.marks, self.later.stored, strict=True)
        return compress(range(len(classes)), (class_ < DELETED and not (mark or more) for class_, mark, more in states))

    def stays(self, oid: int, where: int) -> bool:
        """Tell whether a revision of before stays; ``where`` is its position, its tid where it has none."""
        number = self.columns.find(oid)
        if number is not None and self.marks[number] and self.columns.position(number) == where:
            return True
        return (where, oid) in self._pointed

    @cached_property
    def _pointed(self) -> set[tuple[int, int]]:
        return set(zip(self.targets, self.target_oids, strict=True))


class _Before(NamedTuple):
    """A source up to the pack time, and what is needed of the time after."""

    columns: Columns
    later: Later
    redundant: bool
    border: int = 0
    end: int = 0
    later_columns: Columns | None = None


def plan_pack(source: Source, tid: int, *, collect: bool = True, progress: Progress = SILENT) -> Plan:
    """Find what a pack to ``tid`` (inclusive) keeps; reads the source only.

    ``collect`` is garbage collection; without a root it would leave nothing, so that is told as dangling. Raises
    FramingDamage, StorageIOError.
    """
    is_file = isinstance(source, FileSource)
    before = _file_before(source, tid, progress) if is_file else _source_before(source, tid, progress)  # type: ignore[arg-type]
    columns, later = before.columns, before.later
    pointed = sorted({(pointer.target, pointer.oid) for pointer in later.pointers})
    dangling: list[Dangling] = []
    undecodable: list[Dangling] = []
    if not collect:
        marks = bytearray(map(DELETED.__gt__, columns.classes))
    else:
        root = columns.find(ROOT_OID)
        roots = set(compress(range(len(columns)), later.referred))
        if root is not None and columns.exists(root):
            roots.add(root)
        elif any(map(DELETED.__gt__, columns.classes)):
            dangling.append(Dangling(None, "", ROOT_OID, "no such object at the pack time"))
        reader = _Reader(source, columns)
        for revision in _revisions(source, pointed):
            roots.update(reader.targets(revision))
        for record in later.undecodable:
            roots.update(reader.again(record))
        marks = _reached(columns, roots, reader)
        undecodable += reader.unreadable
    undone = set(_undone(source, columns))
    if not collect:
        for number in undone:
            marks[number] = 1
    for holder, target in chosen.dangling(columns.classes, columns.starts, columns.counts, columns.targets):
        if marks[holder]:
            # To a pack, what points back to a deletion is an object, if one that holds nothing.
            marks[target] = target in undone
            class_ = columns.class_name(holder) or ""
            dangling.append(
                Dangling(columns.oids[holder], class_, columns.oids[target], "no such object at the pack time")
            )
    targets, target_oids = array("Q", (place for place, _ in pointed)), array("Q", (oid for _, oid in pointed))
    return Plan(
        tid, columns, marks, targets, target_oids, later, tuple(dangling), tuple(undecodable), before.redundant,
        before.border, before.end, before.later_columns,
    )  # fmt: skip


def class_removals(source: Source, plan: Plan) -> tuple[ClassRemoval, ...]:
    """Return what goes of each class, the most bytes first; deletions are a class of their own."""
    columns = plan.columns
    count = len(columns.class_names)
    records, sizes = list(columns.class_records), list(columns.class_bytes)
    deletions = columns.totals.records - sum(columns.class_records)
    for number in compress(range(len(columns)), plan.marks):
        class_ = columns.classes[number]
        if class_ == DELETED:
            deletions -= 1
        else:
            records[class_] -= 1
            sizes[class_] -= columns.sizes[number]
    by_name = {name: number for number, name in enumerate(columns.class_names)}
    for revision in _revisions(source, zip(plan.targets, plan.target_oids, strict=True)):
        current = columns.find(revision.oid)
        if current is not None and plan.marks[current] and columns.position(current) == _where(revision):
            continue
        class_ = by_name.get(class_part(revision.data)[0], -1) if revision.data is not None else -1
        if class_ < 0:
            deletions -= 1
        else:
            records[class_] -= 1
            sizes[class_] -= len(revision.data or b"")
    objects = Counter(columns.classes[number] for number in plan.removed())
    rows = [
        ClassRemoval(name, objects[class_], records[class_], sizes[class_] + _RECORD_HEADER * records[class_])
        for name, class_ in zip(columns.class_names, range(count), strict=True)
        if records[class_] or objects[class_]
    ]
    if deletions:
        rows.append(ClassRemoval(_DELETIONS, 0, deletions, (_RECORD_HEADER + 8) * deletions))
    return tuple(sorted(rows, key=lambda row: (-row.bytes, row.class_)))


def dangling_in(columns: Columns) -> tuple[Dangling, ...]:
    """Return each reference of a current record that resolves to no object, and each record that cannot be read.

    Weak references and references into other databases are allowed to dangle.
    """
    found = [
        Dangling(columns.oids[holder], columns.class_name(holder) or "", columns.oids[target], "no such object")
        for holder, target in chosen.dangling(columns.classes, columns.starts, columns.counts, columns.targets)
    ]
    unreadable = (_unreadable(columns, record) for record in _undecodable(columns, bytearray(b"\1") * len(columns)))
    return (*found, *unreadable)


def _file_before(source: FileSource, tid: int, progress: Progress) -> _Before:
    file = source.file

    def refuse(damage: Damage) -> None:
        raise FramingDamage(source.path, damage, more=0)

    found = file_columns(file, refuse, options=Options(previous=True), until=tid, progress=progress)
    # A pack makes these pointers anew: what contradicts them would be gone.
    check_histories(file, found.columns.odd_previous, refuse)
    if found.whole:
        nothing = bytearray(len(found.columns))
        return _Before(found.columns, Later((), nothing, nothing, ()), False, found.end, found.end)
    rest = file_columns(
        file, refuse,
        options=Options(references=False), start=found.end, last_tid=found.last_tid, progress=progress,
    )  # fmt: skip
    later = chosen.survey(file.fd, found.end, rest.end, found.columns, progress=progress)
    check_histories(file, later.odd, refuse)
    redundant = file.read(found.end + STATUS_OFFSET, 1) == PACKED
    return _Before(found.columns, later, redundant, found.end, rest.end, rest.columns)


def _undone(source: Source, columns: Columns) -> Iterator[int]:
    """Yield the deleted objects whose newest record points back to a deletion, rather than being one."""
    if isinstance(source, FileSource):
        for number in compress(range(len(columns)), map(DELETED.__eq__, columns.classes)):
            if any(source.file.read(columns.position(number) + _RECORD_HEADER, NUMBER.size)):
                yield number


def _undecodable(columns: Columns, marks: bytearray) -> Iterator[Undecodable]:
    """Yield the records that cannot be read, of those that stay or whose data one that stays may share."""
    for record in columns.undecodable:
        number = columns.find(record.oid)
        if number is None or not marks[number] or not columns.exists(number):
            continue
        if columns.where[number] >= POINTS_BACK or record.where == columns.position(number):
            yield record


def _unreadable(columns: Columns, record: Undecodable) -> Dangling:
    number = columns.find(record.oid)
    class_ = None if number is None else columns.class_name(number)
    return Dangling(record.oid, class_ or "", None, f"its record cannot be read: {record.reason}")


def _revisions(source: Source, pointed: Iterable[tuple[int, int]]) -> Iterator[Revision]:
    """Return the revisions that later records point back to."""
    for where, oid in pointed:
        if isinstance(source, FileSource):
            yield source.revision_at(where, oid)
        else:
            yield from (revision for revision in source.history(oid, where) if revision.tid == where)


class _Reader:
    """Finds what records refer to that the columns do not tell of, and remembers those that do not tell at all."""

    def __init__(self, source: Source, columns: Columns) -> None:
        self.source, self.columns = source, columns
        self.unreadable: list[Dangling] = []
        self._looked: set[tuple[int, int]] = set()

    def targets(self, revision: Revision) -> Iterable[int]:
        """Return the numbers of the objects that a revision refers to, not weakly."""
        if revision.data is None:
            return ()
        scanned = chosen.scan_record(revision.data)
        if scanned.trouble is None:
            return _strong(scanned.references, self.columns)
        where = revision.tid if revision.position is None else revision.position
        return self.again(Undecodable(revision.oid, revision.tid, where, *scanned.trouble))

    def again(self, record: Undecodable) -> Iterable[int]:
        """Look at a record that is no sound one: its two pickles may tell all the same."""
        if (record.where, record.oid) in self._looked:
            return ()
        self._looked.add((record.where, record.oid))
        try:
            (revision,) = _revisions(self.source, [(record.where, record.oid)])
            found = references_of_any(revision.data or b"")
        except RecordError:
            self.unreadable.append(_unreadable(self.columns, record))
            return ()
        return _strong((Reference(ref.oid, None, ref.weak, ref.database is not None) for ref in found), self.columns)


def _reached(columns: Columns, roots: set[int], reader: _Reader) -> bytearray:
    """Mark what the roots reach, also by what only a second look at a record tells."""
    while True:
        reached = chosen.reach(columns.classes, columns.starts, columns.counts, columns.targets, roots)
        marks = bytearray(map(NONE.__ne__, reached.parents))
        before = len(roots)
        for record in _undecodable(columns, marks):
            roots.update(reader.again(record))
        if len(roots) == before:
            return marks


def _strong(references: Iterable[Reference], columns: Columns) -> Iterator[int]:
    """Yield the numbers of the objects that a record refers to, not weakly."""
    for ref in references:
        number = None if ref.weak or ref.foreign else columns.find(ref.oid)
        if number is not None and columns.exists(number):
            yield number


def _where(revision: Revision) -> int:
    return revision.tid if revision.position is None else revision.position


def _source_before(source: Source, tid: int, progress: Progress) -> _Before:
    columns = source.columns(tid, progress=progress)
    pointers: list[Pointer] = []
    undecodable: list[Undecodable] = []
    referred, stored = bytearray(len(columns)), bytearray(len(columns))
    redundant: bool | None = None
    progress.start("reading what follows", None, "transactions")
    for done, transaction in enumerate(source.transactions(tid + 1, MAX_ID)):
        redundant = transaction.status == "p" if redundant is None else redundant
        for revision in source.records(transaction):
            if (number := columns.find(revision.oid)) is not None:
                stored[number] = 1
            if revision.data_tid is not None:
                if revision.data_tid <= tid:
                    pointers.append(Pointer(revision.oid, revision.tid, revision.tid, revision.data_tid))
            elif revision.data is not None:
                scanned = chosen.scan_record(revision.data)
                if scanned.trouble is not None:
                    undecodable.append(Undecodable(revision.oid, revision.tid, revision.tid, *scanned.trouble))
                for number in _strong(scanned.references, columns):
                    referred[number] = 1
        progress.advance(done + 1)
    progress.finish()
    return _Before(columns, Later(pointers, referred, stored, undecodable), bool(redundant))
