"""Records that are damaged, or made to harm: an error, soon, and nothing runs."""

import base64
import contextlib
import io
import json
import os
import pickle
import random
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from zodbsh.record.btrees import TreeStateError, read_tree_state, record_tree
from zodbsh.record.decode import class_text, decode_pickle, decode_record, record_class, references
from zodbsh.record.disassemble import disassemble
from zodbsh.record.limits import Limits, RecordError
from zodbsh.record.shape import attributes, edges
from zodbsh.record.walk import walk

OID = b"\x00\x00\x00\x00\x00\x00\x00\x2a"
SMALL = Limits(bytes=1000, nodes=100, memo=3, depth=10, digits=20)


def dumped(protocol, *values):
    """Return pickles that share a memo, as those of a record do."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, protocol)
    for value in values:
        pickler.dump(value)
    return file.getvalue()


SEEDS = [
    # Python 3's ZODB: attributes, references with and without class, the memo.
    b"".join(
        (
            b"\x80\x03capp\nThing\nq\x00.\x80\x03}q\x01(X\x05\x00\x00\x00ownerq\x02C\x08",
            OID,
            b"q\x03capp\nUser\nq\x04\x86q\x05QX\x04\x00\x00\x00listq\x06]q\x07(K\x01M\x02\x03J\x04\x05\x06\x07\x8a\x01\x08",
            b"G?\xf8\x00\x00\x00\x00\x00\x00N\x88\x89h\x03QeX\x04\x00\x00\x00weakq\x08]q\t(X\x01\x00\x00\x00",
            b"wq\nh\x03\x85q\x0beQu.",
        )
    ),
    # Python 2's: tuples for the class, protocol 1, old-style objects, a datetime, a set.
    b"".join(
        (
            b"((U\x03appq\x01U\x05Thingq\x02tq\x03Nt.}q\x04(U\x04partq\x05(capp\nPart\nq\x06oq\x07}q\x08U\x01xq\tK\x01sb",
            b"U\x04timeq\ncdatetime\ndatetime\nq\x0b(U\n\x07\xda\x03\x01\x0c\x1e\x00\x00\x00\x00tRq\x0cU\x03setq\r",
            b"c__builtin__\nset\nq\x0e]q\x0fK\x01a\x85Rq\x10U\x03refq\x11(U\x08",
            OID,
            b"capp\nUser\ntQu.",
        )
    ),
    # Protocol 0, all text.
    b"".join(
        (
            b"(capp\nThing\np1\nNt.(dp2\nS'a'\np3\nI1\nsS'b'\nL12345678901234567890L\nsS'c'\nF1.5\nsS'd'\nV\\u20ac\ns",
            b"S'e'\n(lp4\nI01\naI00\nag4\nasS'f'\n(iapp\nOld\np5\n(dp6\nbsS'g'\nccopy_reg\n_reconstructor\n",
            b"(capp\nNew\nc__builtin__\nobject\nNtRp7\n(dbsS'h'\nPabcdefgh\ns.",
        )
    ),
    # Protocol 5, frames and all.
    dumped(5, datetime, [{1: frozenset({2})}, bytearray(b"x"), {3}, datetime(2024, 1, 1, tzinfo=UTC), "t" * 300]),
    # A bucket.
    b"".join(
        (
            b"\x80\x03cBTrees.OOBTree\nOOBucket\nq\x00.\x80\x03(X\x01\x00\x00\x00aq\x01K\x01X\x01\x00\x00\x00bq\x02C\x08",
            OID,
            b"q\x03Qtq\x04C\x08",
            OID,
            b"q\x05h\x00\x86q\x06Q\x86q\x07.",
        )
    ),
]


def attempt(act, data):
    """Return what a way of reading gives, or where and why it stopped."""
    try:
        return "gave", act(data)
    except RecordError as error:
        return "stopped", (error.offset, error.reason)


def everything(data):
    """Do with a record all that can be done; tell whether it was decoded."""
    outcome, found = attempt(decode_record, data)
    if outcome == "gave":
        sum(1 for _ in walk(found.state))
        sum(1 for _ in edges(found))
        attributes(found)
        class_text(found.class_)
        kind = record_tree(found)
        if kind is not None:
            with contextlib.suppress(TreeStateError):
                read_tree_state(kind, found.state)
        assert attempt(references, data) == ("gave", found.references)
        assert attempt(record_class, data) == ("gave", found.class_)
    else:
        assert 0 <= found[0] <= len(data)
        assert attempt(references, data) == (outcome, found)
        class_ = attempt(record_class, data)
        assert class_[0] == "gave" or class_ == (outcome, found)
    listed = attempt(lambda data: list(disassemble(data)), data)
    assert listed[0] == "gave" or 0 <= listed[1][0] < len(data)
    return outcome == "gave"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_whole_record_decodes(seed):
    """The seeds of what follows are sound."""
    assert everything(seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_record_that_is_cut_is_an_error(seed):
    """Wherever the cut falls."""
    for end in range(len(seed)):
        assert not everything(seed[:end])


@pytest.mark.parametrize("seed", SEEDS)
def test_flipped_bytes_are_an_error_or_another_record(seed):
    """Never a crash, never a hang; and the four ways to read a record agree."""
    chance = random.Random(len(seed))
    outcomes = set()
    for _ in range(1500):
        damaged = bytearray(seed)
        for _ in range(chance.choice((1, 1, 1, 2, 8))):
            damaged[chance.randrange(len(damaged))] = chance.choice(
                (chance.randrange(256), ord(chance.choice("(.0QRbuetq}]")))
            )
        outcomes.add(everything(bytes(damaged)))
    assert outcomes == {True, False}


def test_random_instructions():
    """Rubbish made of instructions."""
    chance = random.Random(7)
    codes = (
        b"(.012FGIJKLMNPQRSTUVX]abcdefghijlopqrstu})\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8f\x90\x91\x92\x93\x94\x95"
        + b"NK()]}thq" * 4
    )
    for _ in range(3000):
        everything(bytes(chance.choices(codes, k=chance.randrange(1, 60))) + b"..")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (b"]" * 100_000 + b"a" * 99_999 + b".", "values nested more than 1000 deep"),
        (b")" + b"\x85" * 100_000 + b".", "values nested more than 1000 deep"),
        (b"(" * 100_000 + b"t" * 100_000 + b".", "marks nested more than 2000 deep"),
        (b"cm\nC\n" + b")R" * 100_000 + b".", "values nested more than 1000 deep"),
        (b"cm\nC\n)\x81q\x00" + b"cm\nC\n)\x81h\x00bq\x00" * 100_000 + b".", "values nested more than 1000 deep"),
        (b"]q\x00" + b"}Nh\x00sq\x00" * 100_000 + b".", "values nested more than 1000 deep"),
        (b"Nq\x00" + b"(h\x00\x91q\x00" * 100_000 + b".", "values nested more than 1000 deep"),
        (b"N" + b"U\x01a\x86" * 100_000 + b".", "values nested more than 1000 deep"),
        (b"j\x00\x94\x35\x77.", "the memo has no entry 2000000000"),
        (b"g2000000000\n.", "the memo has no entry 2000000000"),
        (b"g20000000000000000000\n.", "a memo index that is no number below 2**32"),
        (b"L" + b"9" * 1_000_000 + b"L\n.", "a number of 1000000 digits; the limit is 4300"),
        (b"\x8b\x40\x42\x0f\x00" + b"\xff" * 1_000_000 + b".", "a number of 1000000 bytes; the limit is 4300 digits"),
        (b"\x8e" + b"\xff" * 8 + b".", "the record ends inside BINBYTES8, 18446744073709551614 bytes too early"),
        # Parts that come again and again by way of the memo.
        (
            b"(" + b"N" * 5000 + b"lq\x000" + b"c__builtin__\nset\nh\x00\x85R" * 5000 + b".",
            "a part repeated until it is far larger",
        ),
        (
            b"(" + b"N" * 9000 + b"tq\x000" + b"cm\nC\nq\x01h\x00\x81" + b"h\x01h\x00\x81" * 9000 + b".",
            "a part repeated until it is far larger",
        ),
        (
            b"X\x00\x00\x10\x00"
            + b"a" * 0x100000
            + b"q\x000c_codecs\nencode\nq\x010U\x06latin1q\x020"
            + b"h\x01h\x00h\x02\x86R" * 100
            + b".",
            "a part repeated until it is far larger",
        ),
    ],
)
def test_a_record_that_costs_too_much_is_refused_soon(state, reason):
    """With the documented error, whatever it wants: depth, memory, time."""
    started = time.monotonic()
    for decode in (decode_record, references):
        with pytest.raises(RecordError) as caught:
            decode(b"cm\nC\n." + state)
        assert caught.value.reason.startswith(reason)
        assert (caught.value.code, caught.value.exit_code) == ("record-damaged", 6)
    assert time.monotonic() - started < 20


def test_depth_holds_for_arguments_that_the_state_fills():
    """The two pickles share their lists by the memo."""
    state = b"h\x00" + b"]" * 1_500 + b"a" * 1_500 + b"0N."
    data = b"cm\nC\n]q\x00\x85\x86." + state
    with pytest.raises(RecordError) as caught:
        decode_record(data)
    assert (caught.value.offset, caught.value.reason) == (len(data) - 1, "values nested more than 1000 deep")


def test_sparse_memo_indices_cost_nothing():
    """An index is a key, not a place in a table."""
    state = b"K\x07r\x00\x94\x35\x77p4000000000\n0j\x00\x94\x35\x77g4000000000\n\x86."
    assert decode_record(b"cm\nC\n." + state).state == (7, 7)


def test_what_unfolds_without_end_is_small_and_walked_once():
    """A thousand lists, each holding the one before it twice."""
    state = b"]q\x00" + b"".join(b"(h\x00h\x00lq\x00" for _ in range(900)) + b"."
    record = decode_record(b"cm\nC\n." + state)
    assert sum(1 for _ in walk(record.state)) == 901
    assert list(edges(record)) == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"N" * 1001 + b".", "a record of 1002 bytes; the limit is 1000"),
        (b"N" * 100 + b".", "more than 100 instructions"),
        (b"Nr\x01\x00\x00\x00r\x02\x00\x00\x00p3\np4\n.", "more than 3 entries in the memo"),
        (b"N\x94\x94\x94\x94.", "more than 3 entries in the memo"),
        (b")" + b"\x85" * 10 + b".", "values nested more than 10 deep"),
        (b"I" + b"1" * 21 + b"\n.", "a number of 21 digits; the limit is 20"),
    ],
)
def test_each_limit_can_be_set(data, reason):
    """And holds, whatever the record's two pickles share."""
    with pytest.raises(RecordError) as caught:
        decode_pickle(data, limits=SMALL)
    assert caught.value.reason == reason
    assert decode_pickle(b"N" * 99 + b".", limits=SMALL) == (None, 100)
    assert decode_pickle(b")" + b"\x85" * 9 + b".", limits=SMALL)[1] == 11


def test_instructions_are_counted_over_both_pickles():
    """A record has one budget."""
    with pytest.raises(RecordError, match="more than 100 instructions"):
        decode_record(b"cm\nC\n" + b"N0" * 30 + b"." + b"N" * 60 + b".", SMALL)


CANARY = """
    import base64, json, sys
    sys.path.insert(0, sys.argv[1])
    from zodbsh.record.btrees import TreeStateError, read_tree_state, record_tree
    from zodbsh.record.decode import class_text, decode_record, record_class, references
    from zodbsh.record.disassemble import disassemble
    from zodbsh.record.limits import RecordError
    from zodbsh.record.shape import attributes, edges, python_key_text
    from zodbsh.record.walk import walk

    records = [base64.b64decode(line) for line in sys.stdin.read().split()]
    events, decoded, modules = [], 0, set(sys.modules)
    sys.addaudithook(
        # id() is the one thing that the decoder does and the hook hears of.
        lambda event, args: events.append((event, repr(args)[:200])) if watching and event != "builtins.id" else None
    )

    def use(data):
        record = decode_record(data)
        for value in walk(record.state):
            python_key_text(value)
        for step, reference in edges(record):
            class_text(reference.class_)
        attributes(record)
        kind = record_tree(record)
        if kind is not None:
            read_tree_state(kind, record.state)

    watching = True
    for data in records:
        for act in (use, references, record_class, lambda data: list(disassemble(data))):
            try:
                act(data)
                decoded += 1
            except (RecordError, TreeStateError):
                pass
    watching = False
    print(json.dumps([len(records), decoded, events, sorted(set(sys.modules) - modules)]))
"""


class Runs:
    """What a hostile record asks for."""

    def __init__(self, func, *args):
        self.call = func, args

    def __reduce__(self):
        return self.call


def payloads(canary):
    """Return pickles that would leave a trace if anything in them ran."""
    import builtins

    command = f"touch {canary}"
    calls = [
        Runs(os.system, command),
        Runs(subprocess.Popen, ["touch", canary]),
        Runs(builtins.eval, f"open({canary!r}, 'w')"),
        Runs(builtins.exec, f"open({canary!r}, 'w')"),
        Runs(builtins.open, canary, "w"),
        Runs(builtins.__import__, "antigravity"),
        Runs(Path.touch, Path(canary)),
    ]
    for call in calls:
        for protocol in range(6):
            yield pickle.dumps(call, protocol)
            yield pickle.dumps({"k": [call]}, protocol)
    text = canary.encode()
    yield b"(cposix\nsystem\nS'touch " + text + b"'\no."
    yield b"(S'touch " + text + b"'\niposix\nsystem\n."
    yield b"cposix\nsystem\n(S'touch " + text + b"'\nt\x81."
    yield b"cposix\nsystem\n(S'touch " + text + b"'\nt}\x92."
    yield b"cposix\nsystem\nS'touch " + text + b"'\nb."
    yield b"(cposix\nsystem\nU\x08" + OID + b"tQ."
    yield b"cantigravity\nfly\n."
    yield b"Pantigrav\n."
    yield b"capp\nC\n)\x81c__builtin__\neval\nb."
    yield b"ccodecs\ndecode\n(V" + text + b"\nVno_such_codec\ntR."
    yield b"c_codecs\nencode\n(V" + text + b"\nVidna\ntR."
    yield b"V\\N{BULLET}\\ud800\n."


def test_nothing_that_a_record_names_is_imported_or_run(tmp_path):
    """An audit hook sees no import, no call, no file while records of every kind of harm are decoded."""
    canary = tmp_path / "canary"
    states = list(payloads(str(canary)))
    records = [b"cantigravity\nThing\n." + state for state in states] + [state + b"}." for state in states]
    chance = random.Random(11)
    for seed in [*SEEDS, *records[:: max(1, len(records) // 25)]]:
        records += [seed[:end] for end in range(0, len(seed), 7)]
        for _ in range(60):
            damaged = bytearray(seed)
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            records.append(bytes(damaged))
    result = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(CANARY), str(Path(__file__).parents[2])],
        input="\n".join(base64.b64encode(data or b".").decode() for data in records),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.stderr == ""
    count, decoded, events, imported = json.loads(result.stdout)
    assert count == len(records)
    assert decoded > len(states)
    assert events == []
    assert imported == []
    assert not canary.exists()
    assert "antigravity" not in sys.modules


def test_the_decoder_imports_no_zodb():
    """Nor anything that unpickles."""
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        import zodbsh.record.btrees, zodbsh.record.decode, zodbsh.record.disassemble, zodbsh.record.shape
        print(sorted(set(sys.modules) & set(sys.argv[2:])))
    """
    unwanted = ["ZODB", "BTrees", "persistent", "transaction", "zodbpickle", "pickle", "_pickle", "importlib.metadata"]
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", textwrap.dedent(code), str(Path(__file__).parents[2]), *unwanted],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")
