"""A source as of one tid, with the records that were just read kept decoded."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from zodbsh.errors import ObjectNotFound
from zodbsh.ids import MAX_ID
from zodbsh.record.classpart import class_part
from zodbsh.record.decode import class_text, decode_record

if TYPE_CHECKING:
    from zodbsh.record.values import Record
    from zodbsh.source.base import Revision, Source

# A decoded record takes many times its bytes, so few are kept, and fewer large ones.
_KEPT_RECORDS = 512
_KEPT_BYTES = 8 << 20
_KEPT_CLASSES = 100_000


class Snapshot:
    """``source`` as of tid ``at``, inclusive; ``tid`` is that, or the source's last tid where that is earlier."""

    def __init__(self, source: Source, at: int = MAX_ID) -> None:
        self.source = source
        self.tid = min(at, source.last_tid)
        self._records: OrderedDict[int, tuple[Record, int]] = OrderedDict()
        self._kept_bytes = 0
        self._classes: dict[int, str | None] = {}

    def load(self, oid: int) -> Revision:
        """Return the object's current revision. Raises ObjectNotFound, FramingDamage."""
        return self.source.load(oid, self.tid)

    def record(self, oid: int) -> Record:
        """Return the object's decoded record; never change it. Raises ObjectNotFound, FramingDamage, RecordError."""
        if oid in self._records:
            self._records.move_to_end(oid)
            return self._records[oid][0]
        data = self.load(oid).data or b""
        record = decode_record(data)
        self._records[oid] = record, len(data)
        self._kept_bytes += len(data)
        while len(self._records) > 1 and (len(self._records) > _KEPT_RECORDS or self._kept_bytes > _KEPT_BYTES):
            self._kept_bytes -= self._records.popitem(last=False)[1][1]
        return record

    def class_of(self, oid: int) -> str | None:
        """Return the object's class as it is shown, None where there is no such object. Raises FramingDamage."""
        if oid not in self._classes:
            if len(self._classes) >= _KEPT_CLASSES:
                self._classes.clear()
            self._classes[oid] = self._read_class(oid)
        return self._classes[oid]

    def _read_class(self, oid: int) -> str | None:
        if oid in self._records:
            return class_text(self._records[oid][0].class_)
        try:
            return class_part(self.load(oid).data or b"")[0]
        except ObjectNotFound:
            return None
