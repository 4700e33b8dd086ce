"""Signals, a reader that leaves, no output at all: the documented exit status, and nothing lost, half or left over."""

import random
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from commands import COMMANDS
from harness import SEED, WHOLE, Tally, output_problems, sample, says

REDUCED, MOST = 1, 40
MOMENTS = 40 if WHOLE else 1
# After so many calls the first signal's cleaning up gets a second one.
SECOND = (0, 1, 2, 4) if WHOLE else (0, 2)
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def judge(bench, prepared, result, statuses):
    """Return what is wrong with a run that was to be stopped."""
    found, problems = bench.state_problems(prepared, result)
    problems += output_problems(result)
    if result.status not in statuses:
        problems.append(f"it ends with {result.status}, not {statuses}: {result.err}")
    if result.status == 0 and found != prepared.after:
        problems.append("it ends with 0, and is not done")
    named, wrong = bench.named()
    left = bench.strangers(prepared, found) | named
    if left:
        problems.append(f"left over: {sorted(left)}")
    return problems + wrong + bench.again_problems(prepared, found)


def allowed(command, number):
    """Return the exit statuses of a command that a signal reaches: it stops, or it was done already."""
    # A script sees Ctrl-C as any script does.
    return {STATUS[number], 0} | ({1} if command.name == "run" else set())


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_signal_at_any_call(bench, command):
    """A signal before a call that writes, and a second one while the first is cleaned up after."""
    prepared = bench.prepared(command)
    tally = Tally(f"signals {command.name}")
    for number in STATUS:
        for second in SECOND if number == signal.SIGINT else (0,):
            for at in sample(range(1, prepared.calls + 1), REDUCED, "signal", command.name, number, second, whole=MOST):
                result = bench.run(prepared, action="signal", at=at, number=int(number), second=second)
                problems = judge(bench, prepared, result, allowed(command, number))
                tally.count("stopped" if result.status else "done")
                tally.case(f"{command.name}, {number.name} at call {at}, again after {second}", problems)
    tally.close()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_signal_at_any_moment(bench, command):
    """A signal at a moment that no call marks."""
    prepared = bench.prepared(command)
    tally = Tally(f"moments {command.name}")
    whole = bench.run(prepared).seconds
    rand = random.Random(f"{SEED} moments {command.name}")
    for _ in range(MOMENTS):
        number, moment = rand.choice(list(STATUS)), rand.random() * whole
        result = bench.run(prepared, stop_after=moment, number=int(number))
        # Before zodbsh has set its handlers, and after it has restored them, a signal ends the process by itself.
        statuses = allowed(command, number) | {-int(number)}
        if result.status == -signal.SIGINT and "in dispatch" not in result.err:
            # Python says so itself then.
            result = result._replace(err="")
        problems = judge(bench, prepared, result, statuses)
        tally.case(f"{command.name}, {number.name} after {moment:.4f} s", problems)
    tally.close()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
@pytest.mark.parametrize("out", ["broken", "closed", "/dev/full"])
def test_nobody_reads_the_output(bench, command, out):
    """With a reader that has left, or no output, the work is done all the same; a full disk for the output is told."""
    prepared = bench.prepared(command)
    tally = Tally(f"output {out} {command.name}")
    result = bench.run(prepared, stdout=out)
    found, problems = bench.state_problems(prepared, result)
    problems += output_problems(result)
    # What would be done is shown before it is done.
    refused = out == "/dev/full" and found == prepared.before and says(result, "Nothing was changed")
    if found != prepared.after and not refused:
        problems.append(f"not done: {result.err}")
    writes = not says(result, command.done)
    if result.status != (7 if out == "/dev/full" and writes else 0):
        problems.append(f"it ends with {result.status}: {result.err}")
    tally.case(f"{command.name} into {out}", problems)
    tally.close()
