"""Beside a writer that never rests and packs all the time, every read is one consistent snapshot."""

import json
import random
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import ZODB
import ZODB.FileStorage

sys.path.insert(0, str(Path(__file__).parent))
from backup_histories import Clock, last_tid
from harness import SEED, WHOLE, Tally
from reading import picture, read, said_problems

from zodbsh.ops.backups import backup as backup_module

READS = 1000 if WHOLE else 60
BACKUPS = 100 if WHOLE else 5
FIND = ["find", "{}", "--class", "*PersistentMapping", "--where", "n >= 0", "--show", "n", "--format", "json"]
LINES = [
    FIND, FIND, FIND,
    ["verify", "{}", "--format", "json"], ["verify", "{}", "--level", "references"],
    ["log", "{}", "-n", "20"], ["log", "{}", "root"], ["inspect", "{}"], ["inspect", "{}", "root.pair"],
    ["usage", "{}"], ["refs", "{}", "root"], ["why", "{}", "0x02"], ["status", "{}"],
    ["diff", "{}", "--from", "1 second ago"], ["pack", "{}", "--dry-run"],
]  # fmt: skip


@contextmanager
def writing(path, tally, *, rest=0.15):
    """Have another process write to the database, and pack it every ``rest`` seconds, during the block."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("live_writer.py")), str(path), str(rest)],
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


def test_backups_beside_a_writer_and_a_packer(tmp_path):
    """Each backup, and each again at the end, restores to a sound state that the writer really had, reads beside it."""
    path, backups = tmp_path / "my.fs", tmp_path / "backups"
    tally = Tally("live backups")
    rand = random.Random(f"{SEED} backups")
    states = {}
    with writing(path, tally, rest=1.5), mock.patch.object(backup_module, "_now", Clock()):
        newest = 0
        for number in range(BACKUPS):
            for words in rand.choices(LINES, k=2):
                said = read(words, path)
                tally.case(f"read beside backup {number}", snapshot_problems(words, said))
            seen = json.loads(read(FIND, path).out)[0]["n"]
            said = read(["backup", "{}", str(backups)], path)
            problems = said_problems(["backup"], said)
            if said.status:
                problems.append(f"backup ends with {said.status}: {said.out} {said.err}")
            tid, found = restored_number(backups, tmp_path / "out", problems)
            if found is not None and found < max(seen, newest):
                problems.append(f"the backup is of {found}; {max(seen, newest)} was there before it")
            newest = max(newest, found or 0)
            states[tid] = found
            tally.count("full" if said.out.startswith("full") else "increments")
            tally.case(f"backup {number}", problems)
    for tid, number in states.items():
        problems = []
        _, found = restored_number(backups, tmp_path / "out", problems, "--at", f"{tid or 0:016x}")
        if found != number:
            problems.append(f"restored at {tid:016x} it is of {found}, and was of {number}")
        tally.case(f"restored once more at {tid:016x}", problems)
    tally.close()


def restored_number(backups, out, problems, *options):
    """Restore; return the last tid and the number of the state, None where it is none that the writer had."""
    path = out / "my.fs"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    for words in (["restore", str(backups), "{}", *options], ["verify", "{}", "--level", "references"]):
        said = read(words, path)
        if said.status:
            problems.append(f"{words} ends with {said.status}: {said.out} {said.err}")
            return None, None
    db = ZODB.DB(ZODB.FileStorage.FileStorage(str(path), blob_dir=f"{path}.blobs", read_only=True))
    try:
        root = db.open().root()
        number = root["pair"]["left"]["n"]
        texts = {key: len(value["text"]) for key, value in root.items() if key.startswith("new ")}
        blob = None
        if "blob" in root:
            with root["blob"].open() as file:
                blob = file.read()
        if (root["pair"]["right"]["n"], texts, blob) != written(number):
            problems.append(f"no state that the writer had: {number}")
    finally:
        db.close()
    return last_tid(str(path)), number


def written(number):
    """Return what live_writer.py has in its database after so many transactions: the right number, texts, the blob."""
    texts = {f"new {last % 50}": last % 3000 for last in range(max(1, number - 49), number + 1)}
    return number, texts, b"b" * (number // 10 * 10) if number >= 10 else None


def test_the_campaign_finds_two_moments_in_one_answer():
    """Two numbers of different transactions in one answer are caught: the campaign can fail."""
    from reading import Said

    torn = json.dumps([{"n": 1}, {"n": 2}])
    assert snapshot_problems(FIND, Said(0, torn, "")) == ["the two numbers are [1, 2]"]
    assert snapshot_problems(LINES[3], Said(6, "", "damaged"))
