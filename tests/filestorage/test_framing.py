"""Every header, length and pointer is checked; damage is reported where it is, and the walk goes on."""

import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zodbsh.filestorage.damage import Damage
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.framing import Verdict, scan_file, scan_framing, walk
from zodbsh.progress import Silent


def scanned(path):
    with DataFile(path) as file:
        return scan_file(file, histories=True)


def patched(data, offset, layout, value):
    return data[:offset] + struct.pack(layout, value) + data[offset + struct.calcsize(layout) :]


def test_a_sound_file_has_no_damage(sample, write):
    """A scan finds the end, the last tid and every object's newest record."""
    found = scanned(write(sample.data))
    assert (found.damages, found.end, found.tail, found.last_tid) == ((), sample.end, 0, 3)
    newest = {0: (3, 0), 1: (3, 1), 2: (3, 2), 3: (2, 3)}
    assert found.positions == {oid: sample.records[place] for oid, place in newest.items()}
    assert found.pointers == {1, 2}


def test_every_cut_is_a_tail_damage_or_a_shorter_file(sample, write, no_pause):
    """A cut file is sound at a border, has a tail where the cut tells nothing, and is damaged elsewhere."""
    borders = [*sample.transactions.values(), sample.end]
    for size in range(4, sample.end):
        found = scanned(write(sample.data[:size]))
        start = max(border for border in borders if border <= size)
        tid = {at: tid for tid, at in sample.transactions.items()}[start]
        assert (found.end, found.last_tid) == (start, tid - 1)
        cut = size - start
        if cut <= 16:
            assert (found.tail, found.damages) == (cut, ())
        elif cut < 23:
            assert found.damages == (Damage(size, "header", f"the file ends {23 - cut} bytes too soon", tid=tid),)
        else:
            following = min(border for border in borders if border > size)
            length, missing = following - start - 8, following - size
            reason = f"{length} bytes, but the file ends {missing} bytes too soon"
            assert found.damages == (Damage(start + 8, "length", reason, tid=tid),)


def test_a_transaction_in_flight_is_the_tail_at_every_length(build, write):
    """Whatever a writer has written of a transaction with status 'c', nothing is damaged."""
    built = build((1, b" ", {0: b"root"}), (2, b"c", {0: b"new root", 1: b"new"}))
    start = built.transactions[2]
    for size in range(start, built.end + 1):
        found = scanned(write(built.data[:size]))
        assert (found.end, found.tail, found.damages, found.positions) == (
            start,
            size - start,
            (),
            {0: built.records[1, 0]},
        )


def test_a_transaction_in_flight_with_more_behind_it_is_damage(build, write):
    """ZODB would drop all that follows, so a scan before a write must not call it a tail."""
    built = build((1, b" ", {0: b"root"}), (2, b"c", {0: b"new"}), (3, b" ", {1: b"one"}))
    start = built.transactions[2]
    reason = "a transaction that was never finished is followed by more"
    assert scan_framing(write(built.data)) == [Damage(start + 16, "status", reason, tid=2)]


FIELDS = {
    "tid": (0, ">Q", 1, "not after the one before it, 0000000000000001"),
    "status": (16, ">c", b"x", "unknown status b'x'"),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_wrong_transaction_field_is_named(sample, write, field):
    """The damage says which field, at which offset, of which transaction."""
    offset, layout, value, reason = FIELDS[field]
    at = sample.transactions[2] + offset
    found = scan_framing(write(patched(sample.data, at, layout, value)))
    assert found[0] == Damage(at, field, reason, tid=1 if field == "tid" else 2)


RECORD_FIELDS = {
    "record's tid": (8, ">Q", 9, "0000000000000009, not its transaction's"),
    "previous record": (16, ">Q", 1 << 40, "points to 1099511627776, which is not before its own record"),
    "record's transaction": (24, ">Q", 4, "4, but its transaction starts at {start}"),
    "version length": (32, ">H", 7, "7, where only 0 is in use"),
}


@pytest.mark.parametrize("field", RECORD_FIELDS)
def test_a_wrong_record_field_is_named(sample, write, field):
    """The damage says which field of which object's record."""
    offset, layout, value, reason = RECORD_FIELDS[field]
    at = sample.records[2, 1] + offset
    found = scan_framing(write(patched(sample.data, at, layout, value)))
    assert found[0] == Damage(at, field, reason.format(start=sample.transactions[2]), 1, 2)


def test_a_record_that_reaches_beyond_its_transaction_is_named(sample, write):
    """A data length is checked against the transaction it is in."""
    at = sample.records[2, 3] + 34
    reason = "105 bytes reach 100 bytes beyond its transaction"
    assert scan_framing(write(patched(sample.data, at, ">Q", 105)))[0] == Damage(at, "data length", reason, 3, 2)


def test_a_transaction_shorter_than_its_header_is_named(sample, write):
    """A length of nothing stops nobody: the walk goes on with the transaction after."""
    at = sample.transactions[2] + 8
    found = scanned(write(patched(sample.data, at, ">Q", 3)))
    assert found.damages[0] == Damage(at, "length", "3 bytes are less than its own header", tid=2)
    assert (found.end, found.last_tid) == (sample.transactions[2], 1)
    assert found.positions[1] == sample.records[3, 1]


def test_a_repeated_length_that_disagrees_is_named(sample, write):
    """Both lengths are read, and the walk goes on behind them."""
    at = sample.transactions[3] - 8
    steps = []
    damages = []
    with DataFile(write(patched(sample.data, at, ">Q", 1))) as file:
        steps = list(walk(file, damages.append))
    length = sample.transactions[3] - sample.transactions[2] - 8
    assert damages == [Damage(at, "repeated length", f"1, but the header says {length}", tid=2)]
    assert [(step.header.tid, step.verdict) for step in steps] == [
        (1, Verdict.SOUND), (2, Verdict.DAMAGED), (3, Verdict.SOUND),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pointer", "reason"),
    [
        ("itself", "points to {itself}, which is not before its own record"),
        ("beyond", "points to 1000000, which is not before its own record"),
        ("other", "points to {other}, where there is no record of this object"),
        ("magic", "points to 2, which is not before its own record"),
        ("inside", "points to {inside}, where there is no record of this object"),
    ],
)
def test_a_back_pointer_that_leads_nowhere_is_named(sample, write, pointer, reason):
    """A pointer must lead to an earlier record of the same object."""
    places = {"itself": sample.records[3, 1], "other": sample.records[1, 2], "inside": sample.records[1, 1] + 5}
    value = places.get(pointer, {"beyond": 1_000_000, "magic": 2}.get(pointer))
    at = sample.records[3, 1] + 42
    found = scan_framing(write(patched(sample.data, at, ">Q", value)))
    assert found == [Damage(at, "back-pointer", reason.format(**places), 1, 3)]


def test_a_previous_pointer_to_no_record_is_named(sample, write):
    """A history that cannot be followed is found before it is needed."""
    at, wrong = sample.records[2, 1] + 16, sample.records[1, 2]
    reason = f"points to {wrong}, where there is no record of this object"
    found = scan_framing(write(patched(sample.data, at, ">Q", wrong)))
    assert found == [Damage(at, "previous record", reason, 1, 2)]


def test_long_chains_of_back_pointers_take_no_square_time(build, write):
    """Twenty thousand pointers, each to the one before, are followed once each."""
    steps = 20_000
    chain = [(1, b" ", {0: b"root"})] + [(tid, b" ", {0: tid - 1}) for tid in range(2, steps)]
    reads = 0

    class Counting(DataFile):
        def read(self, position, size):
            nonlocal reads
            reads += 1
            return super().read(position, size)

    with Counting(write(build(*chain).data)) as file:
        assert scan_file(file).damages == ()
    assert reads < 3 * steps


def test_an_undone_transaction_is_checked_by_its_lengths_only(build, write):
    """ZODB skips what status 'u' holds, and so does the scan."""
    built = build((1, b" ", {0: b"root"}), (2, b"u", {0: b"undone"}), (3, b" ", {0: b"new"}))
    found = scanned(write(patched(built.data, built.records[2, 0] + 8, ">Q", 77)))
    assert (found.damages, found.positions) == ((), {0: built.records[3, 0]})


def test_a_scan_reports_its_progress(sample, write):
    """Progress never goes back and ends within the file."""
    seen = []

    class Recorder(Silent):
        def start(self, title, total, unit):
            seen.append((title, total, unit))

        def advance(self, done):
            seen.append(done)

        def finish(self):
            seen.append("finish")

    scan_framing(write(sample.data), Recorder())
    assert seen == [("checking", sample.end, "bytes"), *sample.transactions.values(), "finish"]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_flipped_bytes_never_stop_a_scan(tmp_path_factory, data):
    """Whatever bytes are changed, the scan ends, within the file, and keeps to records that are there."""
    raw = bytearray(_seed())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(4, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.fs"
    path.write_bytes(raw)
    found = scanned(str(path))
    assert found.end + found.tail <= len(raw)
    for oid, position in found.positions.items():
        assert int.from_bytes(raw[position : position + 8], "big") == oid


def _seed():
    header = struct.Struct(">QQcHHH")
    record = struct.Struct(">QQQQHQ")
    data = b"FS30"
    previous = {}
    for tid in range(1, 6):
        start, body = len(data), b""
        for oid in range(tid % 3 + 1):
            place = start + header.size + len(body)
            content = b"data" * tid if tid % 2 or oid not in previous else b""
            tail = content or struct.pack(">Q", previous[oid])
            body += record.pack(oid, tid, previous.get(oid, 0), start, 0, len(content)) + tail
            previous[oid] = place
        length = header.size + len(body)
        data += header.pack(tid, length, b" ", 0, 0, 0) + body + struct.pack(">Q", length)
    return data


def test_the_corpus_is_sound():
    """Files that real applications left behind have no damage."""
    corpus = os.environ.get("ZODBSH_CORPUS", "")
    if not os.path.isdir(corpus):
        pytest.skip("ZODBSH_CORPUS names no folder")
    files = [os.path.join(top, name) for top, _, names in os.walk(corpus) for name in names if name.endswith(".fs")]
    assert len(files) == 7
    assert {path: scan_framing(path) for path in files} == {path: [] for path in files}


def test_what_a_writer_finishes_after_the_opening_is_the_tail(build, write):
    """The end is fixed at the opening: a transaction cut by it then, and whole now, is no damage."""
    built = build((1, b" ", {0: b"root"}), (2, b" ", {0: b"new root", 1: b"new"}))
    start = built.transactions[2]
    for size in range(start + 1, built.end):
        path = write(built.data[:size])
        with DataFile(path) as file:
            write(built.data)
            found = scan_file(file)
        assert (found.end, found.tail, found.damages) == (start, size - start, ())


def test_what_a_writer_takes_back_after_the_opening_is_no_damage(build, write):
    """An abort cuts the file where the transaction in flight began, and the reader does not mind."""
    built = build((1, b" ", {0: b"root"}), (2, b"c", {0: b"new root", 1: b"new"}))
    start = built.transactions[2]
    path = write(built.data)
    with DataFile(path) as file:
        os.truncate(path, start)
        found = scan_file(file)
    assert (found.end, found.damages, found.positions) == (start, (), {0: built.records[1, 0]})


def test_damage_that_a_second_look_does_not_find_was_a_writer(build, write, monkeypatch):
    """A transaction that looks cut while a writer replaces it is looked at again."""
    built = build((1, b" ", {0: b"root"}), (2, b" ", {0: b"new root"}))
    path = write(built.data[:-3])
    monkeypatch.setattr("time.sleep", lambda _: write(built.data))
    with DataFile(path) as file:
        found = scan_file(file)
    assert (found.end, found.tail, found.damages) == (built.transactions[2], built.end - 3 - built.transactions[2], ())
