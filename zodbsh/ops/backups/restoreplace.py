"""The places that a restore writes to: are they free, and is what would be replaced what it is taken for?"""

from __future__ import annotations

import os
import re
from shlex import quote
from typing import TYPE_CHECKING

from zodbsh.analysis.blobfolder import BlobFile, blob_files, holds_blobs, lies_within
from zodbsh.engine.columns import Options
from zodbsh.errors import UsageError, ZodbshError
from zodbsh.filestorage.damage import Damage
from zodbsh.filestorage.datafile import DataFile, read_magic
from zodbsh.filestorage.structs import MAGIC_SIZE
from zodbsh.ids import tid_text
from zodbsh.ops.backups.blobrevisions import blob_revisions
from zodbsh.publish import AlreadyExists
from zodbsh.source.columns import file_columns
from zodbsh.source.file import blob_layout

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

OLD = ".old"
# Remains of another database under this name: ZODB would read the first, and a pack would destroy the second.
_REMAINS = (".index", OLD, ".pack", ".stage")
_NUMBER = re.compile("0x(?:[0-9a-f]{2}){1,8}")
# What ZODB keeps beside the blobs, and what a killed write of one leaves.
_FILE = re.compile(r"0x[0-9a-f]+\.blob|\.lock|\.0x[0-9a-f]+\.blob\.[0-9a-f]{32}\.new")
_AT_TOP = {".layout", ".removed"}
_TEMPORARY = "tmp"


class OtherFolder(UsageError):
    """The folder that blobs would go to is none of this database's blobs; nothing was done."""

    code = "restore-other-folder"
    hint = "Name another folder with `--blobs`, or move this one away."


class LaterOld(AlreadyExists):
    """The `.old` that a restore would overwrite is later than the database that it would replace; nothing was done."""

    code = "restore-later-old"
    hint = "Move it away first: the database that is replaced takes its name."


def place_of(out: str) -> str:
    """Return the file that is written: the one behind a symbolic link."""
    return os.path.realpath(out) if os.path.islink(out) else out


def blobs_of(out: str) -> str:
    """Return the folder of a file's blobs: that of the file behind a link, unless only the link has one."""
    given, real = f"{out}.blobs", f"{place_of(out)}.blobs"
    return given if os.path.lexists(given) and not os.path.lexists(real) else real


def check_places(backups: str, out: str, blobs: str | None, *, force: bool) -> None:
    """Raise where a database cannot be written to ``out``, or its blobs (None: there are none) to a folder.

    Raises UsageError, AlreadyExists, OtherFolder.
    """
    if not os.path.basename(out):
        raise UsageError(f"{out!r} names no file")
    folder = os.path.dirname(out) or "."
    if not os.path.isdir(folder):
        raise UsageError(f"there is no folder {folder}", hint="Create the folder first.")
    if os.path.isdir(out):
        raise UsageError(f"{out} is a folder", hint="Name the file to write: a Data.fs.")
    if lies_within(os.path.realpath(out), os.path.realpath(backups)):
        raise UsageError(f"{out} would be among the backups", hint="Restore to another folder.")
    if os.path.lexists(out) and not force:
        raise AlreadyExists(f"{out} exists already", hint="`--force` replaces it; it stays as `.old`.")
    _check_remains(out, force=force)
    if blobs is not None:
        _check_folder(backups, out, blobs, force=force)


def _check_remains(out: str, *, force: bool) -> None:
    names = dict.fromkeys((out, place_of(out)))
    replaces = force and os.path.exists(out)
    staged = next((name for name in names if os.path.lexists(name + ".stage")), None)
    if replaces and staged is not None:
        raise AlreadyExists(
            f"{staged}.stage holds changes of this database that were not committed: they would be lost",
            hint=f"`zodbsh commit {quote(out)}` writes them, `zodbsh abort {quote(out)}` drops them.",
        )
    suffixes = (".pack", ".stage") if force else _REMAINS
    taken = [name + suffix for name in names for suffix in suffixes if os.path.lexists(name + suffix)]
    if taken:
        raise AlreadyExists(
            f"{', '.join(taken)}: left over from another database of this name",
            hint="Move it away, or choose another name; it would be taken for the restored database's.",
        )


def _check_folder(backups: str, out: str, blobs: str, *, force: bool) -> None:
    target, among = os.path.realpath(blobs), os.path.realpath(backups)
    if lies_within(target, among):
        raise OtherFolder(f"{blobs} is in the folder of backups")
    kept = (
        (among, "the folder of backups"),
        (os.path.realpath(out), "the database"),
        (os.path.realpath(os.path.dirname(out)), "the folder of the database"),
        (os.path.realpath("."), "the current folder"),
    )
    for path, what in kept:
        if lies_within(path, target):
            raise OtherFolder(f"{blobs} is {what}, or holds it: no folder of blobs")
    if not os.path.lexists(blobs) or is_empty_folder(blobs):
        return
    if not force:
        raise AlreadyExists(f"{blobs} exists already", hint="`--force` replaces it; it stays as `.old`.")
    if trouble := not_of_blobs(target):
        raise OtherFolder(f"{blobs} is no folder of blobs: {trouble}")
    old = target + OLD
    if os.path.lexists(old) and not is_empty_folder(old) and (trouble := not_of_blobs(old)):
        raise OtherFolder(
            f"{blobs} would stay as {old}, but that is there, and no folder of blobs: {trouble}",
            hint="Move it away.",
        )


def is_empty_folder(path: str) -> bool:
    """Tell whether a folder, no link to one, has nothing in it."""
    return os.path.isdir(path) and not os.path.islink(path) and not os.listdir(path)


def not_of_blobs(path: str) -> str:
    """Return what is in a folder that ZODB puts in no folder of blobs, "" where it is one or empty."""
    if os.path.islink(path) or not os.path.isdir(path):
        return f"{path} is no folder"
    if not os.path.lexists(os.path.join(path, ".layout")) and os.listdir(path) and not holds_blobs(path):
        return "it has neither a `.layout` nor blobs"
    failed: list[OSError] = []
    for where, folders, files in os.walk(path, onerror=failed.append):
        top = where == path
        if top and _TEMPORARY in folders:
            folders.remove(_TEMPORARY)
        odd = [name for name in folders if not _NUMBER.fullmatch(name)]
        odd += [name for name in files if not _FILE.fullmatch(name) and not (top and name in _AT_TOP)]
        if odd:
            return f"{os.path.join(where, min(odd))} is no blob"
    return f"{failed[0].filename} cannot be read: {failed[0].strerror}" if failed else ""


def check_owner(blobs: str, out: str, oids: AbstractSet[int], revisions: AbstractSet[tuple[int, int]]) -> None:
    """Raise OtherFolder where a folder has the blobs of another database than the one that is at ``out``, if any.

    ``oids`` and ``revisions`` of blobs are those that the backup knows. An object that neither knows belongs to another
    database; where no sound one is there, the folder may have newer objects, but not none of these revisions.
    """
    layout = blob_layout(blobs)
    found = [blob for blob in blob_files(blobs, layout) if isinstance(blob, BlobFile)] if layout else []
    if not found:
        return
    strange = _strange(found, oids, revisions, _known(out))
    if strange is not None:
        # A restore that was killed at its end has left there the blobs of what it has replaced.
        before = _known(place_of(out) + OLD)
        strange = strange if before is None else _strange(found, oids, revisions, before)
    if strange is not None:
        raise OtherFolder(f"{blobs} has blobs of another database: neither the backup nor {out} knows {strange.path}")


def check_old(out: str, *, force: bool) -> None:
    """Raise LaterOld where replacing ``out`` would overwrite an ``.old`` that has later transactions than it.

    What is not a FileStorage has none.
    """
    path = os.path.realpath(out)
    if not force or not os.path.exists(path) or not os.path.lexists(path + OLD):
        return
    now, before = _last_tid(path), _last_tid(path + OLD)
    if before > now:
        raise LaterOld(
            f"{path}{OLD} would be overwritten, and has later transactions (up to {tid_text(before)}) than {out}"
            f" (up to {tid_text(now)}): it may be the only copy of them",
        )


def _last_tid(path: str) -> int:
    """Return the last sound transaction of a file, 0 where there is none."""
    try:
        with DataFile(path) as data:
            read_magic(data)
            return file_columns(data, lambda _: None, options=Options(references=False)).last_tid
    except (OSError, ZodbshError):
        return 0


def _strange(
    found: list[BlobFile],
    oids: AbstractSet[int],
    revisions: AbstractSet[tuple[int, int]],
    database: tuple[set[int], set[tuple[int, int]]] | None,
) -> BlobFile | None:
    """Return a blob of another database than the one whose oids and revisions are known (None: those of none are)."""
    known = oids | database[0] if database is not None else None
    strange = next((blob for blob in found if known is not None and blob.oid not in known), None)
    ours = revisions if database is None else revisions | database[1]
    if strange is None and not any((blob.oid, blob.tid) in ours for blob in found):
        return found[0]
    return strange


def _known(path: str) -> tuple[set[int], set[tuple[int, int]]] | None:
    """Return the oids of a sound database, and its revisions of blobs; None where there is none."""
    damages: list[Damage] = []
    try:
        with DataFile(path) as data:
            read_magic(data)
            found = file_columns(data, damages.append, options=Options(references=False))
            if damages:
                return None
            revisions = {(oid, tid) for oid, tid, _ in blob_revisions(data, found.columns, MAGIC_SIZE, found.end)}
            return set(found.columns.oids), revisions
    except (OSError, ZodbshError):
        return None
