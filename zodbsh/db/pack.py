"""ZODB's own pack of a FileStorage, with what it leaves out put around it.

ZODB packs to a file ``.pack``, renames the database to ``.old`` and the new file
into its place. Added here: the exact pack time, mode and owner of the new file,
fsync before it gets its name, no leftovers and no lost ``.old`` when nothing was
published, no interrupt between the renames. Between the two renames there is no
Data.fs for a moment: whoever opens the database then without looking may create
an empty one.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ZODB.FileStorage.format import CorruptedError
from ZODB.FileStorage.fspack import FileStoragePacker
from ZODB.serialize import referencesf

from zodbsh.errors import DamagedDatabase, StorageIOError, Unsupported, ZodbshError
from zodbsh.ids import from_bytes, oid_text, to_bytes
from zodbsh.progress import SILENT, Progress
from zodbsh.record.decode import RecordError, references

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_SET_ASIDE = ".old-before-pack"
# What appears beside a database that is opened for writing, and is to belong to its owner.
_SIDECARS = ("", ".old", ".index", ".lock", ".tmp")


class DiskFullError(StorageIOError):
    """There is no room for the result; nothing changed."""

    code = "disk-full"
    hint = "Free some space, or let the files beside the database go; pack needs room for a second file."


class DanglingReference(DamagedDatabase):
    """ZODB's pack met a reference to an object that does not exist at the pack time."""

    code = "pack-dangling-reference"
    hint = "Nothing changed. `zodbsh pack --no-gc` packs without following references."

    def __init__(self, target: int, *, message: str | None = None) -> None:
        super().__init__(message or f"a record refers to {oid_text(target)}, which does not exist at the pack time")
        self.target = target


class PackRefused(DamagedDatabase):
    """ZODB's pack stopped at something it does not understand; nothing changed."""

    code = "pack-refused"
    hint = "Nothing changed."


class UndoneTooFar(Unsupported):
    """ZODB's pack cannot keep an undo whose data would go without garbage collection."""

    code = "pack-unsupported"
    hint = "Nothing changed. Pack without --no-gc, or to another time."


class Packed(NamedTuple):
    """What a pack did to the file.

    ``published`` tells whether there is a new file (with the one before it as
    ``.old``); ``trouble`` what failed after that moment, None for nothing.
    """

    published: bool
    trouble: str | None = None


def pack_file(storage: Any, tid: int, *, collect: bool, spare_old: bool = True, progress: Progress = SILENT) -> Packed:
    """Pack an open FileStorage, whose lock is held, to ``tid``; the caller closes it.

    ``spare_old`` keeps an earlier ``.old`` until this pack has made its own;
    ZODB deletes it first, which saves its room. Raises DiskFullError, StorageIOError,
    DanglingReference, PackRefused or UndoneTooFar; then the database is as it was.
    """
    path = storage._file.name
    before = os.stat(path)
    if storage.blob_dir:
        _check_blob_room(storage.blob_dir)
    with ExitStack() as stack:
        stack.enter_context(_no_wider_than(before))
        for name in (path, storage.blob_dir) if spare_old else ():
            if name:
                stack.enter_context(_old_kept(os.path.abspath(name)))
        stack.enter_context(_tidied(storage, path))
        storage.packer = _packer(stack, tid, before, progress)
        try:
            storage.pack(time.time(), referencesf, gc=collect)
        except BaseException as exc:
            _undo_first_rename(path)
            if not _same(path, before):
                if not isinstance(exc, Exception):
                    raise
                return Packed(True, f"the pack is done, but then failed: {exc}")
            if isinstance(exc, Exception):
                raise _translated(exc, path, collect) from exc
            raise
        finally:
            storage.__dict__.pop("packer", None)
        return Packed(not _same(path, before))


def settle(path: str) -> None:
    """Make what a pack renamed last: fsync of the new file, ``.old`` and the folder; sidecars to the owner."""
    owner = os.stat(path)
    with suppress(OSError):
        # ZODB saves the index once more when it closes.
        index = path + ".index"
        os.chmod(index, stat.S_IMODE(os.lstat(index).st_mode) & stat.S_IMODE(owner.st_mode))
    for suffix in _SIDECARS:
        with suppress(OSError):
            beside = os.lstat(path + suffix)
            if os.geteuid() == 0 and stat.S_ISREG(beside.st_mode):
                _give(path + suffix, beside, owner)
    for name in (path, path + ".old"):
        if os.path.exists(name):
            _sync(name)
    _sync(os.path.dirname(path) or ".")


def _packer(stack: ExitStack, tid: int, before: os.stat_result, progress: Progress) -> Callable[..., Any]:
    """Return what FileStorage.pack calls to write ``.pack``.

    From its success on, until ``stack`` ends, signals wait: the renames follow.
    """

    def run(storage: Any, references: Any, _stop: bytes, collect: bool) -> Any:
        packer = _Packer(storage, references, to_bytes(tid), collect, progress)
        held = False
        try:
            size = packer.pack()
            if size is None:
                return None
            held = True
            new = packer._name + ".pack"
            os.chmod(new, stat.S_IMODE(before.st_mode))
            _give(new, os.stat(new), before)
            _sync(new)
            previous = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
            stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, previous)
            held = False
            return size, packer.index
        finally:
            if held:
                storage._commit_lock.release()
            packer.close()
            progress.finish()

    return run


class _Packer(FileStoragePacker):  # type: ignore[misc]
    """ZODB's packer, reporting where it is and naming the record it stops at."""

    def __init__(self, storage: Any, references: Any, stop: bytes, collect: bool, progress: Progress) -> None:
        super().__init__(storage, references, stop, collect)
        self._progress = progress
        self._phase = ""
        self._followed = 0
        gc = self.gc
        check, find = gc.checkTxn, gc.findrefs

        def check_transaction(header: Any, position: int) -> None:
            self._at("Reading transactions", position)
            check(header, position)

        def find_references(position: int) -> list[bytes]:
            self._followed += 1
            self._at("Finding what is reachable", self._followed, unit="objects", total=len(gc.oid2curpos))
            try:
                found: list[bytes] = find(position)
            except CorruptedError:
                raise
            except Exception as exc:
                raise _undecodable(gc, position, exc) from exc
            return found

        gc.checkTxn, gc.findrefs = check_transaction, find_references

    def copyDataRecords(self, pos: int, th: Any) -> Any:  # noqa: N802  ZODB's name
        self._at("Copying", pos)
        return super().copyDataRecords(pos, th)

    def copyOne(self, ipos: int) -> Any:  # noqa: N802  ZODB's name
        self._at("Copying", ipos)
        return super().copyOne(ipos)

    def _at(self, phase: str, done: int, *, unit: str = "bytes", total: int | None = None) -> None:
        if phase != self._phase:
            if self._phase:
                self._progress.finish()
            self._phase = phase
            self._progress.start(phase, self.file_end if total is None else total, unit)
        self._progress.advance(done)


def _undecodable(gc: Any, position: int, exc: Exception) -> PackRefused:
    """Name the record that ZODB cannot read references from, and say what our decoder finds in it."""
    header = gc._read_data_header(position)
    why = f"{type(exc).__name__}: {exc}".rstrip(": ")
    try:
        references(gc._file.read(header.plen))
    except RecordError as error:
        why = error.message
    return PackRefused(
        f"the references of {oid_text(from_bytes(header.oid))} (offset {position}) cannot be read: {why}",
        hint="Nothing changed. `zodbsh pack --no-gc` packs without following references.",
    )


def _check_blob_room(blob_dir: str) -> None:
    """Refuse what ZODB would fail at with the file packed already: it moves and links blobs to a folder beside."""
    probe = os.path.abspath(blob_dir) + ".pack"
    try:
        os.link(os.path.join(blob_dir, ".layout"), probe)
        os.remove(probe)
    except FileNotFoundError:  # an old layout without the file; ZODB links it first, too
        return
    except OSError as exc:
        if exc.errno == errno.EXDEV:
            raise Unsupported(
                f"{blob_dir} is on another file system than the folder it is in",
                hint="ZODB's pack moves removed blobs to a folder beside it, which has to be on the same file system.",
            ) from exc
        need = sum(
            os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(blob_dir) for name in names
        )
        free = shutil.disk_usage(blob_dir).free
        if need > free:
            raise DiskFullError(
                f"{blob_dir} is on a file system without hard links: a copy takes {need:,} bytes, {free:,} are free"
            ) from exc


def _translated(exc: Exception, path: str, collect: bool) -> ZodbshError:
    if isinstance(exc, ZodbshError):
        return exc
    if isinstance(exc, OSError):
        kind = DiskFullError if exc.errno in _FULL else StorageIOError
        return kind(f"{path} could not be packed, nothing changed: {exc.strerror or exc}")
    if type(exc) is KeyError and exc.args and isinstance(exc.args[0], bytes) and len(exc.args[0]) == 8:
        return DanglingReference(from_bytes(exc.args[0]))
    if not collect and not isinstance(exc, CorruptedError):
        return UndoneTooFar(f"ZODB's pack without garbage collection cannot keep an undone change: {exc!r}")
    why = f"{type(exc).__name__}: {exc}".rstrip(": ")
    return PackRefused(f"ZODB's pack stopped at something in {path}: {why}")


@contextmanager
def _tidied(storage: Any, path: str) -> Iterator[None]:
    """Remove what a pack leaves behind that published nothing."""
    try:
        yield
    finally:
        leftovers = [path + ".pack"]
        if storage.blob_dir:
            leftovers.append(os.path.join(storage.blob_dir, ".removed"))
        for name in leftovers:
            with suppress(FileNotFoundError):
                os.remove(name)


@contextmanager
def _old_kept(path: str) -> Iterator[None]:
    """Give ``.old`` (of the file, or of the blob folder) back if no newer one takes its place."""
    old, aside = path + ".old", path + _SET_ASIDE
    if os.path.lexists(aside):  # a pack was killed
        _settle_old(old, aside)
    if os.path.lexists(old):
        os.rename(old, aside)
    try:
        yield
    finally:
        if os.path.lexists(aside):
            _settle_old(old, aside)


def _settle_old(old: str, aside: str) -> None:
    if not os.path.lexists(old):
        os.rename(aside, old)
    elif os.path.isdir(aside) and not os.path.islink(aside):
        shutil.rmtree(aside)
    else:
        os.remove(aside)


@contextmanager
def _no_wider_than(database: os.stat_result) -> Iterator[None]:
    """Let no file that appears be readable for more people than the database is."""
    mode = stat.S_IMODE(database.st_mode)
    # Folders need the search bit wherever files have the read bit.
    narrow = ~(mode | (mode & 0o444) >> 2) & 0o777
    previous = os.umask(narrow)
    os.umask(previous | narrow)
    try:
        yield
    finally:
        os.umask(previous)


def _undo_first_rename(path: str) -> None:
    if not os.path.lexists(path) and os.path.exists(path + ".old"):
        os.rename(path + ".old", path)


def _same(path: str, before: os.stat_result) -> bool:
    now = os.stat(path)
    return (now.st_dev, now.st_ino) == (before.st_dev, before.st_ino)


def _give(name: str, now: os.stat_result, owner: os.stat_result) -> None:
    if (now.st_uid, now.st_gid) != (owner.st_uid, owner.st_gid):
        with suppress(PermissionError):  # only root gives files away; the mode keeps strangers out
            os.chown(name, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _sync(name: str) -> None:
    descriptor = os.open(name, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
