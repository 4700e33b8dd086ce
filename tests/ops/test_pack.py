"""Pack: what would go agrees with what ZODB's pack removes; the traps around it; the check after."""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
import ZEO
import ZODB
from persistent.mapping import PersistentMapping
from random_history import contents, random_history, records, tids
from ZODB.blob import Blob
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileIterator, FileStorage
from ZODB.FileStorage.fspack import FileStoragePacker, PackError
from ZODB.serialize import referencesf
from ZODB.utils import p64, u64

from zodbsh.db.filestore import SoundFileStorage
from zodbsh.db.locks import DatabaseLocked
from zodbsh.db.spec import parse_spec
from zodbsh.engine import chosen, packing
from zodbsh.errors import DamagedDatabase, StorageIOError, Unsupported, UsageError
from zodbsh.ids import MAX_ID
from zodbsh.ops.packing.file import PackFailed
from zodbsh.ops.packing.pack import CollectionRefused, pack, pack_time, preview
from zodbsh.ops.packing.storage import StorageCannotPack
from zodbsh.publish import DiskFullError
from zodbsh.source.file import FileSource
from zodbsh.times import parse_time


def pack_by_zodb(path: Path, tid: int, *, gc: bool) -> Exception | None:
    """Pack with nothing but ZODB, to an exact tid (its own argument is a float of seconds); return what stopped it."""

    def packer(storage, references, stop, collect):
        run = FileStoragePacker(storage, references, p64(tid), collect)
        try:
            size = run.pack()
            return None if size is None else (size, run.index)
        finally:
            run.close()

    storage = FileStorage(str(path), packer=packer)
    try:
        storage.pack(2.0, referencesf, gc=gc)
    except (KeyError, AssertionError, PackError) as exc:
        return exc
    finally:
        storage.close()
    return None


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A database of four transactions: two revisions of the root, one object that is garbage in the end."""
    path = tmp_path / "shop.fs"
    db = ZODB.DB(str(path))
    with db.transaction() as connection:
        connection.root()["kept"] = PersistentMapping(n=1)
    with db.transaction() as connection:
        connection.root()["dropped"] = PersistentMapping(text="x" * 100)
    with db.transaction() as connection:
        del connection.root()["dropped"]
    db.close()
    return path


def needed_later(path: Path, tid: int, more: set[int]) -> set[int]:
    """Return the oids that records after ``tid``, or any of the objects ``more``, refer to."""
    found: set[int] = set()
    for txn in FileIterator(str(path)):
        for record in txn:
            if record.data is not None and (u64(txn.tid) > tid or u64(record.oid) in more):
                found |= {u64(oid) for oid in referencesf(record.data)}
    return found


@pytest.mark.parametrize("gc", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_a_pack_keeps_what_zodbs_keeps_and_the_dry_run_says_so(tmp_path: Path, seed: int, gc: bool) -> None:
    """On random histories, at any pack time: the same records as ZODB's own pack keeps, and those it loses.

    What is kept besides is what a later record refers to. The dry run tells it to the byte.
    """
    path, theirs, ours = tmp_path / "a.fs", tmp_path / "b.fs", tmp_path / "c.fs"
    random_history(path, seed, packed_before=seed % 3 == 0)
    for tid in (*random.Random(seed).choices(tids(path), k=3), tids(path)[-1]):
        for stale in (*tmp_path.glob("b.fs*"), *tmp_path.glob("c.fs*")):
            stale.unlink()
        shutil.copy(path, theirs)
        shutil.copy(path, ours)
        before = records(path)
        source = FileSource(str(ours))
        plan = preview(source, tid=tid, collect=gc)
        source.close()
        failure = pack_by_zodb(theirs, tid, gc=gc)
        if isinstance(failure, KeyError):
            assert u64(failure.args[0]) in {dangling.target for dangling in plan.findings}
        if plan.refused:
            with pytest.raises(CollectionRefused):
                pack(parse_spec(str(ours)), tid=tid)
            continue
        result = pack(parse_spec(str(ours)), tid=tid, collect=gc)
        gone = Counter(before) - Counter(records(ours))
        assert plan.revisions_removed == gone.total() == result.revisions_removed
        assert not plan.changed or plan.revisions_removed == sum(removal.revisions for removal in plan.classes)
        assert (plan.objects_removed, plan.after) == (result.objects_removed, result.after)
        assert result.after is not None
        assert result.after.bytes == ours.stat().st_size
        # Without collection ZODB cannot keep an undo that points before the pack time.
        if failure is None:
            kept, wanted = Counter(contents(ours)), Counter(contents(theirs))
            assert not wanted - kept
            more = {oid for oid, *_ in kept - wanted}
            assert more <= needed_later(path, tid, more)
            if not more:
                assert ours.read_bytes() == theirs.read_bytes()


def test_a_dry_run_reads_real_databases() -> None:
    """Databases that applications left behind: every reference is followed, Python 2's included."""
    corpus = Path(os.environ.get("ZODBSH_CORPUS", ""))
    files = sorted(corpus.rglob("*.fs")) if "ZODBSH_CORPUS" in os.environ else []
    if not files:
        pytest.skip("ZODBSH_CORPUS names no folder of databases")
    for path in files:
        source = FileSource(str(path))
        result = preview(source)
        unpacked = preview(source, collect=False)
        source.close()
        assert (result.findings, unpacked.objects_removed) == ((), 0)
        assert result.after is not None
        assert result.before is not None
        assert result.after.objects == result.before.objects - (result.objects_removed or 0) > 0


def test_a_dry_run_tells_classes_and_writes_nothing(shop: Path) -> None:
    """The dry run counts objects, revisions and bytes by class; the folder is as it was."""
    before = {entry.name: entry.stat().st_mtime_ns for entry in shop.parent.iterdir()}
    source = FileSource(str(shop))
    result = preview(source)
    source.close()
    (mapping,) = result.classes
    assert (mapping.class_, mapping.objects, mapping.revisions) == ("persistent.mapping.PersistentMapping", 1, 4)
    assert (result.dry_run, result.changed, result.objects_removed, result.revisions_removed) == (True, True, 1, 4)
    assert {entry.name: entry.stat().st_mtime_ns for entry in shop.parent.iterdir()} == before


def test_pack_keeps_the_state_and_the_old_file(shop: Path) -> None:
    """After a pack ZODB reads the same state; ``.old`` is the file of before, byte for byte; the figures are true."""
    original = shop.read_bytes()
    result = pack(parse_spec(str(shop)))
    assert result.before is not None
    assert result.after is not None
    assert (result.before.bytes, result.after.bytes) == (len(original), shop.stat().st_size)
    assert (result.objects_removed, result.revisions_removed, result.findings) == (1, 4, ())
    assert result.old == f"{shop}.old"
    assert Path(f"{shop}.old").read_bytes() == original
    db = ZODB.DB(str(shop))
    with db.transaction() as connection:
        assert {key: dict(value) for key, value in connection.root().items()} == {"kept": {"n": 1}}
    db.close()


def test_packing_twice_changes_nothing_the_second_time(shop: Path) -> None:
    """A second pack finds nothing to do: same bytes, and the first pack's ``.old`` is still there."""
    pack(parse_spec(str(shop)))
    packed, old = shop.read_bytes(), Path(f"{shop}.old").read_bytes()
    result = pack(parse_spec(str(shop)))
    assert (result.changed, result.objects_removed, result.revisions_removed, result.old) == (False, 0, 0, None)
    assert result.before == result.after
    assert (shop.read_bytes(), Path(f"{shop}.old").read_bytes()) == (packed, old)


def test_an_empty_database_has_nothing_to_pack(tmp_path: Path) -> None:
    """A FileStorage without a transaction packs to itself."""
    path = tmp_path / "empty.fs"
    FileStorage(str(path)).close()
    result = pack(parse_spec(str(path)))
    assert (result.changed, result.objects_removed, result.revisions_removed) == (False, 0, 0)
    assert path.read_bytes() == b"FS30"


def test_pack_to_a_time_keeps_what_follows(shop: Path) -> None:
    """Revisions after the pack time stay, with their tids."""
    second = tids(shop)[2]
    result = pack(parse_spec(str(shop)), tid=second)
    assert result.tid == second
    # Up to then the root, `kept` and `dropped` are current; after it comes the root's last revision.
    assert [oid for oid, _ in records(shop)] == [1, 0, 2, 0]
    assert tids(shop)[-2] == second


def test_without_collection_garbage_stays(shop: Path) -> None:
    """With ``collect=False`` only old revisions go."""
    result = pack(parse_spec(str(shop)), collect=False)
    assert (result.objects_removed, result.revisions_removed) == (0, 3)
    assert sorted(oid for oid, _ in records(shop)) == [0, 1, 2]


def test_mode_and_owner_stay(shop: Path) -> None:
    """A database of mode 600 is of mode 600 after, and at no time is its copy readable for others."""
    shop.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(shop, 12345, 12345)
    pack(parse_spec(str(shop)))
    status = shop.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert stat.S_IMODE(os.stat(f"{shop}.index").st_mode) & 0o077 == 0
    if os.geteuid() == 0:
        assert {os.stat(f"{shop}{suffix}").st_uid for suffix in ("", ".old", ".index", ".lock")} == {12345}


def test_a_symlink_stays_a_symlink(shop: Path, tmp_path: Path) -> None:
    """The file that a link leads to is packed, in its own folder."""
    link = tmp_path / "elsewhere" / "Data.fs"
    link.parent.mkdir()
    link.symlink_to(shop)
    result = pack(parse_spec(str(link)))
    assert link.is_symlink()
    assert result.old == f"{shop}.old"
    assert len(records(shop)) == 2


def test_blobs_of_removed_revisions_move_to_old(tmp_path: Path) -> None:
    """The dry run counts blobs that go; the pack keeps the live one and the ones before under ``blobs.old``."""
    path, blobs = tmp_path / "b.fs", tmp_path / "blobs"
    db = ZODB.DB(FileStorage(str(path), blob_dir=str(blobs)))
    for text in (b"first", b"second!"):
        with db.transaction() as connection:
            blob = connection.root().setdefault("blob", Blob())
            with blob.open("w") as file:
                file.write(text)
    db.close()
    source = FileSource(str(path), blob_dir=str(blobs))
    plan = preview(source)
    source.close()
    assert (plan.blobs_removed, plan.blob_bytes_removed) == (1, 5)
    result = pack(parse_spec(f"file://{path}?blobstorage_dir={blobs}"))
    assert result.trouble is None
    assert [file.read_bytes() for file in blobs.rglob("*.blob")] == [b"second!"]
    assert sorted(file.read_bytes() for file in Path(f"{blobs}.old").rglob("*.blob")) == [b"first", b"second!"]
    assert not (blobs / ".removed").exists()


@pytest.fixture
def dangling(tmp_path: Path) -> Path:
    """A database whose root refers to object 9, which is not there."""
    path = tmp_path / "dangling.fs"
    db = ZODB.DB(str(path))
    with db.transaction() as connection:
        lost = PersistentMapping()
        connection.root()["lost"] = lost
        connection.root()["n"] = 0
    with db.transaction() as connection:
        connection.root()["n"] = 1
    db.close()
    data = path.read_bytes()
    assert data.count(p64(1)) > 2
    # Every reference to object 1 becomes one to object 9; its own record keeps its oid.
    path.write_bytes(data.replace(b"\x08" + p64(1), b"\x08" + p64(9)))
    Path(f"{path}.index").unlink()
    return path


def test_a_dangling_reference_is_named(dangling: Path) -> None:
    """ZODB's bare KeyError becomes a finding that names referrer and target; what does not hang on it is packed."""
    result = pack(parse_spec(str(dangling)))
    assert result.changed
    assert [tuple(finding) for finding in result.findings] == [
        (0, "persistent.mapping.PersistentMapping", 9, "no such object")
    ]
    assert [oid for oid, _ in records(dangling)] == [0]


def test_a_record_that_does_not_decode_stops_collection(shop: Path) -> None:
    """Its oid, its class, and what our decoder finds wrong with it; without collection it is packed, and listed."""
    data = shop.read_bytes()
    start = data.index(b"X\x01\x00\x00\x00n", data.index(p64(1)))
    shop.write_bytes(data[:start] + b"\xff" + data[start + 1 :])
    before = shop.read_bytes()
    source = FileSource(str(shop))
    told = preview(source)
    source.close()
    assert (told.refused, told.changed, [finding.oid for finding in told.findings]) == (True, False, [1])
    with pytest.raises(CollectionRefused) as caught:
        pack(parse_spec(str(shop)))
    assert caught.value.message == (
        f"{shop}: what 0x01 (persistent.mapping.PersistentMapping) refers to is not known: its record cannot be read: "
        "byte 0xff is no instruction"
    )
    assert (caught.value.exit_code, caught.value.hint.split(".")[0]) == (6, "Nothing changed")
    assert shop.read_bytes() == before
    assert not [name for name in os.listdir(shop.parent) if name.endswith((".new", ".old"))]
    result = pack(parse_spec(str(shop)), collect=False)
    assert (result.changed, [finding.oid for finding in result.findings]) == (True, [1])


def test_a_database_without_its_root_is_not_collected(shop: Path) -> None:
    """Everything would be garbage."""
    source = FileSource(str(shop))
    places = [revision.position for revision in source.history(0)]
    source.close()
    content = bytearray(shop.read_bytes())
    for place in places:
        content[place : place + 8] = p64(77)
    shop.write_bytes(content)
    Path(f"{shop}.index").unlink()
    with pytest.raises(CollectionRefused, match="has no root at the pack time"):
        pack(parse_spec(str(shop)))
    assert shop.read_bytes() == content


def test_without_collection_dangling_references_are_findings(dangling: Path) -> None:
    """A pack that follows no references succeeds; the check after lists what leads nowhere; ``.old`` is kept."""
    result = pack(parse_spec(str(dangling)), collect=False)
    assert result.changed
    assert not result.clean
    assert [(finding.oid, finding.target) for finding in result.findings] == [(0, 9)]
    assert Path(f"{dangling}.old").exists()


def test_a_locked_database_is_not_packed(shop: Path) -> None:
    """The lock's holder is named; nothing changes."""
    before = shop.read_bytes()
    holder = FileStorage(str(shop))
    try:
        with pytest.raises(DatabaseLocked, match=f"{shop}.*"):
            pack(parse_spec(str(shop)))
    finally:
        holder.close()
    assert shop.read_bytes() == before


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), DiskFullError),
        (OSError(errno.EIO, "Input/output error"), StorageIOError),
        (packing.Changed(), DamagedDatabase),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("step", ["copy_packed", "compare", "index_parts"])
def test_a_pack_that_fails_leaves_nothing(
    shop: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, expected: type[BaseException], step: str
) -> None:
    """Whatever stops it: the database and an earlier ``.old`` are as they were; once published, it is packed."""
    Path(f"{shop}.old").write_bytes(b"an earlier copy")
    before = shop.read_bytes()

    def fail(*arguments, **options):
        raise failure

    monkeypatch.setattr(chosen, step, fail)
    if step == "index_parts" and isinstance(failure, OSError):
        assert "no index could be saved" in (pack(parse_spec(str(shop))).trouble or "")
        assert shop.read_bytes() != before
        return
    if step != "index_parts":
        with pytest.raises(expected):
            pack(parse_spec(str(shop)))
        assert shop.read_bytes() == before
        assert Path(f"{shop}.old").read_bytes() == b"an earlier copy"
    assert not [name for name in os.listdir(shop.parent) if name.endswith(".new")]
    monkeypatch.undo()
    assert pack(parse_spec(str(shop))).changed


@pytest.mark.parametrize("way", ["data", "order", "missing"])
def test_a_copy_that_is_not_the_original_gets_no_name(shop: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Whatever is wrong with the copy is found before it takes the file's place."""
    before, copy = shop.read_bytes(), chosen.copy_packed

    def wrong(fd, end, columns, marks, targets, out, **options):
        if way == "missing" and out >= 0:
            marks = bytearray(marks)
            marks[columns.find(1)] = 0
        copied = copy(fd, end, columns, marks, targets, out, **options)
        if way == "data" and out >= 0:
            os.pwrite(out, b"!", copied.end - 20)
        if way == "order" and out >= 0:
            os.pwrite(out, b" ", 4 + 16)
        return copied

    monkeypatch.setattr(chosen, "copy_packed", wrong)
    with pytest.raises(PackFailed):
        pack(parse_spec(str(shop)))
    assert shop.read_bytes() == before


def test_too_little_space_is_found_before_anything_is_written(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The free-space check comes first."""
    usage = shutil.disk_usage(shop.parent)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=100))
    before = sorted(os.listdir(shop.parent))
    with pytest.raises(DiskFullError):
        pack(parse_spec(str(shop)))
    assert sorted(os.listdir(shop.parent)) == before


def test_python_2_format_is_packed(shop: Path) -> None:
    """Records are copied as they are, whoever wrote them; the result is Python 2's, too."""
    content = shop.read_bytes()
    shop.write_bytes(b"FS21" + content[4:])
    Path(f"{shop}.index").unlink()
    assert pack(parse_spec(str(shop))).revisions_removed == 4
    packed = shop.read_bytes()
    shop.write_bytes(content)
    pack(parse_spec(str(shop)))
    assert packed == b"FS21" + shop.read_bytes()[4:]


def test_without_old_the_former_file_is_gone(shop: Path) -> None:
    """No ``.old`` is made; one of an earlier pack stays what it was."""
    result = pack(parse_spec(str(shop)), keep_old=False)
    assert (result.changed, result.old) == (True, None)
    assert not Path(f"{shop}.old").exists()


def test_the_saved_index_is_zodbs(shop: Path) -> None:
    """Byte for byte what ZODB saves for the packed file."""
    pack(parse_spec(str(shop)))
    ours = Path(f"{shop}.index").read_bytes()
    Path(f"{shop}.index").unlink()
    FileStorage(str(shop)).close()
    assert Path(f"{shop}.index").read_bytes() == ours


def test_a_storage_from_a_configuration_packs_itself(tmp_path: Path, shop: Path) -> None:
    """A storage that is more than a plain file packs itself; the figures come through the storage."""
    config = tmp_path / "db.conf"
    config.write_text(f"<zodb>\n<filestorage>\npath {shop}\nquota 10MB\n</filestorage>\n</zodb>\n")
    result = pack(parse_spec(str(config)))
    assert (result.changed, result.objects_removed, result.revisions_removed) == (True, 1, 4)
    assert len(records(shop)) == 2


def test_a_zeo_server_packs_its_storage(shop: Path) -> None:
    """Over zeo:// the server packs; what it removed is told."""
    address, stop = ZEO.server(str(shop))
    try:
        spec = parse_spec(f"zeo://{address[0]}:{address[1]}")
        result = pack(spec)
        assert (result.changed, result.objects_removed, result.revisions_removed) == (True, 1, 4)
        with pytest.raises(Unsupported):
            pack(spec, collect=False)
    finally:
        stop()
    assert len(records(shop)) == 2


def test_a_storage_that_fails_at_packing_is_no_bug_of_ours(
    tmp_path: Path, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a storage's own pack raises becomes an error that names it."""
    config = tmp_path / "db.conf"
    config.write_text(f"<zodb>\n<filestorage>\npath {shop}\nquota 10MB\n</filestorage>\n</zodb>\n")

    def fail(self, t, references, gc=None):
        raise AttributeError("no such thing")

    monkeypatch.setattr(FileStorage, "pack", fail)
    with pytest.raises(StorageCannotPack, match="no such thing"):
        pack(parse_spec(str(config)))


def test_days_and_a_time_exclude_each_other() -> None:
    """--days N is N times 24 hours before now; neither means everything; both is an error."""
    assert pack_time(days=None, to=None) == MAX_ID
    assert pack_time(days=None, to=7) == 7
    now = parse_time("2026-05-17T14:30:00Z")
    from zodbsh.times import tid_time

    assert pack_time(days=3, to=None, now=tid_time(now)) >> 32 == parse_time("2026-05-14T14:30:00Z") >> 32
    assert pack_time(days=10**9, to=None) == 0
    with pytest.raises(UsageError):
        pack_time(days=1, to=7)


def test_an_index_under_a_links_name_goes(shop: Path, tmp_path: Path) -> None:
    """ZODB keeps the index beside the name that it was given, and would believe one of the file before."""
    link = tmp_path / "elsewhere" / "Data.fs"
    link.parent.mkdir()
    link.symlink_to(shop)
    FileStorage(str(link)).close()
    assert Path(f"{link}.index").exists()
    pack(parse_spec(str(link)))
    assert not Path(f"{link}.index").exists()


@pytest.mark.parametrize("at", ["now", "before"])
def test_a_record_under_a_wrong_oid_is_damage(tmp_path: Path, at: str) -> None:
    """The pointer to the object's record before contradicts it; a pack would make that anew, and lose a state."""
    path = tmp_path / "d.fs"
    db = ZODB.DB(str(path))
    for number in range(3):
        with db.transaction() as connection:
            connection.root().setdefault("a", PersistentMapping())["n"] = number
    db.close()
    source = FileSource(str(path))
    place = next(iter(source.history(1))).position
    source.close()
    content = bytearray(path.read_bytes())
    content[place + 6] ^= 2
    path.write_bytes(content)
    Path(f"{path}.index").unlink()
    for collect in (True, False):
        with pytest.raises(DamagedDatabase, match="there is no record of this object"):
            pack(parse_spec(str(path)), tid=MAX_ID if at == "now" else tids(path)[1], collect=collect)
    assert path.read_bytes() == content
    with pytest.raises(DamagedDatabase):
        SoundFileStorage(str(path))


@pytest.mark.parametrize("gc", [True, False])
@pytest.mark.parametrize("same", [True, False])
def test_two_records_of_an_object_in_one_transaction(tmp_path: Path, gc: bool, same: bool) -> None:
    """ZODB's own undo of several transactions writes them; the last one counts, before the pack time and after it."""
    path = tmp_path / "d.fs"
    storage = FileStorage(str(path))
    db = ZODB.DB(storage)
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping(n=0)
        connection.root()["b"] = PersistentMapping(n=0)
    data, serial = storage.load(p64(1))
    other = data.replace(b"K\x00", b"K\x01")
    assert other != data
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    storage.store(p64(1), serial, data if same else other, "", meta)
    storage.store(p64(1), serial, data, "", meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    with db.transaction() as connection:
        connection.root()["b"]["n"] = 1
    db.close()
    for tid in (tids(path)[1], MAX_ID):
        assert pack(parse_spec(str(path)), tid=tid, collect=gc).findings == ()
        with closing(FileStorage(str(path), read_only=True)) as again:
            assert again.load(p64(1))[0] == data


HOLDER = """
import sys
from ZODB.FileStorage import FileStorage
storage = FileStorage(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has a file open")
def test_a_file_in_use_under_another_name_is_not_replaced(shop: Path, tmp_path: Path) -> None:
    """A server that opened it through a link holds a lock of that name only; its commits would go to the old file."""
    link = tmp_path / "elsewhere" / "Data.fs"
    link.parent.mkdir()
    link.symlink_to(shop)
    before = shop.read_bytes()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(link)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DatabaseLocked, match=f"open for writing under another name in process {holder.pid}"):
            pack(parse_spec(str(shop)))
        with pytest.raises(DatabaseLocked):
            SoundFileStorage(str(shop))
        holder.stdin.close()
        holder.wait()
    assert shop.read_bytes() == before
    assert pack(parse_spec(str(shop))).changed


def test_a_lock_under_the_files_own_name_names_its_holder(shop: Path, tmp_path: Path) -> None:
    """By whichever name one comes: the error tells who holds it, not that it is ourselves."""
    link = tmp_path / "elsewhere" / "Data.fs"
    link.parent.mkdir()
    link.symlink_to(shop)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(shop)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DatabaseLocked, match=f"locked by process {holder.pid}"):
            SoundFileStorage(str(link))
        holder.stdin.close()
        holder.wait()


def test_blobs_beside_the_file_are_found_through_a_link(tmp_path: Path) -> None:
    """A link that has no folder of blobs beside it: the file's own."""
    path, link = tmp_path / "b.fs", tmp_path / "elsewhere" / "Data.fs"
    db = ZODB.DB(FileStorage(str(path), blob_dir=f"{path}.blobs"))
    for text in (b"1", b"22"):
        with db.transaction() as connection:
            connection.root()["blob"] = Blob(text)
    db.close()
    link.parent.mkdir()
    link.symlink_to(path)
    source = FileSource(str(link))
    assert source.blob_folder() == (f"{os.path.realpath(path)}.blobs", "bushy")
    source.close()
    result = pack(parse_spec(str(link)))
    assert (result.blobs_removed, result.blobs_stay) == (1, False)
