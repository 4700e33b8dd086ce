"""The layout of a FileStorage, as data (docs/formats.md; ``ZODB/FileStorage/format.py``).

A file is a magic of 4 bytes and a sequence of transactions. A transaction is a
header, user, description and extension, data records, and its length again. A
data record is a header and its data, or, with a data length of 0, the position
of the record whose data it shares (0: the object ceases to exist). Numbers are
big-endian. A transaction's length leaves out the 8 bytes of its repetition.
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

MAGIC_SIZE = 4
FORMATS = {
    b"FS30": ("FS30", "FileStorage written by Python 3"),
    b"FS21": ("FS21", "FileStorage written by Python 2; ZODB on Python 3 refuses to open it"),
}

TRANSACTION_HEADER = Struct(">QQcHHH")
DATA_HEADER = Struct(">QQQQHQ")
NUMBER = Struct(">Q")

# The status byte's place in a transaction header.
STATUS_OFFSET = 16
COMMITTED, PACKED, UNDONE, IN_FLIGHT = b" ", b"p", b"u", b"c"
WHOLE = (COMMITTED, PACKED, UNDONE)

# A data record's fields, by their place in its header.
TID_OFFSET, PREVIOUS_OFFSET, TRANSACTION_OFFSET, VERSION_OFFSET, LENGTH_OFFSET = 8, 16, 24, 32, 34


class TransactionHeader(NamedTuple):
    """A transaction's fixed part."""

    tid: int
    length: int
    status: bytes
    user_length: int
    description_length: int
    extension_length: int

    @property
    def header_length(self) -> int:
        """Bytes before the first data record."""
        return TRANSACTION_HEADER.size + self.user_length + self.description_length + self.extension_length


class DataHeader(NamedTuple):
    """A data record's fixed part.

    ``previous`` is the position of the object's record before this one (0:
    none), ``transaction`` the position of the transaction's header, ``version``
    the length of a version's name, long out of use.
    """

    oid: int
    tid: int
    previous: int
    transaction: int
    version: int
    length: int

    @property
    def record_length(self) -> int:
        """Bytes of the whole record, a back-pointer's included."""
        return DATA_HEADER.size + (self.length or NUMBER.size)
