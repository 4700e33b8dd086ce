"""``undo DB --redo``: the tail that ``--after`` has taken off a Data.fs is put back."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing, suppress
from shlex import quote
from typing import NamedTuple

from zodbsh.analysis.blobfolder import LAYOUTS, blob_name
from zodbsh.db.locks import other_name, write_lock
from zodbsh.db.open import Conflict
from zodbsh.db.refile import Piece, refile
from zodbsh.db.spec import Spec
from zodbsh.db.tailfile import discard_tail, fitting_tails, remove_blobs, require_blobs, return_blobs
from zodbsh.errors import Unsupported, ZodbshError
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.structs import MAGIC_SIZE
from zodbsh.filestorage.tail import Tail, TailNotFound, check_tail, digest_range, read_tail, tails_beside
from zodbsh.ids import tid_text
from zodbsh.ops.undoing.takeback import is_named, require_file, sound_source
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import OutcomeUnknown, failing_well, require_room, uninterrupted
from zodbsh.source.file import FileSource
from zodbsh.times import time_text

_SPARE = 1_000_000


class TailDoesNotFit(Conflict):
    """The database does not end where the tail was taken off: it was written to, packed or taken back further."""

    code = "tail-does-not-fit"
    hint = "Nothing was changed."


class PutBackResult(NamedTuple):
    """What was put back, or (``dry_run``) would be: the database ends with ``tid`` again.

    ``already`` tells that the database had these transactions already, after a run that was cut off. ``kept`` is
    the tail's path where it stays. ``trouble`` is what failed once all was back.
    """

    database: str
    tid: int
    transactions: int
    bytes: int
    blobs: int
    dry_run: bool = False
    already: bool = False
    kept: str | None = None
    trouble: str | None = None


def find_tail(spec: Spec, name: str | None) -> Tail:
    """Return the tail to put back: the one named, or the newest beside the database that fits by its header.

    Reads only. Raises TailNotFound, TailDamaged, TailDoesNotFit.
    """
    require_file(spec)
    if name is not None:
        return read_tail(name)
    path = other_name(spec.path) or spec.path
    with closing(FileSource(spec.path)) as source:
        end = (source.info().bytes or 0) - source.info().tail
        fitting = fitting_tails(path, end, source.last_tid)
        if fitting:
            return fitting[0]
        # A run that was cut off may have put one back already.
        found = []
        for other in tails_beside(path):
            with suppress(ZodbshError):
                found.append(read_tail(other))
        for tail in found:
            if tail.header.base_end + tail.header.length == source.info().bytes:
                return tail
        if not found:
            hint = f"Only what `zodbsh undo {quote(spec.text)} --after TIME` took off can be put back: nothing is kept."
            raise TailNotFound(f"{spec.text}: no tail is beside it", hint=hint)
        raise _does_not_fit(source, found[0], spec)


def preview_put_back(spec: Spec, tail: Tail, *, progress: Progress = SILENT) -> PutBackResult:
    """Say what putting a tail back would do, without a lock and without writing; raises what it would, but for that."""
    with (
        failing_well(spec.text, "put back"),
        closing(sound_source(spec, progress)) as source,
        DataFile(tail.path) as file,
    ):
        check_tail(tail, file, progress)
        targets = _blob_targets(source, tail)
        already = _is_back(source, tail)
        if not already:
            _require_fit(source, tail, spec, progress)
        require_blobs(tail, targets)
    return _result(spec, tail)._replace(dry_run=True, already=already)


def put_back(
    spec: Spec, tail: Tail, *, keep: bool = False, hold: ExitStack | None = None, progress: Progress = SILENT
) -> PutBackResult:
    """Put a tail back under the write lock, and remove it then unless ``keep``.

    Once it is done, signals wait until ``hold`` is left.

    Raises TailDoesNotFit, TailDamaged, DatabaseLocked, FramingDamage, Unsupported (the blobs' folder is not known),
    DiskFullError, StorageIOError: nothing changed then; and OutcomeUnknown.
    """
    path = other_name(spec.path) or spec.path
    header, result = tail.header, _result(spec, tail)
    with (
        failing_well(spec.text, "put back"),
        write_lock(spec.path),
        closing(sound_source(spec, progress)) as source,
        DataFile(tail.path) as file,
        ExitStack() as own,
    ):
        check_tail(tail, file, progress)
        targets = _blob_targets(source, tail)
        if _is_back(source, tail):
            return_blobs(tail, path, targets)
            (own if hold is None else hold).enter_context(uninterrupted())
            kept, trouble = _end(tail, keep=keep)
            return result._replace(already=True, kept=kept, trouble=trouble)
        _require_fit(source, tail, spec, progress)
        require_room(os.path.dirname(path), header.base_end + header.length + _SPARE, f"putting back {spec.text}")
        made = return_blobs(tail, path, targets)
        ended: list[tuple[str | None, str | None]] = []
        try:
            trouble = refile(
                path,
                [
                    Piece(source.file, 0, header.base_end, header.base_digest),
                    Piece(file, tail.start, header.length, header.digest),
                ],
                beside=(spec.path,),
                hold=own if hold is None else hold,
                after=lambda: ended.append(_end(tail, keep=keep)),
                progress=progress,
            )
        except OutcomeUnknown as exc:
            exc.hint = f"The tail is still there: {tail.path}. `zodbsh undo {quote(spec.text)} --redo` settles it."
            raise
        except BaseException:
            if is_named(source.file, path):
                with uninterrupted():
                    remove_blobs(made)
            raise
    kept, other = ended[0]
    return result._replace(kept=kept, trouble="; ".join(filter(None, (trouble, other))) or None)


def _result(spec: Spec, tail: Tail) -> PutBackResult:
    header = tail.header
    return PutBackResult(spec.text, header.last_tid, header.transactions, header.length, header.blobs)


def _blob_targets(source: FileSource, tail: Tail) -> list[str]:
    """Return where the tail's blob files belong."""
    if not tail.blobs:
        return []
    folder, layout = source.blob_folder() or ("", "")
    if layout not in LAYOUTS:
        raise Unsupported(
            f"{tail.path} has {len(tail.blobs):,} blob files, and the folder they belong to is not known",
            hint="Give the folder of the blobs with --blobs DIR.",
        )
    return [os.path.join(folder, blob_name(layout, blob.oid, blob.tid)) for blob in tail.blobs]


def _is_back(source: FileSource, tail: Tail) -> bool:
    """Tell whether the database ends with the tail's own bytes."""
    header, file = tail.header, source.file
    if header.base_end + header.length != source.info().bytes:
        return False
    return digest_range(file, header.base_end, header.length) == header.digest


def _require_fit(source: FileSource, tail: Tail, spec: Spec, progress: Progress) -> None:
    header, file = tail.header, source.file
    size = source.info().bytes
    if (size, source.last_tid, file.read(0, MAGIC_SIZE)) != (header.base_end, header.base_tid, header.format):
        raise _does_not_fit(source, tail, spec)
    if digest_range(file, 0, header.base_end, progress) != header.base_digest:
        raise TailDoesNotFit(f"{spec.text}: {tail.path} was taken off a file with other bytes")


def _does_not_fit(source: FileSource, tail: Tail, spec: Spec) -> TailDoesNotFit:
    base = f"{tid_text(tail.header.base_tid)} ({time_text(tail.header.base_tid)})"
    last = source.last_tid
    if last > tail.header.base_tid:
        there = next(source.transactions(tail.header.base_tid, tail.header.base_tid, reverse=True), None)
        if there is not None:
            reason = f"it has gone on since, to {tid_text(last)} ({time_text(last)})"
            undo = f"zodbsh undo {quote(spec.text)}"
            # Without its name, the tail that --after makes would be the one that is put back.
            hint = (
                f"Nothing was changed. `{undo} --after {tid_text(tail.header.base_tid)}` takes it back to there first; "
                f"then `{undo} --redo {quote(tail.path)}`."
            )
            return TailDoesNotFit(f"{spec.text}: {tail.path} belongs behind {base}; {reason}", hint=hint)
    if last == tail.header.base_tid:
        reason = "it was packed or rewritten since, or something unfinished is at its end"
    else:
        reason = f"the database ends with {tid_text(last)} ({time_text(last)})"
    return TailDoesNotFit(f"{spec.text}: {tail.path} belongs behind {base}; {reason}")


def _end(tail: Tail, *, keep: bool) -> tuple[str | None, str | None]:
    """Remove a tail that was put back, unless it is to stay; return its path where it does, and what went wrong."""
    if keep:
        return tail.path, None
    try:
        discard_tail(tail)
    except OSError as exc:
        return tail.path, f"{tail.path} could not be removed: {exc.strerror or exc}"
    return None, None
