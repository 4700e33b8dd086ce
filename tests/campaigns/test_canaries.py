"""Payloads in every place where a pickle can hide: no reading command runs one."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from canaries import CANARY, PLACES, payloads, place_index
from harness import Tally, sample
from reading import LINES, picture

ROOT = Path(__file__).parents[2]
MODULE = f"open({CANARY!r}, 'w').close()\nclass Thing:\n    pass\n"


@contextmanager
def reading(tmp_path, *words):
    """Give the process that reads, with a module on its path that leaves a trace where it is imported."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "canary_module.py").write_text(MODULE)
    (tmp_path / "warm").mkdir()
    (tmp_path / "here").mkdir()
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("canary_reader.py")), str(tmp_path / "warm"), *words],
        cwd=tmp_path / "here", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path / "path"))), "NO_COLOR": "1"},
    ) as process:  # fmt: skip
        yield process
        process.stdin.close()


def try_all(tmp_path, reader, cases, tally):
    """Have the process read each case's database."""
    for number, (place, name, payload) in enumerate(cases):
        folder = tmp_path / f"case {number}"
        folder.mkdir()
        place(payload, folder / "my.fs")
        before = picture(folder)
        reader.stdin.write(json.dumps(str(folder)) + "\n")
        reader.stdin.flush()
        problems = json.loads(reader.stdout.readline())
        if any((where / CANARY).exists() for where in (tmp_path / "here", folder, Path.cwd())):
            problems.append("the payload ran")
            (tmp_path / "here" / CANARY).unlink(missing_ok=True)
        if picture(folder) != before:
            problems.append("something was modified")
        tally.case(f"{name} {place.__doc__}", problems)
        tally.count("answers", len(LINES))
        tally.count("payloads run", "the payload ran" in problems)


def test_no_payload_runs(tmp_path):
    """Nothing is imported, found, executed or written; what a command says is an answer."""
    tally = Tally("canaries")
    cases = [(place, name, payload) for place in PLACES for name, payload in payloads()]
    with reading(tmp_path) as reader:
        try_all(tmp_path, reader, sample(cases, 40, "canary"), tally)
    tally.close()


def test_the_campaign_finds_who_loads_a_pickle(tmp_path):
    """Whoever unpickles the saved index runs payloads, and is caught: the campaign can fail."""
    tally = Tally("careless")
    with reading(tmp_path, "careless") as reader:
        try_all(tmp_path, reader, [(place_index, name, payload) for name, payload in list(payloads())[:3]], tally)
    assert any("pickle.find_class" in bad for bad in tally.bad)
    assert tally.figures["payloads run"] == 3


def test_the_payloads_are_alive(tmp_path):
    """Python's own unpickler runs most of them: the campaign would see one that runs."""
    (tmp_path / "canary_module.py").write_text(MODULE)
    alive = 0
    for _, payload in payloads():
        (tmp_path / "payload").write_bytes(payload)
        subprocess.run(
            [sys.executable, "-c", "import pickle; pickle.load(open('payload', 'rb'), encoding='latin-1')"],
            cwd=tmp_path, capture_output=True, env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )  # fmt: skip
        alive += (tmp_path / CANARY).exists()
        (tmp_path / CANARY).unlink(missing_ok=True)
    assert alive >= 30
