"""Filling the engine's columns from any source."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.engine.chosen import Pass
from zodbsh.engine.columns import Columns, Entry, OddPrevious, Options, TransactionRow
from zodbsh.errors import DamagedDatabase
from zodbsh.filestorage.damage import Damage
from zodbsh.filestorage.datafile import read_error
from zodbsh.filestorage.framing import Examined, Verdict, examine, follow, leads_to_record, resume
from zodbsh.filestorage.structs import DATA_HEADER, MAGIC_SIZE, NUMBER, PACKED, PREVIOUS_OFFSET
from zodbsh.ids import MAX_ID
from zodbsh.progress import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zodbsh.filestorage.datafile import DataFile
    from zodbsh.source.base import Source

# A writer may finish a transaction just between seeing it in flight and looking closely.
_LOOKS = 20


class FileColumns(NamedTuple):
    """What a walk over a Data.fs brought.

    ``end`` is where the part ends that is sound in one piece, ``last_tid`` the last transaction that was taken (0:
    none), ``tail`` the bytes in flight; ``whole`` tells that no later transaction was left out.
    """

    columns: Columns
    end: int
    last_tid: int
    tail: int
    whole: bool


def file_columns(
    file: DataFile,
    on_damage: Callable[[Damage], None],
    *,
    options: Options,
    start: int = MAGIC_SIZE,
    last_tid: int = 0,
    until: int = MAX_ID,
    progress: Progress = SILENT,
    on_transactions: Callable[[list[TransactionRow]], None] | None = None,
) -> FileColumns:
    """Fill columns from a Data.fs, from ``start``, before which ``last_tid`` is the last one, to the file's limit.

    The engine takes what is sound; what is not is looked at closely, told to
    ``on_damage`` (which may raise), and its sound records are taken, too. Raises
    StorageIOError.
    """
    taking = Pass(options)
    progress.start("reading", file.limit, "bytes")
    position: int | None = start
    looks = tail = 0
    whole = True
    end: int | None = None
    while position is not None:
        try:
            reached = taking.read(
                file.fd, position, file.limit,
                last_tid=last_tid, until=until, progress=progress, on_transactions=on_transactions,
            )  # fmt: skip
        except OSError as exc:
            raise read_error(file.path, exc) from exc
        last_tid = reached.last_tid
        position = reached.end
        if reached.finished:
            whole = position == file.limit
            break
        step = examine(file, position, last_tid)
        if step.verdict in (Verdict.TAIL, Verdict.END):
            tail = file.limit - position
            break
        if step.verdict is Verdict.SOUND:
            looks += 1
            if looks > _LOOKS:
                raise DamagedDatabase(f"{file.path} changes in ways a database does not", hint="Try again.")
            continue
        end = position if end is None else end
        for damage in step.damages:
            on_damage(damage)
        if step.header is not None and step.header.tid <= until:
            taking.add(step.header.tid, _sound_entries(file, step), packed=step.header.status == PACKED)
            last_tid = max(last_tid, step.header.tid) if step.next else last_tid
        position = step.next or resume(file, step.position)
    progress.finish()
    return FileColumns(taking.finish(), position or file.limit if end is None else end, last_tid, tail, whole)


def check_histories(file: DataFile, odd: Iterable[OddPrevious], on_damage: Callable[[Damage], None]) -> None:
    """Tell of each pointer to an object's earlier record, of those that a pass found odd, that leads to none."""
    for oid, tid, where, previous in odd:
        if previous and not leads_to_record(file, oid, previous):
            reason = f"points to {previous}, where there is no record of this object"
            on_damage(Damage(where + PREVIOUS_OFFSET, "previous record", reason, oid, tid))


def source_columns(
    source: Source, *, options: Options, until: int = MAX_ID, progress: Progress = SILENT,
    on_transactions: Callable[[list[TransactionRow]], None] | None = None,
) -> Columns:  # fmt: skip
    """Return the columns of any other source, by walking its transactions."""
    taking = Pass(options)
    progress.start("reading", None, "transactions")
    for done, transaction in enumerate(source.transactions(options.since, until)):
        entries = [
            Entry(revision.oid, revision.tid, revision.data, revision.data_tid is not None)
            for revision in source.records(transaction)
        ]
        taking.add(transaction.tid, entries, packed=transaction.status == "p")
        if on_transactions is not None:
            size = sum(len(entry.data) for entry in entries if entry.data is not None and not entry.points_back)
            on_transactions([TransactionRow(transaction.tid, 0, 0, len(entries), size, transaction.user)])
        progress.advance(done + 1)
    progress.finish()
    return taking.finish()


def _sound_entries(file: DataFile, step: Examined) -> list[Entry]:
    """Return the sound records of a damaged transaction."""
    entries = []
    for record in step.records:
        data_at, length, back = record.position, record.length, False
        if not length:
            raw = file.read(record.position + DATA_HEADER.size, NUMBER.size)
            found = follow(file, record.oid, record.position, NUMBER.unpack(raw)[0], {})
            if isinstance(found, Damage):
                continue
            (data_at, length), back = found, True
        data = file.read(data_at + DATA_HEADER.size, length) if length else None
        entries.append(Entry(record.oid, record.position, data, back or data is None, record.previous))
    return entries
