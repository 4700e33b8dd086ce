"""Giving a file its name: whole, verified and on the disk, or not at all.

The content is written under a temporary name in the same folder (created with
O_EXCL, mode 0600 until published), verified, synced, and only then linked or
renamed to its name; then the folder is synced. Whatever goes wrong before that,
a signal included, removes the temporary file and leaves the name as it was.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from zodbsh.errors import ExitCode, StorageIOError, ZodbshError, os_error_kind, os_hint

Write = Callable[[BinaryIO], None]
Verify = Callable[[str], None]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# AT_FDCWD and RENAME_EXCHANGE of Linux.
_HERE, _EXCHANGE = -100, 2
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}


class AlreadyExists(ZodbshError):
    """The name that a new file should get is taken."""

    code = "already-exists"
    exit_code = ExitCode.USAGE
    hint = "Choose another name; nothing is overwritten."


class OutcomeUnknown(ZodbshError):
    """The file has its name, but the system would not confirm that it reached the disk."""

    code = "outcome-unknown"
    exit_code = ExitCode.UNKNOWN


class DiskFullError(StorageIOError):
    """There is no room for the result; nothing changed."""

    code = "disk-full"
    hint = "Free some space; the new file needs room beside the old one until it is complete."


def publish(
    path: str,
    write: Write,
    *,
    verify: Verify | None = None,
    exclusive: bool = False,
    mode: int = 0o666,
    keep: str | None = None,
    like: str | None = None,
) -> None:
    """Make ``path`` a file with what ``write`` writes into the open file it is given.

    ``verify`` gets the temporary file's path and raises where the content is
    not what it should be. With ``exclusive`` the name must be free (a symbolic
    link, dangling or not, takes it too): AlreadyExists. Without, an existing
    file is replaced in one step and its mode and owner are kept; a symbolic
    link's target is replaced, not the link. ``mode`` (less the umask) is for a
    new file, which gets mode and owner of the file ``like`` instead where that
    is given. With ``keep`` the file that is replaced stays under its name and
    this suffix, in the place of an earlier one.

    Raises OSError where nothing changed, OutcomeUnknown where the name was
    given but the folder could not be synced.
    """
    with staged(path, exclusive=exclusive, mode=mode, keep=keep, like=like) as temporary:
        with open(temporary, "r+b") as file:
            write(file)
        if verify is not None:
            verify(temporary)


@contextmanager
def staged(
    path: str, *, exclusive: bool = False, mode: int = 0o666, keep: str | None = None, like: str | None = None
) -> Iterator[str]:
    """Give the path of an empty temporary file; publish it as ``path`` when the block ends well.

    For writers that want a path rather than an open file; the block leaves one
    regular file under that path, and removes what else it makes. Everything
    else is as in ``publish``.
    """
    target = path if exclusive else os.path.realpath(path)
    if exclusive and os.path.lexists(target):
        raise AlreadyExists(_taken(target))
    old = _stat(target)
    temporary = temporary_name(target)
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        yield temporary
        _dress(temporary, _stat(like) if old is None and like is not None else old, mode)
        sync_file(temporary)
        with uninterrupted():
            if keep is not None and old is not None:
                _keep_old(target, target + keep)
            _give_name(temporary, target, exclusive=exclusive)
            _settle(target, path)
    finally:
        with uninterrupted(), suppress(OSError):
            os.unlink(temporary)


@contextmanager
def scratch_folder(path: str) -> Iterator[str]:
    """Give an empty folder (0700) beside ``path``, on the same file system; it is gone after the block."""
    folder = temporary_name(path)
    try:
        os.mkdir(folder, 0o700)
        yield folder
    finally:
        with uninterrupted():
            from shutil import rmtree

            rmtree(folder, ignore_errors=True)


def require_room(folder: str, need: int, what: str) -> None:
    """Raise DiskFullError where ``folder`` has no room for ``need`` bytes; ``what`` needs them."""
    free = shutil.disk_usage(folder or ".").free
    if need > free:
        raise DiskFullError(f"{what} may take {need:,} bytes; {free:,} are free. Nothing changed.")


@contextmanager
def failing_well(path: str, doing: str) -> Iterator[None]:
    """Raise what the system refuses as one of our errors: ``path`` could not be ``doing`` (packed, restored)."""
    try:
        yield
    except OSError as exc:
        kind = DiskFullError if exc.errno in _FULL else os_error_kind(exc)
        name = os.fsdecode(exc.filename2 or exc.filename or "")
        where = f" ({name})" if name and name != path and not name.endswith(".new") else ""
        raise kind(
            f"{path} could not be {doing}, nothing changed: {exc.strerror or exc}{where}",
            hint=None if kind is DiskFullError else os_hint(exc),
        ) from exc


def link_or_copy(source: str, target: str) -> bool:
    """Give the file ``source`` the free name ``target`` too; copy it where it cannot be linked, and return that.

    For files that nobody changes, such as blobs. The copy has the mode, the times and, as far as the system lets us,
    the owner of its original, and is on the disk; the folder of ``target`` is the caller's to sync. Raises OSError,
    FileExistsError among them.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if not _no_links(error) and error.errno != errno.EXDEV:
            raise
    else:
        return False
    temporary = temporary_name(target)
    try:
        shutil.copy2(source, temporary)
        _give(temporary, os.stat(source))
        sync_file(temporary)
        _claim_and_rename(temporary, target)
    finally:
        with suppress(OSError):
            os.unlink(temporary)
    return True


def exchange(one: str, other: str) -> bool:
    """Let two names change places in one step; False where the system or the file system cannot (Linux can).

    Raises OSError where it tried and failed.
    """
    from ctypes import CDLL, get_errno

    try:
        rename = CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if not rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE):
        return True
    number = get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), one, None, other)


def fsync_folder(path: str) -> None:
    """Make the names in a folder survive a power failure; "" is the current one."""
    descriptor = os.open(path or ".", os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folders(top: str) -> None:
    """Make the names in a folder, and in all below it, survive a power failure."""
    for where, _, _ in os.walk(top):
        fsync_folder(where)


def sync_file(path: str) -> None:
    """Make a file's content survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_name(path: str) -> str:
    """Return a name beside ``path`` that nobody has and nobody can foretell."""
    folder, name = os.path.split(path)
    # A name may have 255 bytes.
    kept = f".{name}" if len(os.fsencode(name)) < 200 else ""
    return os.path.join(folder, f"{kept}.{os.urandom(16).hex()}.new")


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold signals back while names change hands; they arrive when the block ends."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def without_signals() -> None:
    """Have this thread take no signals: one that it took would reach the main thread, held back there or not."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _dress(temporary: str, old: os.stat_result | None, mode: int) -> None:
    """Give the new file the old one's mode and owner, or a new file's."""
    if old is None:
        umask = os.umask(0o077)
        os.umask(umask)
        os.chmod(temporary, mode & ~umask)
        return
    # The owner comes first: chown clears the set-id bits.
    _give(temporary, old)
    os.chmod(temporary, stat.S_IMODE(old.st_mode))


def _give(path: str, like: os.stat_result) -> None:
    """Have a file that this process made belong to whom another belongs to, as far as the system lets us."""
    if (like.st_uid, like.st_gid) != (os.geteuid(), os.getegid()):
        with suppress(PermissionError):
            os.chown(path, like.st_uid, like.st_gid)


def _keep_old(target: str, name: str) -> None:
    """Give the file at ``target`` a second name, which replaces whatever file has that name."""
    aside = temporary_name(name)
    try:
        try:
            os.link(target, aside)
        except OSError as error:
            if not _no_links(error):
                raise
            shutil.copy2(target, aside)
            _give(aside, os.stat(target))
            sync_file(aside)
        os.replace(aside, name)
        # The disk must not learn of the new file alone: then the old one would be gone.
        fsync_folder(os.path.dirname(name))
    finally:
        # Two names of one file are not renamed over each other.
        with suppress(OSError):
            os.unlink(aside)


def _give_name(temporary: str, target: str, *, exclusive: bool) -> None:
    if not exclusive:
        os.replace(temporary, target)
        return
    try:
        # Unlike a rename, a link never takes a name that someone else has taken since.
        os.link(temporary, target, follow_symlinks=False)
    except FileExistsError:
        raise AlreadyExists(_taken(target)) from None
    except OSError as error:
        if not _no_links(error):
            raise
        _claim_and_rename(temporary, target)


def _settle(target: str, path: str) -> None:
    """Make the new name survive a power failure."""
    try:
        fsync_folder(os.path.dirname(target))
    except OSError as error:
        raise OutcomeUnknown(
            f"{path} was written, but its folder could not be synced: {error.strerror}",
            hint="The file is complete now; whether it would survive a power failure is not known.",
        ) from error


def _no_links(error: OSError) -> bool:
    """Tell whether the file system knows no hard links (FAT, some network mounts)."""
    return error.errno in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


def _claim_and_rename(temporary: str, target: str) -> None:
    """Take the name with an empty file of ours, then rename over it: the next best thing to a link."""
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        raise AlreadyExists(_taken(target)) from None
    try:
        os.replace(temporary, target)
    except OSError:
        os.unlink(target)
        raise


def _taken(path: str) -> str:
    return f"{path} exists already"


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
