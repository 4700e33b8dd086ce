"""Bad input, end to end: the documented exit status, one clear message, nothing changed on disk."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from program import zodbsh
from ZODB.FileStorage import FileStorage
from ZODB.utils import p64, z64

from zodbsh.errors import ExitCode

# Every command that only looks, and every one that may write; {} is the database.
READING = {
    "inspect": ["inspect", "{}"],
    "inspect root": ["inspect", "{}", "root"],
    "log": ["log", "{}"],
    "log root": ["log", "{}", "root"],
    "refs": ["refs", "{}", "root"],
    "why": ["why", "{}", "root"],
    "status": ["status", "{}"],
    "diff": ["diff", "{}"],
    "pack --dry-run": ["pack", "{}", "--dry-run"],
}
WRITING = {
    "run --commit": ["run", "{}", "--commit", "-c", "root['n'] = 2"],
    "shell": ["shell", "{}", "-c", "root['n'] = 2; transaction.commit()"],
    "pack": ["pack", "{}", "-y"],
}
# With nothing staged these have nothing to do, but they find out whether the database is there.
STAGE = {"commit": ["commit", "{}"], "abort": ["abort", "{}", "-y"]}
ALL = READING | WRITING | STAGE

Picture = dict[str, tuple[int, int, str]]


def on(database: Path, arguments: list[str], **settings) -> subprocess.CompletedProcess[str]:
    """Run the program on a database; {} in the arguments stands for it."""
    return zodbsh(*(argument.format(database) for argument in arguments), **settings)


def picture(folder: Path) -> Picture:
    """Return mode, time of change and content of everything in a folder, the folder itself included."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found


def assert_error(run: subprocess.CompletedProcess[str], *codes: ExitCode) -> None:
    """The exit status is one of ``codes``, the message one ``error:`` line, and stdout has nothing."""
    assert run.returncode in codes, (run.args, run.returncode, run.stdout, run.stderr)
    assert run.stderr.startswith("error: "), run.stderr
    assert run.stdout == ""


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A small database of three transactions, in a folder of its own, with its index."""
    return make_database(tmp_path / "db")


def make_database(folder: Path) -> Path:
    folder.mkdir()
    path = folder / "my.fs"
    db = ZODB.DB(str(path))
    for number in range(2):
        with db.transaction() as connection:
            connection.root()["n"] = number
            connection.root()["child"] = PersistentMapping(number=number)
    db.close()
    for sidecar in (".lock", ".tmp"):
        Path(f"{path}{sidecar}").unlink(missing_ok=True)
    return path


def store(path: Path, *records: tuple[int, bytes], extension: bytes = b"") -> None:
    """Append one transaction with raw records to a FileStorage, which may be new."""
    storage = FileStorage(str(path))
    txn = transaction.Transaction()
    txn.user, txn.description = "", ""
    meta = ZODB.Connection.TransactionMetaData("", "", extension or b"")
    storage.tpc_begin(meta)
    for oid, data in records:
        try:
            serial = storage.load(p64(oid))[1]
        except KeyError:
            serial = z64
        storage.store(p64(oid), serial, data, "", meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    storage.close()
    for sidecar in (".lock", ".tmp"):
        Path(f"{path}{sidecar}").unlink(missing_ok=True)


def record(state: bytes) -> bytes:
    """Return a record of a PersistentMapping with a raw state pickle."""
    return b"cpersistent.mapping\nPersistentMapping\n." + state


def root_with(name: bytes, oid: int) -> bytes:
    """Return a record of a root with one entry, a reference."""
    reference = b"C\x08" + p64(oid) + b"Q"
    return record(b"\x80\x03}X\x04\x00\x00\x00data}X" + len(name).to_bytes(4, "little") + name + reference + b"ss.")


def spawn(*words: str) -> subprocess.Popen[str]:
    """Start the program; its output waits to be read."""
    return subprocess.Popen([sys.executable, "-m", "zodbsh", *words], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip


# --- what is no database ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", ALL.values(), ids=ALL)
def test_a_path_that_does_not_exist(tmp_path: Path, arguments: list[str]) -> None:
    """Exit 3, and nothing appears."""
    before = picture(tmp_path)
    assert_error(on(tmp_path / "nothing.fs", arguments), ExitCode.NOT_FOUND)
    assert picture(tmp_path) == before


@pytest.mark.parametrize("arguments", ALL.values(), ids=ALL)
def test_a_folder(tmp_path: Path, arguments: list[str]) -> None:
    """Exit 3, and nothing appears in it or beside it."""
    (tmp_path / "folder").mkdir()
    before = picture(tmp_path)
    assert_error(on(tmp_path / "folder", arguments), ExitCode.NOT_FOUND)
    assert picture(tmp_path) == before


@pytest.mark.parametrize("content", [b"", b"FS", b"hello, world\n" * 100, b"FS40" + bytes(100), bytes(4096)])
@pytest.mark.parametrize("arguments", (READING | WRITING).values(), ids=READING | WRITING)
def test_an_empty_file_or_no_filestorage(tmp_path: Path, arguments: list[str], content: bytes) -> None:
    """Exit 6 (or 8 where the format is one to come), the file untouched."""
    path = tmp_path / "my.fs"
    path.write_bytes(content)
    before = picture(tmp_path)
    assert_error(on(path, arguments), ExitCode.DAMAGED, ExitCode.UNSUPPORTED)
    assert picture(tmp_path) == before


def test_init_refuses_what_exists(database: Path) -> None:
    """``init`` on a database, on any file, on a folder: exit 2 or 3, nothing changed."""
    (database.parent / "empty").touch()
    before = picture(database.parent)
    for path in (database, database.parent / "empty", database.parent):
        run = zodbsh("init", path)
        assert run.returncode in (ExitCode.USAGE, ExitCode.NOT_FOUND, ExitCode.IO)
        assert run.stderr.startswith("error: ")
    assert_error(zodbsh("init", database.parent / "no" / "folder.fs"), ExitCode.NOT_FOUND, ExitCode.IO)
    assert picture(database.parent) == before


def test_an_error_for_programs_is_json(tmp_path: Path) -> None:
    """With --format json the error is one JSON object on stderr."""
    run = zodbsh("inspect", tmp_path / "nothing.fs", "--format", "json")
    assert (run.returncode, run.stdout) == (ExitCode.NOT_FOUND, "")
    error = json.loads(run.stderr)
    assert set(error) == {"error"}
    assert error["error"]["code"] == "database-not-found"
    assert set(error["error"]) == {"code", "message", "hint"}


# --- damage ----------------------------------------------------------------------------------------------------


def test_a_file_that_ends_in_a_header(database: Path) -> None:
    """A few bytes too few for a header may be another writer's: reading goes on and says so, writing refuses."""
    data = database.read_bytes()
    Path(f"{database}.index").unlink()
    for more in (1, 10, 16):
        database.write_bytes(data[: transaction_ends(data)[1] + more])
        before = picture(database.parent)
        run = on(database, ["inspect", "{}"])
        assert (run.returncode, f"{more} byte" in run.stdout) == (0, True), run.stderr
        for name in ("run --commit", "shell", "pack"):
            assert_error(on(database, WRITING[name]), ExitCode.DAMAGED)
        assert picture(database.parent) == before


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 0.999])
def test_a_file_that_was_cut(database: Path, share: float) -> None:
    """A cut in a transaction is damage: 6 for whoever reads, 6 for whoever would write; not a byte changes."""
    data = database.read_bytes()
    Path(f"{database}.index").unlink()
    cut = int(len(data) * share)
    boundaries = set(transaction_ends(data))
    assert cut not in boundaries
    database.write_bytes(data[:cut])
    before = picture(database.parent)
    for name in ("inspect", "log", "pack --dry-run", "run --commit", "shell", "pack"):
        assert_error(on(database, ALL[name]), ExitCode.DAMAGED)
    assert picture(database.parent) == before


@pytest.mark.parametrize("field", ["length", "status", "record length", "record tid", "repeated length"])
def test_a_flipped_byte_in_a_header(database: Path, field: str) -> None:
    """Damage to the framing, index there or not: exit 6 to write, and to read past it; nothing changed."""
    data = bytearray(database.read_bytes())
    start = transaction_ends(bytes(data))[0]  # the second transaction
    text = sum(int.from_bytes(data[start + at : start + at + 2], "big") for at in (17, 19, 21))
    position = {
        "length": start + 12,
        "status": start + 16,
        "record tid": start + 23 + text + 10,
        "record length": start + 23 + text + 36,
        "repeated length": transaction_ends(bytes(data))[1] - 3,
    }[field]
    data[position] ^= 0x11
    database.write_bytes(data)
    before = picture(database.parent)
    for name in ("inspect", "log", "pack --dry-run", "run --commit", "pack"):
        assert_error(on(database, ALL[name]), ExitCode.DAMAGED)
    assert picture(database.parent) == before


def transaction_ends(data: bytes) -> list[int]:
    """Return the position after each transaction of a sound file."""
    ends, position = [], 4
    while position < len(data):
        position += int.from_bytes(data[position + 8 : position + 16], "big") + 8
        ends.append(position)
    return ends


class Touch:
    """A pickle that makes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("kind", ["stale", "random", "hostile", "cut", "a folder"])
def test_a_bad_index(database: Path, tmp_path: Path, kind: str) -> None:
    """Whatever stands in ``.index``: same answers, nothing run, nothing changed by reading; writing works."""
    expected = {name: on(database, arguments).stdout for name, arguments in READING.items()}
    index, canary = Path(f"{database}.index"), tmp_path / "canary"
    good = index.read_bytes()
    if kind == "stale":
        db = ZODB.DB(str(database))
        with db.transaction() as connection:
            connection.root()["n"] = "later"
        db.close()
        index.write_bytes(good)
        for sidecar in (".lock", ".tmp"):
            Path(f"{database}{sidecar}").unlink()
        index.unlink()
        expected = {name: on(database, arguments).stdout for name, arguments in READING.items()}
        index.write_bytes(good)
    elif kind == "a folder":
        index.unlink()
        index.mkdir()
    else:
        index.write_bytes(
            {"random": bytes(range(256)), "hostile": pickle.dumps(Touch(canary), 2), "cut": good[:-7]}[kind]
        )
    before = picture(database.parent)
    for name, arguments in READING.items():
        assert on(database, arguments).stdout == expected[name], name
    assert picture(database.parent) == before
    run = on(database, WRITING["run --commit"])
    assert run.returncode == 0, run.stderr
    assert not canary.exists()


# --- records that want to do harm ------------------------------------------------------------------------------


def hostile_records(canary: Path) -> dict[str, bytes]:
    """Return records that run code, or exhaust memory or stack, in whoever loads them."""
    call = pickle.dumps(Touch(canary), 2)
    return {
        "code in the state": record(call),
        "code in the class": call + b"}.",
        "code in a key": record(b"\x80\x02}" + call[2:-1] + b"K\x01s."),
        "nested 100,000 deep": record(b"]" * 100_000 + b"a" * 99_999 + b"."),
        "nested tuples": record(b"(" * 100_000 + b"t" * 100_000 + b"."),
        "a memo index of two thousand million": record(b"}r\x00\x94\x35\x77."),
        "a memo index in text": record(b"}p2000000000\n."),
        "a length beyond the record": record(b"X\xff\xff\xff\x7fabc."),
        "cut": record(b"}q\x01("),
    }


@pytest.mark.parametrize("kind", hostile_records(Path()))
@pytest.mark.parametrize("where", ["root", "child"])
def test_a_hostile_record(database: Path, tmp_path: Path, kind: str, where: str) -> None:
    """Reading commands end, run nothing, change nothing: what can be shown is shown, the rest is exit 6."""
    canary = tmp_path / "canary"
    data = hostile_records(canary)[kind]
    if where == "root":
        store(database, (0, data))
    else:
        store(database, (7, data), (0, root_with(b"bad", 7)))
    before = picture(database.parent)
    commands = [*READING.values(), ["inspect", "{}", "0x07" if where == "child" else "0x00"],
                ["inspect", "{}", "root.bad"], ["inspect", "{}", "--format", "json"]]  # fmt: skip
    for arguments in commands:
        run = on(database, arguments)
        assert run.returncode in (0, ExitCode.FINDINGS, ExitCode.NOT_FOUND, ExitCode.DAMAGED), (arguments, run.stderr)
        assert not canary.exists(), arguments
    assert on(database, ["inspect", "{}"]).returncode == 0, "the overview counts what it cannot decode"
    assert picture(database.parent) == before


def test_a_hostile_transaction_extension(database: Path, tmp_path: Path) -> None:
    """A transaction's extension is a pickle that nobody loads: log and show work, nothing runs."""
    canary = tmp_path / "canary"
    hostile = pickle.dumps(Touch(canary), 2)
    store(database, (0, record(b"\x80\x03}X\x04\x00\x00\x00data}s.")), extension=hostile)
    before = picture(database.parent)
    tid = json.loads(on(database, ["log", "{}", "--format", "json"]).stdout)[0]["tid"]
    for arguments in (["log", "{}"], ["show", "{}", tid], ["show", "{}", tid, "--format", "json"], *READING.values()):
        run = on(database, arguments)
        assert run.returncode == 0, (arguments, run.stderr)
        assert not canary.exists()
    assert picture(database.parent) == before


# --- other processes, permissions, disks -----------------------------------------------------------------------


def test_a_database_that_is_locked(database: Path) -> None:
    """Whoever writes gets exit 4 and the holder's pid; whoever reads is not disturbed, and shells open read-only."""
    holder = FileStorage(str(database))
    try:
        before = picture(database.parent)
        for name in ("run --commit", "pack"):
            run = on(database, WRITING[name])
            assert_error(run, ExitCode.LOCKED)
            assert str(os.getpid()) in run.stderr
        for name, arguments in READING.items():
            assert on(database, arguments).returncode == 0, name
        shell = on(database, ["shell", "{}", "-c", "print(root['n'])"])
        assert (shell.returncode, shell.stdout) == (0, "1\n")
        assert picture(database.parent) == before
    finally:
        holder.close()


def test_a_commit_while_locked_keeps_the_stage(database: Path) -> None:
    """``commit`` beside another writer is exit 4; the stage is still there, and goes in when the lock is free."""
    assert on(database, ["run", "{}", "-c", "root['n'] = 5"]).returncode == 0
    holder = FileStorage(str(database))
    try:
        assert_error(on(database, STAGE["commit"]), ExitCode.LOCKED)
    finally:
        holder.close()
    assert on(database, STAGE["commit"]).returncode == 0
    assert on(database, ["shell", "{}", "-c", "print(root['n'])"]).stdout == "5\n"


def without_privileges() -> None:
    """Take from root, before the program starts, what makes it read and write files that deny it."""
    import ctypes

    drop_from_bounding_set, override, read_search = 24, 1, 2
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (override, read_search):
        if libc.prctl(drop_from_bounding_set, capability, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl")


@pytest.mark.parametrize("name", ["inspect", "log", "status", "run --commit", "shell", "pack"])
def test_no_permission(database: Path, name: str) -> None:
    """A file that this user may not read: exit 7, nothing changed."""
    settings = {}
    if os.geteuid() == 0:
        settings = {"preexec_fn": without_privileges}
        try:
            subprocess.run([sys.executable, "-c", ""], check=True, **settings)
        except subprocess.SubprocessError:
            pytest.skip("root cannot give up its privileges here")
    database.chmod(0)
    before = picture_of_names(database.parent)
    assert_error(on(database, ALL[name], **settings), ExitCode.IO)
    assert picture_of_names(database.parent) == before


@pytest.mark.parametrize(
    "words", [["restore", "closed", "new.fs"], ["backup", "--list", "closed"], ["backup", "{}", "closed"]]
)
def test_a_closed_folder_of_backups(database: Path, words: list[str]) -> None:
    """One that this user may not read or write: exit 7, and a hint at whose it is."""
    settings = {}
    if os.geteuid() == 0:
        settings = {"preexec_fn": without_privileges}
        try:
            subprocess.run([sys.executable, "-c", ""], check=True, **settings)
        except subprocess.SubprocessError:
            pytest.skip("root cannot give up its privileges here")
    closed = database.parent / "closed"
    closed.mkdir(mode=0)
    run = on(database, [str(closed) if word == "closed" else word for word in words], **settings)
    assert_error(run, ExitCode.IO)
    assert "Permission denied" in run.stderr
    assert "hint: Check the owner and the mode" in run.stderr


@pytest.mark.parametrize("name", ["run --commit", "pack"])
def test_a_folder_that_cannot_be_written(database: Path, name: str) -> None:
    """A folder where no lock can be made: exit 7 to write, while reading works."""
    settings = {}
    if os.geteuid() == 0:
        settings = {"preexec_fn": without_privileges}
        try:
            subprocess.run([sys.executable, "-c", ""], check=True, **settings)
        except subprocess.SubprocessError:
            pytest.skip("root cannot give up its privileges here")
    before = picture_of_names(database.parent)
    database.parent.chmod(0o555)
    try:
        assert_error(on(database, ALL[name], **settings), ExitCode.IO)
        assert on(database, READING["pack --dry-run"], **settings).returncode == 0
    finally:
        database.parent.chmod(0o755)
    assert picture_of_names(database.parent) == before


def picture_of_names(folder: Path) -> dict[str, tuple[int, int, int]]:
    return {path.name: (path.stat().st_mode, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.iterdir()}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this system mounts no tmpfs")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder: Path, *, leave: int) -> None:
    """Fill a file system up to ``leave`` bytes."""
    with open(folder / "filler", "wb") as filler:
        free = os.statvfs(folder)
        filler.write(b"x" * max(free.f_bavail * free.f_frsize - leave, 0))


def test_a_full_disk_during_commit(small_disk: Path) -> None:
    """Exit 7; the database is what it was, the stage still there, and with room again the commit succeeds."""
    database = make_database(small_disk / "db")
    big = ["run", "{}", "-c", "import os; root['big'] = os.urandom(300_000)"]
    assert on(database, big).returncode == 0
    before = database.read_bytes()
    fill(small_disk, leave=100_000)
    assert_error(on(database, STAGE["commit"]), ExitCode.IO)
    assert database.read_bytes() == before
    (small_disk / "filler").unlink()
    run = on(database, STAGE["commit"])
    assert run.returncode == 0, run.stderr
    assert on(database, ["shell", "{}", "-c", "print(len(root['big']))"]).stdout == "300000\n"


def test_a_full_disk_during_staging(small_disk: Path) -> None:
    """Exit 7; no half a stage is left: status shows none."""
    database = make_database(small_disk / "db")
    before = database.read_bytes()
    fill(small_disk, leave=100_000)
    assert_error(on(database, ["run", "{}", "-c", "import os; root['big'] = os.urandom(300_000)"]), ExitCode.IO)
    assert database.read_bytes() == before
    assert json.loads(on(database, ["status", "{}", "--format", "json"]).stdout)["staged"] == []


def test_a_full_disk_for_a_pack(small_disk: Path) -> None:
    """Found before it begins: exit 7, the database and its neighbours as they were."""
    database = make_database(small_disk / "db")
    fill(small_disk, leave=1000)
    before = database.read_bytes()
    assert_error(on(database, WRITING["pack"]), ExitCode.IO)
    assert database.read_bytes() == before
    assert not Path(f"{database}.pack").exists()


def limit_files(size: int):
    """Return what makes the system refuse to grow any file beyond ``size`` in the child."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@pytest.mark.parametrize("name", ["pack", "run --commit"])
def test_a_write_that_the_system_refuses_midway(database: Path, name: str) -> None:
    """A limit that is met in the middle of writing: exit 7, the database unchanged, nothing left behind."""
    store(database, (7, record(b"\x80\x03}X\x01\x00\x00\x00xX\x00\x00\x01\x00" + b"x" * 65536 + b"s.")),
          (0, root_with(b"big", 7)))  # fmt: skip
    before = database.read_bytes()
    arguments = ALL[name] if name == "pack" else ["run", "{}", "--commit", "-c", "root['x'] = 'y' * 100_000"]
    limit = 30_000 if name == "pack" else len(before) + 30_000
    assert_error(on(database, arguments, preexec_fn=limit_files(limit)), ExitCode.IO)
    assert database.read_bytes() == before
    assert not Path(f"{database}.pack").exists()
    assert on(database, READING["inspect"]).returncode == 0


# --- targets, scripts, pipes, signals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["inspect", "{}", "root.child.nowhere"], "nowhere"),
        (["inspect", "{}", "root['chidl']"], "child"),
        (["inspect", "{}", "0x4711"], "0x4711"),
        (["log", "{}", "root['nowhere']"], "nowhere"),
        (["show", "{}", "0000000000000001"], "0000000000000001"),
    ],
)
def test_a_target_that_is_not_there(database: Path, arguments: list[str], names: str) -> None:
    """Exit 3; the message or the hint names the part that failed, or one that is near."""
    before = picture(database.parent)
    run = on(database, arguments)
    assert_error(run, ExitCode.NOT_FOUND)
    assert names in run.stderr
    assert picture(database.parent) == before


@pytest.mark.parametrize("arguments", [["inspect", "{}", "root[open("], ["inspect", "{}", "--at", "never"],
                                       ["log", "{}", "-n", "x"], ["frobnicate", "{}"], ["pack", "{}", "--days", "-1"],
                                       ["pack", "{}", "--days", "1", "--to", "now"],
                                       ["show", "{}", "xyz"]])  # fmt: skip
def test_a_command_line_that_says_nothing_sensible(database: Path, arguments: list[str]) -> None:
    """Exit 2, and nothing changed."""
    before = picture(database.parent)
    assert_error(on(database, arguments), ExitCode.USAGE)
    assert picture(database.parent) == before


@pytest.mark.parametrize("verb", ["run", "shell"])
def test_a_module_that_fails_to_import(database: Path, tmp_path: Path, verb: str) -> None:
    """Exit 1; the message names the module and its error; nothing is staged."""
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")
    before = picture(database.parent)
    run = zodbsh(verb, database, "-p", tmp_path, "-m", "broken", "-c", "1", script=True)
    assert run.returncode == ExitCode.FINDINGS, run.stderr
    assert "broken" in run.stderr
    assert "nothing_of_that_name" in run.stderr
    assert "zodbsh/" not in run.stderr, "no traceback of zodbsh's own code"
    assert picture(database.parent) == before


@pytest.mark.parametrize("verb", ["run", "shell"])
def test_a_script_that_raises(database: Path, verb: str) -> None:
    """Exit 1; the traceback is the user's code only; nothing is staged, nothing committed."""
    before = database.read_bytes()
    run = zodbsh(verb, database, "-c", "root['n'] = 7\nroot['nothing']", script=True)
    assert run.returncode == ExitCode.FINDINGS, run.stderr
    assert "KeyError: 'nothing'" in run.stderr
    assert "zodbsh/" not in run.stderr
    assert database.read_bytes() == before
    assert json.loads(on(database, ["status", "{}", "--format", "json"]).stdout)["staged"] == []


def test_a_closed_pipe(tmp_path: Path, no_fsync: None) -> None:
    """``zodbsh log | head -1`` ends in silence."""
    path = tmp_path / "long.fs"
    db = ZODB.DB(str(path))
    for number in range(1500):
        with db.transaction() as connection:
            connection.root()["n"] = number
    db.close()
    for words in (["log", str(path)], ["log", str(path), "--format", "json"], ["log", str(path), "--format", "csv"]):
        child = spawn(*words)
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.read(1)
        child.stdout.close()
        assert (child.stderr.read(), child.wait(60)) == ("", 0)
        child.stderr.close()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("verb", ["run", "shell"])
def test_a_signal_ends_a_script(database: Path, verb: str, number: int, status: int) -> None:
    """Interrupt, terminate, hang-up in the middle of user code: 128 + the signal, nothing staged or written."""
    before = database.read_bytes()
    code = "root['n'] = 9; print('ready', flush=True); import time; time.sleep(50)"
    child = spawn(verb, str(database), "-c", code)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    _, err = child.communicate(timeout=30)
    assert child.returncode == status, err
    assert "zodbsh/" not in err
    assert database.read_bytes() == before
    assert json.loads(on(database, ["status", "{}", "--format", "json"]).stdout)["staged"] == []


def test_an_interrupt_ends_a_long_look(tmp_path: Path) -> None:
    """SIGINT while a command reads: exit 130, no traceback, nothing changed."""
    path = make_database(tmp_path / "db")
    big = PersistentMapping({str(number): "x" * 100 for number in range(30_000)})
    db = ZODB.DB(str(path))
    for _ in range(3):
        with db.transaction() as connection:
            connection.root()["big"] = big = PersistentMapping(dict(big))
    db.close()
    before = picture(path.parent)
    child = spawn("inspect", str(path), "root.big", "--all")
    assert child.stdout is not None
    assert child.stdout.read(1)  # it has begun, and waits for a reader
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert (child.returncode, "Traceback" in err) == (130, False), err
    assert picture(path.parent) == before
