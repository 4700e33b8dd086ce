"""A file taken back to a moment, and put back: byte for byte, blobs included, whatever fails or dies on the way."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
from contextlib import closing, suppress
from pathlib import Path

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.FileStorage import FileIterator, FileStorage
from ZODB.POSException import UndoError
from ZODB.utils import u64

from zodbsh import publish
from zodbsh.db.locks import DatabaseLocked
from zodbsh.db.open import Conflict, NotWritable
from zodbsh.db.source import open_source
from zodbsh.db.spec import Spec, parse_spec
from zodbsh.errors import StorageIOError, Unsupported
from zodbsh.filestorage.damage import FramingDamage
from zodbsh.filestorage.tail import TailDamaged, TailNotFound, read_tail
from zodbsh.ids import MAX_ID
from zodbsh.ops.undoing.putback import TailDoesNotFit, find_tail, preview_put_back, put_back
from zodbsh.ops.undoing.takeback import BeforeTheFirst, LeavesDangling, plan_take_back, take_back
from zodbsh.ops.verify import verify
from zodbsh.stage.live import keep


def tids(path) -> list[int]:
    return [u64(txn.tid) for txn in FileIterator(str(path))]


def plan(spec: Spec, tid: int):
    with closing(open_source(spec)) as source:
        return plan_take_back(source, tid, spec=spec)


def taken_back(path, tid: int, **options):
    spec = parse_spec(str(path))
    return take_back(spec, plan(spec, tid), **options)


def put(path, name=None, **options):
    spec = parse_spec(str(path))
    return put_back(spec, find_tail(spec, name), **options)


def blobs(path) -> dict[str, bytes]:
    """Return the blob files by their place in the folder."""
    folder = Path(f"{path}.blobs")
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.blob")}


def siblings(path) -> set[str]:
    kept = (".lock", ".tmp", ".index", ".blobs")
    return {file.name for file in Path(path).parent.iterdir() if not file.name.endswith(kept)} - {"src"}


def require_sound(path) -> None:
    """Check everything there is to check, the saved index and blobs included; garbage is no fault."""
    with closing(open_source(str(path), unchecked=True)) as source:
        assert verify(source).findings == ()


def history(path, seed: int, *, pack: bool = False) -> None:
    """Write a random history with blobs, undo, removals, and a pack in the middle of it."""
    rng = random.Random(seed)
    db = ZODB.DB(FileStorage(str(path), blob_dir=f"{path}.blobs"))
    connection = db.open()
    root = connection.root()
    for step in range(rng.randrange(6, 16)):
        deed = rng.random()
        try:
            if deed < 0.2 and step > 2:
                db.undo(rng.choice(db.undoInfo(0, 5))["id"])
            elif deed < 0.5:
                name = f"blob{rng.randrange(3)}"
                if name not in root:
                    root[name] = Blob()
                with root[name].open("w") as file:
                    file.write(rng.randbytes(rng.randrange(1, 2_000)))
            elif deed < 0.6 and len(root) > 2:
                del root[rng.choice(list(root))]
            else:
                root[f"n{rng.randrange(4)}"] = PersistentMapping(text="x" * rng.randrange(300))
            transaction.commit()
        except (UndoError, KeyError, IndexError):
            transaction.abort()
        if pack and step == 4:
            with suppress(KeyError):
                db.pack()
    connection.close()
    db.close()
    Path(f"{path}.old").unlink(missing_ok=True)
    shutil.rmtree(f"{path}.blobs.old", ignore_errors=True)


@pytest.fixture(autouse=True)
def quick(no_fsync, clean_transaction):
    """Nothing need be durable here."""


@pytest.fixture
def shop(tmp_path):
    """A database of several transactions, a blob among them."""
    path = tmp_path / "my shop.fs"
    db = ZODB.DB(FileStorage(str(path), blob_dir=f"{path}.blobs"))
    for number, content in enumerate((b"first", b"second", b"third")):
        with db.transaction(f"number {number}") as connection:
            root = connection.root()
            root["n"] = PersistentMapping(n=number)
            root.setdefault("photo", Blob())
            with root["photo"].open("w") as file:
                file.write(content)
    db.close()
    return path


def test_what_would_go(shop):
    """Transactions with their objects, the bytes, the blob files; the file and its folder are left alone."""
    before = {file: file.stat().st_mtime_ns for file in shop.parent.rglob("*")}
    spec = parse_spec(str(shop))
    found = plan(spec, tids(shop)[2])
    assert (found.base.tid, found.last_tid, found.transactions, found.objects) == (tids(shop)[2], tids(shop)[3], 1, 3)
    assert [(gone.transaction.description, gone.objects) for gone in found.removed] == [(b"number 2", 3)]
    assert [Path(blob.path).read_bytes() for blob in found.blobs] == [b"third"]
    assert found.bytes == shop.stat().st_size - found.end
    assert {file: file.stat().st_mtime_ns for file in shop.parent.rglob("*")} == before


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_there_and_back(tmp_path, seed, pack):
    """At every transaction: the file is what it was then, ZODB opens it, and --redo gives back the identical file."""
    path = tmp_path / "my.fs"
    history(path, seed, pack=pack)
    whole, files, found = path.read_bytes(), blobs(path), tids(path)
    for tid in found:
        spec = parse_spec(str(path))
        try:
            planned = plan(spec, tid)
        except BeforeTheFirst:
            continue
        result = take_back(spec, planned, force=True)
        assert path.read_bytes() == whole[: planned.end]
        assert tids(path) == [other for other in found if other <= tid]
        # A record that points back to a blob has a file of its own, too.
        assert blobs(path).items() <= files.items()
        if not planned.findings:
            require_sound(path)
        require_index(path)
        with closing(FileStorage(str(path), read_only=True)) as storage:
            assert u64(storage.lastTransaction()) == tid
        assert (result.tail is None) == (tid == found[-1])
        if result.tail is not None:
            assert put(path).tid == found[-1]
        assert (path.read_bytes(), blobs(path)) == (whole, files)
        assert siblings(path) == {"my.fs"}
    if not pack:
        require_sound(path)


def require_index(path) -> None:
    """The saved index is what ZODB makes of the file by itself."""
    with closing(FileStorage(str(path), read_only=True)) as storage:
        ours = dict(storage._index.items())
    Path(f"{path}.index").rename(f"{path}.aside")
    with closing(FileStorage(str(path), read_only=True)) as storage:
        assert ours == dict(storage._index.items())
    Path(f"{path}.aside").rename(f"{path}.index")


@pytest.mark.parametrize("back", [False, True])
def test_zodb_goes_on_from_there(tmp_path, back):
    """ZODB writes on, undoes and packs what was taken back, and what was put back."""
    path = tmp_path / "my.fs"
    history(path, 3)
    taken_back(path, tids(path)[len(tids(path)) // 2])
    if back:
        put(path)
    db = ZODB.DB(FileStorage(str(path), blob_dir=f"{path}.blobs"))
    with db.transaction() as connection:
        connection.root()["on"] = PersistentMapping(blob=Blob(b"more"))
    manager = transaction.TransactionManager()
    db.undo(db.undoInfo(0, 1)[0]["id"], manager.get())
    manager.commit()
    require_sound(path)
    db.pack()
    db.close()
    require_sound(path)


def test_in_steps(shop):
    """Tails of several steps go back in the reverse order, each found by itself."""
    whole, files, found = shop.read_bytes(), blobs(shop), tids(shop)
    for tid in reversed(found[:-1]):
        taken_back(shop, tid)
    assert len(siblings(shop)) == len(found)
    for tid in found[1:]:
        assert put(shop).tid == tid
    assert (shop.read_bytes(), blobs(shop), siblings(shop)) == (whole, files, {shop.name})
    with pytest.raises(TailNotFound):
        put(shop)


def test_nothing_is_later(shop):
    """A moment after the last transaction changes nothing."""
    whole = shop.read_bytes()
    assert taken_back(shop, MAX_ID).tail is None
    assert (shop.read_bytes(), siblings(shop)) == (whole, {shop.name})


def test_before_the_first(shop):
    """A moment before there was a database is refused."""
    with pytest.raises(BeforeTheFirst):
        plan(parse_spec(str(shop)), tids(shop)[0] - 1)


def test_inside_what_was_packed(tmp_path):
    """Where a pack has removed what was current then, the references to it are named, and --force is needed."""
    path = tmp_path / "my.fs"
    db = ZODB.DB(str(path))
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping()
    for number in range(2):
        with db.transaction() as connection:
            connection.root()["a"]["n"] = number
            connection.root()[str(number)] = number
    with db.transaction() as connection:
        connection.root()["a"]["n"] = "last"
    db.pack()
    db.close()
    first, last = tids(path)
    spec = parse_spec(str(path))
    (finding,) = plan(spec, first).findings
    assert finding.message == "root would refer to 0x01, which a pack has removed as it was then"
    whole = path.read_bytes()
    with pytest.raises(LeavesDangling):
        taken_back(path, first)
    assert path.read_bytes() == whole
    taken_back(path, first, force=True)
    assert tids(path) == [first]
    assert put(path).tid == last
    assert path.read_bytes() == whole


def test_python_2(shop):
    """A file of Python 2 is bytes like any other; the index that its ZODB will make is left to it."""
    shop.write_bytes(b"FS21" + shop.read_bytes()[4:])
    whole = shop.read_bytes()
    with closing(open_source(str(shop))) as source:
        found = [txn.tid for txn in source.transactions()]
    taken_back(shop, found[1])
    assert not Path(f"{shop}.index").exists()
    put(shop)
    assert shop.read_bytes() == whole


def test_a_link_stays_a_link(shop, tmp_path):
    """Under a symbolic link the file it leads to is taken back; the tail lies beside that, no index is left stale."""
    folder = tmp_path / "there"
    folder.mkdir()
    link = folder / "link.fs"
    link.symlink_to(shop)
    shutil.copy(f"{shop}.index", f"{link}.index")
    shutil.copytree(f"{shop}.blobs", f"{link}.blobs")
    whole = shop.read_bytes()
    result = taken_back(link, tids(shop)[1])
    assert result.tail.startswith(f"{shop}.undone-")
    assert link.is_symlink()
    assert not Path(f"{link}.index").exists()
    assert len(tids(shop)) == 2
    put(link)
    assert shop.read_bytes() == whole


def test_mode_and_owner_stay(shop):
    """The new file may be read by those who could read the old one, the tail by no one else."""
    shop.chmod(0o640)
    tail = taken_back(shop, tids(shop)[1]).tail
    assert [path.stat().st_mode & 0o777 for path in (shop, Path(tail), Path(f"{shop}.index"))] == [0o640] * 3


def test_only_files(tmp_path):
    """Only a FileStorage can be taken back, and not one that is configured as read-only."""
    with pytest.raises(Unsupported):
        find_tail(parse_spec(":memory:"), None)
    with pytest.raises(NotWritable):
        find_tail(Spec("x", "file", path="x", read_only=True), None)


def test_a_locked_file(shop):
    """While another process may write, neither way goes; nothing changes."""
    spec = parse_spec(str(shop))
    found = plan(spec, tids(shop)[1])
    whole = shop.read_bytes()
    with closing(FileStorage(str(shop), blob_dir=f"{shop}.blobs")), pytest.raises(DatabaseLocked):
        take_back(spec, found)
    assert (shop.read_bytes(), siblings(shop)) == (whole, {shop.name})
    tail = take_back(spec, found).tail
    with closing(FileStorage(str(shop), blob_dir=f"{shop}.blobs")), pytest.raises(DatabaseLocked):
        put(shop)
    assert Path(tail).exists()


def test_written_to_meanwhile(shop):
    """What was looked at is what is taken off."""
    spec = parse_spec(str(shop))
    found = plan(spec, tids(shop)[1])
    with closing(ZODB.DB(str(shop))) as db, db.transaction() as connection:
        connection.root()["new"] = 1
    with pytest.raises(Conflict, match="changed while it was looked at"):
        take_back(spec, found)


def test_a_damaged_file(shop):
    """A file that is damaged anywhere is not touched."""
    spec = parse_spec(str(shop))
    found = plan(spec, tids(shop)[2])
    data = bytearray(shop.read_bytes())
    data[12] ^= 1
    shop.write_bytes(data)
    with pytest.raises(FramingDamage):
        take_back(spec, found)
    assert (shop.read_bytes(), siblings(shop)) == (bytes(data), {shop.name})


def test_something_new_was_written(shop):
    """A tail does not go behind other transactions; what to do about it is said, and works."""
    whole, second = shop.read_bytes(), tids(shop)[1]
    taken_back(shop, second)
    with closing(ZODB.DB(str(shop))) as db, db.transaction() as connection:
        connection.root()["new"] = 1
    with pytest.raises(TailDoesNotFit, match="has gone on since") as caught:
        put(shop)
    assert f"--after {second:016x}`" in caught.value.hint
    taken_back(shop, second)
    old = next(name for name in siblings(shop) if name != shop.name and Path(shop.parent / name).stat().st_size > 1_000)
    put(shop, str(shop.parent / old))
    assert shop.read_bytes() == whole


def test_packed_since(shop):
    """A tail does not go behind a file that a pack has rewritten."""
    taken_back(shop, tids(shop)[2])
    with closing(ZODB.DB(FileStorage(str(shop), blob_dir=f"{shop}.blobs"))) as db:
        db.pack()
    with pytest.raises(TailDoesNotFit):
        put(shop)


def test_other_bytes_before_it(shop):
    """One changed byte before the tail, which no framing would notice, is noticed."""
    taken_back(shop, tids(shop)[2])
    data = shop.read_bytes()
    shop.write_bytes(data.replace(b"number 1", b"number 7"))
    with pytest.raises(TailDoesNotFit, match="other bytes"):
        put(shop)


def test_every_byte_of_a_tail_counts(shop):
    """A tail with any bit turned, or cut anywhere, is refused, and the database is as it was."""
    tail = Path(taken_back(shop, tids(shop)[2]).tail)
    whole, data = tail.read_bytes(), shop.read_bytes()
    rng = random.Random(5)
    for position in rng.sample(range(len(whole)), 150):
        for broken in (
            whole[:position],
            whole[:position] + bytes([whole[position] ^ 1 << rng.randrange(8)]) + whole[position + 1 :],
        ):
            tail.write_bytes(broken)
            with pytest.raises(TailDamaged):
                put(shop, str(tail))
            assert shop.read_bytes() == data
    tail.write_bytes(whole)
    assert put(shop).already is False


def test_a_blob_of_the_tail_is_missing(shop):
    """Without one of its blobs a tail is not put back, nor said that it would be."""
    whole = shop.read_bytes()
    tail = read_tail(taken_back(shop, tids(shop)[2]).tail)
    (blob,) = tail.blobs
    file = Path(tail.blob_folder, blob.name)
    file.rename(shop.parent / "aside")
    data = shop.read_bytes()
    with pytest.raises(TailDamaged, match="missing"):
        put(shop)
    with pytest.raises(TailDamaged, match="missing"):
        preview_put_back(parse_spec(str(shop)), tail)
    assert shop.read_bytes() == data
    (shop.parent / "aside").rename(file)
    put(shop, keep=True)
    assert shop.read_bytes() == whole
    assert Path(tail.path).exists()
    # Again, it is there already.
    assert put(shop).already
    assert siblings(shop) == {shop.name}


def test_another_file_in_a_blobs_place(shop):
    """A file of the same length with other bytes is not taken for the blob, and not overwritten."""
    there = blobs(shop)
    taken_back(shop, tids(shop)[2])
    (name,) = there.keys() - blobs(shop).keys()
    place, data = Path(f"{shop}.blobs", name), shop.read_bytes()
    place.write_bytes(b"x" * len(there[name]))
    tail = find_tail(parse_spec(str(shop)), None)
    for action in (lambda: put(shop), lambda: preview_put_back(parse_spec(str(shop)), tail)):
        with pytest.raises(StorageIOError, match=r"could not be put back, nothing changed: File exists"):
            action()
    assert (shop.read_bytes(), place.read_bytes()) == (data, b"x" * len(there[name]))
    place.unlink()
    put(shop)
    assert blobs(shop) == there


def test_a_stage_on_top_of_what_goes(path, witness):
    """A stage that was made on a transaction that goes is told of, and left alone."""
    from zodbsh.db.session import Session

    with witness(path) as root:
        root["account"].balance = 20
    with Session.open(str(path)) as session:
        session.root.account.deposit(1)
        keep(session)
    spec = parse_spec(str(path))
    assert plan(spec, tids(path)[-2]).stage_outdated
    taken_back(path, tids(path)[-2])
    assert Path(f"{path}.stage").exists()


def test_a_read_only_folder(shop, monkeypatch):
    """Where nothing can be made beside the database nothing changes, in one message."""
    spec = parse_spec(str(shop))
    found = plan(spec, tids(shop)[1])
    whole = shop.read_bytes()
    original = os.open

    def refuse(path, flags, *rest, **options):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return original(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(StorageIOError, match=r"could not be taken back, nothing changed: Permission denied"):
        take_back(spec, found)
    monkeypatch.undo()
    assert (shop.read_bytes(), siblings(shop)) == (whole, {shop.name})


def test_no_room(shop, monkeypatch):
    """A disk that is too full is told before anything is begun."""
    spec = parse_spec(str(shop))
    found = plan(spec, tids(shop)[1])
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(100, 0, 100))
    with pytest.raises(publish.DiskFullError):
        take_back(spec, found)
    assert siblings(shop) == {shop.name}


@pytest.mark.parametrize("junk", [b"\x05" * 16 + b"c" + bytes(40), b"\x05" * 16 + b"c"])
def test_what_a_dead_writer_left(shop, junk):
    """A transaction that was never finished goes with the tail, and comes back as it was."""
    whole, third = shop.read_bytes() + junk, tids(shop)[2]
    shop.write_bytes(whole)
    taken_back(shop, third)
    assert len(tids(shop)) == 3
    put(shop)
    assert shop.read_bytes() == whole


def test_a_look_at_what_would_come_back(shop):
    """The look checks what the deed would, and writes nothing."""
    taken_back(shop, tids(shop)[2])
    spec = parse_spec(str(shop))
    tail = find_tail(spec, None)
    before = {file: file.stat().st_mtime_ns for file in shop.parent.rglob("*")}
    found = preview_put_back(spec, tail)
    assert (found.dry_run, found.already, found.tid) == (True, False, tail.header.last_tid)
    assert {file: file.stat().st_mtime_ns for file in shop.parent.rglob("*")} == before
    shop.write_bytes(shop.read_bytes().replace(b"number 1", b"number 7"))
    with pytest.raises(TailDoesNotFit):
        preview_put_back(spec, tail)


# Every way to change names or to make them last; whatever else writes comes between two of these.
_STEPS = ("link", "replace", "rename", "unlink", "mkdir", "rmdir", "fsync", "chmod")


def counted(monkeypatch, action) -> None:
    """Have ``action`` called before each step, with its number."""
    steps = iter(range(1_000_000))

    def wrap(original):
        def step(*args, **options):
            action(next(steps))
            return original(*args, **options)

        return step

    for name in _STEPS:
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))


def died(function, at: int) -> bool:
    """Run a function in a process of its own that is killed before a step; tell whether it came that far."""
    child = os.fork()
    if not child:
        try:
            with pytest.MonkeyPatch.context() as monkeypatch:
                counted(monkeypatch, lambda number: number == at and os.kill(os.getpid(), signal.SIGKILL))
                function()
        except BaseException:  # noqa: BLE001 - the parent sees the status
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL), status
    return status != 0


@pytest.mark.parametrize("way", ["after", "redo"])
def test_killed_at_every_step(shop, tmp_path, way):
    """A process killed anywhere leaves the state before or after, with all blobs; both commands go on from there."""
    whole, files, second = shop.read_bytes(), blobs(shop), tids(shop)[1]
    end = plan(parse_spec(str(shop)), second).end
    at, done = 0, False
    while not done:
        if way == "after":
            done = not died(lambda: taken_back(shop, second), at)
        else:
            taken_back(shop, second)
            done = not died(lambda: put(shop), at)
        at += 1
        data = shop.read_bytes()
        assert data in (whole, whole[:end])
        if data == whole:
            assert blobs(shop) == files
        require_framing_and_index(shop)
        if data == whole and way == "after":
            taken_back(shop, second)
        if shop.read_bytes() != whole:
            put(shop)
        assert (shop.read_bytes(), blobs(shop)) == (whole, files)
        require_sound(shop)
        with suppress(TailNotFound):
            assert put(shop).already
        # What a killed process leaves behind has a name that nobody takes for something else.
        left = siblings(shop) - {shop.name}
        assert all(name.startswith(".") or ".blobs" in name for name in left), left
        for name in left:
            (shop.parent / name).unlink()
    assert at > 20


def require_framing_and_index(path) -> None:
    with closing(open_source(str(path), unchecked=True)) as source:
        assert [found for found in verify(source, level="framing").findings if found.kind in ("framing", "index")] == []


@pytest.mark.parametrize("way", ["after", "redo"])
@pytest.mark.parametrize("sticky", [False, True])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES])
def test_a_failure_at_every_step(shop, way, sticky, number):
    """A step that fails, once or from then on, leaves all as it was or all done, and says which."""
    whole, files, second = shop.read_bytes(), blobs(shop), tids(shop)[1]
    end = plan(parse_spec(str(shop)), second).end
    at, failed = 0, True
    while failed:
        if way == "redo":
            taken_back(shop, second)
        start, failed = shop.read_bytes(), False

        def fail(step, at=at):
            nonlocal failed
            if step == at or (sticky and step > at):
                failed = True
                raise OSError(number, os.strerror(number))

        told: object = None
        with pytest.MonkeyPatch.context() as monkeypatch:
            counted(monkeypatch, fail)
            try:
                told = taken_back(shop, second) if way == "after" else put(shop)
            except (StorageIOError, publish.OutcomeUnknown) as exc:
                told = exc
        at += 1
        data = shop.read_bytes()
        changed = data != start
        assert data in (whole, whole[:end])
        assert changed != (isinstance(told, StorageIOError)), told
        if data == whole:
            assert blobs(shop) == files
        require_framing_and_index(shop)
        if shop.read_bytes() != whole:
            put(shop)
        assert (shop.read_bytes(), blobs(shop)) == (whole, files)
        with suppress(TailNotFound):
            put(shop)
        for name in siblings(shop) - {shop.name}:
            (shop.parent / name).unlink()
        shutil.rmtree(next(iter(shop.parent.glob("*undone*.blobs")), "nothing"), ignore_errors=True)
    assert at > 20
