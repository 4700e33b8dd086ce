"""What is dirty on a connection, including what ZODB does not see.

ZODB saves the objects that registered themselves as changed. A list or a dict
changed in place inside an object registers nothing: it is found here by writing
every loaded, unregistered object and comparing with what is stored.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any

from ZODB.blob import Blob
from ZODB.serialize import ObjectReader
from ZODB.utils import z64

from zodbsh.db.changes import Dirty, DirtyObject, Entry, Pending, SharedValue
from zodbsh.db.equality import same
from zodbsh.db.standins import StandInError, is_stand_in
from zodbsh.db.writer import CannotSave, RecordWriter, collect, first_free
from zodbsh.ids import from_bytes, oid_text
from zodbsh.record.decode import RecordError, class_text, decode_record, record_class
from zodbsh.record.shape import attributes
from zodbsh.record.values import Dict, Global, Instance, Record, Set


def find_dirty(connection: Any, base_tid: int) -> Dirty:
    """Return what a commit of the connection would save, and what it would miss.

    Raises CannotSave.
    """
    writer = RecordWriter(connection, first_free(connection))
    writer.containers = {}
    pending = collect(connection, base_tid, writer)
    saved = {entry.oid: entry for entry in pending.entries}
    silent = tuple(_silent(connection, writer, saved))
    described = {entry.oid: _described(entry) for entry in pending.entries}
    described.update({item.oid: item for item in silent})
    return Dirty(
        changed=tuple(described[entry.oid] for entry in pending.entries if not entry.new),
        new=tuple(described[entry.oid] for entry in pending.entries if entry.new),
        silent=silent,
        shared=tuple(_shared(connection, writer, described)),
        main_classes=tuple(unimportable(pending)),
    )


def unimportable(pending: Pending) -> Iterator[str]:
    """Yield the classes in uncommitted records that another process cannot import (``module.name``)."""
    told: set[Global] = set()
    for entry in pending.entries:
        try:
            record = decode_record(entry.data)
        except RecordError:
            continue
        for name in _globals(record):
            if name not in told and not _importable(name.module):
                told.add(name)
                yield name.dotted


def _importable(module: str) -> bool:
    if module == "__main__":
        return False
    loaded = sys.modules.get(module)
    # A module made by hand has no spec: nothing on disk to import it from.
    return loaded is None or getattr(loaded, "__spec__", None) is not None


def _globals(record: Record) -> Iterator[Global]:
    waiting: list[Any] = [record.class_, record.class_args, record.state]
    met: set[int] = set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Global):
            yield value
            continue
        if not isinstance(value, list | tuple | Dict | Set | Instance) or id(value) in met:
            continue
        met.add(id(value))
        if isinstance(value, Dict):
            waiting.extend(part for pair in value.pairs for part in pair)
        elif isinstance(value, Set):
            waiting.extend(value.items)
        elif isinstance(value, Instance):
            waiting.extend((value.class_, value.args, value.kwargs, value.state, value.items, value.pairs))
        else:
            waiting.extend(value)


def _silent(connection: Any, writer: RecordWriter, saved: dict[int, Entry]) -> Iterator[DirtyObject]:
    for raw, obj in connection._cache.lru_items():
        oid = from_bytes(raw)
        if oid in saved or obj._p_changed is not False or isinstance(obj, Blob) or is_stand_in(obj):
            continue
        if obj._p_serial == z64:
            # An empty database's root is stored nowhere as long as nothing is put into it.
            continue
        try:
            current = writer.record(obj, oid)
            stored = connection._storage.load(raw)[0]
            if current == stored:
                continue
            names = _differences(decode_record(stored), decode_record(current))
            # A class may load an old state into a newer form: then both are compared in that form.
            if names and _differences(decode_record(_reloaded(connection, stored)), decode_record(current)):
                yield DirtyObject(oid, class_text(record_class(stored)), oid_text(oid), names)
        except (CannotSave, StandInError, RecordError):
            # What cannot be written, or not be compared, cannot have been meant to be saved as it is.
            continue


def _differences(stored: Record, current: Record) -> tuple[str, ...]:
    """Name the attributes that differ; ``("",)`` where the states are no attributes, nothing where they are equal."""
    if same(stored.state, current.state):
        return ()
    before, after = dict(attributes(stored)), dict(attributes(current))
    names = [name for name in after if name not in before or not same(before[name], after[name])]
    names += [name for name in before if name not in after]
    return tuple(names) or ("",)


def _reloaded(connection: Any, stored: bytes) -> bytes:
    """Return what an object just loaded from this record would write."""
    reader = ObjectReader(connection, connection._cache, connection._db.classFactory)
    fresh = reader.getGhost(stored)
    reader.setGhostState(fresh, stored)
    return RecordWriter(connection).record(fresh, 0)


def _shared(connection: Any, writer: RecordWriter, described: dict[int, DirtyObject]) -> Iterator[SharedValue]:
    for container, owners in (writer.containers or {}).values():
        if len(owners) < 2:
            continue
        objects = (described.get(oid) or _loaded(connection, oid) for oid in sorted(owners))
        yield SharedValue(type(container).__name__, tuple(objects))


def _loaded(connection: Any, oid: int) -> DirtyObject:
    obj = connection._cache.get(oid.to_bytes(8, "big"))
    class_ = type(obj)
    return DirtyObject(oid, f"{class_.__module__}.{class_.__name__}", oid_text(oid))


def _described(entry: Entry, names: Iterable[str] = ()) -> DirtyObject:
    return DirtyObject(entry.oid, class_text(record_class(entry.data)), oid_text(entry.oid), tuple(names))
