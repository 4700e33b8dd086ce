"""verify of a folder of backups finds whatever is missing, changed or too much; list shows what there is."""

import os
import shutil
from pathlib import Path

import pytest
from ZODB.scripts import repozo

from zodbsh.filestorage.repository import BackupNotFound
from zodbsh.ops.backups.check import check_backups
from zodbsh.ops.backups.listing import list_backups
from zodbsh.ops.backups.lock import folder_lock


@pytest.fixture
def backups(sample):
    """Two full backups with an increment each, plain and compressed, with blobs."""
    sample.backup(copy_blobs=True)
    sample.change()
    sample.backup(compress=True, copy_blobs=True)
    sample.change()
    sample.backup(full=True, compress=True, copy_blobs=True)
    sample.change()
    sample.backup(copy_blobs=True)
    return Path(sample.backups)


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".zodbsh-backup.lock")


def kinds(folder):
    return sorted({finding.kind for finding in check_backups(str(folder)).findings})


def test_sound(backups):
    """Everything is read, nothing is found."""
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files(backups)}
    result = check_backups(str(backups))
    assert result.ok, result.findings
    assert (result.steps, result.blobs) == (4, 4)
    assert result.bytes == sum(step.end for step in list_backups(str(backups)) if step.step.startswith("2")) - sum(
        step.end for step in list_backups(str(backups)) if step.kind == "full"
    )
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files(backups)} == before


def test_every_file_is_missed(backups, tmp_path):
    """Whichever file goes, it is noticed."""
    stems = [step.stamp for step in list_backups(str(backups))]
    last = {stems[1] + ".index", stems[3] + ".index"}
    for path in files(backups):
        aside = tmp_path / "aside"
        path.rename(aside)
        result = check_backups(str(backups))
        if path.name == ".layout":
            assert [finding.kind for finding in result.findings] == ["changed"]
        elif path.suffix == ".manifest" and path.stem + ".index" in last:
            # The last step of a chain without its manifest is one of repozo's.
            assert "have no manifest" in result.not_checked[0]
        else:
            assert {finding.kind for finding in result.findings} & {"missing", "extra"}, path
        aside.rename(path)
    assert kinds(backups) == []


def test_every_change_is_found(backups):
    """A flipped bit at the beginning, in the middle and at the end of every file; a cut; a byte too many."""
    for path in files(backups):
        if path.name == ".layout":
            continue
        content = path.read_bytes()
        os.chmod(path, 0o600)
        places = {0, len(content) // 3, len(content) // 2, len(content) - 1}
        if path.suffix == ".dat":
            # The name of a folder says nothing; sizes and sums do.
            places = {len(content) - 40 + place % 40 for place in places}
        for place in places:
            path.write_bytes(content[:place] + bytes((content[place] ^ 1,)) + content[place + 1 :])
            assert kinds(backups), (path, place)
        path.write_bytes(content[:-1])
        assert kinds(backups), path
        path.write_bytes(content + b"x")
        assert kinds(backups), path
        path.write_bytes(content)
    assert kinds(backups) == []


def test_what_has_no_business_there(backups):
    """Other files, steps that nobody wrote down, blobs that no manifest names, leftovers."""
    blob = next(backups.rglob("*.blob"))
    for name in (
        "Data.fs", "2020-01-01-00-00-00.index", "2020-01-01-00-00-00.dat", "tmp.tmp",
        ".2026-05-17-14-30-00.fs.00112233445566778899aabbccddeeff.new", str(blob.with_name("0x0123456789abcdef.blob")),
    ):  # fmt: skip
        path = backups / name
        path.write_bytes(b"x")
        assert kinds(backups) == ["extra"], name
        path.unlink()
    shutil.copy(next(backups.glob("*.fs")), backups / "2999-01-01-00-00-00.fs")
    assert kinds(backups) == ["extra", "missing"]


def test_an_increment_without_a_full_backup(backups):
    """It is named; the chains that are whole are looked at."""
    first = min(backups.glob("*.fs"))
    first.unlink()
    assert "missing" in kinds(backups)


def test_a_repeated_increment(backups):
    """A copy of an increment repeats what is there: repozo would put it twice into what it restores."""
    last = max(backups.glob("*.deltafs"))
    shutil.copy(last, backups / "2999-01-01-00-00-00.deltafs")
    assert kinds(backups) == ["changed", "extra"]


def test_repozos(sample, tmp_path):
    """Its files are compared with the MD5 of its `.dat`."""
    folder = tmp_path / "repozo"
    folder.mkdir()
    repozo.main(["-B", "-z", "-r", str(folder), "-f", sample.path])
    result = check_backups(str(folder))
    assert result.ok
    assert "no manifest" in result.not_checked[0]
    path = next(folder.glob("*.fsz"))
    content = path.read_bytes()
    path.write_bytes(content[:-30] + b"x" + content[-29:])
    assert kinds(folder) == ["changed"]
    next(folder.glob("*.dat")).unlink()
    path.write_bytes(content)
    assert kinds(folder) == ["extra", "missing"]


def test_beside_a_running_backup(backups):
    """What is being written is left out, and that is said."""
    (backups / ".2026-05-17-14-30-00.fs.00112233445566778899aabbccddeeff.new").write_bytes(b"x")
    with folder_lock(str(backups)):
        result = check_backups(str(backups))
    assert result.ok
    assert "what a backup is writing now" in result.not_checked


def test_nothing_there(tmp_path):
    """No folder and an empty one are told apart from a sound one."""
    with pytest.raises(BackupNotFound):
        check_backups(str(tmp_path / "no"))
    with pytest.raises(BackupNotFound):
        check_backups(str(tmp_path))
    assert list_backups(str(tmp_path)) == ()


def test_list(backups, sample):
    """Kind, size, last transaction and blobs of each step, oldest first; damage that shows at a look."""
    found = list_backups(str(backups))
    assert [(step.kind, step.compressed, step.blobs, step.trouble) for step in found] == [
        ("full", False, 1, ""), ("increment", True, 1, ""), ("full", True, 3, ""), ("increment", False, 1, ""),
    ]  # fmt: skip
    assert found[-1].end == len(sample.content())
    for path in backups.glob("*.manifest"):
        path.unlink()
    bare = list_backups(str(backups))
    assert [step.end for step in bare] == [step.end for step in found]
    assert [step.last_tid for step in bare] == [found[0].last_tid, None, None, found[3].last_tid]
    os.truncate(backups / found[3].step, 10)
    max(backups.glob("*.dat")).unlink()
    assert "neither a manifest" in list_backups(str(backups))[3].trouble
