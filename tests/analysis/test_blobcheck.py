"""Every blob has its file, every blob file its record: with blobs that ZODB wrote."""

import os
import shutil

import pytest
import transaction
import ZODB
import ZODB.blob
import ZODB.FileStorage
from ZODB.utils import u64

from zodbsh.analysis import blobcheck
from zodbsh.analysis.blobcheck import check_blobs
from zodbsh.analysis.blobfolder import blob_name
from zodbsh.analysis.graph import ObjectGraph
from zodbsh.errors import StorageIOError
from zodbsh.ids import MAX_ID
from zodbsh.ops.verify import verify
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot


class Database:
    """A file with blobs under 0 to 3 in its root: changed, change undone, untouched, no longer held.

    ``oids`` are theirs, ``undone`` is that of a blob whose creation was undone.
    """

    def __init__(self, folder, layout, kind):
        self.path, self.folder, self.layout, self.kind = folder / "my.fs", folder / "my.fs.blobs", layout, kind
        db = self.open()
        for key in range(4):
            with db.transaction() as connection:
                connection.root()[key] = ZODB.blob.Blob(b"content")
        with db.transaction() as connection:
            self.oids = [u64(connection.root()[key]._p_oid) for key in range(4)]
        self.write(db, 0)
        self.write(db, 1)
        self.undo(db)
        with db.transaction() as connection:
            blob = connection.root()["undone"] = ZODB.blob.Blob(b"content")
            connection.add(blob)
            self.undone = u64(blob._p_oid)
        self.undo(db)
        with db.transaction() as connection:
            del connection.root()[3]
        db.close()

    def open(self):
        if self.kind == "wrapper":
            storage = ZODB.FileStorage.FileStorage(str(self.path))
            return ZODB.DB(ZODB.blob.BlobStorage(str(self.folder), storage, layout=self.layout))
        if self.layout == "lawn" and not self.path.exists():
            # Whoever creates a file with a folder gets a new folder, and that is bushy.
            ZODB.FileStorage.FileStorage(str(self.path)).close()
            self.folder.mkdir()
            (self.folder / ".layout").write_text("lawn")
        return ZODB.DB(ZODB.FileStorage.FileStorage(str(self.path), blob_dir=str(self.folder)))

    def write(self, db, key):
        with db.transaction() as connection, connection.root()[key].open("w") as file:
            file.write(b"more")

    def undo(self, db):
        manager = transaction.TransactionManager()
        db.undo(db.undoInfo(0, 1)[0]["id"], manager.get())
        manager.commit()

    def files(self, oid):
        """An object's blob files, oldest first."""
        return sorted((self.folder / blob_name(self.layout, oid, 1)).parent.glob("*.blob"))

    def look(self, at=MAX_ID, **options):
        source = FileSource(str(self.path), **options)
        try:
            return list(check_blobs(ObjectGraph.read(Snapshot(source, at))))
        finally:
            source.close()

    def kinds(self, **options):
        return [(finding.kind, finding.oid) for finding in self.look(**options)]


@pytest.fixture(params=["bushy", "lawn"])
def layout(request):
    return request.param


@pytest.fixture(params=["own", "wrapper"])
def database(tmp_path, no_fsync, layout, request):
    return Database(tmp_path, layout, request.param)


@pytest.fixture
def one(tmp_path, no_fsync, layout):
    """The database as FileStorage itself keeps blobs today."""
    return Database(tmp_path, layout, "own")


def test_what_zodb_writes_is_right(database):
    """Commits, undone changes and creations, garbage: an undo has a file of its own, under its own tid."""
    assert [len(database.files(oid)) for oid in database.oids] == [2, 3, 1, 1]
    assert database.look() == []


def test_what_zodb_packs_is_right(database):
    """A pack removes the files of what it removes."""
    db = database.open()
    db.pack()
    db.close()
    assert [len(database.files(oid)) for oid in database.oids] == [1, 1, 1, 0]
    assert database.look() == []


def test_an_earlier_time_has_its_own_files(one):
    """The file of the revision that was current then is looked for, and later files are no orphans."""
    source = FileSource(str(one.path))
    first = min(revision.tid for revision in source.history(one.oids[0]))
    source.close()
    assert one.look(at=first) == []
    one.files(one.oids[0])[0].unlink()
    assert [(finding.kind, finding.oid, finding.tid) for finding in one.look(at=first)] == [
        ("blob-missing", one.oids[0], first)
    ]
    assert one.look() == []


def test_a_missing_file_names_the_blob(one):
    """By its path from the root, and the file by its name."""
    oid, file = one.oids[1], one.files(one.oids[1])[-1]
    file.unlink()
    (finding,) = one.look()
    assert finding == ("blob-missing", oid, int(file.stem, 16), None, f"the blob file {file} of root[1] is missing")


def test_the_files_of_older_revisions_are_not_asked_for(one):
    """Whether they can be had again is a question of undo."""
    one.files(one.oids[0])[0].unlink()
    assert one.look() == []


def replaced_by_a_folder(file):
    file.unlink()
    file.mkdir()


def replaced_by_a_fifo(file):
    file.unlink()
    os.mkfifo(file)


def replaced_by_a_loop(file):
    file.unlink()
    file.symlink_to(file.name)


@pytest.mark.parametrize("spoil", [replaced_by_a_folder, replaced_by_a_fifo, replaced_by_a_loop])
def test_what_is_no_file_cannot_be_read(one, spoil):
    """Nothing waits for what never comes."""
    spoil(one.files(one.oids[2])[0])
    assert one.kinds() == [("blob-unreadable", one.oids[2])]


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_file_without_permission_cannot_be_read(one):
    """The system's reason is told."""
    one.files(one.oids[2])[0].chmod(0)
    (finding,) = one.look()
    assert (finding.kind, "Permission denied" in finding.message) == ("blob-unreadable", True)


def test_a_refused_open_cannot_be_read(one, monkeypatch):
    """The system's reason is told, and the check goes on."""
    refused, opened = str(one.files(one.oids[2])[0]), os.open

    def refuse(path, *args, **options):
        if path == refused:
            raise PermissionError(13, "Permission denied")
        return opened(path, *args, **options)

    monkeypatch.setattr("os.open", refuse)
    (finding,) = one.look()
    assert (finding.kind, finding.message[-33:]) == ("blob-unreadable", " cannot be read: Permission denied"[1:])


def test_a_link_that_leads_nowhere_is_missing(one):
    """Its target may be on a disk that is not there."""
    file = one.files(one.oids[2])[0]
    file.unlink()
    file.symlink_to("nowhere")
    (finding,) = one.look()
    assert (finding.kind, finding.message[-28:]) == ("blob-missing", "is a link that leads nowhere")


def test_files_that_belong_to_nothing(one):
    """An object that never was, one that is no blob, a revision that never was."""
    for oid, tid in ((0x7E, 5), (0, 6), (one.oids[2], 7)):
        file = one.folder / blob_name(one.layout, oid, tid)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    found = one.look()
    assert sorted((finding.kind, finding.oid, finding.tid) for finding in found) == sorted(
        [("blob-orphaned", 0x7E, 5), ("blob-orphaned", 0, 6), ("blob-orphaned", one.oids[2], 7)]
    )
    reasons = {finding.oid: finding.message.split(": ", 1)[1] for finding in found}
    assert reasons == {
        0x7E: "there is no such object",
        0: "no revision of the object is of transaction 0000000000000006",
        one.oids[2]: "no revision of the object is of transaction 0000000000000007",
    }


def test_the_file_of_a_record_that_is_no_blob(one):
    """Its transaction exists, but wrote no blob there."""
    source = FileSource(str(one.path))
    tid = source.load(0).tid
    source.close()
    file = one.folder / blob_name(one.layout, 0, tid)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    (finding,) = one.look()
    assert (finding.kind, finding.oid, finding.tid) == ("blob-orphaned", 0, tid)
    assert finding.message.endswith("the object is no blob, but of class persistent.mapping.PersistentMapping")


def test_files_of_transactions_that_were_lost(one, monkeypatch):
    """An older Data.fs beside newer blobs: found, unless they are so young that their commit may be under way."""
    old = one.path.read_bytes()
    db = one.open()
    one.write(db, 2)
    db.close()
    newer = one.files(one.oids[2])[-1]
    one.path.write_bytes(old)
    assert one.look() == []
    monkeypatch.setattr(blobcheck, "_COMMITTING", -60)
    assert one.kinds() == [("blob-orphaned", one.oids[2])]
    assert one.look()[0].message.startswith(f"{newer}: no revision of the object")


def test_what_is_committed_meanwhile_is_no_orphan(one, monkeypatch):
    """The database is looked at again for files that are newer than the snapshot."""
    monkeypatch.setattr(blobcheck, "_COMMITTING", -60)
    source = FileSource(str(one.path))
    graph = ObjectGraph.read(Snapshot(source))
    db = one.open()
    one.write(db, 2)
    with db.transaction() as connection:
        connection.root()["new"] = ZODB.blob.Blob(b"new")
    db.close()
    assert list(check_blobs(graph)) == []
    source.close()


def test_no_folder_is_no_finding(one):
    """Nothing is known to be missing; the option that helps is named."""
    one.folder.rename(one.folder.with_name("elsewhere"))
    source = FileSource(str(one.path), unchecked=True)
    result = verify(source)
    source.close()
    assert result.ok
    assert [line for line in result.not_checked if "--blobs" in line] == [
        "the files of 4 blobs: no folder of blob files is known (--blobs DIR)"
    ]
    assert one.look(blob_dir=str(one.folder.with_name("elsewhere"))) == []


def test_a_folder_without_a_blob_is_one_finding(one):
    """It is the wrong one, mostly."""
    other = one.folder.with_name("other")
    (other / "tmp").mkdir(parents=True)
    (other / ".layout").write_text(one.layout)
    message = f"the database has 4 blobs, but {other} holds no blob file (--blobs DIR)"
    assert one.look(blob_dir=str(other)) == [("blob-missing", None, None, None, message)]


def test_no_blobs_need_no_folder(store):
    """And none of their files is looked for."""
    snapshot = store({"key": "value"})
    assert list(check_blobs(ObjectGraph.read(snapshot))) == []


def test_what_zodb_keeps_for_itself_is_passed_over(one):
    """Markers, locks, files of savepoints and of commits under way, lists of a pack, and what has other names."""
    for name in (".lock", ".removed", "tmp/0x01-0x02.spb", "tmp/savepoints1/0x01.blob", "tmp/BUCabc.blob",
                 "lost+found/x.blob", "README.txt", "0x00.old/0x01.blob"):  # fmt: skip
        (one.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (one.folder / name).touch()
    (one.files(one.oids[0])[0].parent / "0x03abcd.tmp").touch()
    assert one.look() == []


ODD = {
    "bushy": ["0x01.blob", "0x00/0x01.blob", "0x7e/0x03.blob", "0x00/0x00/0x00/0x00/0x00/0x01.blob"],
    "lawn": ["0x01.blob", "0x00/0x00/0x01.blob", "0x0000/0x01.blob"],
}


def test_blob_files_that_zodb_never_finds(one):
    """At a place where the layout has none, or with a name that is not as ZODB writes it."""
    folder = one.files(one.oids[0])[0].parent
    names = [one.folder / name for name in ODD[one.layout]]
    names += [
        folder / name for name in ("x.blob", ".blob", "0x3.blob", "0x0003.blob", "0xAB.blob", f"0x{'1' * 18}.blob")
    ]
    names.append(folder / os.fsdecode(b"0x\xff\x1b.blob"))
    for name in names:
        name.parent.mkdir(parents=True, exist_ok=True)
        name.touch()
    found = one.look()
    assert {finding.kind for finding in found} == {"blob-folder"}
    assert sorted(finding.message.split(" is ")[0] for finding in found) == sorted(map(str, names))


def test_loops_of_links_end(one):
    """A link back into the folder is told, and not followed."""
    for name in ("0x0f", "0x0e"):
        (one.folder / name).symlink_to(one.folder)
    (one.files(one.oids[0])[0].parent.parent / "0x11").symlink_to("..")
    (one.folder / "0x0d").symlink_to("0x0d")
    found = one.look()
    assert [finding.kind for finding in found] == ["blob-folder"] * 3
    assert all(finding.message.endswith(" is a link into a folder that is looked at already") for finding in found)


def test_linked_folders_are_followed(one, tmp_path):
    """A part of the blobs may be on another disk, or all of them."""
    top = next(path for path in one.folder.iterdir() if path.name.startswith("0x"))
    shutil.move(top, tmp_path / "disk")
    top.symlink_to(tmp_path / "disk")
    shutil.move(one.folder, tmp_path / "blobs")
    one.folder.symlink_to(tmp_path / "blobs")
    assert one.look() == []
    file = one.files(one.oids[0])[0].with_name("0x05.blob")
    file.touch()
    assert one.kinds() == [("blob-orphaned", one.oids[0])]


def test_a_folder_that_cannot_be_read_is_told(one, monkeypatch):
    """And the others are looked at."""
    refused, scandir = str(one.files(one.oids[0])[0].parent), os.scandir

    def refuse(path):
        if path == refused:
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    message = f"{refused} cannot be read: Permission denied"
    assert one.look() == [("blob-folder", None, None, None, message)]


@pytest.mark.parametrize(
    ("content", "said"),
    [("zeocache", "says 'zeocache', which is neither bushy nor lawn"), (None, "(.layout) cannot be read")],
)
def test_an_unknown_layout_is_one_finding(one, content, said):
    """Nobody knows where the files would have to be."""
    (one.folder / ".layout").unlink()
    if content is None:
        (one.folder / ".layout").mkdir()
    else:
        (one.folder / ".layout").write_text(content)
    assert one.look() == [("blob-folder", None, None, None, f"{one.folder}: its layout {said}")]


class Elsewhere:
    """Another source: what a storage answers when asked for a blob's file."""

    def __init__(self, source, answers):
        self._source, self._answers = source, answers

    def __getattr__(self, name):
        return getattr(self._source, name)

    def blob_path(self, oid, tid):
        answer = self._answers.get(oid, self._source.path)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_of_other_sources_only_the_presence_is_looked_at(one):
    """A file there, none, and a storage that fails."""
    source = FileSource(str(one.path))
    first, second = one.oids[:2]
    elsewhere = Elsewhere(source, {first: None, second: StorageIOError("the server is gone")})
    found = list(check_blobs(ObjectGraph.read(Snapshot(elsewhere))))
    source.close()
    assert [(finding.kind, finding.oid, finding.message) for finding in found] == [
        ("blob-missing", first, "the blob file of root[0] is missing"),
        ("blob-unreadable", second, "its blob file cannot be had: the server is gone"),
    ]


def test_a_hundred_have_paths(one, monkeypatch):
    """To find paths costs time; the others are named by their oids."""
    monkeypatch.setattr(blobcheck, "_PATHS", 1)
    for oid in one.oids[:2]:
        one.files(oid)[-1].unlink()
    assert [finding.message.split(" of ")[1] for finding in one.look()] == [
        "root[0] is missing", f"0x{one.oids[1]:02x} is missing",
    ]  # fmt: skip
