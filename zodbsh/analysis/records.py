"""Loading records on the way along a path: what is missing or broken says where, and who referred to it."""

from __future__ import annotations

from zodbsh.errors import ExitCode, ObjectNotFound, ZodbshError
from zodbsh.ids import oid_text
from zodbsh.record.decode import RecordError, class_text, decode_record
from zodbsh.record.values import Record, Ref
from zodbsh.source.base import Revision
from zodbsh.source.snapshot import Snapshot


class BrokenRecord(ZodbshError):
    """An object whose record cannot be decoded; ``oid`` and ``offset`` (in the record) say where."""

    code = "record-damaged"
    exit_code = ExitCode.DAMAGED

    def __init__(self, oid: int, offset: int, reason: str) -> None:
        super().__init__(
            f"the record of {oid_text(oid)} cannot be decoded: {reason} (at byte {offset} of the record)",
            hint=f"`zodbsh inspect DATABASE {oid_text(oid)} --disassemble` shows it up to there.",
        )
        self.oid = oid
        self.offset = offset


class DanglingReference(ObjectNotFound):
    """A reference to an object that does not exist; ``oid`` is missing, ``holder`` holds the reference."""

    code = "dangling-reference"

    def __init__(self, oid: int, holder: int, message: str) -> None:
        super().__init__(message, hint=f"`zodbsh log DATABASE {oid_text(oid)}` shows whether it ever existed.")
        self.oid = oid
        self.holder = holder


def read_record(snapshot: Snapshot, oid: int) -> Record:
    """Return an object's decoded record. Raises ObjectNotFound or BrokenRecord."""
    try:
        return snapshot.record(oid)
    except RecordError as exc:
        raise BrokenRecord(oid, exc.offset, exc.reason) from exc


def dangling(ref: Ref, holder: int, place: str = "") -> DanglingReference:
    """Return the error for a reference in record ``holder`` (at the path ``place``) that leads nowhere."""
    class_ = f" ({class_text(ref.class_)})" if ref.class_ is not None else ""
    where = f"{place}, in the record of {oid_text(holder)}," if place else f"the record of {oid_text(holder)}"
    return DanglingReference(
        ref.oid, holder, f"{where} refers to {oid_text(ref.oid)}{class_}, which does not exist at this time"
    )


def decode_revision(revision: Revision | None) -> Record | None:
    """Return a revision's decoded record, None for one that deletes the object. Raises BrokenRecord."""
    if revision is None or revision.data is None:
        return None
    try:
        return decode_record(revision.data)
    except RecordError as exc:
        raise BrokenRecord(revision.oid, exc.offset, exc.reason) from exc
