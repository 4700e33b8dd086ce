"""Whether the saved index ``Data.fs.index`` says of every object what its file says.

ZODB notices few of an index's faults when it opens a file, and then reads what stands at a wrong position. An index
that ends earlier than the file is no fault: ZODB reads on from there. It is compared with the file as it was then.
Objects whose creation was undone are in ZODB's index, too: at the record that says so.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from zodbsh.engine.chosen import Pass
from zodbsh.engine.columns import Newest, Options
from zodbsh.filestorage.datafile import read_error
from zodbsh.filestorage.index import Index, IndexDoubt, ends_transaction, read_index
from zodbsh.filestorage.structs import MAGIC_SIZE
from zodbsh.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zodbsh.filestorage.datafile import DataFile

_KIND = "index"
# So many objects are named for each fault; the others are counted.
_NAMED = 100
# So often, and so many seconds apart, an index is looked at in which something is wrong.
_LOOKS = 4
_PAUSE = 0.1


def check_saved_index(file: DataFile, newest: Newest, end: int) -> Iterator[Finding]:
    """Yield what is wrong with the index saved beside the file; nothing where there is none.

    ``newest`` has the position of each object's newest record before ``end``. Raises StorageIOError.
    """
    path = f"{file.path}.index"
    for _ in range(_LOOKS):
        before = _identity(path)
        found = list(_look(file, path, newest, end))
        if not found:
            return
        # Between a pack's new file and its new index there is a moment, in which the old index is beside the new file.
        time.sleep(_PAUSE)
        if _identity(path) == before and file.still_named():
            break
    yield from found


def _look(file: DataFile, path: str, newest: Newest, end: int) -> Iterator[Finding]:
    if not os.path.lexists(path):
        return
    index = read_index(path)
    if not file.still_named():
        # A pack has put another file there since ours was opened; the index is of that one.
        return
    if isinstance(index, IndexDoubt):
        yield Finding(_KIND, None, None, None, f"the saved index cannot be used: {index.reason}")
        return
    before: int | None = None
    if index.end != end:
        # An older one, or, beside a writer, one saved after our snapshot was taken.
        then = _newest_at(file, index.end)
        if then is not None:
            newest = then
        elif index.end < end and ends_transaction(file, index.end):
            # Damage stands in the way to that time, but what was not written since is known.
            before = index.end
        else:
            yield Finding(_KIND, None, None, None, f"the saved index ends at {index.end}, where no transaction ends")
            return
    yield from _compare(index, newest, before)


def _identity(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _newest_at(file: DataFile, end: int) -> Newest | None:
    """Return the newest positions before ``end``, None where the file's sound transactions do not lead there."""
    if end > file.current_size():
        return None
    taking = Pass(Options(references=False))
    try:
        reached = taking.read(file.fd, MAGIC_SIZE, end)
    except OSError as exc:
        raise read_error(file.path, exc) from exc
    return Newest(taking.finish()) if reached.end == end else None


def _compare(index: Index, newest: Newest, before: int | None) -> Iterator[Finding]:
    """Compare both ways; with ``before`` only objects whose newest record is before that position."""
    wrong = known = 0
    for prefix, suffixes, positions in index.parts():
        if newest.placed(prefix, suffixes, positions):
            known += len(suffixes) // 2
            continue
        for oid, said in Index(0, {prefix: suffixes + positions}).items():
            position = newest.get(oid)
            known += position is not None
            if position == said or (before is not None and position is not None and position >= before):
                continue
            wrong += 1
            if wrong <= _NAMED:
                yield Finding(_KIND, oid, None, said, _fault(position, said))
    if wrong > _NAMED:
        yield Finding(_KIND, None, None, None, f"the saved index is wrong about {wrong - _NAMED:,} more objects")
    if known == len(newest):
        return
    oids = {oid for oid, _ in index.items()}
    absent = sorted(oid for oid in newest if oid not in oids and (before is None or newest[oid] < before))
    for oid in absent[:_NAMED]:
        message = f"the saved index does not have the object, whose newest record is at {newest[oid]}"
        yield Finding(_KIND, oid, None, newest[oid], message)
    if len(absent) > _NAMED:
        yield Finding(_KIND, None, None, None, f"the saved index lacks {len(absent) - _NAMED:,} more objects")


def _fault(position: int | None, said: int) -> str:
    if position is None:
        return f"the saved index has it at {said}, but the file has no record of it"
    return f"the saved index has its newest record at {said}, but that is at {position}"
