"""Searching for records where no transaction is sound, up to the next that is."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.filestorage.salvage.evidence import STATUSES, Evidence
from zodbsh.filestorage.salvage.parts import Doubtful, Fragment, Known, Reader
from zodbsh.filestorage.structs import (
    DATA_HEADER,
    MAGIC_SIZE,
    NUMBER,
    DataHeader,
    TransactionHeader,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zodbsh.filestorage.salvage.parts import Marks
    from zodbsh.progress import Progress

_RECORD = DATA_HEADER.size
_ENDING = NUMBER.size
_PEEK = 4096
# How far beyond what is there a position may lead, for bytes may be missing.
_FAR = 1 << 32
# No file is larger.
_FARTHEST = 1 << 48
# A gap is searched again so often at most, where records that contradict others lie within one another.
_AGAIN = 16


class _Run(NamedTuple):
    """Records one behind the other, and where the last of them ends."""

    records: array[int]
    end: int


class _Group:
    """The records of one transaction, as they are found."""

    __slots__ = ("ends", "header", "header_read", "origin", "records", "tid")

    def __init__(self, tid: int, origin: int) -> None:
        self.tid, self.origin = tid, origin
        self.header: int | None = None
        self.header_read: TransactionHeader | None = None
        self.records = array("Q")
        self.ends = False


class GapSearch:
    """A search from ``start``, before which ``shift`` held; ``known`` is what is known to be sound."""

    def __init__(
        self,
        reader: Reader,
        marks: Marks,
        start: int,
        shift: int,
        known: Known,
        number: int,
        progress: Progress,
        *,
        others: Iterable[int] = (),
        end: int | None = None,
    ) -> None:
        """``others`` are further shifts that may hold.

        With ``end`` the search goes up to there, past all that is sound.
        """
        self.reader, self.marks, self.start, self.shift = reader, marks, start, shift
        self.end = end
        self._limit = reader.limit if end is None else end
        self._shifts = tuple(dict.fromkeys((shift, *others)))
        self._origins = frozenset(start - one for one in self._shifts)
        # Looks here and there leave the window where it is.
        self._peek = Reader(reader.file, _PEEK)
        self._start_header = self._peek.header(start)
        self.known, self.number, self.progress = known, number, progress
        self.doubtful: list[Doubtful] = []
        self._groups: list[_Group] = []
        # Before this, nothing belongs to what is found from here on.
        self._floor = start
        self._searched_again = 0
        self.evidence = Evidence(reader, self._peek, marks, start, self._shifts, known)

    def run(self) -> tuple[int, int]:
        """Return where the next sound transaction begins, and its shift; the limit and the old shift without one."""
        position, limit = self._headed(self.start), self._limit
        while (found := self.marks.following(position, limit)) is not None:
            position, record = found
            self.progress.advance(position)
            if not self._fits(position, record):
                position += 1
                continue
            head = self.evidence.exact_header(position, record, self._floor)
            shift = self.shift if head is None else head - record.transaction
            sound = None if head is None else self.reader.sound(head, shift)
            if head is not None and sound is not None:
                if self.end is None and (shift == self.shift or not self.evidence.begins_file(shift)):
                    return head, shift
                # A second copy, or a whole Data.fs in the data of a damaged record.
                position = self._floor = sound.next
            elif head is None and not self._plausible(position, record):
                position += 1
            else:
                position = self._take(position, record, head)
                if self._floor == position and self._groups[-1].ends:
                    position = self._headed(position + _ENDING)
        return limit, self.shift

    def fragments(self) -> list[Fragment]:
        """Return what was found."""
        return [
            Fragment(group.tid, group.origin, group.header, group.records, (self.number,), group.ends)
            for group in self._groups
            if group.records
        ]

    def _fits(self, position: int, record: DataHeader) -> bool:
        """Tell whether a record may be here, as far as sizes tell."""
        # ZODB's new oids follow the highest, so that one must leave them room.
        if not record.tid or record.transaction < MAGIC_SIZE or record.oid >> 63:
            return False
        if position + record.record_length <= self._limit:
            return True
        if record.length and self._is_known(record):
            cut = self._limit == self.reader.limit
            self._doubt(position, record, "the file ends before it does" if cut else "its length is wrong")
        return False

    def _is_known(self, record: DataHeader) -> bool:
        """Tell whether a record belongs to the transaction that is damaged, or to the one found last."""
        if self._groups and (self._groups[-1].tid, self._groups[-1].origin) == (record.tid, record.transaction):
            return True
        if record.transaction not in self._origins:
            return False
        header = self._start_header
        return self.known.admits(record.transaction, record.tid) or (header is not None and header.tid == record.tid)

    def _plausible(self, position: int, record: DataHeader) -> bool:
        """Tell whether what is before no header may be a record: by others of its transaction, or by its numbers."""
        if self._is_known(record):
            return True
        origin = record.transaction
        if (
            not self.known.admits(origin, record.tid)
            or origin > position - min(self._shifts) + self.reader.limit + _FAR
        ):
            return False
        if self.evidence.is_followed(position, record):
            return True
        if record.previous >= origin:
            return False
        return bool(record.length) or (self._peek.number(position + _RECORD) or 0) < origin

    def _take(self, position: int, record: DataHeader, head: int | None) -> int:
        """Take the records from ``position`` on that belong together; return where to go on."""
        tid, origin = record.tid, record.transaction
        if head is None:
            head, tid = self._near_header(position, record)
        else:
            origin = self.evidence.either_origin(position, record, head)
        header = None if head is None else self._peek.header(head)
        first = position if head is None or header is None else head + header.header_length
        if self._floor <= first < position:
            # What stands between may be records with one damaged number each.
            before = self._run(first, tid, origin, position)
            if before.records and before.end == position:
                return self._collect(before.records[0], tid, origin, head)
        return self._collect(position, tid, origin, head, sure=True)

    def _headed(self, head: int) -> int:
        """Take what follows the header at ``head`` if its first record is damaged, and so on; return where it ends."""
        position = head
        while True:
            header, known = self._peek.header(head), self.known
            record = None if header is None else self._peek.record(head + header.header_length)
            if header is None or record is None or header.status not in STATUSES:
                return position
            place = head + header.header_length
            if any(_is_right(record, header.tid, head - shift) for shift in self._shifts):
                return position
            if MAGIC_SIZE <= record.transaction < _FARTHEST and self.reader.sound(head, head - record.transaction):
                # It may have been moved, as others will tell.
                return position
            for origin in (head - shift for shift in self._shifts):
                if known.admits(origin, header.tid) and self._run(place, header.tid, origin, self._limit).records:
                    position = self._collect(place, header.tid, origin, head)
                    break
            else:
                return position
            if not self._groups[-1].ends:
                return position
            head = position + _ENDING

    def _end_of(self, head: int | None, position: int) -> int:
        """Return where what stands at ``position`` ends at most: its transaction, if both lengths of it agree."""
        header = None if head is None else self._peek.header(head)
        if head is None or header is None:
            return self._limit
        end = head + header.length
        return min(end, self._limit) if end > position and self._peek.number(end) == header.length else self._limit

    def _collect(self, position: int, tid: int, origin: int, head: int | None, *, sure: bool = False) -> int:
        """Take a run of records, the last of them if nothing speaks against it; return where to go on."""
        group = self._group(tid, origin)
        if group.header is None and head is not None:
            group.header, group.header_read = head, self._peek.header(head)
        header = group.header_read
        run = self._run(position, tid, origin, self._end_of(group.header, position), sure=sure)
        last = run.records[-1] if run.records else position
        found = self._peek.record(last)
        assert found is not None
        if not run.records:
            self._doubt(position, found, "its length is wrong")
            return position + 1
        if group.header is None:
            group.ends = self.evidence.ends(run.end, origin)
        else:
            group.ends = self.reader.number(run.end) == run.end - group.header
        if not group.ends:
            inside: int | None = last + 1
            if self.evidence.ends_well(last + _RECORD, found.length):
                inside = self.evidence.contradiction(last + 1, run.end, tid, origin)
            if inside is not None:
                run.records.pop()
                self._doubt(last, found, "its length is wrong, or its data is damaged")
                group.records.extend(run.records)
                self._floor = last + 1
                return self._after(last + 1, inside)
            group.ends = header is not None and group.header is not None and header.length == run.end - group.header
        group.records.extend(run.records)
        self._floor = run.end
        return run.end

    def _after(self, start: int, contradiction: int) -> int:
        """Return where to go on behind the header of a record that something within it contradicts.

        What stands between is no data then, and may hold records that alone did not contradict it.
        """
        self._searched_again += contradiction - start
        return start if self._searched_again <= _AGAIN * (self._limit - self.start) else contradiction

    def _group(self, tid: int, origin: int) -> _Group:
        if not self._groups or (self._groups[-1].tid, self._groups[-1].origin) != (tid, origin):
            self._groups.append(_Group(tid, origin))
        return self._groups[-1]

    def _near_header(self, position: int, record: DataHeader) -> tuple[int | None, int]:
        """Return where a record says that its header is, if one is there, and the transaction's tid."""
        tid = record.tid
        for shift in self._shifts:
            head = record.transaction + shift
            header = self._peek.header(head) if self.start <= head < position else None
            if header is None or head + header.header_length > position:
                continue
            exact = head + header.header_length == position
            if header.tid == tid and (exact or header.status in STATUSES):
                return head, tid
            if exact and header.status in STATUSES:
                return head, self.evidence.either_tid(position, record, header.tid)
        return None, tid

    def _run(self, position: int, tid: int, origin: int, limit: int, *, sure: bool = False) -> _Run:
        """Return the records from ``position`` on, each with one wrong number at most; ``sure``: one is there."""
        records = array("Q")
        while (found := self.reader.record(position)) is not None:
            following = position + found.record_length
            own, alike = found.tid == tid, found.transaction == origin
            if following > limit:
                break
            if not (own and alike and not found.version) and not (sure and not records):
                # Of three numbers one may be damaged. That it is a record after all, what comes behind it must confirm.
                after = self._peek.record(following)
                if own + alike + (not found.version) < 2 or (
                    not self.evidence.ends(following, origin)
                    and (after is None or after.version or (after.tid, after.transaction) != (tid, origin))
                ):
                    break
            records.append(position)
            position = following
        return _Run(records, position)

    def _doubt(self, position: int, record: DataHeader, reason: str) -> None:
        self.doubtful.append(Doubtful(position, record.oid, record.tid, reason))


def _is_right(record: DataHeader, tid: int, origin: int) -> bool:
    numbers = (record.tid, record.transaction, record.version)
    return numbers == (tid, origin, 0) and record.previous < origin
