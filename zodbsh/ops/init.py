"""``init``: the one command that creates a database."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from zodbsh.db.spec import is_address
from zodbsh.errors import DatabaseNotFound, StorageIOError, UsageError
from zodbsh.publish import (
    AlreadyExists,
    fsync_folder,
    publish,
    scratch_folder,
    sync_file,
    temporary_name,
    uninterrupted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

# Remains of another database under this name: ZODB would read the first, and a pack would destroy the second.
_REMAINS = (".index", ".old", ".pack", ".stage")
_SIDECARS = (".lock", ".tmp")


class RootEntry(NamedTuple):
    """One entry of the new root; ``oid`` is None for a value that lives in the root's own record."""

    key: str
    class_: str
    oid: int | None


class InitResult(NamedTuple):
    """A new database: where it is, its last transaction, what its root holds."""

    path: str
    blobs: str | None
    tid: int
    bytes: int
    root: tuple[RootEntry, ...]


def parse_roots(texts: Iterable[str]) -> dict[str, str]:
    """Read ``NAME=module.Class`` entries; raises UsageError."""
    roots: dict[str, str] = {}
    for text in texts:
        name, equals, dotted = text.partition("=")
        if not (name and equals and dotted):
            raise UsageError(f"not a root entry: {text!r}", hint="Write it as NAME=module.Class.")
        if name in roots:
            raise UsageError(f"root entry {name!r} is given twice")
        roots[name] = dotted
    return roots


def init(
    path: str, *, roots: Mapping[str, str] | None = None, import_paths: Iterable[str] = (), blobs: str | None = None
) -> InitResult:
    """Create a FileStorage at ``path`` whose root holds ``module.Class()`` under each name of ``roots``.

    The classes are imported (user code) from ``import_paths`` and the current
    folder. ZODB writes the file in a scratch folder beside ``path``; zodbsh's
    own reader verifies it; only then does it get its name. ``blobs`` becomes a
    folder for blobs in the same way.

    Raises AlreadyExists where the path, a remnant of another database beside
    it, or the blob folder is there; UsageError; UserCodeFailed; OSError.
    Whatever it raises (OutcomeUnknown apart), nothing has appeared.
    """
    from zodbsh.db.create import with_import_paths

    _check_free(path, blobs)
    restore = with_import_paths(import_paths)
    try:
        with _named_as_given(path, blobs):
            _create(path, roots or {}, blobs)
    finally:
        restore()
    return _result(path, blobs, roots or {})


def _create(path: str, roots: Mapping[str, str], blobs: str | None) -> None:
    from zodbsh.db.create import create_filestorage, find_factory

    factories = {name: find_factory(dotted) for name, dotted in roots.items()}
    with scratch_folder(path) as scratch, _blob_folder(blobs) as staged_blobs:
        draft = os.path.join(scratch, "Data.fs")
        create_filestorage(draft, factories, blob_dir=staged_blobs, note="zodbsh init")
        with _published_blobs(staged_blobs, blobs), open(draft, "rb") as content:
            publish(path, lambda file: _copy(content, file), verify=partial(_verify, path), exclusive=True)


@contextmanager
def _named_as_given(path: str, blobs: str | None) -> Iterator[None]:
    """Have the system's errors name what the user named, not a temporary file beside it."""
    try:
        yield
    except OSError as exc:
        if exc.errno is None:
            raise
        beside_blobs = blobs is not None and _is_beside(str(exc.filename or ""), os.path.normpath(blobs))
        raise OSError(exc.errno, exc.strerror, blobs if beside_blobs else path) from exc


def _is_beside(name: str, path: str) -> bool:
    folder, base = os.path.split(path)
    return name == path or name.startswith((path + os.sep, os.path.join(folder, f".{base}.")))


def _check_free(path: str, blobs: str | None) -> None:
    if is_address(path):
        raise UsageError(
            f"init creates a FileStorage, and {path!r} is no path",
            hint="The database behind an address is created by its own server; of a file:// address give the path.",
        )
    folder = os.path.dirname(path) or "."
    if not os.path.basename(path):
        raise UsageError(f"{path!r} names no file")
    if os.path.lexists(path):
        raise AlreadyExists(f"{path} exists already", hint=AlreadyExists.hint)
    if not os.path.isdir(folder):
        raise DatabaseNotFound(f"there is no folder {folder}", hint="Create the folder first.")
    taken = [path + suffix for suffix in _REMAINS if os.path.lexists(path + suffix)]
    taken += [path + suffix for suffix in _SIDECARS if _is_strange(path + suffix)]
    if taken:
        raise AlreadyExists(
            f"{', '.join(taken)}: left over from another database of this name",
            hint="Move it away, or choose another name; it would be taken for the new database's.",
        )
    if blobs is not None and os.path.lexists(blobs) and not (_is_empty_folder(blobs) or _is_own_remnant(path, blobs)):
        raise AlreadyExists(f"{blobs} exists already", hint="Blobs need a new folder, or an empty one.")


def _is_strange(path: str) -> bool:
    """Tell whether something other than a plain file stands where ZODB would write through it."""
    return os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path))


def _is_empty_folder(path: str) -> bool:
    if os.path.islink(path) or not os.path.isdir(path):
        return False
    with os.scandir(path) as entries:
        return next(entries, None) is None


def _is_own_remnant(path: str, blobs: str) -> bool:
    """Tell whether a blob folder is this database's by its name, and without a blob: a killed init leaves it."""
    if os.path.normpath(blobs) != os.path.normpath(f"{path}.blobs") or os.path.islink(blobs):
        return False
    try:
        return set(os.listdir(blobs)) <= {".layout", "tmp"} and not os.listdir(os.path.join(blobs, "tmp"))
    except OSError:
        return False


@contextmanager
def _blob_folder(blobs: str | None) -> Iterator[str | None]:
    """Give the scratch folder in which the blobs are written, beside their place."""
    if blobs is None:
        yield None
        return
    staged = temporary_name(os.path.normpath(blobs))
    try:
        os.mkdir(staged, 0o700)
        yield staged
    finally:
        with uninterrupted():
            shutil.rmtree(staged, ignore_errors=True)


@contextmanager
def _published_blobs(staged: str | None, blobs: str | None) -> Iterator[None]:
    """Give the blob folder its name for the block, and take it back where the block fails."""
    if staged is None or blobs is None:
        yield
        return
    was_there = os.path.isdir(blobs)
    _sync_tree(staged)
    if was_there and os.listdir(blobs):
        os.unlink(os.path.join(blobs, ".layout"))
        os.rmdir(os.path.join(blobs, "tmp"))
    # An empty folder gives way to a rename, anything else makes it fail.
    os.rename(staged, blobs)
    try:
        fsync_folder(os.path.dirname(os.path.normpath(blobs)))
        yield
    except BaseException as exc:
        from zodbsh.publish import OutcomeUnknown

        if not isinstance(exc, OutcomeUnknown):
            with uninterrupted():
                shutil.rmtree(blobs, ignore_errors=True)
                if was_there:
                    os.mkdir(blobs)
        raise


def _sync_tree(folder: str) -> None:
    for where, _, files in os.walk(folder):
        for name in files:
            sync_file(os.path.join(where, name))
        fsync_folder(where)


def _copy(content: BinaryIO, file: BinaryIO) -> None:
    shutil.copyfileobj(content, file)


def _verify(path: str, temporary: str) -> None:
    """Check the new file before it gets the name ``path``: its framing, and that every record decodes."""
    from zodbsh.filestorage.framing import scan_framing
    from zodbsh.record.decode import decode_record
    from zodbsh.source.file import FileSource

    damage = scan_framing(temporary)
    if damage:
        raise StorageIOError(f"{path}: the new file did not reach the disk as it was written: {damage[0].reason}")
    source = FileSource(temporary)
    try:
        for transaction in source.transactions():
            for revision in source.records(transaction):
                decode_record(revision.data or b"")
    finally:
        source.close()


def _result(path: str, blobs: str | None, roots: Mapping[str, str]) -> InitResult:
    from zodbsh.ids import ROOT_OID
    from zodbsh.record.decode import class_text, decode_record
    from zodbsh.record.shape import mapping_items
    from zodbsh.record.values import Ref
    from zodbsh.source.file import FileSource

    source = FileSource(path)
    try:
        root = decode_record(source.load(ROOT_OID).data or b"")
        entries = tuple(
            RootEntry(str(key), class_text(value.class_), value.oid)
            if isinstance(value, Ref)
            else RootEntry(str(key), roots[str(key)], None)
            for key, value in mapping_items(root) or ()
        )
        return InitResult(path, blobs, source.last_tid, os.path.getsize(path), entries)
    finally:
        source.close()
