"""Packing a Data.fs: the copy that a plan asks for, held against the original, then given its name.

Nothing is changed before the copy is complete, verified and on the disk. Then
the saved index goes, the copy gets the name in one step, and a new index is
written. A pack that is killed leaves the database as it was, or packed; where
there is no index, whoever opens the file next makes one.
"""

from __future__ import annotations

import os
from array import array
from contextlib import closing
from functools import partial
from itertools import compress
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.packplan import Dangling, Plan, dangling_in
from zodbsh.engine import chosen
from zodbsh.engine.columns import DELETED, MISSING, Columns, Options
from zodbsh.engine.packing import Changed, Copied
from zodbsh.errors import DamagedDatabase, ExitCode, ObjectNotFound, ZodbshError
from zodbsh.filestorage.damage import Damage
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.indexsave import drop_indexes, save_index
from zodbsh.filestorage.structs import MAGIC_SIZE
from zodbsh.ids import oid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import DiskFullError, require_room, staged
from zodbsh.source.columns import check_histories, file_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zodbsh.source.file import FileSource

# An index entry, and what a full bucket or the file's ends take beside it.
_INDEX_ENTRY, _SPARE = 9, 1 << 16


class PackFailed(ZodbshError):
    """The packed copy is not what it should be; it was not given the name."""

    code, exit_code = "pack-failed", ExitCode.IO
    hint = "Nothing changed. If the disk is sound, this is a bug in zodbsh: please report it."


class _NothingGone(Exception):
    """The copy is as large as the original: nothing was removed."""


class Contents(NamedTuple):
    """What a file holds: its last position, transactions, records, objects, and references that lead nowhere."""

    end: int
    transactions: int
    records: int
    objects: int
    findings: tuple[Dangling, ...]


class Packed(NamedTuple):
    """What a pack made of a file; ``after`` is None where nothing would go, and nothing was written."""

    before: Contents
    after: Contents | None
    trouble: str | None = None


def pack_file(
    source: FileSource,
    plan: Plan,
    *,
    keep_old: bool = True,
    beside: Iterable[str] = (),
    before_publishing: Callable[[], None] = lambda: None,
    progress: Progress = SILENT,
) -> Packed:
    """Pack the file of ``source``, whose lock is held, as planned.

    ``beside`` are further names under which it is opened, ``before_publishing`` is called once the copy is known to be
    right. Raises
    DiskFullError, OSError, PackFailed, DamagedDatabase (the file changed): then
    nothing changed. Raises OutcomeUnknown as `publish` does.
    """
    path, file = source.path, source.file
    before = _contents_before(plan)
    try:
        if plan.redundant or _all_stays(plan):
            return Packed(before, None)
        _require_room(source, plan, before.objects)
        plan.columns.forget_references()
        with staged(path, keep=".old" if keep_old else None) as temporary:
            end = _write(temporary, file, plan, progress)
            if end == plan.end:
                raise _NothingGone
            columns, after = _verify(temporary, end, source, plan, progress)
            before_publishing()
            # An index of the file before would pass for one of the packed file.
            drop_indexes({path, *beside})
    except _NothingGone:
        return Packed(before, None)
    except Changed as exc:
        raise DamagedDatabase(
            f"{path} changed while it was packed, though its lock is held", hint="Nothing changed. Try again."
        ) from exc
    return Packed(before, after, save_index(path, end, columns))


def _all_stays(plan: Plan) -> bool:
    """Tell without another look at the file that nothing will go."""
    return plan.marks.count(1) == plan.columns.totals.records


def _require_room(source: FileSource, plan: Plan, objects: int) -> None:
    """Raise DiskFullError where the packed file and its index have no room; their size is counted where it is tight."""
    folder, more, what = os.path.dirname(source.path), _INDEX_ENTRY * objects + _SPARE, f"a pack of {source.path}"
    try:
        require_room(folder, plan.end + more, what)
    except DiskFullError:
        counted = chosen.copy_packed(source.file.fd, plan.border, plan.columns, plan.marks, plan.targets, -1)
        require_room(folder, counted.end + plan.end - plan.border + more, what)


def contents_of(source: FileSource, *, progress: Progress = SILENT) -> Contents:
    """Return what a sound file holds now."""
    columns = source.columns(progress=progress)
    return _contents(columns, source.end)


def _contents_before(plan: Plan) -> Contents:
    """Put together what the two parts of the file hold; its findings are not looked for."""
    transactions, records = plan.columns.totals.transactions, plan.columns.totals.records
    if plan.later_columns is None:
        objects = _objects(plan.columns)
    else:
        totals = plan.later_columns.totals
        transactions, records = transactions + totals.transactions, records + totals.records
        # What was stored again counts in the later part, if it exists there.
        again = compress(plan.columns.classes, plan.later.stored)
        objects = _objects(plan.columns) + _objects(plan.later_columns) - sum(map(DELETED.__gt__, again))
    return Contents(plan.end, transactions, records, objects, ())


def _contents(columns: Columns, end: int) -> Contents:
    totals = columns.totals
    return Contents(end, totals.transactions, totals.records, _objects(columns), dangling_in(columns))


def _objects(columns: Columns) -> int:
    classes = array("I", columns.classes)
    return len(classes) - classes.count(MISSING) - classes.count(DELETED)


def _write(temporary: str, file: DataFile, plan: Plan, progress: Progress) -> int:
    """Write the packed copy; return where it ends."""
    out = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(out, file.read(0, MAGIC_SIZE), 0)
        progress.start("Copying", plan.end, "bytes")
        copied: Copied = chosen.copy_packed(
            file.fd, plan.border, plan.columns, plan.marks, plan.targets, out, progress=progress
        )
        end = copied.end
        if plan.later_columns is not None:
            end = chosen.copy_later(
                file.fd, plan.border, plan.end, copied, plan.columns, plan.later_columns, plan.targets, out,
                progress=progress,
            )  # fmt: skip
        progress.finish()
    finally:
        os.close(out)
    return end


def _verify(temporary: str, end: int, source: FileSource, plan: Plan, progress: Progress) -> tuple[Columns, Contents]:
    """Read the copy back: every record against its original, its framing, every reference. Raises PackFailed."""
    file = source.file
    with closing(DataFile(temporary)) as made:
        if made.limit != end:
            raise PackFailed(f"{source.path}: the packed copy has {made.limit} bytes, not {end}")
        progress.start("Comparing", end, "bytes")
        wrong = chosen.compare(
            file.fd, plan.border, plan.end, plan.columns, plan.marks, plan.targets, made.fd, made.limit,
            progress=progress,
        )  # fmt: skip
        progress.finish()
        if wrong is not None:
            raise PackFailed(f"{source.path}: the packed copy is not the original: {wrong}")
        # Two sets of columns at a time would be too much for a large file.
        for done in (plan.columns, plan.later_columns):
            if done is not None:
                done.forget()
        refuse = partial(_refuse, source.path)
        found = file_columns(made, refuse, options=Options(previous=True), progress=progress)
        check_histories(made, found.columns.odd_previous, refuse)
    columns = found.columns
    if found.end != end or found.tail:
        raise PackFailed(f"{source.path}: the packed copy ends at {found.end}, not at {end}")
    contents = _contents(columns, end)
    for finding in contents.findings:
        if finding.target is not None and _is_there(source, finding.target):
            who, lost = oid_text(finding.oid or 0), oid_text(finding.target)
            raise PackFailed(f"{source.path}: {who} refers to {lost}, which the packed copy has lost")
    columns.forget_references()
    return columns, contents


def _is_there(source: FileSource, oid: int) -> bool:
    try:
        source.load(oid)
    except ObjectNotFound:
        return False
    return True


def _refuse(path: str, damage: Damage) -> None:
    raise PackFailed(f"{path}: the packed copy does not read back: {damage}")
