"""Which revisions of blobs belong to a database's content."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.engine.columns import DELETED
from zodbsh.filestorage.damage import Damage
from zodbsh.filestorage.framing import Window, follow
from zodbsh.filestorage.structs import DATA_HEADER, NUMBER, TRANSACTION_HEADER, UNDONE, TransactionHeader
from zodbsh.record.classpart import BLOB_CLASS, class_part

if TYPE_CHECKING:
    from zodbsh.engine.columns import Columns
    from zodbsh.filestorage.datafile import DataFile


class Wanted(NamedTuple):
    """A blob's revision; ``certain`` is False for an undone creation, which has a file or none."""

    oid: int
    tid: int
    certain: bool


def blob_revisions(file: DataFile, columns: Columns, start: int, end: int) -> Iterator[Wanted]:
    """Yield every revision of a blob in the sound transactions from ``start`` to ``end``, each once.

    A transaction that undoes several has more than one record of an object; the last one counts, and the file is one.
    """
    numbers = {number for number, name in enumerate(columns.class_names) if name == BLOB_CLASS}
    if not any(columns.class_records[number] for number in numbers):
        return
    blobs, deleted = set(), set()
    for oid, class_ in zip(columns.oids, columns.classes, strict=True):
        if class_ in numbers:
            blobs.add(oid)
        elif class_ == DELETED:
            deleted.add(oid)
    window, position = Window(file), start
    followed: dict[int, int] = {}
    while position < end:
        offset = window.at(position, TRANSACTION_HEADER.size)
        header = TransactionHeader._make(TRANSACTION_HEADER.unpack_from(window.data, offset))
        record, ending = position + header.header_length, position + header.length
        found: dict[int, Wanted] = {}
        while record < ending and header.status != UNDONE:
            offset = window.at(record, DATA_HEADER.size + NUMBER.size)
            oid, tid, _, _, _, length = DATA_HEADER.unpack_from(window.data, offset)
            if oid in blobs or oid in deleted:
                back = 0 if length else NUMBER.unpack_from(window.data, offset + DATA_HEADER.size)[0]
                place, size = _state(file, oid, record, length, back, followed)
                # A deletion says nothing of the class; its blob, if any, may have a file.
                if oid in blobs or not size or class_part(file.read(place, size))[0] == BLOB_CLASS:
                    found[oid] = Wanted(oid, tid, bool(size))
            record += DATA_HEADER.size + (length or NUMBER.size)
        yield from found.values()
        position = ending + NUMBER.size


def _state(file: DataFile, oid: int, record: int, length: int, back: int, followed: dict[int, int]) -> tuple[int, int]:
    """Return where the state of a record is, and its bytes; (0, 0) where its creation was undone, however long ago."""
    if length:
        return record + DATA_HEADER.size, length
    found = follow(file, oid, record, back, followed)
    if isinstance(found, Damage) or not found[1]:
        return 0, 0
    return found[0] + DATA_HEADER.size, found[1]
