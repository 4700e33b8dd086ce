"""Oids that cannot be right: an object's records point from one to the one before, and some lead to another object's.

Where a record's previous pointer leads exactly to a sound record of another
object, one of three numbers is wrong: its own oid, that record's, or the pointer.
Each is tried: the one under which least contradicts it is repaired, if the oids
differ in one byte. What contradicts is counted from the chains of both objects,
from their back-pointers and from the saved index; where that is even, and no part of the file is lost, the oid
that nothing refers to is wrong.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.filestorage.salvage.parts import Contradiction, Fragment, Reader, Stretch
from zodbsh.filestorage.salvage.records import record_places
from zodbsh.filestorage.structs import DATA_HEADER, PREVIOUS_OFFSET, TRANSACTION_OFFSET, DataHeader
from zodbsh.ids import in_one_byte, oid_text, to_bytes

if TYPE_CHECKING:
    from zodbsh.filestorage.datafile import DataFile
    from zodbsh.filestorage.index import Index
    from zodbsh.filestorage.salvage.map import Pointers
    from zodbsh.filestorage.salvage.plan import Plan
    from zodbsh.filestorage.salvage.salvage import Survey

# Beyond so many, the file is no case of a single wrong number.
_MOST = 1_000
_PIECE = 4 << 20
_REFERENCE = rb"[CU]\x08"


class _Link(NamedTuple):
    """A record of a chain; ``origin`` is its place, as pointers count.

    ``leads`` tells whether its previous pointer leads to what is there, or to where nothing was. ``back`` is its
    back-pointer, if that leads exactly to a record.
    """

    origin: int
    position: int
    tid: int
    previous: int
    leads: bool
    back: int


class _Suspect(NamedTuple):
    """A record, and the one that its previous pointer leads to."""

    oid: int
    link: _Link
    other: int
    before: _Link


class _Choice(NamedTuple):
    """What may be wrong, and how much speaks against that: the lowest is taken."""

    against: int
    far: bool
    bits: int
    position: int
    oid: int | None


def contradicted_oids(
    file: DataFile, found: Survey, plan: Plan, pointers: Pointers, index: Index | None
) -> tuple[dict[int, int], list[Contradiction], int]:
    """Return the right oid of each record, by position, whose own is wrong, all that was found contradicted, and how
    many records more point to another object's, which were not looked at.

    Raises StorageIOError.
    """
    search = _Search(file, found, plan, pointers)
    if not search.suspects:
        return {}, search.wrong, search.more
    chains = _Chains(file, plan, pointers, index, search.suspects)
    undecided = [one for suspect in search.suspects if (one := chains.decide(suspect)) is not None]
    return chains.oids, [*search.wrong, *undecided], search.more


class _Search:
    """All records whose pointers cannot be right: ``wrong`` tells of those that are right without doubt now."""

    def __init__(self, file: DataFile, found: Survey, plan: Plan, pointers: Pointers) -> None:
        self.suspects: list[_Suspect] = []
        self.wrong: list[Contradiction] = []
        self.more = 0
        self._pointers = pointers
        self._reader = reader = Reader(file)
        for number, part in enumerate(plan.parts):
            if number == 0 and found.columns is not None and found.stretches[:1] == [part]:
                # Looked at by the engine already.
                continue
            for position in record_places(reader, part):
                record = reader.record(position)
                if record is not None:
                    self._look(part, position, record)

    def _look(self, part: Stretch | Fragment, position: int, record: DataHeader) -> None:
        previous, origin = record.previous, position - part.shift
        if isinstance(part, Stretch) and part.transactions == 1 and record.transaction != part.origin:
            message = f"it says that its transaction stands at {record.transaction}, which is at {part.origin}"
            self._repaired(position, TRANSACTION_OFFSET, "transaction", record, message)
        if previous >= origin:
            self._repaired(
                position, PREVIOUS_OFFSET, "previous", record, f"the pointer to {previous} leads to nothing earlier"
            )
            return
        if not previous or self._pointers.is_lost(previous):
            return
        if self._pointers.find(record.oid, previous, record.tid) is not None:
            return
        other = self._pointers.at(previous, record.tid)
        if other is None or other[1].oid == record.oid:
            message = f"the pointer to {previous} leads to no record of this object"
            self._repaired(position, PREVIOUS_OFFSET, "previous", record, message)
        elif len(self.suspects) >= _MOST:
            self.more += 1
        else:
            at, before = other
            link = _link(self._reader, self._pointers, origin, position, record)
            before_link = _link(self._reader, self._pointers, previous, at, before)
            self.suspects.append(_Suspect(record.oid, link, before.oid, before_link))

    def _repaired(self, position: int, offset: int, field: str, record: DataHeader, message: str) -> None:
        self.wrong.append(Contradiction(position + offset, field, record.oid, record.tid, True, message))


class _Chains:
    """The records of the objects in question, by object, in order."""

    def __init__(
        self, file: DataFile, plan: Plan, pointers: Pointers, index: Index | None, suspects: list[_Suspect]
    ) -> None:
        self.oids: dict[int, int] = {}
        self._index, self._pointers = index, pointers
        # Of what is missing, and of what nothing refers to, the rest may be in what is lost.
        self._whole = len(pointers.lost) == 1
        asked = {oid for one in suspects for oid in (one.oid, one.other)}
        self._links: dict[int, list[_Link]] = {oid: [] for oid in asked}
        reader = Reader(file)
        for part in plan.parts:
            for position in record_places(reader, part):
                record = reader.record(position)
                if record is not None and record.oid in asked:
                    self._links[record.oid].append(_link(reader, pointers, position - part.shift, position, record))
        self._referred = _referred(file, asked)

    def decide(self, suspect: _Suspect) -> Contradiction | None:
        """Correct what is wrong, if that can be told; None where something else was corrected that explains it."""
        oid, other, link, before = suspect.oid, suspect.other, suspect.link, suspect.before
        if self.oids.get(link.position, oid) == self.oids.get(before.position, other):
            return None
        best = None if {link.position, before.position} & self.oids.keys() else self._best(suspect)
        if best is None:
            message = (
                f"its pointer to the revision before leads to {link.previous}, a record of {oid_text(other)}:"
                " which of the numbers is wrong cannot be told"
            )
            return Contradiction(link.position, "oid", oid, link.tid, False, message)
        if best.oid is None:
            message = f"the pointer to {link.previous} leads to a record of {oid_text(other)}"
            return Contradiction(link.position + PREVIOUS_OFFSET, "previous", oid, link.tid, True, message)
        was, moved = (oid, link) if best.position == link.position else (other, before)
        self.oids[moved.position] = best.oid
        self._move(moved, was, best.oid)
        message = (
            f"the oid was {oid_text(was)}; pointers from one revision to the one before say that it is this object's"
        )
        return Contradiction(moved.position, "oid", best.oid, moved.tid, True, message)

    def _best(self, suspect: _Suspect) -> _Choice | None:
        """Return the choice that least speaks against, None where it cannot be told which that is."""
        # Two choices of one place may have the same against them.
        best, second, _ = sorted(self._choices(suspect), key=lambda choice: choice[:4])
        if best[:3] == second[:3]:
            if best.oid is None or second.oid is None or not self._whole:
                return None
            likely = [one for one in (best, second) if self._referred_for(one, suspect) > 0]
            return likely[0] if len(likely) == 1 else None
        if best.far and best.against == second.against:
            return None
        if best.oid is not None and self._referred_for(best, suspect) < best.far:
            return None
        return best

    def _referred_for(self, choice: _Choice, suspect: _Suspect) -> int:
        """Return 1 where only the oid that a choice takes for right is referred to, -1 where only the other one is."""
        wrong = suspect.oid if choice.oid == suspect.other else suspect.other
        return (choice.oid in self._referred) - (wrong in self._referred)

    def _choices(self, suspect: _Suspect) -> Iterator[_Choice]:
        oid, other, link, before = suspect.oid, suspect.other, suspect.link, suspect.before
        bits, far = (oid ^ other).bit_count(), not in_one_byte(oid, other)
        ones, others = self._links[oid], self._links[other]
        rest = [one for one in ones if one != link]
        for moved, left, into, to in (
            (link, rest, [*others, link], other),
            (before, [one for one in others if one != before], [*ones, before], oid),
        ):
            wrong, right = (oid, other) if to == other else (other, oid)
            against = self._against(wrong, left) + self._against(right, sorted(into))
            yield _Choice(against, far, bits, moved.position, to)
        earlier = [one.origin for one in rest if one.origin < link.origin]
        right_pointer = earlier[-1] if earlier else 0
        mended = [*rest, link._replace(previous=right_pointer)]
        # That a wrong pointer leads exactly to a record speaks against it.
        against = 1 + self._against(oid, sorted(mended)) + self._against(other, others)
        near = in_one_byte(link.previous, right_pointer)
        yield _Choice(against, not near, (link.previous ^ right_pointer).bit_count(), link.position, None)

    def _against(self, oid: int, links: list[_Link]) -> int:
        """Count what contradicts that these are all records of an object."""
        # What is referred to was there.
        against = int(not links and oid in self._referred and self._whole)
        if links and links[0].previous:
            against += links[0].leads
        origins = {one.origin for one in links}
        # A back-pointer leads to a record of its own object.
        against += sum(one.back != 0 and one.back not in origins for one in links)
        for one, two in pairwise(links):
            against += two.previous != one.origin and two.leads
            # A transaction has one record of an object.
            against += two.tid == one.tid
        newest = None if self._index is None else self._index.get(oid)
        if newest is not None:
            within = [one.origin for one in links if self._index is not None and one.origin < self._index.end]
            against += not within or (within[-1] != newest and not self._pointers.is_lost(newest))
        elif self._index is not None:
            against += any(one.origin < self._index.end for one in links)
        return against

    def _move(self, link: _Link, was: int, oid: int) -> None:
        self._links[was].remove(link)
        links = self._links[oid]
        links.insert(bisect_left(links, link), link)


def _link(reader: Reader, pointers: Pointers, origin: int, position: int, record: DataHeader) -> _Link:
    previous, tid = record.previous, record.tid
    back = 0 if record.length else reader.number(position + DATA_HEADER.size) or 0
    leads = not pointers.is_lost(previous) or pointers.at(previous, tid) is not None
    return _Link(origin, position, tid, previous, leads, back if back and pointers.at(back, tid) is not None else 0)


def _referred(file: DataFile, oids: set[int]) -> set[int]:
    """Return those of the oids that look as if something refers to them; the root does without."""
    found = {0} & oids
    keys = b"|".join(re.escape(to_bytes(oid)) for oid in sorted(oids))
    pattern, position, reader = re.compile(_REFERENCE + b"(" + keys + b")", re.DOTALL), 0, Reader(file)
    while position < file.limit:
        raw = reader.read(position, min(_PIECE, file.limit - position))
        found.update(int.from_bytes(match[1], "big") for match in pattern.finditer(raw))
        position += max(1, len(raw) - 10) if position + len(raw) < file.limit else len(raw)
    return found
