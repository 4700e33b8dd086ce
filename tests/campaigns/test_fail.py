"""The system refuses a call: the command says what is true of the database, and leaves nothing behind."""

import errno
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from commands import COMMANDS, NAME, Command, both, database
from harness import FAILED_SCRIPT, IO, LOCKED, UNKNOWN, Tally, output_problems, sample, says

REDUCED = 1
NUMBERS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EACCES": errno.EACCES}
NOTHING = (
    "nothing changed",
    "nothing was changed",
    "nothing was staged",
    "nothing was written",
    "nothing has appeared",
)


def judge(bench, prepared, result):
    """Return what is wrong with a run that some call failed for."""
    found, problems = bench.state_problems(prepared, result)
    problems += output_problems(result)
    command = prepared.command
    if result.status == 0 or (command.troubled and result.status == command.troubled):
        if found != prepared.after:
            problems.append(f"it ends with {result.status}, and is not done: {result.err}")
    elif result.status == UNKNOWN:
        if not says(result, "zodbsh ") and not says(result, "power failure"):
            problems.append(f"the outcome is unknown, and nothing tells how to settle it: {result.err}")
    elif result.status in (IO, LOCKED) or (result.status == FAILED_SCRIPT and command.name == "run"):
        if found != prepared.before:
            problems.append(f"it ends with {result.status}, and something changed: {result.err}")
        if not result.err.strip():
            problems.append("it does not say what failed")
    else:
        problems.append(f"it ends with {result.status}: {result.err}")
    if any(says(result, text) for text in NOTHING) and found != prepared.before:
        problems.append(f"it says that nothing changed: {result.err}")
    named, wrong = bench.named()
    problems += wrong
    left = bench.strangers(prepared, found) | named
    # What may be needed yet stays: status names it, as the kill campaign sees to.
    kept = result.status == UNKNOWN or says(result, "could not be removed")
    if command.troubled and result.status == command.troubled:
        # What is yet to be done is said, and named as well.
        kept = bench.strangers(prepared) <= named
    if left and not result.refused_removals and not kept:
        problems.append(f"left over: {sorted(left)}")
    return found, problems + bench.again_problems(prepared, found)


def fail_everywhere(bench, command, tally, limit):
    """Fail each call of a command with each error, once and from then on."""
    prepared = bench.prepared(command)
    for name, number in NUMBERS.items():
        for sticky in (False, True):
            for at in sample(range(1, prepared.calls + 1), limit, "fail", command.name, name, sticky):
                result = bench.run(prepared, action="fail", at=at, number=number, sticky=sticky)
                if not result.fired:
                    continue
                _, problems = judge(bench, prepared, result)
                tally.count({0: "done", IO: "refused", UNKNOWN: "unknown"}.get(result.status, f"exit {result.status}"))
                tally.case(f"{command.name}, {name} {'from' if sticky else 'at'} call {at}", problems)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_refused_call_changes_nothing_or_is_told(bench, command):
    """The exit status is a documented one and true, there is no traceback, nothing is left over."""
    tally = Tally(f"fail {command.name}")
    fail_everywhere(bench, command, tally, REDUCED)
    tally.close()


def test_the_campaign_finds_a_program_that_takes_no_notice(bench, tmp_path):
    """A program that passes over errors, and one that dies with a traceback, are caught: the campaign can fail."""
    program = tmp_path / "careless.py"
    program.write_text(
        "import contextlib\n"
        "open('draft', 'w').write('x')\n"
        "with contextlib.suppress(OSError), open('my.fs.done', 'w') as file:\n    file.write('x')\n"
        "print('careless')\n"
    )
    command = Command(
        "careless", database, (), lambda folder: (both(folder), (folder / "my.fs.done").exists()), "careless",
        program=str(program),
    )  # fmt: skip
    tally = Tally("careless")
    fail_everywhere(bench, command, tally, 3)
    assert any("Traceback" in bad or "traceback" in bad for bad in tally.bad)
    assert any("ends with 0, and is not done" in bad for bad in tally.bad)
    assert NAME
