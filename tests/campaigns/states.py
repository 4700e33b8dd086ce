"""What a folder holds, as a value: the same state is the same value, whichever way it came about."""

import hashlib
import logging
import os
import re
import shutil
import stat
from contextlib import closing

import transaction
import ZODB
import ZODB.FileStorage

from zodbsh.db.spec import parse_spec
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.framing import scan_file
from zodbsh.record.decode import class_text, record_class
from zodbsh.source.file import FileSource
from zodbsh.stage import store

MISSING = "missing"
_BLOB = "ZODB.blob.Blob"
_STAMP = re.compile(r"^[0-9]{4}(-[0-9]{2}){5}(?=\.)")


class Broken(AssertionError):
    """A state that must never be seen."""


def database_state(path):
    """Return the mode and the whole transactions of a Data.fs (without their tids), blobs included; MISSING for none.

    Raises Broken where the file is half a file, or a blob is missing.
    """
    if not os.path.lexists(path):
        return MISSING
    with DataFile(str(path)) as file:
        damages = scan_file(file).damages
    if damages:
        raise Broken(f"{path}: {damages[0]}")
    with closing(FileSource(str(path))) as source:
        found = tuple(_transaction(source, transaction) for transaction in source.transactions())
    return (stat.S_IMODE(os.stat(path).st_mode), found)


def _transaction(source, transaction_):
    return (
        transaction_.description,
        tuple(_record(source, revision) for revision in source.records(transaction_)),
    )


def _record(source, revision):
    if revision.data is None:
        return (revision.oid, None)
    blob = None
    if class_text(record_class(revision.data)) == _BLOB:
        path = source.blob_path(revision.oid, revision.tid)
        if path is None:
            raise Broken(f"the blob file of {revision.oid:#x} at {revision.tid:016x} is missing")
        with open(path, "rb") as file:
            blob = digest(file.read())
    return (revision.oid, digest(revision.data), blob)


def stage_state(path):
    """Return what is staged: notes, objects and blobs; MISSING for nothing. Raises StageDamaged."""
    stage = store.load(parse_spec(str(path)))
    if stage is None:
        return MISSING
    entries = []
    for entry in stage.entries:
        blob = None
        if entry.blob is not None:
            with open(entry.blob, "rb") as file:
                blob = digest(file.read())
        entries.append((entry.oid, digest(entry.data), blob))
    return (stage.note, stage.user, tuple(entries))


def digest(raw):
    """Return a short name for bytes."""
    return hashlib.blake2b(raw, digest_size=12).hexdigest()


def content_digest(path):
    """Return a short name for a file's content."""
    with open(path, "rb") as file:
        return digest(file.read())


def zodb_reads(folder, name, scratch):
    """Have ZODB open a copy for writing, read every object, and write one more transaction. Raises Broken."""
    copy = scratch / "zodb"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy, symlinks=True)
    blobs = copy / f"{name}.blobs"
    logging.disable(logging.CRITICAL)
    try:
        before = ZODB.FileStorage.FileStorage(str(copy / name), blob_dir=str(blobs) if blobs.exists() else None)
        database = ZODB.DB(before)
        manager = transaction.TransactionManager()
        try:
            connection = database.open(manager)
            for oid, position in list(before._index.items()):
                header = before._read_data_header(position)
                if not header.plen and not header.back:
                    # Its creation was undone.
                    continue
                found = connection.get(oid)
                found._p_activate()
                if type(found).__module__ == "ZODB.blob":
                    with found.open() as file:
                        file.read()
            connection.root()["campaign"] = 1
            manager.commit()
        finally:
            manager.abort()
            database.close()
    except Exception as error:
        raise Broken(f"ZODB cannot use {name}: {type(error).__name__}: {error}") from error
    finally:
        logging.disable(logging.NOTSET)


def listing(folder):
    """Return every file and folder below a folder by its relative name: its kind, mode, size, time and content."""
    found = {}
    for where, folders, files in os.walk(folder):
        for name in folders + files:
            path = os.path.join(where, name)
            status = os.lstat(path)
            content = ""
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = digest(file.read())
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            found[os.path.relpath(path, folder)] = (status.st_mode, size, status.st_mtime_ns, content)
    return found


def names(folder):
    """Return the relative names of all files, and of folders that are no part of a blob folder; tids are left out."""
    found = set()
    for where, folders, files in os.walk(folder):
        inside = os.path.relpath(where, folder)
        for name in files + ([] if "blobs" in inside else folders):
            found.add(plain_name(os.path.normpath(os.path.join(inside, name))))
    return found


def plain_name(name):
    """Replace what differs from run to run in a file's name: a blob's tid, a stage's id, the time of a backup."""
    folder, base = os.path.split(name)
    base = _STAMP.sub("STAMP", base)
    if base.endswith(".blob") and base.startswith("0x"):
        base = "TID.blob"
    if folder.endswith(".stage.blobs"):
        base = "ID-" + base.rpartition("-")[2]
    return os.path.join(folder, base)
