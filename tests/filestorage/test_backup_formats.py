"""The files of a folder of backups: what is read back is what was written, and nothing hostile is believed."""

import gzip
import os
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest
import ZODB
import ZODB.FileStorage
from persistent.mapping import PersistentMapping

from zodbsh.errors import StorageIOError
from zodbsh.filestorage.backupmanifest import (
    CHUNK,
    BackupManifest,
    Blob,
    manifest_bytes,
    manifest_name,
    read_backup_manifest,
)
from zodbsh.filestorage.parts import check_part, read_part
from zodbsh.filestorage.repository import (
    BackupDamaged,
    BackupNotFound,
    Line,
    dat_bytes,
    parse_step,
    read_folder,
    stamp_after,
)
from zodbsh.filestorage.stream import TransactionStream
from zodbsh.filestorage.structs import NUMBER, TRANSACTION_HEADER

STEP = parse_step("2026-05-17-14-30-00.deltafsz")


def manifest(**fields):
    known = BackupManifest(
        step=STEP.name, full="2026-05-17-14-00-00.fs", start=10, end=10 + CHUNK + 1, size=77, first_tid=1, last_tid=3,
        packed_tid=2, transactions=5, md5="0" * 32, chunks=("a" * 64, "b" * 64), index_sha256="c" * 64,
        blobs=(Blob(42, 3, 1000, "d" * 64),), missing=((43, 2),), previous=("2026-05-17-14-00-00.fs",),
    )  # fmt: skip
    return known._replace(**fields)


def test_a_manifest_is_read_back(tmp_path):
    """Every field comes back; a step without one has none."""
    assert read_backup_manifest(str(tmp_path), STEP) is None
    (tmp_path / manifest_name(STEP)).write_bytes(manifest_bytes(manifest()))
    assert read_backup_manifest(str(tmp_path), STEP) == manifest()


def test_no_damaged_manifest_is_believed(tmp_path):
    """Whichever byte is changed, cut or added."""
    path = tmp_path / manifest_name(STEP)
    raw = manifest_bytes(manifest())
    for place in range(len(raw)):
        for spoiled in (raw[:place], raw[:place] + bytes((raw[place] ^ 1,)) + raw[place + 1 :]):
            path.write_bytes(spoiled)
            with pytest.raises(BackupDamaged):
                read_backup_manifest(str(tmp_path), STEP)


@pytest.mark.parametrize(
    "fields",
    [
        {"end": 1 << 70}, {"end": 0}, {"size": -1}, {"chunks": ()}, {"md5": "x" * 32}, {"step": "../../etc/passwd"},
        {"full": "x"}, {"blobs": (Blob(-1, 3, 1000, "d" * 64),)}, {"transactions": True}, {"index_sha256": None},
    ],
)  # fmt: skip
def test_numbers_and_names_are_checked(tmp_path, fields):
    """A manifest whose checksum fits may be hostile all the same."""
    (tmp_path / manifest_name(STEP)).write_bytes(manifest_bytes(manifest(**fields)))
    with pytest.raises(BackupDamaged):
        read_backup_manifest(str(tmp_path), STEP)


def test_a_fifo_is_not_waited_for(tmp_path):
    """Not as a manifest, not as a `.dat`, not as data."""
    os.mkfifo(tmp_path / manifest_name(STEP))
    with pytest.raises(StorageIOError, match="no regular file"):
        read_backup_manifest(str(tmp_path), STEP)
    for name in ("2026-05-17-14-00-00.fs", "2026-05-17-14-00-00.dat"):
        os.mkfifo(tmp_path / name)
    (chain,) = read_folder(str(tmp_path)).chains
    assert "regular" in chain.trouble
    with pytest.raises(BackupDamaged):
        list(read_part(str(tmp_path / "2026-05-17-14-00-00.fs"), compressed=False))


def test_a_folder(tmp_path):
    """Steps by chain, in the order of their names; everything else by what it is."""
    for name in (
        "2026-01-01-00-00-00.deltafs", "2026-01-02-00-00-00.fs", "2026-01-03-00-00-00.deltafsz",
        "2026-01-04-00-00-00.fsz", "2026-01-02-00-00-00.dat", "2026-01-02-00-00-00.index", "notes.txt", "tmp.tmp",
        ".2026-05-17-14-30-00.fs.00112233445566778899aabbccddeeff.new", "blobs", ".zodbsh-backup.lock",
    ):  # fmt: skip
        (tmp_path / name).touch()
    folder = read_folder(str(tmp_path))
    assert [[step.name[:10] for step in chain.steps] for chain in folder.chains] == [
        ["2026-01-02", "2026-01-03"], ["2026-01-04"],
    ]  # fmt: skip
    assert [step.name for step in folder.lost] == ["2026-01-01-00-00-00.deltafs"]
    assert len(folder.leftovers) == 2
    assert folder.foreign == ("notes.txt",)
    assert folder.newest == "2026-01-04-00-00-00"
    with pytest.raises(BackupNotFound):
        read_folder(str(tmp_path / "no"))


def test_dat_lines(tmp_path):
    """A path with spaces is read (repozo writes it), but not written: repozo could not read it."""
    (tmp_path / "2026-01-02-00-00-00.fs").touch()
    (tmp_path / "2026-01-02-00-00-00.dat").write_text(f"/my own/2026-01-02-00-00-00.fs 0 10 {'0' * 32}\nnonsense\n")
    (chain,) = read_folder(str(tmp_path)).chains
    line = Line("2026-01-02-00-00-00.fs", 0, 10, "0" * 32)
    assert chain.lines == {line.name: line}
    assert "line 2" in chain.trouble
    assert dat_bytes("/backups", [line]) == f"/backups/{line.name} 0 10 {'0' * 32}\n".encode()
    assert dat_bytes("/my backups", [line]) == f"{line.name} 0 10 {'0' * 32}\n".encode()


def test_stamps():
    """A name's time is later than all names before it, and is waited for."""
    now = datetime(2026, 5, 17, 14, 30, 0, 700_000, UTC)
    assert stamp_after("", now) == ("2026-05-17-14-30-00", 0)
    assert stamp_after("2026-05-17-14-30-00", now) == ("2026-05-17-14-30-01", 1)
    assert stamp_after("2026-05-17-14-30-01", now) == ("2026-05-17-14-30-02", 2)
    assert stamp_after("9999-99-99-99-99-99", now) == ("2026-05-17-14-30-00", 0)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A database of some transactions, one of them packed, one large, one that points back."""
    path = tmp_path_factory.mktemp("stream") / "Data.fs"
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path)))
    for number in range(6):
        with db.transaction("step") as connection:
            connection.root()[f"n{number}"] = PersistentMapping(text="x" * (50_000 if number == 3 else 10))
        if number == 1:
            db.pack()
    import transaction

    manager = transaction.TransactionManager()
    db.undo(db.undoInfo(0, 1)[0]["id"], manager.get())
    manager.commit()
    db.close()
    return path.read_bytes()


def boundaries(content):
    """Return where each transaction begins, and its tid."""
    position, found = 4, []
    while position < len(content):
        tid, length, *_ = TRANSACTION_HEADER.unpack_from(content, position)
        found.append((position, tid))
        position += length + NUMBER.size
    return found


@pytest.mark.parametrize("piece", [1, 7, 1000, 1 << 20])
def test_a_stream_in_pieces(content, piece):
    """However the bytes come in, the transactions are the same."""
    stream = TransactionStream()
    for place in range(0, len(content), piece):
        stream.feed(content[place : place + piece])
        assert stream.ready <= stream.fed
    stream.close()
    assert stream.damage is None
    tids = [tid for _, tid in boundaries(content)]
    assert (stream.end, stream.transactions) == (len(content), len(tids))
    assert (stream.first_tid, stream.last_tid, stream.packed_tid) == (tids[0], tids[-1], tids[1])


def test_a_stream_stops_at_a_time(content):
    """It ends before the first transaction that is later."""
    for position, tid in boundaries(content)[1:]:
        stream = TransactionStream(until=tid - 1)
        stream.feed(content)
        stream.close()
        assert (stream.end, stream.stopped, stream.damage) == (position, True, None)


def test_a_stream_from_the_middle(content):
    """An increment begins anywhere between two transactions."""
    (position, _), before = boundaries(content)[3], boundaries(content)[2][1]
    stream = TransactionStream(position, before)
    stream.feed(content[position:])
    stream.close()
    assert (stream.end, stream.damage) == (len(content), None)


def test_every_cut_is_noticed(content):
    """A stream ends between transactions or not at all."""
    ends = {position for position, _ in boundaries(content)} | {4}
    rand = random.Random(1)
    for cut in [*range(1, 3_000), *rand.sample(range(3_000, len(content)), 500)]:
        stream = TransactionStream()
        stream.feed(content[:cut])
        stream.close()
        assert (stream.damage is None) == (cut in ends), cut


def test_flips_are_noticed_as_by_the_scan_of_files(content, tmp_path):
    """A stream finds what a walk through a file finds, but for where pointers lead."""
    from zodbsh.filestorage.datafile import DataFile
    from zodbsh.filestorage.framing import scan_file

    rand = random.Random(2)
    path = tmp_path / "flipped.fs"
    for _ in range(300):
        place = rand.randrange(4, len(content)) if rand.random() < 0.5 else rand.randrange(4, 2_000)
        flipped = content[:place] + bytes((content[place] ^ 1 << rand.randrange(8),)) + content[place + 1 :]
        stream = TransactionStream()
        stream.feed(flipped)
        stream.close()
        path.write_bytes(flipped)
        with DataFile(str(path)) as file:
            scan = scan_file(file)
        found = bool(scan.damages) or scan.tail > 0
        if stream.damage is not None:
            assert found, place
        elif found:
            assert all(damage.field == "back-pointer" for damage in scan.damages), (place, scan.damages)


def test_gzip_in_parts(tmp_path):
    """Chunks are whole whatever gzip gives; damage says how far it came."""
    data = random.Random(3).randbytes(CHUNK + 12_345)
    path = tmp_path / "2026-05-17-14-30-00.fsz"
    path.write_bytes(gzip.compress(data, 1))
    assert [len(part) for part in read_part(str(path), compressed=True)] == [CHUNK, 12_345]
    digests = check_part(str(path), compressed=True, chunks=None, md5sum=None, size=None)
    check_part(str(path), compressed=True, chunks=digests.chunks, md5sum=None, size=len(data))
    with pytest.raises(BackupDamaged, match="more than"):
        check_part(str(path), compressed=True, chunks=digests.chunks, md5sum=None, size=100)
    with pytest.raises(BackupDamaged, match=r"bytes 4,194,304 to"):
        check_part(
            str(path), compressed=True, chunks=(digests.chunks[0], "0" * 64), md5sum=None, size=len(data)
        )  # fmt: skip
    for raw in (b"", b"no gzip", path.read_bytes()[:-9], path.read_bytes()[:20]):
        Path(path).write_bytes(raw)
        with pytest.raises(BackupDamaged):
            check_part(str(path), compressed=True, chunks=digests.chunks, md5sum=None, size=len(data))
