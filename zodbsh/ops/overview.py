"""``zodbsh inspect DATABASE``: what a database is and what is in it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.content import content_of
from zodbsh.analysis.lookup import View, kind_text
from zodbsh.analysis.records import read_record
from zodbsh.errors import ObjectNotFound, ZodbshError
from zodbsh.ids import ROOT_OID
from zodbsh.progress import SILENT, Progress
from zodbsh.record.decode import class_text
from zodbsh.record.values import Ref, Value

if TYPE_CHECKING:
    from zodbsh.engine.census import Census
    from zodbsh.source.base import SourceInfo
    from zodbsh.source.snapshot import Snapshot


class RootEntry(NamedTuple):
    """One entry of the root object.

    ``oid`` is None for a value that the root's own record embeds, or that lies in another database. ``class_`` and
    ``bytes`` (the record's size) are None for what is missing, ``bytes`` also for what is embedded.
    """

    key: Value
    oid: int | None
    class_: str | None
    bytes: int | None


class Overview(NamedTuple):
    """The database as of tid ``tid``.

    ``root`` holds the first of the root's entries, ``root_more`` says how many there are besides. ``root_trouble`` says
    why the root cannot be shown, None where it can. ``past`` tells whether the snapshot was asked to end before the
    last transaction.
    """

    info: SourceInfo
    tid: int
    past: bool
    census: Census
    root: tuple[RootEntry, ...]
    root_more: int
    root_trouble: str | None


def overview(snapshot: Snapshot, *, limit: int | None = None, progress: Progress = SILENT) -> Overview:
    """Return what the database is, with at most ``limit`` entries of its root."""
    source = snapshot.source
    census = source.census(snapshot.tid, progress)
    root: tuple[RootEntry, ...] = ()
    more, trouble = 0, None
    try:
        root, more = _root(snapshot, limit)
    except ObjectNotFound:
        trouble = "there is no root object" if census.objects else None
    except ZodbshError as exc:
        trouble = exc.message
    return Overview(source.info(), snapshot.tid, snapshot.tid < source.last_tid, census, root, more, trouble)


def _root(snapshot: Snapshot, limit: int | None) -> tuple[tuple[RootEntry, ...], int]:
    content = content_of(View(snapshot, ROOT_OID, read_record(snapshot, ROOT_OID)), limit)
    # A root of an unknown class is shown by its attributes.
    entries = content.items or content.attributes
    shown = tuple(_entry(snapshot, entry.key, entry.value) for entry in islice(entries, limit))
    return shown, content.more + len(entries) - len(shown)


def _entry(snapshot: Snapshot, key: Value, value: Value) -> RootEntry:
    if not isinstance(value, Ref):
        return RootEntry(key, None, kind_text(value), None)
    if value.database is not None:
        return RootEntry(key, None, class_text(value.class_), None)
    try:
        size = len(snapshot.load(value.oid).data or b"")
    except ObjectNotFound:
        return RootEntry(key, value.oid, None, None)
    return RootEntry(key, value.oid, snapshot.class_of(value.oid), size)
