"""recover keeps every undamaged record of randomly damaged files, and ends.

ZODBSH_CAMPAIGN in the environment asks for 5,000 cases (or as many as it says, above 1);
ZODBSH_SEED asks for others, ZODBSH_CASE names single ones, ZODBSH_KEEP a folder for the files of bad ones.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import random
import signal
import subprocess
import sys
import time
import types
from collections import Counter
from pathlib import Path

import pytest
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError
from ZODB.serialize import referencesf
from ZODB.utils import u64

from zodbsh.db.spec import Spec
from zodbsh.ops.recovery.recover import NothingRecovered, recover


def _beside(name):
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"campaigns_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


histories, damages = _beside("histories"), _beside("damage")

_ASKED = int(os.environ.get("ZODBSH_CAMPAIGN", "0"))
CASES = (_ASKED if _ASKED > 1 else 5_000) if _ASKED else 60
SEED = int(os.environ.get("ZODBSH_SEED", "0"))
# A few cases by number, to look at them again.
ONLY = [int(case) for case in os.environ.get("ZODBSH_CASE", "").split(",") if case]
SECONDS = 20
# One history serves so many damaged files.
DAMAGED = 5


def seeded(case):
    """Return the dice of a case."""
    return random.Random(case + SEED * 1_000_003)


@contextlib.contextmanager
def ticking(case):
    """Have ZODB's clock tell the same in every run."""
    ticks = itertools.count(1_700_000_000 + 1_000 * case)
    clock = types.SimpleNamespace(time=lambda: float(next(ticks)), gmtime=time.gmtime)
    module = sys.modules["ZODB.BaseStorage"]
    old, module.time = module.time, clock
    try:
        yield
    finally:
        module.time = old


@contextlib.contextmanager
def time_limit(what):
    """Fail where the block takes too long: nothing may hang."""

    def ring(*_):
        raise AssertionError(f"{what} did not end within {SECONDS} seconds")

    old = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def records_of(path):
    """Return (oid, tid): data of every record, as ZODB reads the file; a list, for there may be two of an object."""
    found = {}
    storage = FileStorage(str(path), read_only=True)
    try:
        for transaction in storage.iterator():
            for record in transaction:
                found.setdefault((u64(record.oid), u64(record.tid)), []).append(record.data)
    finally:
        storage.close()
    return found


def expected(made, origin, data, tail):
    """Return the undamaged records, and those of which a byte is damaged."""
    places = {source: at for at, source in enumerate(origin) if source >= 0}
    whole = set(damages.untouched(made, origin))
    kept = set()
    for start in sorted(whole):
        record = made.records[start]
        if record.back and record.back not in kept:
            continue
        # A status that says so hides a transaction: unfinished, at the end, or undone.
        status = places.get(record.transaction + 16)
        at = places[start]
        if status is None:
            head = at - (start - record.transaction) + 16
            hidden = 0 <= head < len(data) and data[head : head + 1] in (b"u", b"c")
        else:
            hidden = False
        if not hidden:
            kept.add(start)
    return kept, set(made.records) - whole


def check(made, origin, data, out, result, totals):
    kept, touched = expected(made, origin, data, result.tail if result else 0)
    found = records_of(out) if result else {}
    wanted = {(made.records[start].oid, made.records[start].tid): made.records[start].data for start in kept}
    lost = {key for key, content in wanted.items() if content not in found.get(key, ())}
    assert not lost, f"{len(lost)} of {len(wanted)} undamaged records are lost: {sorted(lost)[:3]}"
    original = {(record.oid, record.tid): record.data for record in made.records.values()}
    oids = {made.records[start].oid for start in touched}
    # A record's second copy may begin within its header.
    contents = {made.records[start].data for start in touched}
    copies = {(tid, content) for (_, tid), content in original.items()}
    tids = {made.records[start].tid for start in touched}
    for (oid, tid), content in ((key, content) for key, several in found.items() for content in several):
        if original.get((oid, tid), "missing") == content:
            continue
        explained = oid in oids or tid in tids or content in contents or (tid, content) in copies
        if not explained and original.get((oid, tid), "missing") in found[oid, tid]:
            # A copy of an undamaged record is damaged: nothing in the file tells which is right, so both are kept.
            told = [(one.oid, one.tid) for one in result.contradictions if one.field == "oid" and not one.repaired]
            assert (oid, tid) in told, f"{oid:#x} of {tid:016x} has a damaged copy that is not reported"
            totals["kept beside a damaged copy, reported as a contradiction"] += 1
            continue
        assert explained, f"{oid:#x} of {tid:016x} was never there"
        totals["kept though damaged"] += 1
    totals["undamaged"] += len(wanted)
    totals["kept"] += sum(map(len, found.values()))
    totals["damaged"] += len(touched)


def as_python3(path, result):
    """Have ZODB on Python 3 open a file of Python 2."""
    if result and result.format == "FS21":
        raw = path.read_bytes()
        path.write_bytes(b"FS30" + raw[4:])


def open_with_zodb(path, *, pack):
    """Open for writing, load all that is current, and pack, as an application would."""
    storage = FileStorage(str(path))
    try:
        for oid in list(storage._index):
            # Deleted objects are in the index, too.
            with contextlib.suppress(POSKeyError):
                storage.load(oid)
        if pack:
            storage.pack(2e10, referencesf, gc=False)
    finally:
        storage.close()


def test_undamaged_records_are_kept(tmp_path, no_fsync):
    """A recovered file keeps 100 % of the undamaged records, holds nothing else, and ZODB opens, reads and packs it."""
    totals = Counter()
    made, bad = None, []
    for case in ONLY or range(CASES):
        dice = seeded(case)
        if case % DAMAGED == 0 or ONLY:
            path = tmp_path / f"{case}.fs"
            first = case - case % DAMAGED
            with ticking(first):
                made = histories.history(str(path), seeded(first))
            path.unlink()
        times = dice.choice((1, 1, 1, 2, 2, 3, 5, 10))
        data, origin, names = damages.damage(made, dice, times)
        if dice.random() < 0.1:
            data = b"FS21" + data[4:] if data[:4] == b"FS30" else data
        damaged, out = tmp_path / "damaged.fs", tmp_path / f"out{case}.fs"
        damaged.write_bytes(data)
        label = f"case {case} ({', '.join(names)})"
        result = None
        with time_limit(label):
            try:
                with contextlib.suppress(NothingRecovered):
                    result = recover(Spec(str(damaged), "file", path=str(damaged)), str(out))
                as_python3(out, result)
                check(made, origin, data, out, result, totals)
                if result:
                    open_with_zodb(out, pack=case % 5 == 0)
            except Exception as exc:  # noqa: BLE001 - whatever it is, this case is bad, and the next is tried
                bad.append(f"{label}: {type(exc).__name__}: {exc}")
                if keep := os.environ.get("ZODBSH_KEEP"):
                    Path(keep, f"damaged{case}.fs").write_bytes(data)
                    Path(keep, f"sound{case}.fs").write_bytes(made.data)
        totals["nothing left" if result is None else "recovered"] += 1
        for name in os.listdir(tmp_path):
            if name.startswith("out"):
                (tmp_path / name).unlink()
    print(f"\nrecover: {CASES:,} damaged files; {', '.join(f'{name}: {count:,}' for name, count in totals.items())}")
    assert not bad, "\n".join(bad[:20])
    assert ONLY or totals["recovered"] > CASES // 2


def test_a_sound_file_contradicts_nothing(tmp_path, no_fsync):
    """Whatever ZODB has written, undone, deleted and packed: no finding."""
    found = Counter()
    for case in range(max(CASES // 10, 20)):
        path = tmp_path / f"{case}.fs"
        with ticking(case):
            histories.history(str(path), seeded(case), steps=30)
        if path.stat().st_size == len("FS30"):
            # Deleted and packed: there is nothing to recover, and so it says.
            with pytest.raises(NothingRecovered):
                recover(Spec(str(path), "file", path=str(path)), str(tmp_path / "out"), dry_run=True)
            found["empty"] += 1
            continue
        result = recover(Spec(str(path), "file", path=str(path)), str(tmp_path / "out"), dry_run=True)
        assert result.clean, f"case {case}: {result.contradictions or result}"
        found["records"] += result.records
        found["packed"] += path.read_bytes()[20:21] == b"p"
    print(
        f"\nrecover: {max(CASES // 10, 20):,} sound files: {', '.join(f'{name}: {n:,}' for name, n in found.items())}"
    )


# What it made may be so bad that ZODB fails to open it, and forgets to close it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_zodbs_fsrecover_keeps_nothing_that_we_lose(tmp_path, no_fsync):
    """On the same files, where it ends at all and what it kept was there."""
    totals, worse = Counter(), []
    for case in range(max(CASES // 10, 20)):
        dice = seeded(case)
        path, damaged, out = (tmp_path / f"{name}{case}.fs" for name in ("sound", "damaged", "out"))
        with ticking(case):
            made = histories.history(str(path), dice)
        data, _, names = damages.damage(made, dice, dice.choice((1, 1, 2)))
        damaged.write_bytes(data)
        theirs = fsrecover(damaged, tmp_path / f"theirs{case}.fs")
        ours = {}
        with time_limit(f"case {case}"), contextlib.suppress(NothingRecovered):
            as_python3(out, recover(Spec(str(damaged), "file", path=str(damaged)), str(out)))
            ours = records_of(out)
        if theirs is None:
            totals["fsrecover failed or hung"] += 1
            continue
        original = {(record.oid, record.tid): record.data for record in made.records.values()}
        theirs = {
            key: data for key, several in theirs.items() for data in several if original.get(key, "missing") == data
        }
        totals["records of fsrecover"] += len(theirs)
        totals["records of recover"] += sum(original.get(key, "missing") in several for key, several in ours.items())
        if lost := [key for key, data in theirs.items() if data not in ours.get(key, ())]:
            worse.append(f"case {case} ({', '.join(names)}): {len(lost)} records, {lost[:3]}")
    print(f"\nfsrecover: {', '.join(f'{name}: {count:,}' for name, count in totals.items())}")
    assert not worse, "\n".join(worse)


def fsrecover(path, out):
    """Return what ZODB's own tool recovers, None where it fails or does not end."""
    program = "import sys; from ZODB.fsrecover import recover; recover(*sys.argv[1:], partial=True)"
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program, str(path), str(out)],
            capture_output=True, timeout=SECONDS / 2,
        )  # fmt: skip
        return None if done.returncode else records_of(out)
    except Exception:  # noqa: BLE001 - its output may be anything
        return None


SMALL = 600_000
CORPUS = Path(os.environ.get("ZODBSH_CORPUS", "corpus"))


@pytest.mark.skipif(not CORPUS.is_dir(), reason="ZODBSH_CORPUS names no folder of databases")
def test_real_databases(tmp_path, no_fsync):
    """Python 2's and 3's, damaged at random: every undamaged record is kept."""
    totals = Counter()
    files = [path for path in sorted(CORPUS.rglob("*.fs")) if path.stat().st_size < SMALL]
    for case in range(max(CASES // 20, 10)):
        dice = seeded(case)
        path = files[case % len(files)]
        made = histories.read(path.read_bytes())
        data, origin, names = damages.damage(made, dice, dice.choice((1, 2, 5, 20)))
        damaged, out = tmp_path / "damaged.fs", tmp_path / f"out{case}.fs"
        damaged.write_bytes(data)
        label = f"case {case}: {path.name} ({', '.join(names)})"
        with time_limit(label):
            result = None
            with contextlib.suppress(NothingRecovered):
                result = recover(Spec(str(damaged), "file", path=str(damaged)), str(out))
            if result and not result.assumed:
                assert result.format == made.data[:4].decode(), label
            as_python3(out, result)
            check(made, origin, data, out, result, totals)
            if result:
                open_with_zodb(out, pack=False)
    print(f"\nrecover: real databases: {', '.join(f'{name}: {count:,}' for name, count in totals.items())}")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Look again at damage at once: nobody writes meanwhile."""
    monkeypatch.setattr("zodbsh.filestorage.framing._PAUSE", 0)
