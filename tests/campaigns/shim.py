"""Building the shim (shim.c), and talking to the process that runs commands under it (forkserver.py)."""

import json
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENTRY = struct.Struct("=6q")
KINDS = (
    "", "open", "write", "truncate", "rename", "link", "unlink", "mkdir", "rmdir", "fsync", "chmod", "chown", "symlink",
    "times", "out",
)  # fmt: skip


class Result(NamedTuple):
    """How a run ended: ``status`` is the exit status, or minus the signal that killed it."""

    status: int
    out: str
    err: str
    hung: bool
    seconds: float
    calls: int
    fired: int
    refused_removals: int


class Call(NamedTuple):
    """One recorded call that wrote: its names (absolute) or its data."""

    kind: str
    inode: int
    offset: int
    data: bytes
    other: bytes
    flag: int

    @property
    def name(self):
        """The (first) name."""
        return os.fsdecode(self.data)

    def __str__(self):
        names = [os.path.basename(os.fsdecode(raw)) for raw in (self.data, self.other) if raw]
        if self.kind in ("write", "out", "truncate"):
            return f"{self.kind} {len(self.data)} bytes at {self.offset}"
        return f"{self.kind} {' -> '.join(names)}"


def require_shim():
    """Skip where the shim cannot work; a Linux machine without a compiler is told so, not passed over."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the shim stands in for glibc's calls, so it runs on Linux only")


def build(folder):
    """Compile the shim and return its path."""
    compiler = os.environ.get("CC", "cc")
    target = folder / "shim.so"
    try:
        subprocess.run(
            [*compiler.split(), "-shared", "-fPIC", "-O1", "-o", str(target), str(HERE / "shim.c"), "-ldl"],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    except FileNotFoundError:
        pytest.fail(f"the campaigns need a C compiler ({compiler}); so does the native engine")
    return target


class Server:
    """The process that runs commands in children; also the folder in which their output lies."""

    def __init__(self, shim):
        self._scratch = tempfile.TemporaryDirectory(prefix="zodbsh-campaign-")
        self.scratch = Path(self._scratch.name)
        environment = {
            **os.environ, "LD_PRELOAD": str(shim), "NO_COLOR": "1", "COLUMNS": "100", "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT), "TMPDIR": str(self.scratch), "HOME": str(self.scratch),
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "forkserver.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert self._process.stdout.readline() == b"ready\n", "the warmed process did not start"

    def run(self, argv, folder, **settings):
        """Run one command line; see forkserver.py for the settings."""
        out, err = self.scratch / "out", self.scratch / "err"
        out.write_bytes(b"")
        err.write_bytes(b"")
        request = {"argv": list(argv), "folder": str(folder), "stdout": str(out), "stderr": str(err), **settings}
        self._process.stdin.write((json.dumps(request) + "\n").encode())
        self._process.stdin.flush()
        reply = self._process.stdout.readline()
        assert reply, "the warmed process died"
        return Result(out=out.read_text("utf-8", "replace"), err=err.read_text("utf-8", "replace"), **json.loads(reply))

    def record(self, argv, folder, **settings):
        """Run one command line and return its result and its calls."""
        log = self.scratch / "log"
        log.unlink(missing_ok=True)
        result = self.run(argv, folder, log=str(log), **settings)
        return result, read_log(log.read_bytes() if log.exists() else b"")

    def close(self):
        """End the process and remove its output."""
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._scratch.cleanup()


def read_log(raw):
    """Return the calls that shim.c recorded."""
    calls, position = [], 0
    while position < len(raw):
        kind, inode, offset, length, other, flag = ENTRY.unpack_from(raw, position)
        start = position + ENTRY.size
        middle = start + length
        position = middle + other
        calls.append(Call(KINDS[kind], inode, offset, raw[start:middle], raw[middle:position], flag))
    return calls
