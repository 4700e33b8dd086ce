"""One record an object, where several transactions that changed it are undone in one.

ZODB writes a record for each of them. The last one holds what is loaded; those before it hold what nobody ever sees,
yet histories list them, and what copies or compares records meets one object twice in a transaction.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from zodbsh.filestorage.structs import DATA_HEADER, DataHeader
from zodbsh.ids import from_bytes, to_bytes

_NO_RECORD = bytes(8)


def keep_last_records(storage: Any) -> None:
    """Leave each object's last record of a FileStorage's transaction in progress, before the vote writes it.

    Every record of an undo points to what was committed before, and none to another of its own transaction; so they
    can move. A blob file of the transaction goes where the object ceases to exist. Raises OSError.
    """
    file, size = storage._tfile, storage._tfile.tell()
    last, count = _last_records(storage)
    file.seek(size if len(last) == count else _move(storage, last))


def merged_records(storage: Any) -> Iterator[tuple[int, bytes]]:
    """Yield each object whose class has merged states for an undo in progress, with the record that it will have."""
    file, size = storage._tfile, storage._tfile.tell()
    try:
        for oid, (position, header) in _last_records(storage)[0].items():
            # Everything else is a pointer to a record that is there.
            if header.length:
                file.seek(position + DATA_HEADER.size)
                yield oid, file.read(header.length)
    finally:
        file.seek(size)


def _last_records(storage: Any) -> tuple[dict[int, tuple[int, DataHeader]], int]:
    """Return each object's last record, in the order of the file, and how many records there are."""
    file, size = storage._tfile, storage._tfile.tell()
    last: dict[int, tuple[int, DataHeader]] = {}
    count = position = 0
    while position < size:
        file.seek(position)
        header = DataHeader(*DATA_HEADER.unpack(file.read(DATA_HEADER.size)))
        # Taken out first, an object goes where its last record is.
        last.pop(header.oid, None)
        last[header.oid] = position, header
        position += header.record_length
        count += 1
    file.seek(size)
    return last, count


def _move(storage: Any, last: dict[int, tuple[int, DataHeader]]) -> int:
    file, end = storage._tfile, 0
    gone = set()
    for oid, (position, header) in last.items():
        file.seek(position)
        record = file.read(header.record_length)
        file.seek(end)
        file.write(record)
        storage._tindex[to_bytes(oid)] = storage._pos + storage._thl + end
        end += header.record_length
        if not header.length and record.endswith(_NO_RECORD):
            gone.add(oid)
    for oid, serial in list(storage.dirty_oids):
        if from_bytes(oid) in gone:
            storage.dirty_oids.remove((oid, serial))
            with suppress(FileNotFoundError):
                os.unlink(storage.fshelper.getBlobFilename(oid, serial))
    return end
