"""What cannot be opened says why, with the documented exit code, and leaves no trace."""

import os
import subprocess
import sys
import threading
import time

import pytest

from zodbsh.errors import DatabaseNotFound, ExitCode
from zodbsh.filestorage.datafile import AccessDenied, DataFile, EmptyFile, NotFileStorage, read_magic


def opened(path):
    with DataFile(str(path)) as file:
        return read_magic(file)


@pytest.mark.parametrize(
    ("content", "error", "exit_code", "message"),
    [
        (b"", EmptyFile, ExitCode.DAMAGED, "{} is empty"),
        (b"FS", EmptyFile, ExitCode.DAMAGED, "{} has only 2 of a FileStorage's bytes"),
        (b"FS20" + bytes(100), NotFileStorage, ExitCode.UNSUPPORTED, "{} is no FileStorage: it begins with b'FS20'"),
        (b"hi", NotFileStorage, ExitCode.UNSUPPORTED, "{} is no FileStorage: it begins with b'hi'"),
    ],
)
def test_a_file_that_is_no_database_says_so(write, content, error, exit_code, message):
    """Empty and cut files are damaged, other files are something else."""
    path = write(content)
    with pytest.raises(error) as caught:
        opened(path)
    assert (caught.value.message, caught.value.exit_code) == (message.format(path), exit_code)


@pytest.mark.parametrize(("magic", "name"), [(b"FS30", "FS30"), (b"FS21", "FS21")])
def test_both_formats_open(write, magic, name):
    """Python 3's and Python 2's files differ by their first four bytes."""
    assert opened(write(magic))[0] == name


@pytest.mark.parametrize("name", ["missing.fs", "missing/missing.fs", "file/Data.fs", "x" * 300, "nul\0byte"])
def test_a_missing_file_is_not_found(tmp_path, write, name):
    """A path that leads nowhere is exit 3, and nothing appears."""
    write(b"FS30", "file")
    with pytest.raises(DatabaseNotFound) as caught:
        opened(tmp_path / name)
    assert caught.value.exit_code == ExitCode.NOT_FOUND
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_is_not_found(tmp_path):
    """A folder is no database."""
    with pytest.raises(DatabaseNotFound, match="is a folder, not a database"):
        opened(tmp_path)


def test_a_fifo_or_device_is_refused_without_waiting(tmp_path):
    """Nobody writes to the FIFO, and opening it returns all the same."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", "/dev/null"):
        with pytest.raises(NotFileStorage, match="is no regular file"):
            opened(path)


def test_no_permission_is_an_io_error(write):
    """A file that may not be read is exit 7; as root everything may, so the test gives that up in a child."""
    path = write(b"FS30")
    os.chmod(path, 0)
    os.chmod(os.path.dirname(path), 0o755)
    code = (
        "import os, sys\n"
        "from zodbsh.filestorage.datafile import AccessDenied, DataFile\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try: DataFile(sys.argv[1])\n"
        "except AccessDenied as exc: print(exc.exit_code, exc.message)\n"
    )
    folder = os.path.dirname(path)
    while folder != "/":
        if not os.stat(folder).st_mode & 0o001:
            os.chmod(folder, os.stat(folder).st_mode | 0o011)
        folder = os.path.dirname(folder)
    result = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == (f"7 no permission to read {path}\n", "")
    assert AccessDenied.exit_code == ExitCode.IO


def test_the_moment_between_the_renames_of_a_pack_is_waited_for(tmp_path, write):
    """While the name is missing beside a pack's traces, opening waits for it to come back."""
    write(b"FS30", "Data.fs.pack")
    pack = threading.Timer(0.15, os.rename, [tmp_path / "Data.fs.pack", tmp_path / "Data.fs"])
    pack.start()
    assert opened(tmp_path / "Data.fs")[0] == "FS30"
    pack.join()


def test_the_wait_for_a_pack_ends(tmp_path, write):
    """Old traces without a database delay the error by about a second."""
    write(b"", "Data.fs.lock")
    began = time.monotonic()
    with pytest.raises(DatabaseNotFound):
        opened(tmp_path / "Data.fs")
    assert 0.9 < time.monotonic() - began < 5


def test_reads_stop_at_the_files_end(write):
    """A read beyond the end is short, not an error."""
    with DataFile(write(b"FS30abc")) as file:
        assert (file.read(4, 100), file.read(7, 1), file.read(1 << 40, 1), file.limit) == (b"abc", b"", b"", 7)
