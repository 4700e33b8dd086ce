"""The system's own word: strace sees the calls that the shim counts, and kills the real program before them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from commands import COMMANDS
from harness import Tally, output_problems, sample
from shim import ROOT, Result, require_shim

REDUCED, MOST = 1, 25
CALLS = {
    "openat": "open", "open": "open", "creat": "open", "write": "write", "pwrite64": "write", "writev": "write",
    "pwritev": "write", "pwritev2": "write", "copy_file_range": "write", "sendfile": "write", "fallocate": "write",
    "ftruncate": "truncate", "truncate": "truncate", "rename": "rename", "renameat": "rename", "renameat2": "rename",
    "link": "link", "linkat": "link", "unlink": "unlink", "unlinkat": "unlink", "mkdir": "mkdir", "mkdirat": "mkdir",
    "rmdir": "rmdir", "fsync": "fsync", "fdatasync": "fsync", "chmod": "chmod", "fchmod": "chmod", "fchmodat": "chmod",
    "fchmodat2": "chmod", "chown": "chown", "fchown": "chown", "lchown": "chown", "fchownat": "chown",
    "symlink": "symlink", "symlinkat": "symlink", "utimensat": "times",
}  # fmt: skip
ENVIRONMENT = {
    **os.environ,
    "NO_COLOR": "1",
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
}
LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")


@pytest.fixture(scope="module")
def strace():
    """The strace program; Linux has it, or `make test` fetches it where it may."""
    require_shim()
    found = shutil.which("strace")
    if not found:
        missing = "strace is missing; `apt-get install strace` brings it"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    tried = subprocess.run([found, "-o", os.devnull, "true"], capture_output=True, text=True)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.strip()}")
    return found


def traced(strace, bench, prepared, log, *options):
    """Run the program itself under strace."""
    bench.fresh(prepared.template)
    known = [name for name in CALLS if name not in ("open", "creat", "fchmodat2")]
    done = subprocess.run(
        [
            strace, "-f", "-y", "-s", "0", "-o", str(log), "-e", f"trace={','.join(known)}", *options,
            sys.executable, "-P", "-m", "zodbsh", *prepared.command.argv,
        ],
        cwd=bench.work, env=ENVIRONMENT, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120,
    )  # fmt: skip
    return Result(done.returncode, done.stdout, done.stderr, False, 0, 0, 0, 0)


def writes(log, folder):
    """Return the calls that write below a folder: name, kind, and the number among those of this name."""
    found, seen = [], {}
    for line in log.read_text("utf-8", "replace").splitlines():
        match = LINE.match(line)
        if match is None or match[1] not in CALLS:
            continue
        name, rest = match[1], match[2]
        seen[name] = seen.get(name, 0) + 1
        if CALLS[name] == "open" and "O_CREAT" not in rest and "O_TRUNC" not in rest:
            continue
        if concerns(rest, str(folder)):
            found.append((name, CALLS[name], seen[name], rest))
    return found


def concerns(rest, folder):
    """Tell whether a call's arguments are of a folder: an open file in it, or a name (relative ones are)."""
    descriptor = re.match(r"(\d+)<([^>]*)>", rest)
    # Another thread's call may come between a call and its result.
    named = re.findall(r'"([^"]*)"', rest.rpartition(" = ")[0] or rest)
    if descriptor is not None and not any(name.startswith("/") for name in named):
        return int(descriptor[1]) > 2 and descriptor[2].startswith(folder)
    return any(name.startswith(folder) or not name.startswith("/") for name in named)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_shim_misses_no_call(bench, strace, tmp_path, command):
    """strace and the shim see the same calls that write, in the same order unless threads make them."""
    prepared = bench.prepared(command)
    result = traced(strace, bench, prepared, tmp_path / "log")
    assert result.status == 0, result
    by_strace = [kind for _, kind, _, rest in writes(tmp_path / "log", bench.work) if "= -1" not in rest]
    logged = {"write", "truncate", "rename", "link", "unlink", "mkdir", "rmdir", "fsync"}
    by_shim = [call.kind for call in prepared.trace if call.kind in logged]
    by_strace = [kind for kind in by_strace if kind in logged]
    if command.threads:
        by_strace, by_shim = sorted(by_strace), sorted(by_shim)
    assert by_strace == by_shim
    assert len(writes(tmp_path / "log", bench.work)) == prepared.calls


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_strace_kills(bench, strace, tmp_path, command):
    """The program as it is installed, killed by the system before a call, leaves a whole state as well."""
    prepared = bench.prepared(command)
    traced(strace, bench, prepared, tmp_path / "log")
    tally = Tally(f"strace {command.name}")
    calls = writes(tmp_path / "log", bench.work)
    for name, _, number, _ in sample(calls, REDUCED, "strace", command.name, whole=MOST):
        # Start-up makes a few calls more or fewer from one run to the next: the last ones may not be reached.
        for when in (number, number, max(number - 2, 1)):
            result = traced(strace, bench, prepared, tmp_path / "log", "-e", f"inject={name}:signal=KILL:when={when}")
            if result.status in (-9, 137):
                break
        tally.count("killed", result.status in (-9, 137))
        found, problems = bench.state_problems(prepared, result)
        problems += output_problems(result) + bench.again_problems(prepared, found)
        tally.case(f"{command.name} killed before {name} {number}", problems)
    assert tally.figures["killed"], "strace killed nobody"
    tally.close()
