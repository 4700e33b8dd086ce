"""Pack: what would go agrees with what ZODB's pack removes; the traps around it; the check after."""

from __future__ import annotations

import errno
import os
import random
import re
import shutil
import stat
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import transaction
import ZEO
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.FileStorage import FileIterator, FileStorage
from ZODB.FileStorage.fspack import FileStoragePacker, PackError
from ZODB.POSException import UndoError
from ZODB.serialize import referencesf
from ZODB.utils import p64, u64

from zodbsh.db import pack as db_pack
from zodbsh.db.locks import DatabaseLocked
from zodbsh.db.spec import parse_spec
from zodbsh.errors import StorageIOError, Unsupported, UsageError
from zodbsh.ids import MAX_ID
from zodbsh.ops.pack import StorageCannotPack, pack, pack_time, preview
from zodbsh.source.file import FileSource
from zodbsh.times import parse_time

Record = tuple[int, int]


def records(path: Path) -> list[Record]:
    """Return (oid, tid) of every record in the file, in order, as ZODB reads them."""
    return [(u64(record.oid), u64(record.tid)) for txn in FileIterator(str(path)) for record in txn]


def tids(path: Path) -> list[int]:
    return [u64(txn.tid) for txn in FileIterator(str(path))]


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


def random_history(path: Path, seed: int, *, packed_before: bool = False) -> None:
    """Write a history of linking, unlinking, changing and undoing."""
    rng = random.Random(seed)
    db = ZODB.DB(str(path))
    connection = db.open()
    root = connection.root()
    known = [root]
    for step in range(rng.randrange(8, 30)):
        deed = rng.random()
        try:
            if deed < 0.2 and step > 2:
                db.undo(rng.choice(db.undoInfo(0, 10))["id"])
            else:
                place = rng.choice(known)
                for key in rng.sample("abcdefgh", rng.randrange(1, 4)):
                    if deed < 0.5:
                        place[key] = PersistentMapping(x="y" * rng.randrange(50))
                        known.append(place[key])
                    elif deed < 0.7:
                        place.pop(key, None)
                    elif deed < 0.8:
                        place[key] = rng.choice(known)
                    else:
                        place["n"] = rng.random()
            transaction.commit()
        except (UndoError, KeyError, IndexError):
            transaction.abort()
        # An object whose creation was undone is no place to go on from.
        known = [obj for obj in known if obj is root or (obj._p_oid is not None and obj._p_jar is connection)]
        known = [obj for obj in known if exists(connection, obj)]
        if packed_before and step == 6:
            with suppress(KeyError):  # the creation of something still referred to was undone
                db.pack()
    connection.close()
    db.close()


def exists(connection, obj) -> bool:
    try:
        connection._storage.load(obj._p_oid)
    except KeyError:
        return False
    return True


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


@pytest.mark.parametrize("gc", [True, False])
@pytest.mark.parametrize("seed", range(15))
def test_what_would_go_is_what_zodb_removes(tmp_path: Path, seed: int, gc: bool) -> None:
    """On random histories, at any pack time, the dry run's figures are those of ZODB's own pack, to the byte."""
    path, copy = tmp_path / "a.fs", tmp_path / "b.fs"
    random_history(path, seed, packed_before=seed % 3 == 0)
    for tid in (*random.Random(seed).choices(tids(path), k=3), tids(path)[-1]):
        for stale in tmp_path.glob("b.fs*"):
            stale.unlink()
        shutil.copy(path, copy)
        before = records(copy)
        source = FileSource(str(copy))
        plan = preview(source, tid=tid, collect=gc)
        objects = source.census().objects
        source.close()
        failure = pack_by_zodb(copy, tid, gc=gc)
        if isinstance(failure, KeyError):
            assert u64(failure.args[0]) in {dangling.target for dangling in plan.findings}
        if failure is not None:
            # Without collection ZODB cannot keep an undo that points before the pack time.
            assert isinstance(failure, KeyError) or not gc
            continue
        assert plan.findings == ()
        gone = Counter(before) - Counter(records(copy))
        after = FileSource(str(copy))
        assert plan.revisions_removed == gone.total() == sum(removal.revisions for removal in plan.classes)
        assert plan.objects_removed == objects - after.census().objects
        after.close()
        assert plan.after is not None
        assert plan.after.bytes == copy.stat().st_size
        assert plan.after.transactions == len(tids(copy))


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


def test_a_dangling_reference_is_named_and_nothing_changes(dangling: Path) -> None:
    """ZODB's bare KeyError becomes an error that names referrer and target; the file is as it was."""
    before = dangling.read_bytes()
    with pytest.raises(db_pack.DanglingReference) as caught:
        pack(parse_spec(str(dangling)))
    assert caught.value.message == (
        "0x00 (persistent.mapping.PersistentMapping) refers to 0x09, which does not exist at the pack time"
    )
    assert dangling.read_bytes() == before
    assert not [name for name in os.listdir(dangling.parent) if name.endswith((".pack", ".old"))]


def test_a_record_that_does_not_decode_is_named_and_nothing_changes(shop: Path) -> None:
    """Its oid, its offset, and what our decoder finds wrong with it."""
    data = shop.read_bytes()
    start = data.index(b"X\x01\x00\x00\x00n", data.index(p64(1)))
    shop.write_bytes(data[:start] + b"\xff" + data[start + 1 :])
    before = shop.read_bytes()
    with pytest.raises(db_pack.PackRefused) as caught:
        pack(parse_spec(str(shop)))
    assert re.fullmatch(
        r"the references of 0x01 \(offset \d+\) cannot be read: "
        r"a record cannot be decoded: byte 0xff is no instruction \(at byte \d+\)",
        caught.value.message,
    )
    assert (caught.value.exit_code, caught.value.hint.split(".")[0]) == (6, "Nothing changed")
    assert shop.read_bytes() == before
    assert not [name for name in os.listdir(shop.parent) if name.endswith((".pack", ".old"))]


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
        (OSError(errno.ENOSPC, "No space left on device"), db_pack.DiskFullError),
        (OSError(errno.EIO, "Input/output error"), StorageIOError),
        (AssertionError(), db_pack.PackRefused),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_pack_that_fails_while_copying_leaves_nothing(
    shop: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, expected: type[BaseException]
) -> None:
    """Whatever stops the copy: the database and an earlier ``.old`` are as they were, and ``.pack`` is gone."""
    Path(f"{shop}.old").write_bytes(b"an earlier copy")
    before = shop.read_bytes()

    def fail(self, *arguments):
        raise failure

    monkeypatch.setattr(FileStoragePacker, "copyDataRecords", fail)
    with pytest.raises(expected):
        pack(parse_spec(str(shop)))
    assert shop.read_bytes() == before
    assert Path(f"{shop}.old").read_bytes() == b"an earlier copy"
    assert not {"shop.fs.pack", "shop.fs.old-before-pack"} & set(os.listdir(shop.parent))
    monkeypatch.undo()
    assert pack(parse_spec(str(shop))).changed


def test_a_failed_second_rename_gives_the_database_its_name_back(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between ZODB's two renames there is no Data.fs; if the second one fails, the first is taken back."""
    before, rename = shop.read_bytes(), os.rename

    def fail(source, target, **options):
        if str(source).endswith(".pack"):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target, **options)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(StorageIOError):
        pack(parse_spec(str(shop)))
    assert shop.read_bytes() == before


def test_too_little_space_is_found_before_anything_is_written(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The free-space check comes first."""
    usage = shutil.disk_usage(shop.parent)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=100))
    before = sorted(os.listdir(shop.parent))
    with pytest.raises(db_pack.DiskFullError):
        pack(parse_spec(str(shop)))
    assert sorted(os.listdir(shop.parent)) == before


def test_python_2_format_is_refused(shop: Path) -> None:
    """ZODB on Python 3 cannot pack FS21; the dry run can say what would go."""
    shop.write_bytes(b"FS21" + shop.read_bytes()[4:])
    Path(f"{shop}.index").unlink()
    with pytest.raises(Unsupported):
        pack(parse_spec(str(shop)))
    source = FileSource(str(shop))
    assert preview(source).revisions_removed == 4
    source.close()


def test_the_new_file_and_its_folder_are_synced(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ZODB syncs nothing; zodbsh syncs the new file before it gets its name, then file, ``.old`` and folder."""
    synced = []
    monkeypatch.setattr(db_pack, "_sync", lambda name: synced.append(os.path.basename(name)))
    pack(parse_spec(str(shop)))
    assert synced == ["shop.fs.pack", "shop.fs", "shop.fs.old", shop.parent.name]


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
