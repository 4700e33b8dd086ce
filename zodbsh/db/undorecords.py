"""One record an object, where several transactions that changed it are undone in one.

ZODB writes a record for each of them. The last one holds what is loaded; those before it hold what nobody ever sees,
yet histories list them, and what copies or compares records meets one object twice in a transaction.
"""

from __future__ import annotations

import os
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
    end = size if len(last) == count else _move(storage, last)
    file.seek(end)


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
