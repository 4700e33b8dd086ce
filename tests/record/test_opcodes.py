"""The table of instructions, against Python's own."""

import pickle
import pickletools
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zodbsh.record.disassemble import Instruction, disassemble
from zodbsh.record.interpreter import HANDLERS
from zodbsh.record.limits import DEFAULT_LIMITS, RecordError
from zodbsh.record.objects import unknown
from zodbsh.record.opcodes import OPCODES, unescape
from zodbsh.record.values import Global

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=300),
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner) | st.sets(st.integers())
    ),
    max_leaves=20,
)


def test_every_instruction_of_every_protocol_is_known():
    """The names are Python's own, and each has a handler."""
    ours = {chr(code): opcode.name for code, opcode in OPCODES.items()}
    assert ours == {opcode.code: opcode.name for opcode in pickletools.opcodes}
    assert {code for code in range(256) if HANDLERS[code] is not unknown} == set(OPCODES)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.integers(0, 5))
def test_disassembling_agrees_with_pickletools(value, protocol):
    """Offsets, names and arguments are those that pickletools gives."""
    data = pickle.dumps(value, protocol)
    expected = []
    for opcode, argument, position in pickletools.genops(data):
        read = {"STACK_GLOBAL": lambda _: None, "MEMOIZE": lambda _: None, "GET": int, "PUT": int}
        read["GLOBAL"] = lambda text: Global(*text.split(" "))
        expected.append(Instruction(position, opcode.name, read.get(opcode.name, lambda same: same)(argument)))
    assert list(disassemble(data)) == expected


def test_disassembling_goes_through_both_pickles_of_a_record():
    """The class part and the state follow one another."""
    assert list(disassemble(b"cm\nC\n.K\x07.")) == [
        (0, "GLOBAL", Global("m", "C")),
        (5, "STOP", None),
        (6, "BININT1", 7),
        (8, "STOP", None),
    ]


def test_disassembling_shows_what_stands_before_the_damage():
    """The error comes at the damage, not before it."""
    instructions = disassemble(b"K\x07N\xff.")
    assert next(instructions) == (0, "BININT1", 7)
    assert next(instructions) == (2, "NONE", None)
    with pytest.raises(RecordError) as caught:
        next(instructions)
    assert (caught.value.offset, caught.value.reason) == (3, "byte 0xff is no instruction")


@pytest.mark.parametrize("code", sorted(OPCODES))
def test_no_argument_reaches_past_the_end(code):
    """Where it would, it is an error."""
    opcode = OPCODES[code]
    whole = bytes((code,)) + b"\xff" * 9
    for end in range(1, len(whole)):
        try:
            position = opcode.read(whole[:end], 0, DEFAULT_LIMITS)[1]
        except RecordError as error:
            position = error.offset
        assert position <= end


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_escapes_of_a_string_are_undone(raw):
    """What repr writes of bytes reads back."""
    assert unescape(repr(raw)[2:-1].encode("ascii"), 0) == raw


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (rb"\0\18\777", b"\x00\x018\xff"),
        (rb"\q\z", rb"\q\z"),
        (b"a\\\nb", b"ab"),
        (rb"\a\b\f\v\"\'", b"\a\b\f\v\"'"),
        (rb"\8\9", rb"\8\9"),
    ],
)
def test_rare_escapes_of_a_string_are_those_of_python(raw, expected):
    """Octal digits, unknown letters, a continued line."""
    assert unescape(raw, 0) == expected


@pytest.mark.parametrize("raw", [rb"\x1", rb"\x", b"a\\"])
def test_a_broken_escape_is_an_error(raw):
    """It is not guessed."""
    with pytest.raises(RecordError):
        unescape(raw, 5)


@pytest.mark.parametrize(
    ("code", "line", "expected"),
    [
        ("I", b"00", False),
        ("I", b"01", True),
        ("I", b"-17", -17),
        ("I", b"0", 0),
        ("L", b"12345678901234567890L", 12345678901234567890),
        ("L", b"-5", -5),
        ("F", b"1.5", 1.5),
        ("F", b"-1e-07", -1e-07),
        ("F", b"inf", float("inf")),
        ("V", b"\\u20ac\xe9", "\u20ac\xe9"),
        ("S", b"'a\\xe9'", b"a\xe9"),
        ("S", b'"it\'s"', "it's"),
        ("g", b"4000000000", 4000000000),
    ],
)
def test_text_arguments(code, line, expected):
    """Protocol 0 writes its arguments as lines."""
    data = code.encode() + line + b"\n."
    assert OPCODES[ord(code)].read(data, 0, DEFAULT_LIMITS) == (expected, len(line) + 2)


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("I", b""),
        ("I", b"0x10"),
        ("I", b"1_000"),
        ("I", b" 1"),
        ("L", b"L"),
        ("L", b"9" * 4301),
        ("F", b"1,5"),
        ("F", b"0x1p3"),
        ("F", b"1" * 5000),
        ("S", b"'"),
        ("S", b"abc"),
        ("S", b"'abc\""),
        ("V", b"\\u12"),
        ("g", b"-1"),
        ("g", b"4294967296"),
        ("p", b"1" * 5000),
    ],
)
def test_text_arguments_that_no_pickler_writes(code, line):
    """They are errors, and cheap ones."""
    with pytest.raises(RecordError) as caught:
        OPCODES[ord(code)].read(code.encode() + line + b"\n.", 0, DEFAULT_LIMITS)
    assert caught.value.offset == 0


def test_a_number_in_binary_has_as_many_digits_as_one_in_text():
    """LONG4 is capped where Python would no longer print the number."""
    largest = 4300 * 3321 // 8000
    data = b"\x8b" + struct.pack("<i", largest) + b"\x7f" * largest
    assert len(str(OPCODES[0x8B].read(data, 0, DEFAULT_LIMITS)[0])) <= 4300
    with pytest.raises(RecordError):
        OPCODES[0x8B].read(b"\x8b" + struct.pack("<i", largest + 1) + b"\x7f" * (largest + 1), 0, DEFAULT_LIMITS)
