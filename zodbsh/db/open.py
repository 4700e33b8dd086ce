"""Opening a database's storage for writing, and telling ZODB's errors in our words."""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from shlex import quote
from typing import Any

from zodbsh.db.locks import locked
from zodbsh.db.spec import Spec, check_file
from zodbsh.errors import (
    BlobFolderNotFound,
    ExitCode,
    MissingPackage,
    ObjectNotFound,
    StorageIOError,
    Unsupported,
    UsageError,
    ZodbshError,
    os_error_kind,
    os_hint,
)
from zodbsh.ids import from_bytes, oid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.source.file import LAYOUT_MARKER, blobs_beside

_NESTED_FILE = re.compile(r"file://([^?#()]*)([^#()]*)")
_DEMO = re.compile(r"demo:\((.*)\)/\((.*)\)(#.*|)")
_NO_SERVER = "Is the server running? ?wait_timeout=N in the address waits N seconds for it."


class NotWritable(Unsupported):
    """The database cannot be written to, whoever asks."""

    code = "not-writable"


class NoBlobFolder(Unsupported):
    """Blobs are to be written, but the database was opened without a folder for them."""

    code = "no-blob-folder"
    hint = "`--blobs DIR` names the folder; the one beside the database that ends in `.blobs` is found by itself."

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is open without its folder of blobs")


class Conflict(ZodbshError):
    """Another transaction changed the same objects, and their classes cannot resolve it."""

    code, exit_code = "conflict", ExitCode.CONFLICT
    hint = "Nothing was written. Look at what the other transaction did, then change your objects again."

    def __init__(self, message: str, *, oids: tuple[int, ...] = (), hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.oids = oids


def open_storage(spec: Spec, *, progress: Progress = SILENT) -> Any:
    """Open a storage for writing. A file is scanned first and locked.

    Raises DatabaseLocked, DamagedDatabase, DatabaseNotFound, NotWritable,
    NoPermission, MissingPackage, StorageIOError.
    """
    quiet_logging()
    if spec.kind == "memory":
        return _memory_storage()
    if spec.kind == "file":
        return _file_storage(spec, progress)
    return open_configured(spec, read_only=False, progress=progress)


def open_configured(spec: Spec, *, read_only: bool, progress: Progress = SILENT) -> Any:
    """Open the storage of a URI or of a ZConfig section, read-only where it can be asked for that.

    A FileStorage within is never created; where it may be written to, it is
    scanned first.
    """
    from zodbsh.db.filestore import safe_indexes

    quiet_logging()
    with translated(spec.text), safe_indexes():
        if spec.kind == "uri":
            return _from_uri(spec, read_only, progress)
        return _from_config(spec, read_only, progress)


def quiet_logging() -> None:
    """Keep ZODB's log off a user's terminal: errors are raised, and shown once."""
    for name in ("ZODB", "ZEO", "txn", "zc.lockfile"):
        logger = logging.getLogger(name)
        if not logger.handlers:
            logger.addHandler(logging.NullHandler())


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Raise ZODB's errors about the database ``name`` as ours."""
    try:
        yield
    except ZodbshError:
        raise
    except Exception as exc:
        ours = _ours(name, exc)
        if ours is None:
            raise
        raise ours from exc


def _ours(name: str, exc: Exception) -> ZodbshError | None:
    from zc.lockfile import LockError
    from ZODB.POSException import ConflictError, POSError, POSKeyError, ReadOnlyError, UndoError
    from ZODB.POSException import Unsupported as NotOfStorage

    if isinstance(exc, POSKeyError):
        oid = exc.args[0] if exc.args else b""
        shown = oid_text(from_bytes(oid)) if isinstance(oid, bytes) and len(oid) == 8 else str(oid)
        return ObjectNotFound(f"{name}: no object {shown}")
    if isinstance(exc, ConflictError):
        oids = (from_bytes(exc.oid),) if isinstance(exc.oid, bytes) else ()
        which = f"object {oid_text(oids[0])}" if oids else "an object"
        class_ = f" ({exc.class_name})" if exc.class_name else ""
        return Conflict(f"{name}: {which}{class_} was changed by another transaction", oids=oids)
    if isinstance(exc, UndoError):
        return Conflict(
            f"{name}: cannot undo: later transactions changed the same objects",
            hint=f"Nothing was written. `zodbsh undo {quote(name)} TID --dry-run` shows them.",
        )
    if isinstance(exc, NotOfStorage) and "Blobs" in str(exc):
        return NoBlobFolder(name)
    if isinstance(exc, ReadOnlyError):
        return NotWritable(f"{name}: the storage is read-only")
    if isinstance(exc, LockError):
        return locked(name)
    if isinstance(exc, OSError):
        # A sidecar's name (Data.fs.lock) says which database it belongs to.
        file = str(exc.filename or "")
        where = file if file.startswith(name) else f"{name}: {file}" if file else name
        return os_error_kind(exc)(f"{where}: {exc.strerror or exc}", hint=os_hint(exc))
    # ZEO's ClientDisconnected is a StorageError, as are a quota exceeded and a storage closed by an error.
    if isinstance(exc, POSError):
        hint = _NO_SERVER if type(exc).__name__ == "ClientDisconnected" else None
        return StorageIOError(f"{name}: {type(exc).__name__}: {exc}".rstrip(": "), hint=hint)
    return None


def require_writable(spec: Spec) -> None:
    """Raise NotWritable where nobody can write to the file that a spec names, DatabaseNotFound where there is none."""
    if check_file(spec.path)[:4] == b"FS21":
        raise NotWritable(
            f"{spec.text} is in Python 2's format (FS21)",
            hint="ZODB on Python 3 cannot write to it; look at it with the reading commands.",
        )
    if spec.read_only:
        raise NotWritable(f"{spec.text} is configured as read-only")


def _file_storage(spec: Spec, progress: Progress) -> Any:
    from zodbsh.db.filestore import SoundFileStorage

    require_writable(spec)
    if spec.blob_dir is not None and not os.path.isdir(spec.blob_dir):
        raise BlobFolderNotFound(f"{spec.text}: there is no folder {spec.blob_dir}")
    folder = spec.blob_dir or blobs_beside(spec.path)
    # What is named like one, but is not marked as one, nobody but the user takes for a folder to write blobs to.
    marked = spec.blob_dir is not None or os.path.exists(os.path.join(folder, LAYOUT_MARKER))
    with translated(spec.text):
        return SoundFileStorage(spec.path, blob_dir=folder if marked else None, progress=progress)


def _memory_storage() -> Any:
    from ZODB.DB import DB
    from ZODB.MappingStorage import MappingStorage

    storage = MappingStorage()
    # DB commits the root; it is not closed, because that would close the storage.
    DB(storage)
    return storage


def _from_uri(spec: Spec, read_only: bool, progress: Progress) -> Any:
    try:
        from zodburi import NoResolverForScheme, resolve_uri
    except ImportError as exc:
        raise MissingPackage(
            f"{spec.text}: a URI needs the package zodburi", hint='Install it: pip install "zodbsh[uri]"'
        ) from exc
    uri = _read_only_uri(spec.uri) if read_only else _base_read_only(spec.uri)
    for path, asked in _NESTED_FILE.findall(uri):
        _check_nested(path, "read_only=1" in asked, progress)
    try:
        factory, _ = resolve_uri(_patient(uri))
    except NoResolverForScheme as exc:
        scheme = spec.uri.partition(":")[0]
        hint = 'RelStorage\'s schemes: pip install "zodbsh[relstorage]"'
        raise MissingPackage(f"{spec.text}: no package here knows {scheme}: addresses", hint=hint) from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise UsageError(f"{spec.text}: {exc}") from exc
    return _with_root(factory())


def _from_config(spec: Spec, read_only: bool, progress: Progress) -> Any:
    import ZConfig
    from ZODB.config import getDbSchema

    from zodbsh.db.zconfig import read_only_text, storage_paths

    for path in storage_paths(spec.config):
        _check_nested(path, read_only, progress)
    text = read_only_text(spec.config) if read_only else spec.config
    try:
        config, _ = ZConfig.loadConfigFile(getDbSchema(), io.StringIO(text))
    except ZConfig.ConfigurationError as exc:
        raise UsageError(f"{spec.path}: {exc.message}", hint="ZODB.config refuses this <zodb> section.") from exc
    except ImportError as exc:
        raise MissingPackage(f"{spec.path}: {exc}", hint="Install the package that the configuration names.") from exc
    return _with_root(config.database[0].config.storage.open())


def _with_root(storage: Any) -> Any:
    """Give a storage that lives in memory only its root; any other has one, or gets it with the first commit."""
    from ZODB.DB import DB
    from ZODB.MappingStorage import MappingStorage

    if type(storage) is MappingStorage and not len(storage):
        DB(storage)
    return storage


def _check_nested(path: str, read_only: bool, progress: Progress) -> None:
    """See to it that ZODB neither creates nor truncates a FileStorage named inside a URI or a configuration."""
    from zodbsh.db.beside import refuse_symlinks
    from zodbsh.db.filestore import require_sound

    head = check_file(path)
    if not read_only:
        if head[:4] == b"FS21":
            raise NotWritable(f"{path} is in Python 2's format (FS21)")
        refuse_symlinks(path)
    require_sound(path, progress)


def _read_only_uri(uri: str) -> str:
    """Ask every FileStorage and ZEO client in a URI to be read-only."""

    def ask(match: re.Match[str]) -> str:
        text = match.group(0)
        return f"{text}{'&' if '?' in text else '?'}read_only=1"

    if re.search(r"[?&]read_only=", uri):
        return uri
    return re.sub(r"(?:file|zeo)://[^#()]*", ask, uri)


def _base_read_only(uri: str) -> str:
    """Ask the base of a demo storage to be read-only: it is never written to, and may be in use."""
    match = _DEMO.fullmatch(uri)
    return uri if match is None else f"demo:({_read_only_uri(match[1])})/({_base_read_only(match[2])}){match[3]}"


def _patient(uri: str) -> str:
    """Wait for a ZEO server five seconds, not for ever, where the URI does not say."""
    if not uri.startswith("zeo://") or re.search(r"[?&]wait(_timeout)?=", uri):
        return uri
    head, hash_, fragment = uri.partition("#")
    return f"{head}{'&' if '?' in head else '?'}wait_timeout=5{hash_}{fragment}"
