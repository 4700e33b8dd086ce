"""A disk with less room than a command needs, byte by byte: as the failing calls, but by the system itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from commands import COMMANDS
from harness import WHOLE, Tally, sample
from test_fail import judge

REDUCED = 1
PAGE = 4096
# What is said on standard error goes to a file as well.
SAID = 2048
# The last ones are more than any command needs.
SLACKS = [*range(64), *range(64, 640, 16)] if WHOLE else range(24)


@pytest.fixture
def small_disk(bench, tmp_path, monkeypatch):
    """A file system of a few megabytes, of which the work folder is a part."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("mounting a small file system takes root on Linux; the limit on a file's size is tried instead")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "zodbsh-campaign", str(disk)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"this machine lets nobody mount a file system: {done.stderr.strip()}")
    monkeypatch.setattr(bench, "work", disk / "work here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_slack(bench, small_disk, command):
    """From no room at all to more than is needed, in pages."""
    prepared = bench.prepared(command)
    tally = Tally(f"full disk {command.name}")
    done = 0
    for pages in sample(SLACKS, REDUCED, "disk", command.name):
        bench.fresh(prepared.template)
        ballast = small_disk / "ballast"
        free = shutil.disk_usage(small_disk).free
        ballast.write_bytes(b"x" * max(0, free - pages * PAGE))
        result = bench.run(prepared, again=True)
        ballast.unlink()
        _, problems = judge(bench, prepared, result)
        done += result.status == 0
        tally.case(f"{command.name} with {pages} pages free", problems)
        ballast.unlink(missing_ok=True)
    tally.count("done", done)
    assert done or not WHOLE, "there was never room enough"
    tally.close()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_limit_on_a_files_size(bench, command):
    """A file may not grow past a limit (a quota does the same): each limit up to what is needed, and beyond."""
    prepared = bench.prepared(command)
    tally = Tally(f"limits {command.name}")
    largest = max((call.offset + len(call.data) for call in prepared.trace if call.kind == "write"), default=0)
    if largest < SAID:
        pytest.skip(f"{command.name} writes no file longer than what it says")
    limits = range(SAID, largest + 1024, max(512, largest // 40))
    for limit in sample(limits, REDUCED, "limit", command.name):
        result = bench.run(prepared, fsize=limit)
        _, problems = judge(bench, prepared, result)
        tally.count("done", result.status == 0)
        tally.case(f"{command.name}, no file above {limit} bytes", problems)
    tally.close()
