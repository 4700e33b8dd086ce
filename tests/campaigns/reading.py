"""The reading commands, one line of words each, run in this process; and the seeds that they are to read."""

import contextlib
import io
import os
import signal
import struct
from contextlib import closing
from typing import NamedTuple

import transaction
import ZODB
import ZODB.FileStorage
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from states import digest
from ZODB.blob import Blob

from zodbsh.cli.context import AppContext
from zodbsh.cli.dispatch import dispatch
from zodbsh.cli.group import COMMANDS
from zodbsh.render.output import Output
from zodbsh.source.file import FileSource

# Verbs that write, or that run the user's code; the others are to be in READING.
WRITING = {
    "init", "shell", "run", "commit", "abort", "undo", "pack", "recover", "backup", "restore",
}  # fmt: skip
# {} is the database, {tid} one of its transactions.
READING = {
    "status": [["status", "{}"]],
    "diff": [["diff", "{}"], ["diff", "{}", "--from", "{tid}"]],
    "inspect": [
        ["inspect", "{}"], ["inspect", "{}", "root"], ["inspect", "{}", "0x01", "--disassemble"],
        ["inspect", "{}", "root", "--ignore-damage", "--format", "json"],
    ],
    "find": [["find", "{}", "--class", "*"], ["find", "{}", "--refers-to", "0x01", "--format", "json"]],
    "log": [["log", "{}"], ["log", "{}", "root"]],
    "show": [["show", "{}", "{tid}"]],
    "usage": [["usage", "{}"], ["usage", "{}", "--by", "path"]],
    "pack": [["pack", "{}", "--dry-run"]],
    "refs": [["refs", "{}", "0x01"]],
    "why": [["why", "{}", "0x01"]],
    "verify": [["verify", "{}", "--format", "json"]],
}  # fmt: skip
LINES = [words for lines in READING.values() for words in lines]
DOCUMENTED = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}
# Seconds; the seeds take milliseconds.
LIMIT = 20


class Hung(BaseException):
    """A command did not end."""


class Said(NamedTuple):
    """What a reading command answered."""

    status: int
    out: str
    err: str


def read(words, path, tid="0000000000000000"):
    """Run one reading command in this process; its hang is an exit status of its own."""
    out, err = io.StringIO(), io.StringIO()
    words = [word.replace("{}", str(path)).replace("{tid}", tid) for word in words]

    def ring(*_):
        raise Hung

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LIMIT)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = dispatch(words, AppContext(defaults=Output()))
    except Hung:
        status = -14
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return Said(status, out.getvalue(), err.getvalue())


def said_problems(words, said):
    """Return what is wrong with an answer, whatever was asked."""
    if said.status == -14:
        return [f"{words}: hangs"]
    problems = []
    if said.status not in DOCUMENTED:
        problems.append(f"{words}: ends with {said.status}: {said.err.strip()}")
    if "Traceback" in said.out + said.err:
        problems.append(f"{words}: a traceback")
    if any(unsafe in said.out + said.err for unsafe in "\x1b\x07\x9b\u202e"):
        problems.append(f"{words}: prints what acts on a terminal")
    return problems


def picture(folder):
    """Return the names in a folder, each with mode, size, time, inode and content."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            content = ""
            if entry.is_file(follow_symlinks=False):
                with open(entry.path, "rb") as file:
                    content = digest(file.read())
            found[entry.name] = (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ino, content)
    return found


def undo_seed(path):
    """A change, its undo, the undo of a creation."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    for step in range(2):
        with db.transaction(f"step {step}") as connection:
            connection.root()[f"key {step}"] = PersistentMapping(step=step)
    manager = transaction.TransactionManager()
    db.undo(db.undoInfo(0, 1)[0]["id"], manager.get())
    manager.commit()
    db.close()


def blob_seed(path):
    """Two revisions of a blob."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path), blob_dir=f"{path}.blobs"))
    for step in range(2):
        with db.transaction(f"step {step}") as connection:
            blob = connection.root().setdefault("blob", Blob())
            with blob.open("w") as file:
                file.write(b"x" * step)
            blob._p_changed = True
    db.close()


def tree_seed(path):
    """A BTree of two buckets, packed once."""
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    with db.transaction() as connection:
        connection.root()["tree"] = OOBTree({f"{key:02}": key for key in range(35)})
    db.pack()
    with db.transaction("a change") as connection:
        connection.root()["tree"]["00"] = "new"
    db.close()


def old_seed(path):
    """Python 2's format, with a class that is gone, protocol 1."""
    records = {
        0: b"cpersistent.mapping\nPersistentMapping\nq\x01.}q\x02U\x04dataq\x03}q\x04U\x01aq\x05(U\x08"
        + (1).to_bytes(8, "big") + b"capp\nThing\ntQss.",
        1: b"((U\x03appU\x05ThingtNt.}q\x01(U\x01xK\x01U\x04timecdatetime\ndatetime\n"
        b"(U\n\x07\xda\x03\x01\x0c\x1e\x00\x00\x00\x00tRu.",
    }  # fmt: skip
    data = bytearray(b"FS21")
    newest = {}
    for number in range(2):
        tid, start, body = 0x0250000000000000 + number, len(data), b""
        for oid, record in records.items():
            place = start + 23 + len(b"note") + len(body)
            body += struct.pack(">QQQQHQ", oid, tid, newest.get(oid, 0), start, 0, len(record)) + record
            newest[oid] = place
        length = 23 + len(b"note") + len(body)
        data += struct.pack(">QQcHHH", tid, length, b" ", 0, 4, 0) + b"note" + body + struct.pack(">Q", length)
    path.write_bytes(data)


SEEDS = {"undo": undo_seed, "blobs": blob_seed, "trees": tree_seed, "old": old_seed}


def structure(path):
    """Return the boundaries of a sound file's transactions, and the positions of all bytes that are no content."""
    raw = path.read_bytes()
    bounds, places = [4], set(range(4))
    position = 4
    while position < len(raw):
        length = int.from_bytes(raw[position + 8 : position + 16], "big")
        names = sum(struct.unpack_from(">HHH", raw, position + 17))
        places |= set(range(position, position + 23)) | set(range(position + length, position + length + 8))
        record = position + 23 + names
        while record < position + length:
            size = int.from_bytes(raw[record + 34 : record + 42], "big") or 8
            places |= set(range(record, record + 42 + (8 if raw[record + 34 : record + 42] == bytes(8) else 0)))
            record += 42 + size
        position += length + 8
        bounds.append(position)
    assert position == len(raw)
    return bounds, sorted(places)


def last_tid(path):
    """Return the last transaction's tid as text."""
    with closing(FileSource(str(path))) as source:
        return f"{source.last_tid:016x}"


def unlisted():
    """Return the commands that are neither in READING nor in WRITING."""
    return set(COMMANDS) - set(READING) - WRITING
