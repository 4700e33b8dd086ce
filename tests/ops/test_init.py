"""Creating a database."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from pathlib import Path

import pytest
import ZODB
import ZODB.blob
import ZODB.FileStorage

import zodbsh.ops.init as module
from zodbsh.db.create import RootEntryFailed
from zodbsh.db.imports import ModuleFailed
from zodbsh.errors import DatabaseNotFound, StorageIOError, UsageError
from zodbsh.ops.init import init, parse_roots
from zodbsh.publish import AlreadyExists


def listing(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def read(path: Path, blob_dir: str | None = None):
    """Return what plain ZODB finds in a database: class names by root key."""
    database = ZODB.DB(ZODB.FileStorage.FileStorage(str(path), blob_dir=blob_dir))
    try:
        connection = database.open()
        found = {key: type(value).__name__ for key, value in connection.root().items()}
        connection.close()
        return found
    finally:
        database.close()


def test_an_empty_database_is_one_file_that_zodb_reads(tmp_path):
    """No lock, index or temporary file stays beside it."""
    result = init(str(tmp_path / "a.fs"))
    assert listing(tmp_path) == ["a.fs"]
    assert result.root == ()
    assert result.bytes == (tmp_path / "a.fs").stat().st_size
    assert read(tmp_path / "a.fs") == {}


def test_root_entries_are_made_by_their_classes(tmp_path, monkeypatch):
    """Modules come from the folders of -p, the current folder, and what is installed."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "shop_a.py").write_text("import persistent\nclass Shop(persistent.Persistent): pass\n")
    (tmp_path / "shop_b.py").write_text("def options(): return {'a': 1}\n")
    monkeypatch.chdir(tmp_path)
    roots = {"shop": "shop_a.Shop", "options": "shop_b.options", "tree": "BTrees.OOBTree.OOBTree"}
    result = init("a.fs", roots=roots, import_paths=["src"])
    assert [(entry.key, entry.class_, entry.oid) for entry in result.root] == [
        ("shop", "shop_a.Shop", 1),
        ("options", "shop_b.options", None),
        ("tree", "BTrees.OOBTree.OOBTree", 2),
    ]
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    assert read(tmp_path / "a.fs") == {"shop": "Shop", "options": "dict", "tree": "OOBTree"}


def test_blobs_get_their_folder(tmp_path):
    """A blob in the root is there when plain ZODB opens file and folder together."""
    blobs = str(tmp_path / "blobs")
    init(str(tmp_path / "a.fs"), roots={"picture": "ZODB.blob.Blob"}, blobs=blobs)
    assert listing(tmp_path) == ["a.fs", "blobs"]
    assert (tmp_path / "blobs" / ".layout").read_text() == "bushy"
    assert read(tmp_path / "a.fs", blobs) == {"picture": "Blob"}


@pytest.mark.parametrize("kind", ["file", "empty file", "folder", "link", "dangling link"])
def test_what_exists_is_left_alone(tmp_path, kind):
    """Anything under the name is refused, a dangling link too."""
    path = tmp_path / "a.fs"
    if kind.endswith("file"):
        path.write_bytes(b"" if kind == "empty file" else b"old")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "target")
        if kind == "link":
            (tmp_path / "target").write_bytes(b"old")
    before = listing(tmp_path)
    with pytest.raises(AlreadyExists):
        init(str(path))
    assert listing(tmp_path) == before


@pytest.mark.parametrize("suffix", [".index", ".old", ".pack", ".stage"])
def test_remains_of_another_database_are_refused(tmp_path, suffix):
    """They would be read as the new database's, or be destroyed by its first pack."""
    (tmp_path / f"a.fs{suffix}").write_bytes(b"x")
    with pytest.raises(AlreadyExists, match="left over"):
        init(str(tmp_path / "a.fs"))
    assert listing(tmp_path) == [f"a.fs{suffix}"]


def test_a_stale_lock_file_is_no_obstacle_but_a_link_is(tmp_path):
    """ZODB leaves lock files behind; it would write through a link."""
    (tmp_path / "a.fs.lock").write_text(" 1\n")
    init(str(tmp_path / "a.fs"))
    (tmp_path / "b.fs.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(AlreadyExists):
        init(str(tmp_path / "b.fs"))


def test_a_blob_folder_with_something_in_it_is_refused(tmp_path):
    """Blobs of another database are neither mixed in nor removed."""
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / "x").write_bytes(b"x")
    with pytest.raises(AlreadyExists):
        init(str(tmp_path / "a.fs"), blobs=str(tmp_path / "blobs"))
    assert listing(tmp_path) == ["blobs"]


@pytest.mark.parametrize(
    ("dotted", "error", "message"),
    [
        ("no_such_module_x.X", ModuleFailed, "cannot import 'no_such_module_x'"),
        ("collections.NoSuchClass", ModuleFailed, "no class 'NoSuchClass'"),
        ("Account", UsageError, "not a class"),
        ("fractions.Fraction.from_float", ModuleFailed, "cannot import"),
        ("decimal.setcontext", RootEntryFailed, "TypeError"),
        ("threading.Lock", RootEntryFailed, "pickle"),
    ],
)
def test_a_class_that_cannot_be_made_or_stored_leaves_nothing(tmp_path, dotted, error, message):
    """User code that fails at import, at the call or at the commit: no file appears."""
    with pytest.raises(error, match=message):
        init(str(tmp_path / "a.fs"), roots={"x": dotted}, blobs=str(tmp_path / "blobs"))
    assert listing(tmp_path) == []


def test_no_folder_no_database(tmp_path):
    """Folders are not made on the way."""
    with pytest.raises(DatabaseNotFound, match="no folder"):
        init(str(tmp_path / "no" / "a.fs"))
    assert listing(tmp_path) == []


@pytest.mark.parametrize("step", ["copy", "verify", "publish"])
def test_a_failing_disk_leaves_nothing(tmp_path, monkeypatch, step):
    """Neither the file nor the blob folder nor a temporary one, wherever the disk is full."""

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, {"copy": "_copy", "verify": "_verify", "publish": "publish"}[step], fail)
    with pytest.raises(OSError, match="No space"):
        init(str(tmp_path / "a.fs"), blobs=str(tmp_path / "blobs"))
    assert listing(tmp_path) == []


def test_an_empty_blob_folder_survives_a_failure(tmp_path, monkeypatch):
    """What the user made stays."""
    (tmp_path / "blobs").mkdir()

    def fail(*args, **kwargs):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(module, "publish", fail)
    with pytest.raises(OSError, match="error"):
        init(str(tmp_path / "a.fs"), blobs=str(tmp_path / "blobs"))
    assert listing(tmp_path) == ["blobs"]
    assert listing(tmp_path / "blobs") == []


def test_a_file_that_does_not_read_back_is_not_published(tmp_path, monkeypatch):
    """A byte that changed on its way to the disk is found before the name is given."""

    def flipped(content, file):
        data = bytearray(content.read())
        data[20] ^= 0x40
        file.write(data)

    monkeypatch.setattr(module, "_copy", flipped)
    with pytest.raises(StorageIOError, match="did not reach the disk"):
        init(str(tmp_path / "a.fs"))
    assert listing(tmp_path) == []


def test_root_entries_as_text():
    """NAME=module.Class, each name once."""
    assert parse_roots(["a=m.A", "b=m.n.B"]) == {"a": "m.A", "b": "m.n.B"}
    for texts in (["a"], ["=m.A"], ["a="], ["a=m.A", "a=m.B"]):
        with pytest.raises(UsageError):
            parse_roots(texts)


@pytest.mark.parametrize("text", ["zeo://localhost:9100", "zeo://", "file:///srv/new.fs", ":memory:"])
def test_an_address_is_no_path(text):
    """Said so, instead of a folder of that name being missed."""
    with pytest.raises(UsageError, match="init creates a FileStorage"):
        init(text)


def test_the_systems_errors_name_what_the_user_named(tmp_path, monkeypatch):
    """Not the temporary file, nor none at all where ZODB's write fails."""
    path, blobs = str(tmp_path / "new.fs"), str(tmp_path / "blobs")

    def refuse(name, *_):
        raise PermissionError(errno.EACCES, "Permission denied", name)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    def failed(blobs=None):
        with pytest.raises(OSError, match=r"Permission denied|No space left") as caught:
            init(path, blobs=blobs)
        return caught.value.filename

    with monkeypatch.context() as patch:
        patch.setattr("os.mkdir", refuse)
        assert failed() == path
        patch.setattr(module, "scratch_folder", nullcontext)
        assert failed(blobs) == blobs
        patch.setattr("zodbsh.db.create.create_filestorage", full)
        assert failed() == path
    assert os.listdir(tmp_path) == []


def test_after_a_kill_with_the_blob_folder_made_it_works(tmp_path):
    """The blob folder has its name before the database has: it is this database's, and empty of blobs."""
    path, blobs = tmp_path / "a.fs", tmp_path / "a.fs.blobs"
    (blobs / "tmp").mkdir(parents=True)
    (blobs / ".layout").write_text("bushy")
    init(str(path), blobs=str(blobs))
    assert read(path, blobs) == {}
    path.unlink()
    (blobs / "0x00").mkdir()
    with pytest.raises(AlreadyExists):
        init(str(path), blobs=str(blobs))
