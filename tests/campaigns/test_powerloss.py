"""The power fails after any call: whatever of the unsynced writes reached the disk, the state is a whole one."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from commands import COMMANDS, NAME, Command, both, database
from harness import SEED, WHOLE, Tally, sample
from powerloss import Disk
from states import MISSING, Broken, zodb_reads

STATES = 40 if WHOLE else 4
REDUCED = 5
# What the model does not follow; every file is made with this mode.
MODE = 0o644


def without_mode(state):
    """Leave the database's mode out of a state."""
    return tuple(part if part is MISSING else part[1:] for part in state[:1]) + tuple(state[1:])


def never_there(prepared, crashed):
    """Tell whether the file is as before, but longer, and the first page of what follows was not written.

    ZODB refuses such a file, too. A file system that orders data before sizes has no such state.
    """
    if not (prepared.template / NAME).exists() or not (crashed / NAME).exists():
        return False
    before, now = (prepared.template / NAME).read_bytes(), (crashed / NAME).read_bytes()
    return now.startswith(before) and len(now) > len(before) and not any(now[len(before) : len(before) + 17])


def cut_power_everywhere(bench, command, tally, limit):
    """Follow an undisturbed run, and look at states of the disk after each of its calls."""
    prepared = bench.prepared(command)
    bench.fresh(prepared.template)
    disk = Disk(bench.work)
    result, calls = bench.server.record(prepared.command.argv, bench.work, program=command.program)
    assert result.status == 0, result
    before, after = without_mode(prepared.before), without_mode(prepared.after)
    chosen = set(sample(range(len(calls)), limit, "power", command.name)) | {len(calls) - 1}
    said = b""
    crashed = bench.base / "crashed"
    for number, call in enumerate(calls):
        disk.follow(call)
        said += call.data if call.kind == "out" else b""
        if number not in chosen:
            continue
        acknowledged = command.done.encode() in said
        for state in range(STATES):
            mode = ("none", "all", "order", "any")[state if state < 4 else 2 + state % 2]
            shutil.rmtree(crashed, ignore_errors=True)
            crashed.mkdir()
            disk.crash(crashed, f"{SEED} {command.name} {number} {state}", mode)
            problems = []
            try:
                found = without_mode(command.state(crashed))
                if found not in (before, after):
                    problems.append("neither the state before nor that after")
                elif acknowledged and found != after:
                    problems.append("what was acknowledged is gone")
                tally.count("as after" if found == after else "as before")
                if (crashed / NAME).exists():
                    zodb_reads(crashed, NAME, bench.base)
            except Broken as error:
                if not acknowledged and never_there(prepared, crashed):
                    tally.count("with zeros for the header of a transaction that never was, which recover removes")
                else:
                    problems.append(str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what is wrong
                problems.append(f"half a state: {type(error).__name__}: {error}")
            tally.case(f"{command.name}, power lost after {number + 1} ({call}), {mode} {state}", problems)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_power_failure_loses_nothing(bench, command):
    """The database is there and whole, as before or as after; as after once the command has said so."""
    tally = Tally(f"power {command.name}")
    cut_power_everywhere(bench, command, tally, REDUCED)
    tally.close()


def test_the_campaign_finds_what_is_not_synced(bench, tmp_path):
    """A program that writes and renames without a sync is caught: the campaign can fail."""
    program = tmp_path / "careless.py"
    program.write_text(
        f"import os\ndata = open({NAME!r}, 'rb').read()\n"
        f"with open('draft', 'wb') as file:\n    file.write(data)\nos.replace('draft', {NAME!r})\n"
        "open('my.fs.done', 'w').close()\nprint('careless')\n"
    )
    command = Command(
        "careless", database, (), lambda folder: (*both(folder), (folder / "my.fs.done").exists()), "careless",
        program=str(program),
    )  # fmt: skip
    tally = Tally("careless")
    cut_power_everywhere(bench, command, tally, 100)
    assert any("database-empty" in bad or "EmptyFile" in bad or "half a state" in bad for bad in tally.bad), tally.bad
    assert any("acknowledged" in bad for bad in tally.bad)
