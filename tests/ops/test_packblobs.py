"""The blob files of what a pack removes: they go, and nothing else, whenever it is killed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import ZODB
from persistent.mapping import PersistentMapping
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage
from ZODB.utils import u64

from zodbsh.db.spec import parse_spec
from zodbsh.errors import StorageIOError
from zodbsh.ids import tid_text
from zodbsh.ops.packing import blobs as packblobs
from zodbsh.ops.packing import file as packfile
from zodbsh.ops.packing.pack import pack
from zodbsh.ops.packing.result import PackResult
from zodbsh.ops.verify import verify
from zodbsh.publish import OutcomeUnknown
from zodbsh.source.file import FileSource


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with a blob of two revisions, one that is garbage, and one that is undone."""
    path = tmp_path / "my.fs"
    db = ZODB.DB(FileStorage(str(path), blob_dir=f"{path}.blobs"))
    for text in (b"first", b"second"):
        with db.transaction() as connection:
            blob = connection.root().setdefault("kept", Blob())
            with blob.open("w") as file:
                file.write(text)
    with db.transaction() as connection:
        connection.root()["gone"] = Blob(b"garbage")
        connection.root()["folder"] = PersistentMapping(inner=Blob(b"inner"))
    with db.transaction() as connection:
        del connection.root()["gone"]
    db.close()
    return path


def blobs(folder: Path | str) -> list[bytes]:
    return sorted(file.read_bytes() for file in Path(folder).rglob("*.blob"))


def packed(path: Path, **options: bool) -> PackResult:
    return pack(parse_spec(str(path)), **options)


def findings(path: Path) -> list[str]:
    source = FileSource(str(path), unchecked=True)
    try:
        return [finding.kind for finding in verify(source).findings]
    finally:
        source.close()


def test_what_goes_and_what_is_kept_as_old(path: Path) -> None:
    """Files of removed revisions go; ``blobs.old`` has all that ``.old`` needs; nothing is left that says otherwise."""
    result = packed(path)
    assert (result.blobs_removed, result.blob_bytes_removed, result.trouble) == (2, 12, None)
    assert result.old_blobs == f"{path}.blobs.old"
    assert blobs(f"{path}.blobs") == [b"inner", b"second"]
    assert blobs(f"{path}.blobs.old") == [b"first", b"garbage", b"inner", b"second"]
    assert (Path(f"{path}.blobs") / ".layout").read_bytes() == (Path(f"{path}.blobs.old") / ".layout").read_bytes()
    assert not Path(f"{path}{packblobs.JOURNAL}").exists()
    assert findings(path) == []
    os.rename(f"{path}.old", path.parent / "before.fs")
    os.rename(f"{path}.blobs.old", path.parent / "before.fs.blobs")
    assert findings(path.parent / "before.fs") == []


def test_without_old_no_folder_is_kept(path: Path) -> None:
    """``--no-old`` concerns the blobs, too."""
    packed(path, keep_old=False)
    assert blobs(f"{path}.blobs") == [b"inner", b"second"]
    assert not Path(f"{path}.blobs.old").exists()


def test_a_second_pack_replaces_the_old_folder(path: Path) -> None:
    """``blobs.old`` belongs to the ``.old`` beside it."""
    packed(path)
    db = ZODB.DB(FileStorage(str(path), blob_dir=f"{path}.blobs"))
    with db.transaction() as connection, connection.root()["kept"].open("w") as file:
        file.write(b"third")
    db.close()
    packed(path)
    assert blobs(f"{path}.blobs") == [b"inner", b"third"]
    assert blobs(f"{path}.blobs.old") == [b"inner", b"second", b"third"]


def test_files_that_no_revision_has_stay(path: Path) -> None:
    """They may belong to another database whose folder was given by mistake."""
    stray = Path(f"{path}.blobs") / "0x00/0x00/0x00/0x00/0x00/0x00/0x07/0x07" / f"0x{tid_text(1)}.blob"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"stray")
    packed(path)
    assert b"stray" in blobs(f"{path}.blobs")


def test_a_later_revision_of_what_was_garbage_keeps_its_file(tmp_path: Path) -> None:
    """At the pack time nothing led to the blob; then it was written anew and linked again. ZODB's pack removes both."""
    path = tmp_path / "my.fs"
    db = ZODB.DB(FileStorage(str(path), blob_dir=f"{path}.blobs"))
    with db.transaction() as connection:
        blob = connection.root()["blob"] = Blob(b"first")
    oid = blob._p_oid
    with db.transaction() as connection:
        del connection.root()["blob"]
    tid = u64(db.lastTransaction())
    with db.transaction() as connection:
        blob = connection.root()["again"] = connection.get(oid)
        with blob.open("w") as file:
            file.write(b"anew")
    db.close()
    result = pack(parse_spec(str(path)), tid=tid)
    assert (result.changed, blobs(f"{path}.blobs")) == (True, [b"anew", b"first"])
    assert findings(path) == []


@pytest.mark.parametrize("moment", ["before", "after", "between"])
def test_a_pack_that_is_killed_is_finished_by_the_next(
    path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Whatever it had written down: files that the database still needs stay, the others go then."""

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    if moment == "before":
        monkeypatch.setattr(packfile, "drop_indexes", killed)
        monkeypatch.setattr(packblobs, "take_back", lambda _: None)
    elif moment == "after":
        monkeypatch.setattr(packblobs, "carry_out", killed)
    else:
        monkeypatch.setattr(packblobs, "_remove_empty", killed)
    with pytest.raises(KeyboardInterrupt):
        packed(path)
    assert Path(f"{path}{packblobs.JOURNAL}").exists()
    left = [b"garbage", b"inner", b"second"] if moment == "between" else [b"first", b"garbage", b"inner", b"second"]
    assert blobs(f"{path}.blobs") == left
    assert [kind for kind in findings(path) if kind != "blob-orphaned"] == []
    monkeypatch.undo()
    packed(path)
    assert blobs(f"{path}.blobs") == [b"inner", b"second"]
    assert blobs(f"{path}.blobs.old") == [b"first", b"garbage", b"inner", b"second"]
    assert not Path(f"{path}{packblobs.JOURNAL}").exists()
    assert findings(path) == []


def test_a_list_cut_short_is_no_list(path: Path) -> None:
    """Half a list removes nothing; it is gone afterwards."""
    Path(f"{path}{packblobs.JOURNAL}").write_text("zodbsh: blob files of what a pack removed\n0x01 ")
    packed(path)
    assert blobs(f"{path}.blobs") == [b"inner", b"second"]
    assert not Path(f"{path}{packblobs.JOURNAL}").exists()


def test_a_blob_that_stays_and_cannot_be_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named as what failed, not as one that was removed; none went, and the next pack removes them."""
    (kept,) = [str(file) for file in Path(f"{path}.blobs").rglob("*.blob") if file.read_bytes() == b"second"]
    link = packblobs.link_or_copy

    def refuse(source: str, target: str) -> bool:
        if source == kept:
            raise PermissionError(13, "Permission denied", source)
        return link(source, target)

    monkeypatch.setattr(packblobs, "link_or_copy", refuse)
    result = packed(path)
    monkeypatch.undo()
    assert result.trouble == (
        "2 blob files of what was removed are still there, because something failed: "
        f"{kept}: Permission denied; once that is mended, the next pack removes them"
    )
    assert (result.blobs_removed, result.blob_bytes_removed, result.old_blobs) == (0, 0, None)
    packed(path)
    assert blobs(f"{path}.blobs") == [b"inner", b"second"]


@pytest.mark.parametrize("call", range(1, 12))
def test_a_disk_that_fails_leaves_no_list_behind(path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """At whatever sync it fails: where nothing was packed nothing is left over; else the next pack has the list."""
    before, calls, sync = path.read_bytes(), [], os.fsync

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == call:
            raise OSError(5, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    try:
        result = packed(path)
    except (StorageIOError, OutcomeUnknown):
        result = None
    monkeypatch.undo()
    if path.read_bytes() == before:
        assert result is None
        assert not Path(f"{path}{packblobs.JOURNAL}").exists()
        assert [name for name in os.listdir(path.parent) if name.endswith(".new")] == []
    packed(path)
    assert blobs(f"{path}.blobs") == [b"inner", b"second"]
    assert findings(path) == []
