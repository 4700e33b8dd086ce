"""The class of a record, as it is shown, whatever the record is."""

from __future__ import annotations

from zodbsh.record.decode import RecordError, class_text, decode_pickle, record_class

UNDECODABLE = "(undecodable)"
BLOB_CLASS = "ZODB.blob.Blob"

# A class part is short; where this is not enough, the whole record is read.
_HEAD = 4096


def class_part(data: bytes) -> tuple[str, int]:
    """Return a record's class as text and its class part's length; `UNDECODABLE` and 0 where it does not decode."""
    for part in (data[:_HEAD], data):
        try:
            return class_text(record_class(part)), decode_pickle(part)[1]
        except RecordError:
            if len(part) == len(data):
                break
    return UNDECODABLE, 0
