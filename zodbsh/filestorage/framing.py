"""Checking a file's framing: every header, length and pointer; everything but what is inside the data.

`examine` looks at one transaction and says what is wrong with it; `walk` goes
through a file and goes on after damage where it can; `scan_framing` is the look
before any write. A transaction that is still being written is no damage: it is
the file's tail.
"""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.filestorage.damage import Damage
from zodbsh.filestorage.datafile import DataFile, read_magic
from zodbsh.filestorage.structs import (
    DATA_HEADER,
    IN_FLIGHT,
    LENGTH_OFFSET,
    MAGIC_SIZE,
    NUMBER,
    PREVIOUS_OFFSET,
    STATUS_OFFSET,
    TID_OFFSET,
    TRANSACTION_HEADER,
    TRANSACTION_OFFSET,
    UNDONE,
    VERSION_OFFSET,
    WHOLE,
    TransactionHeader,
)
from zodbsh.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CHUNK = 4 << 20
_HEADER = TRANSACTION_HEADER.size
_RECORD = DATA_HEADER.size
_ENDING = NUMBER.size
# A writer may abort and write anew between two of our reads. Damage is what is still there after a pause.
_PAUSE = 0.01
_LOOKS = 6


class Verdict(Enum):
    """What became of one transaction."""

    SOUND = "sound"
    END = "end"
    TAIL = "tail"
    DAMAGED = "damaged"


class RecordPlace(NamedTuple):
    """A data record's place, and what its header says of others."""

    position: int
    oid: int
    previous: int
    length: int


class Examined(NamedTuple):
    """One transaction, looked at closely.

    ``next`` is where the following transaction starts, None where the lengths
    do not tell. ``records`` holds the places of its sound records.
    """

    position: int
    verdict: Verdict
    header: TransactionHeader | None = None
    next: int | None = None
    damages: tuple[Damage, ...] = ()
    records: tuple[RecordPlace, ...] = ()


class FramingScan(NamedTuple):
    """A whole file, looked at closely.

    ``end`` is the position after the last sound transaction before any damage,
    ``last_tid`` that transaction's tid (0: none), ``tail`` the bytes of a
    transaction in flight. ``positions`` maps each oid to its newest sound record,
    ``pointers`` holds the oids whose newest record points back or deletes.
    """

    end: int
    last_tid: int
    tail: int
    damages: tuple[Damage, ...]
    positions: dict[int, int]
    pointers: set[int]


def scan_framing(path: str, progress: Progress = SILENT) -> list[Damage]:
    """Return all that is wrong with the framing of the file at ``path``; the look before any write.

    Raises DatabaseNotFound, EmptyFile, NotFileStorage, StorageIOError.
    """
    with DataFile(path) as file:
        read_magic(file)
        return list(scan_file(file, progress, histories=True).damages)


def scan_file(
    file: DataFile,
    progress: Progress = SILENT,
    *,
    histories: bool = False,
    start: int = MAGIC_SIZE,
    last_tid: int = 0,
) -> FramingScan:
    """Check the file from ``start``, before which ``last_tid`` is the last transaction.

    With ``histories``, also that each pointer to an object's earlier record
    leads to one, which only a scan from the beginning can tell cheaply.
    """
    damages: list[Damage] = []
    positions: dict[int, int] = {}
    pointers: set[int] = set()
    end, tail = start, 0
    progress.start("checking", file.limit, "bytes")
    for step in walk(file, damages.append, start=start, last_tid=last_tid):
        progress.advance(step.position)
        if histories:
            for record in step.records:
                # The usual case needs no look: the object's record before this one.
                if record.previous and positions.get(record.oid) != record.previous:
                    damages += _check_previous(file, record, step.header)
        for record in step.records:
            positions[record.oid] = record.position
            (pointers.discard if record.length else pointers.add)(record.oid)
        if step.verdict is Verdict.TAIL and not damages:
            tail = file.limit - step.position
        elif step.verdict is Verdict.SOUND and not damages and step.header and step.next:
            end, last_tid = step.next, step.header.tid
    progress.finish()
    return FramingScan(end, last_tid, tail, tuple(damages), positions, pointers)


def walk(
    file: DataFile, on_damage: Callable[[Damage], None], *, start: int = MAGIC_SIZE, last_tid: int = 0
) -> Iterator[Examined]:
    """Yield each transaction from ``start`` to the file's end as it was opened, the tail included.

    Damage is handed to ``on_damage`` before its transaction is yielded. Where a
    transaction's length cannot be trusted, the walk goes on at the first of the
    transactions that can be told by walking back from the file's end.
    """
    position: int | None = start
    followed: dict[int, int] = {}
    window = Window(file)
    while position is not None:
        step = examine(file, position, last_tid, window=window, followed=followed)
        for damage in step.damages:
            on_damage(damage)
        if step.verdict is Verdict.END:
            return
        yield step
        if step.verdict is Verdict.TAIL:
            return
        if step.header and step.next:
            last_tid = max(last_tid, step.header.tid)
        position = step.next or resume(file, position)


def examine(
    file: DataFile,
    position: int,
    last_tid: int,
    *,
    window: Window | None = None,
    followed: dict[int, int] | None = None,
) -> Examined:
    """Look closely at the transaction that starts at ``position``; ``last_tid`` is the one before it.

    ``followed`` remembers back-pointers found right, from one call to the next.
    """
    followed = {} if followed is None else followed
    step = _Examination(file, position, window or Window(file), followed).look(last_tid)
    looks = 1
    # Only the last transaction can be in a writer's hands.
    while step.verdict is Verdict.DAMAGED and (step.next is None or step.next >= file.limit) and looks < _LOOKS:
        time.sleep(_PAUSE)
        again = _Examination(file, position, Window(file), followed).look(last_tid)
        if again == step:
            break
        step, looks = again, looks + 1
    return step


def follow(file: DataFile, oid: int, position: int, back: int, followed: dict[int, int]) -> Damage | tuple[int, int]:
    """Follow the back-pointer ``back`` of the record of ``oid`` at ``position`` to the record that holds the data.

    Returns that record's position and data length, zeros where the object is
    deleted, or what is wrong. ``followed`` maps records passed on the way, in
    this call and earlier ones, to that result's position. Ends, because each
    step must lead to a lower position.
    """
    passed = [position]
    below = position
    while back:
        field = below + _RECORD
        if not MAGIC_SIZE < back < below:
            return Damage(field, "back-pointer", f"points to {back}, which is not before its own record", oid)
        raw = file.read(back, _RECORD + _ENDING)
        if len(raw) < _RECORD + _ENDING:
            return Damage(field, "back-pointer", f"points to {back}, where the file ends", oid)
        other, _, _, transaction, version, length = DATA_HEADER.unpack_from(raw)
        if other != oid or version or transaction >= back:
            return Damage(field, "back-pointer", f"points to {back}, where there is no record of this object", oid)
        if length and back + _RECORD + length > below:
            return Damage(back + LENGTH_OFFSET, "data length", f"{length} bytes reach into a later record", oid)
        if length:
            followed.update(dict.fromkeys(passed, back))
            return back, length
        if back in followed:
            back = followed[back]
            continue
        passed.append(back)
        below, (back,) = back, NUMBER.unpack_from(raw, _RECORD)
    followed.update(dict.fromkeys(passed, 0))
    return 0, 0


class Window:
    """Reads a file in large pieces for a walk that goes forward."""

    def __init__(self, file: DataFile, chunk: int = _CHUNK) -> None:
        self._file = file
        self.chunk = chunk
        self.base = 0
        self.data = b""

    def at(self, position: int, size: int) -> int:
        """Return where in ``data`` the ``size`` bytes at ``position`` start, -1 where the file ends before."""
        offset = position - self.base
        if offset >= 0 and offset + size <= len(self.data):
            return offset
        # The file as it was opened: what comes later is not ours.
        wanted = min(self.chunk, self._file.limit - position)
        if wanted < size:
            return -1
        self.data, self.base = self._file.read(position, wanted), position
        return 0 if size <= len(self.data) else -1


class _Examination:
    """One look at one transaction."""

    def __init__(self, file: DataFile, position: int, window: Window, followed: dict[int, int]) -> None:
        self._file = file
        self._position = position
        self._window = window
        self._followed = followed
        self._header: TransactionHeader | None = None
        self._damages: list[Damage] = []
        self._records: list[RecordPlace] = []

    def look(self, last_tid: int) -> Examined:
        position, limit = self._position, self._file.limit
        if position >= limit:
            return Examined(position, Verdict.END)
        offset = self._window.at(position, _HEADER)
        if offset < 0:
            return self._short_header()
        header = self._header = TransactionHeader._make(TRANSACTION_HEADER.unpack_from(self._window.data, offset))
        end = position + header.length
        following: int | None = end + _ENDING
        if header.status == IN_FLIGHT:
            # Nothing may follow a transaction in flight, unless its writer has finished it since.
            if end + _ENDING >= limit or self._file.current_size() <= end + _ENDING or self._finished():
                return Examined(position, Verdict.TAIL, header)
            self._damaged(STATUS_OFFSET, "status", "a transaction that was never finished is followed by more")
        elif header.status not in WHOLE:
            self._damaged(STATUS_OFFSET, "status", f"unknown status {header.status!r}")
        if header.tid <= last_tid:
            self._damaged(0, "tid", f"not after the one before it, {last_tid:016x}")
        if header.length < header.header_length:
            self._damaged(TID_OFFSET, "length", f"{header.length} bytes are less than its own header")
            following = None
        elif end + _ENDING > limit:
            if header.status in WHOLE and self._file.current_size() >= end + _ENDING:
                # It was still growing when we fixed the end.
                return Examined(position, Verdict.TAIL, header)
            missing = end + _ENDING - limit
            self._damaged(TID_OFFSET, "length", f"{header.length} bytes, but the file ends {missing} bytes too soon")
            following = None
        elif not self._check_ending(end):
            following = None
        elif header.status != UNDONE:
            self._check_records(end)
        verdict = Verdict.DAMAGED if self._damages else Verdict.SOUND
        return Examined(position, verdict, header, following, tuple(self._damages), tuple(self._records))

    def _short_header(self) -> Examined:
        """Fewer bytes than a header are left: a writer's beginning, or a cut."""
        position = self._position
        raw = self._file.read(position, min(_HEADER, self._file.limit - position))
        if (
            len(raw) <= STATUS_OFFSET
            or raw[STATUS_OFFSET:][:1] == IN_FLIGHT
            or self._file.current_size() > self._file.limit
        ):
            return Examined(position, Verdict.TAIL)
        tid = NUMBER.unpack_from(raw)[0]
        damage = Damage(position + len(raw), "header", f"the file ends {_HEADER - len(raw)} bytes too soon", tid=tid)
        return Examined(position, Verdict.DAMAGED, damages=(damage,))

    def _finished(self) -> bool:
        """Tell whether the transaction's header has changed since we read it."""
        assert self._header is not None
        return self._file.read(self._position, _HEADER) != TRANSACTION_HEADER.pack(*self._header)

    def _check_ending(self, end: int) -> bool:
        assert self._header is not None
        raw = self._file.read(end, _ENDING)
        if len(raw) < _ENDING:
            self._damaged(end - self._position, "repeated length", "the file ends before it")
        elif NUMBER.unpack(raw)[0] != self._header.length:
            reason = f"{NUMBER.unpack(raw)[0]}, but the header says {self._header.length}"
            self._damaged(end - self._position, "repeated length", reason)
        else:
            return True
        return False

    def _check_records(self, end: int) -> None:
        assert self._header is not None
        window, unpack, append = self._window, DATA_HEADER.unpack_from, self._records.append
        tid, start = self._header.tid, self._position
        position = start + self._header.header_length
        while position < end:
            if end - position < _RECORD + 1:
                self._damaged(position - start, "record", f"{end - position} bytes are too few for a record")
                return
            offset = window.at(position, _RECORD + _ENDING)
            if offset < 0:
                self._damaged(position - start, "record", "the file ends before it")
                return
            oid, record_tid, previous, transaction, version, length = unpack(window.data, offset)
            following = position + _RECORD + (length or _ENDING)
            if following > end:
                reason = f"{length} bytes reach {following - end} bytes beyond its transaction"
                self._damaged(position - start + LENGTH_OFFSET, "data length", reason, oid)
                return
            if record_tid != tid or transaction != start or version or previous >= position or not length:
                back = None if length else NUMBER.unpack_from(window.data, offset + _RECORD)[0]
                if not self._check_fields(position, oid, record_tid, previous, transaction, version, back):
                    position = following
                    continue
            append(RecordPlace(position, oid, previous, length))
            position = following

    def _check_fields(
        self, position: int, oid: int, tid: int, previous: int, transaction: int, version: int, back: int | None
    ) -> bool:
        assert self._header is not None
        before = len(self._damages)
        at = position - self._position
        if tid != self._header.tid:
            self._damaged(at + TID_OFFSET, "record's tid", f"{tid:016x}, not its transaction's", oid)
        if transaction != self._position:
            reason = f"{transaction}, but its transaction starts at {self._position}"
            self._damaged(at + TRANSACTION_OFFSET, "record's transaction", reason, oid)
        if version:
            self._damaged(at + VERSION_OFFSET, "version length", f"{version}, where only 0 is in use", oid)
        if previous >= position:
            reason = f"points to {previous}, which is not before its own record"
            self._damaged(at + PREVIOUS_OFFSET, "previous record", reason, oid)
        if back is not None and isinstance(found := follow(self._file, oid, position, back, self._followed), Damage):
            self._damages.append(found._replace(tid=self._header.tid))
        return len(self._damages) == before

    def _damaged(self, offset: int, field: str, reason: str, oid: int | None = None) -> None:
        assert self._header is not None
        self._damages.append(Damage(self._position + offset, field, reason, oid, self._header.tid))


def leads_to_record(file: DataFile, oid: int, position: int) -> bool:
    """Tell whether a record of ``oid`` is at ``position``, as far as its header tells."""
    raw = file.read(position, _RECORD)
    if len(raw) < _RECORD:
        return False
    other, _, _, transaction, version, _ = DATA_HEADER.unpack(raw)
    return bool(other == oid and not version and transaction < position)


def _check_previous(file: DataFile, record: RecordPlace, header: TransactionHeader | None) -> list[Damage]:
    if leads_to_record(file, record.oid, record.previous):
        return []
    reason = f"points to {record.previous}, where there is no record of this object"
    tid = header.tid if header else None
    return [Damage(record.position + PREVIOUS_OFFSET, "previous record", reason, record.oid, tid)]


def resume(file: DataFile, damaged: int) -> int | None:
    """Return where the sound transactions at the file's end begin, None where there are none after ``damaged``."""
    found: int | None = None
    position = file.limit
    while position - _ENDING - _HEADER > damaged:
        raw = file.read(position - _ENDING, _ENDING)
        length = NUMBER.unpack(raw)[0] if len(raw) == _ENDING else 0
        start = position - _ENDING - length
        if length < _HEADER or start <= damaged:
            break
        raw = file.read(start, _HEADER)
        if len(raw) < _HEADER:
            break
        header = TransactionHeader._make(TRANSACTION_HEADER.unpack(raw))
        if header.length != length or header.status not in (*WHOLE, IN_FLIGHT) or header.header_length > length:
            break
        found = position = start
    return found
