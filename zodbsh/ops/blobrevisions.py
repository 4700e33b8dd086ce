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
            if oid in blobs or (oid in deleted and _is_blob(file, oid, record, length, followed)):
                back = NUMBER.unpack_from(window.data, offset + DATA_HEADER.size)[0]
                found[oid] = Wanted(oid, tid, bool(length or back))
            record += DATA_HEADER.size + (length or NUMBER.size)
        yield from found.values()
        position = ending + NUMBER.size


def _is_blob(file: DataFile, oid: int, position: int, length: int, followed: dict[int, int]) -> bool:
    if not length:
        (back,) = NUMBER.unpack(file.read(position + DATA_HEADER.size, NUMBER.size))
        found = follow(file, oid, position, back, followed)
        position, length = (0, 0) if isinstance(found, Damage) else found
    # A deletion says nothing of the class; its blob, if any, may have a file.
    return not length or class_part(file.read(position + DATA_HEADER.size, length))[0] == BLOB_CLASS
