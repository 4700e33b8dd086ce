"""Opening what a DATABASE argument names as a source: for reading, without a lock."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zodbsh.db.spec import Spec, parse_spec

if TYPE_CHECKING:
    from zodbsh.source.base import Source


def open_source(
    spec: Spec | str,
    *,
    blob_dir: str | None = None,
    ignore_damage: bool = False,
    unchecked: bool = False,
    storage: Any = None,
) -> Source:
    """Open a source: a file is read by us, without ZODB; any other storage through ZODB, read-only where it can be.

    ``ignore_damage`` and ``unchecked`` are those of `FileSource`. ``storage`` is the storage where it is open already
    (it stays the caller's to close). Raises DatabaseNotFound, DamagedDatabase, MissingPackage,
    Unsupported, StorageIOError.
    """
    spec = parse_spec(spec) if isinstance(spec, str) else spec
    if blob_dir is not None:
        spec = replace(spec, blob_dir=blob_dir)
    if spec.kind == "file":
        from zodbsh.source.file import FileSource

        return FileSource(spec.path, blob_dir=spec.blob_dir, ignore_damage=ignore_damage, unchecked=unchecked)
    from zodbsh.source.storage import StorageSource

    if storage is not None:
        return StorageSource(storage, spec.text, owned=False)
    from zodbsh.db.open import open_configured, open_storage

    if spec.kind == "memory":
        return StorageSource(open_storage(spec), spec.text)
    return StorageSource(open_configured(spec, read_only=True), spec.text)
