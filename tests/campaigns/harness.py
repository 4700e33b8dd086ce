"""What all campaigns share: size and seed, a folder to work in, runs of a command, and what they may leave."""

import json
import os
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from commands import NAME
from shim import Server, build
from states import MISSING, Broken, names, zodb_reads

WHOLE = bool(os.environ.get("ZODBSH_CAMPAIGN"))
SEED = int(os.environ.get("ZODBSH_SEED", "4"))
# Beside every database that somebody has opened for writing; no leftovers.
USUAL = {f"{NAME}{suffix}" for suffix in (".lock", ".tmp", ".index", ".old", ".blobs")} | {NAME}
USUAL |= {os.path.join(f"{NAME}.blobs", name) for name in (".layout", "tmp")}
IO, UNKNOWN, FAILED_SCRIPT, LOCKED = 7, 9, 1, 4


class Prepared(NamedTuple):
    """A command with its fixture, and what one undisturbed run of it does."""

    command: object
    template: Path
    before: object
    after: object
    names: set
    names_before: set
    calls: int
    trace: list


class Tally:
    """Counts a campaign's cases and collects the bad ones."""

    def __init__(self, name):
        self.name, self.cases, self.bad, self.figures = name, 0, [], {}
        self._started = time.monotonic()

    def case(self, words, problems):
        """Count one case; ``problems`` are the sentences that say what is wrong with it."""
        self.cases += 1
        self.bad += [f"{words}: {problem}" for problem in problems]

    def count(self, figure, number=1):
        """Add to a figure that is printed at the end."""
        self.figures[figure] = self.figures.get(figure, 0) + number

    def close(self):
        """Print the figures, and fail where a case was bad."""
        figures = "".join(f", {number} {figure}" for figure, number in self.figures.items())
        seconds = time.monotonic() - self._started
        size = "whole" if WHOLE else "reduced"
        line = f"{self.name}: {self.cases} cases ({size}, seed {SEED}, {seconds:.0f} s), {len(self.bad)} bad{figures}"
        # conftest.py prints the lines at the end, those of other processes too.
        with open(os.environ["ZODBSH_CAMPAIGN_LINES"], "a", encoding="utf-8") as file:
            file.write(line + "\n")
        assert self.cases, f"{self.name}: no case was tried"
        assert not self.bad, f"{self.name}: {len(self.bad)} bad\n" + "\n".join(self.bad[:20])


def sample(items, number, *key, whole=None):
    """Return a seeded sample of so many items, in order; in a whole campaign all of them, or ``whole``."""
    items = list(items)
    if WHOLE:
        number = len(items) if whole is None else whole
    if len(items) <= number:
        return items
    chosen = random.Random(f"{SEED} {key}").sample(range(len(items)), number)
    return [items[position] for position in sorted(chosen)]


class Bench:
    """A folder to work in, and the warmed process."""

    def __init__(self, folder):
        memory = Path("/dev/shm")
        self._owned = None
        if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 1 << 28:
            self._owned = tempfile.mkdtemp(prefix="zodbsh-campaign-", dir=memory)
            folder = Path(self._owned)
        self.base = folder
        self.server = Server(build(folder))
        # A path with a space, as people have them.
        self.work = folder / "work here"
        self._prepared = {}

    def close(self):
        """Remove everything."""
        self.server.close()
        if self._owned:
            shutil.rmtree(self._owned)

    def prepared(self, command):
        """Make a command's fixture, and run the command once undisturbed."""
        if command not in self._prepared:
            template = Path(tempfile.mkdtemp(prefix="template", dir=self.base))
            command.make(template)
            before = command.state(template)
            self.fresh(template)
            made = command.of(template)
            result, trace = self.server.record(made.argv, self.work, program=command.program)
            assert result.status == 0, result
            assert says(result, command.done), result
            after = command.state(self.work)
            assert after != before
            known = names(template) | USUAL | command.usual
            self._prepared[command] = Prepared(
                made, template, before, after, known | names(self.work), known, result.calls, trace
            )
        return self._prepared[command]

    def fresh(self, template):
        """Make the work folder a copy of a template."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(template, self.work, symlinks=True)

    def run(self, prepared, *, again=False, **settings):
        """Run the command in a fresh copy of its fixture; ``again``: in the folder as it is."""
        if not again:
            self.fresh(prepared.template)
        return self.server.run(prepared.command.argv, self.work, program=prepared.command.program, **settings)

    def strangers(self, prepared, found=None):
        """Return the names that belong neither to the fixture nor, unless it is as before, to the command's result."""
        known = prepared.names_before if found == prepared.before else prepared.names
        # As the file's .old, the one of its blobs may be there early.
        return {name for name in names(self.work) - known if not name.startswith(f"{NAME}.blobs.old")}

    def named(self):
        """Return the names that ``status`` calls leftovers, and what is wrong with its answer."""
        result = self.server.run(("status", NAME, "--format", "json"), self.work)
        if result.status != 0:
            gone = result.status == 3 and not os.path.lexists(self.work / NAME)
            return set(), [] if gone else [f"status ends with {result.status}: {result.err}"]
        return {os.path.normpath(item["path"]) for item in json.loads(result.out)["leftovers"]}, []

    def state_problems(self, prepared, result):
        """Return the folder's state and what is wrong with it: neither that before nor that after, or unreadable."""
        command = prepared.command
        try:
            found = command.state(self.work)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is wrong
            return None, [f"half a state: {type(error).__name__}: {error}"]
        problems = []
        if found not in (prepared.before, prepared.after):
            problems.append(f"neither the state before nor that after: {differing(prepared, found)}")
        if says(result, command.done) and found != prepared.after:
            problems.append("it said that it was done, and is not")
        if (self.work / NAME).exists():
            try:
                zodb_reads(self.work, NAME, self.base)
            except Broken as error:
                problems.append(str(error))
        return found, problems

    def again_problems(self, prepared, found):
        """Run the command once more, and return what is wrong then."""
        command = prepared.command
        # A second later, so that what is named after the time has a name of its own.
        result = self.run(prepared, again=True, later=30)
        in_the_way = command.in_the_way
        if result.status == 2 and found != prepared.after and in_the_way and f"{in_the_way} exists" in result.err:
            shutil.rmtree(self.work / in_the_way)
            result = self.run(prepared, again=True, later=30)
        allowed = command.done_already if found == prepared.after else command.again
        if result.status not in allowed:
            return [f"run again it ends with {result.status}: {result.err.strip()}"]
        try:
            if command.state(self.work) != prepared.after and not (command.twice and found == prepared.after):
                return ["run again it does not do its work"]
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is wrong
            return [f"run again it breaks: {type(error).__name__}: {error}"]
        # Doing more than was to be done has results of its own.
        strangers = set() if command.twice and found == prepared.after else self.strangers(prepared)
        if not strangers:
            return []
        named, problems = self.named()
        unnamed = {name for name in strangers if not covered(name, named)}
        return problems + ([f"run again, left over and not named by status: {sorted(unnamed)}"] if unnamed else [])


def covered(name, named):
    """Tell whether a leftover, or the folder it is in, was named."""
    return any(name == other or name.startswith(other + os.sep) for other in named)


def says(result, text):
    """Tell whether a run said so."""
    return text in result.out or text in result.err


def output_problems(result):
    """Return what is wrong with the way a run ended, whatever it did."""
    problems = []
    if result.hung:
        problems.append("it hangs")
    if ("Traceback" in result.err and result.status != FAILED_SCRIPT) or "Exception ignored" in result.err:
        problems.append(f"a traceback: {result.err[-600:]}")
    if result.status == 70 or "bug in zodbsh" in result.err:
        problems.append(f"a bug: {result.err.strip()}")
    return problems


def differing(prepared, found):
    """Say which part of a state is neither as before nor as after."""
    parts = []
    for number, (before, after, now) in enumerate(zip(prepared.before, prepared.after, found, strict=True)):
        kind = "before" if now == before else "after" if now == after else "missing" if now is MISSING else "other"
        parts.append(f"part {number} is {kind}")
    return ", ".join(parts)
