"""Beside a writer that never rests and packs all the time, every read is one consistent snapshot."""

import json
import random
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from harness import SEED, WHOLE, Tally
from reading import picture, read, said_problems

READS = 1000 if WHOLE else 60
FIND = ["find", "{}", "--class", "*PersistentMapping", "--where", "n >= 0", "--show", "n", "--format", "json"]
LINES = [
    FIND, FIND, FIND,
    ["verify", "{}", "--format", "json"], ["verify", "{}", "--level", "references"],
    ["log", "{}", "-n", "20"], ["log", "{}", "root"], ["inspect", "{}"], ["inspect", "{}", "root.pair"],
    ["usage", "{}"], ["refs", "{}", "root"], ["why", "{}", "0x02"], ["status", "{}"],
    ["diff", "{}", "--from", "1 second ago"], ["pack", "{}", "--dry-run"],
]  # fmt: skip


@contextmanager
def writing(path, tally):
    """Have another process write to the database, and pack it, during the block."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("live_writer.py")), str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout.readline() == "ready\n"
            yield
            assert process.poll() is None, "the writer died"
        finally:
            process.stdin.close()
            ending = process.stdout.readline()
        transactions, packs = map(int, ending.split())
        tally.count("transactions beside them", transactions)
        tally.count("packs beside them", packs)
        assert process.wait(60) == 0


def snapshot_problems(words, said):
    """Return what shows that an answer was no snapshot of a sound database."""
    problems = said_problems(words, said)
    if said.status != 0:
        problems.append(f"{words} ends with {said.status}: {said.out[-1500:]} {said.err}")
    elif words is FIND:
        shown = [item["n"] for item in json.loads(said.out)]
        if len(shown) != 2 or len(set(shown)) != 1:
            problems.append(f"the two numbers are {shown}")
    return problems


def test_reads_beside_a_writer_and_a_packer(tmp_path):
    """Each read ends well, and sees both numbers as one transaction left them."""
    path = tmp_path / "my.fs"
    tally = Tally("live reads")
    rand = random.Random(f"{SEED} live")
    with writing(path, tally):
        for number in range(READS):
            words = rand.choice(LINES)
            said = read(words, path)
            tally.case(f"read {number}", snapshot_problems(words, said))
    known = {"my.fs", "my.fs.blobs", "my.fs.lock", "my.fs.tmp", "my.fs.index", "my.fs.old", "my.fs.blobs.old"}
    tally.case("what lies there afterwards", [f"{name}" for name in set(picture(tmp_path)) - known])
    tally.close()


def test_the_campaign_finds_two_moments_in_one_answer():
    """Two numbers of different transactions in one answer are caught: the campaign can fail."""
    from reading import Said

    torn = json.dumps([{"n": 1}, {"n": 2}])
    assert snapshot_problems(FIND, Said(0, torn, "")) == ["the two numbers are [1, 2]"]
    assert snapshot_problems(LINES[3], Said(6, "", "damaged"))
