"""SIGKILL before every call that writes: the database is there, whole, and as it was before or as it is after."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from commands import COMMANDS, NAME, Command, both, database
from harness import Tally, sample

REDUCED = 4


def kill_everywhere(bench, command, tally, limit):
    """Kill a command before each of its calls."""
    prepared = bench.prepared(command)
    tally.count("calls in an undisturbed run", prepared.calls)
    for at in sample(range(1, prepared.calls + 1), limit, "kill", command.name):
        result = bench.run(prepared, action="kill", at=at)
        assert result.status == -9, result
        found, problems = bench.state_problems(prepared, result)
        tally.count("as before" if found == prepared.before else "as after")
        if found != prepared.before or command.name != "init":
            named, wrong = bench.named()
            problems += wrong
            tally.count("leftovers named by status", len(named))
        problems += bench.again_problems(prepared, found)
        tally.case(f"{command.name} killed before call {at}", problems)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_kill_loses_nothing(bench, command):
    """Whichever call it comes before: a whole state, what was acknowledged is there, and the command works again."""
    tally = Tally(f"kill {command.name}")
    kill_everywhere(bench, command, tally, REDUCED)
    tally.close()


def test_the_campaign_finds_a_program_that_writes_in_place(bench, tmp_path):
    """A program that rewrites the database where it stands is caught: the campaign can fail."""
    program = tmp_path / "careless.py"
    program.write_text(
        f"data = open({NAME!r}, 'rb').read()\n"
        f"with open({NAME!r}, 'wb', buffering=0) as file:\n"
        "    file.write(data[:200])\n    file.write(data[200:-1000])\n    file.write(data[-1000:])\n"
        "open('my.fs.done', 'w').write('x')\nprint('careless')\n"
    )
    command = Command(
        "careless", database, (), lambda folder: (both(folder), (folder / "my.fs.done").exists()), "careless",
        program=str(program),
    )  # fmt: skip
    tally = Tally("careless")
    kill_everywhere(bench, command, tally, 100)
    assert len(tally.bad) >= 3, tally.bad
    with pytest.raises(AssertionError, match="careless"):
        tally.close()
