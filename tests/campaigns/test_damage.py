"""Every cut and every structural flip, for every reading command: an answer, soon, and nothing is touched."""

import json
import os
import random
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from harness import SEED, WHOLE, Tally, sample
from reading import LINES, SEEDS, last_tid, picture, read, said_problems, structure, unlisted

CUTS, FLIPS = (1 << 30, 1 << 30) if WHOLE else (20, 20)
VALUES = (0x00, 0xFF, 0x01, 0x80)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Look again at damage at once: nobody writes meanwhile."""
    monkeypatch.setattr("zodbsh.filestorage.framing._PAUSE", 0)
    monkeypatch.setattr("zodbsh.filestorage.indexcheck._PAUSE", 0)


@pytest.fixture(params=SEEDS)
def seed(request, tmp_path):
    """A small database: its file, and an empty folder with its blobs for the damaged ones."""
    path = tmp_path / "seed" / "my.fs"
    path.parent.mkdir()
    SEEDS[request.param](path)
    folder = tmp_path / "damaged"
    folder.mkdir()
    if Path(f"{path}.blobs").exists():
        shutil.copytree(f"{path}.blobs", folder / "my.fs.blobs")
    return request.param, path, folder / "my.fs"


def test_every_command_is_tried():
    """A new command is put with the reading ones or with the writing ones."""
    assert not unlisted()


def ask_everything(damaged, tid):
    """Return what is wrong with the answers of all commands, and verify's answer."""
    before = picture(damaged.parent)
    problems, verdict = [], None
    for words in LINES:
        said = read(words, damaged, tid)
        problems += said_problems(words, said)
        if words[0] == "verify":
            verdict = said
    if picture(damaged.parent) != before:
        problems.append("something was modified")
    return problems, verdict


def test_every_cut(seed):
    """A file cut anywhere is read as far as it goes; verify reports each cut within a transaction."""
    name, path, damaged = seed
    raw, tid = path.read_bytes(), last_tid(path)
    bounds, _ = structure(path)
    tally = Tally(f"cuts of {name}")
    for length in sample(range(len(raw)), CUTS, "cut", name):
        damaged.write_bytes(raw[:length])
        index_or_none(path, damaged, length % 2)
        problems, verdict = ask_everything(damaged, tid)
        if length not in bounds:
            tally.count("cuts within a transaction")
            if reported(verdict):
                tally.count("of them reported by verify")
            else:
                problems.append(f"verify does not report it: {verdict}")
        tally.case(f"{name} cut at {length} of {len(raw)}", problems)
        tally.count("answers", len(LINES))
    tally.close()


def index_or_none(path, damaged, wanted):
    """Put the sound file's saved index beside the damaged one, or take it away."""
    if wanted and Path(f"{path}.index").exists():
        shutil.copyfile(f"{path}.index", f"{damaged}.index")
    else:
        Path(f"{damaged}.index").unlink(missing_ok=True)


def reported(verdict):
    """Tell whether verify said that something is wrong, or that an unfinished transaction stands at the end."""
    if verdict.status:
        return True
    return any("being written" in text for text in json.loads(verdict.out)["not_checked"])


def test_every_flip(seed):
    """A file with a wrong byte in any header, length or pointer."""
    name, path, damaged = seed
    raw, tid = path.read_bytes(), last_tid(path)
    _, places = structure(path)
    rand = random.Random(f"{SEED} flips {name}")
    tally = Tally(f"flips of {name}")
    for place in sample(places, FLIPS, "flip", name):
        for value in rand.sample(VALUES, 2):
            new = value if value in (0x00, 0xFF) else raw[place] ^ value
            if new == raw[place]:
                continue
            damaged.write_bytes(raw[:place] + bytes([new]) + raw[place + 1 :])
            index_or_none(path, damaged, rand.random() < 0.5)
            problems, verdict = ask_everything(damaged, tid)
            tally.count("seen by verify", verdict.status != 0)
            tally.case(f"{name}, byte {place} is {new:#04x} for {raw[place]:#04x}", problems)
            tally.count("answers", len(LINES))
    tally.close()


def test_the_campaign_finds_a_command_that_writes(tmp_path, monkeypatch):
    """A reading command that touches a file, or dies, is caught: the campaign can fail."""
    path = tmp_path / "my.fs"
    SEEDS["undo"](path)
    monkeypatch.setattr("zodbsh.ops.log.log", lambda *a, **k: os.utime(path))
    problems, _ = ask_everything(path, "0" * 16)
    assert "something was modified" in problems
    assert any("a bug in zodbsh" in problem for problem in problems)
