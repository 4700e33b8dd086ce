"""Where stages are kept, and how they get there and go away.

The stage of a file lies beside it (``DB.stage``, with blobs in
``DB.stage.blobs``); of any other database in the user's state folder. A stage
is published whole. Saving and dropping compare with what is there: two
processes that stage at once do not overwrite each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import BinaryIO

from zodbsh.db.beside import leave_to_owner, make_folders
from zodbsh.db.changes import Entry
from zodbsh.db.spec import Spec
from zodbsh.errors import StorageIOError, Unsupported
from zodbsh.ids import oid_text
from zodbsh.publish import OutcomeUnknown, fsync_folder, publish, uninterrupted
from zodbsh.stage.format import StageDamaged, StoredEntry, decode, encode
from zodbsh.stage.model import Stage, StageConflict, new_id

SUFFIX = ".stage"
_BLOBS = ".blobs"
_LOCK = ".lock"
# Far above what anyone stages, below what would not fit into memory.
MAX_BYTES = 4 << 30
_CHUNK = 1 << 20
# Seconds until the lock of a stage is tried again.
_WAIT = 0.02


def stage_path(spec: Spec) -> str:
    """Return the path of a database's stage (it need not exist).

    Raises Unsupported for a database in memory, which ends with the process.
    """
    if spec.kind == "memory":
        raise Unsupported(
            "a database in memory has no stage: it ends with the process",
            hint="Use --commit, or a database in a file.",
        )
    if spec.kind == "file":
        return os.path.realpath(spec.path) + SUFFIX
    from platformdirs import user_state_dir

    name = hashlib.sha256(spec.identity.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return os.path.join(user_state_dir("zodbsh", appauthor=False), "stages", name + SUFFIX)


def load(spec: Spec) -> Stage | None:
    """Return a database's stage, None where there is none.

    Raises StageDamaged, StorageIOError.
    """
    if spec.kind == "memory":
        return None
    path = stage_path(spec)
    content = _content(path)
    if content is None:
        return None
    stored = decode(content, path)
    return replace(stored.stage, entries=tuple(_with_blob(path, stored.stage.id, entry) for entry in stored.entries))


def save(spec: Spec, stage: Stage, *, replaces: str = "") -> Stage:
    """Put a stage on disk and return it with its new id and its own copies of the blobs.

    ``replaces`` is the id of the stage that this one was made from, empty for
    none: where anything else is there by now, StageConflict is raised and
    nothing changes. Raises StorageIOError, Unsupported.
    """
    path = stage_path(spec)
    stage = replace(stage, id=new_id())
    with _failing_well(path):
        if spec.kind != "file":
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with _locked(path):
            _require(path, replaces)
            try:
                with _interruptible():
                    kept = tuple(_keep_blob(path, stage.id, entry) for entry in stage.entries)
                stage = replace(stage, entries=kept)
                _publish(spec, path, stage)
            except OutcomeUnknown:
                # The stage has its name, and needs its blobs; after a power failure the one before it may need its own.
                raise
            except BaseException:
                _sweep_blobs(path, keep=replaces)
                raise
            _sweep_blobs(path, keep=stage.id)
    return stage


def drop(spec: Spec, *, only: str | None = None) -> bool:
    """Remove a database's stage, damaged or not, and its blobs; return whether there was one.

    ``only`` is the id of the stage to remove: another one stays, and False is
    returned. Raises StorageIOError.
    """
    path = stage_path(spec)
    with _failing_well(path, "nothing was dropped"):
        if not os.path.lexists(path) and not os.path.lexists(path + _BLOBS):
            return False
        with _locked(path):
            if only is not None and _id(path) != only:
                return False
            was_there = os.path.lexists(path)
            if was_there:
                os.unlink(path)
                _settle_removal(path)
            _sweep_blobs(path, keep="")
    return was_there


def _publish(spec: Spec, path: str, stage: Stage) -> None:
    sizes = {entry.oid: os.path.getsize(entry.blob) for entry in stage.entries if entry.blob is not None}
    content = encode(stage, sizes)

    def verify(temporary: str) -> None:
        with open(temporary, "rb") as file:
            if file.read() != content:
                raise StorageIOError(f"{path}: what was written does not read back the same")

    def write(file: BinaryIO) -> None:
        file.write(content)

    try:
        publish(path, write, verify=verify, mode=_mode(spec))
    finally:
        _leave(path, path)


def _leave(made: str, path: str) -> None:
    """Let the owner of the database of a stage go on with it; of the superuser's own stages there is no such file."""
    leave_to_owner(made, path.removesuffix(SUFFIX))


def _mode(spec: Spec) -> int:
    """Let those read a stage who may read the database."""
    if spec.kind != "file":
        return 0o600
    return stat.S_IMODE(os.stat(spec.path).st_mode) & 0o666 | 0o600


def _content(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageIOError(f"{path}: {exc.strerror}") from exc
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise StageDamaged(f"{path}: is no regular file")
        if status.st_size > MAX_BYTES:
            raise StageDamaged(f"{path}: {status.st_size} bytes are more than a stage has")
        try:
            return file.read()
        except OSError as exc:
            raise StorageIOError(f"{path}: {exc.strerror}") from exc


def _id(path: str) -> str:
    """Return the id of the stage at ``path``, empty where there is none or it cannot be read."""
    try:
        content = _content(path)
        return "" if content is None else decode(content, path).stage.id
    except StageDamaged:
        return "damaged"


def _require(path: str, replaces: str) -> None:
    found = _id(path)
    if found == replaces:
        return
    if not found:
        raise StageConflict(f"{path}: the stage that this work continued was committed or dropped meanwhile")
    if found == "damaged":
        raise StageDamaged(f"{path}: there is a damaged stage")
    raise StageConflict(f"{path}: another process staged changes meanwhile")


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Hold the stage's lock file; it is gone again afterwards.

    No signal arrives in between (``_interruptible`` lets them): stage and blobs go together.
    """
    lock = path + _LOCK
    while True:
        with uninterrupted():
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                # A kill leaves it there.
                _leave(lock, path)
                if _taken(lock, descriptor):
                    try:
                        yield
                    finally:
                        with suppress(OSError):
                            os.unlink(lock)
                    return
            finally:
                os.close(descriptor)
        time.sleep(_WAIT)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let signals arrive, for what may take long."""
    old = signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def _taken(lock: str, descriptor: int) -> bool:
    """Lock the file unless somebody holds it, and tell whether it is still the one under its name."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Whoever held it before us may have removed the name; then the next one is to be locked.
    return _still(lock, descriptor)


def _still(lock: str, descriptor: int) -> bool:
    try:
        named, held = os.stat(lock, follow_symlinks=False), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


@contextmanager
def _failing_well(path: str, outcome: str = "nothing was staged") -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise StorageIOError(f"{exc.filename or path}: {exc.strerror or exc}; {outcome}") from exc


def _settle_removal(path: str) -> None:
    try:
        fsync_folder(os.path.dirname(path))
    except OSError as exc:
        raise OutcomeUnknown(
            f"{path} was removed, but its folder could not be synced: {exc.strerror or exc}",
            hint="It is gone now; whether it would be after a power failure is not known. `zodbsh status` tells then.",
        ) from exc


def _blob_path(path: str, id_: str, oid: int) -> str:
    return os.path.join(path + _BLOBS, f"{id_}-{oid_text(oid)}")


def _with_blob(path: str, id_: str, entry: StoredEntry) -> Entry:
    if entry.blob_size is None:
        return Entry(entry.oid, entry.serial, entry.data)
    blob = _blob_path(path, id_, entry.oid)
    try:
        size = os.path.getsize(blob)
    except OSError as exc:
        raise StageDamaged(f"{blob}: a staged blob is missing ({exc.strerror})") from exc
    if size != entry.blob_size:
        raise StageDamaged(f"{blob}: a staged blob has {size} bytes, not {entry.blob_size}")
    return Entry(entry.oid, entry.serial, entry.data, blob)


def _keep_blob(path: str, id_: str, entry: Entry) -> Entry:
    """Copy a blob's file to the stage; it is the stage's own from then on."""
    if entry.blob is None:
        return entry
    target = _blob_path(path, id_, entry.oid)
    folder = os.path.dirname(target)
    make_folders(folder, path.removesuffix(SUFFIX), 0o700)
    # The stage, once it is there, needs the folder's name as well as those in it.
    fsync_folder(os.path.dirname(folder))
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as out, open(entry.blob, "rb") as source:
        shutil.copyfileobj(source, out, _CHUNK)
        out.flush()
        os.fsync(out.fileno())
    _leave(target, path)
    fsync_folder(folder)
    return entry._replace(blob=target)


def _sweep_blobs(path: str, *, keep: str) -> None:
    """Remove the blobs of all stages but one; what cannot be removed is swept the next time."""
    folder = path + _BLOBS
    with suppress(OSError):
        for name in os.listdir(folder):
            if not (keep and name.startswith(keep + "-")):
                os.unlink(os.path.join(folder, name))
        os.rmdir(folder)
