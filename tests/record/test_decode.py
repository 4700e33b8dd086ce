"""Records built by hand: every class form, every reference form, every instruction's meaning."""

import pytest

from zodbsh.record.decode import class_text, decode_pickle, decode_record, record_class, references
from zodbsh.record.limits import RecordError
from zodbsh.record.values import Dict, Global, Instance, Record, Ref, Set

OID = b"\x00\x00\x00\x00\x00\x00\x00\x2a"
HIGH = b"\xff\x00\x00\x00\x00\x00\xc3\x28"
C = Global("m", "C")


def value(data):
    """Decode one pickle and be sure that all of it was read."""
    found, end = decode_pickle(data)
    assert end == len(data)
    return found


def plain(found):
    """Return a value with Dict, Set and Instance as tuples, which compare."""
    if type(found) is Dict:
        content = [(plain(key), plain(item)) for key, item in found.pairs]
        return ("dict", content, found.class_, plain(found.args), plain(found.state))
    if type(found) is Set:
        return ("frozenset" if found.frozen else "set", plain(found.items))
    if type(found) is Instance:
        state = plain(found.state) if found.has_state else "no state"
        pairs = [(plain(key), plain(item)) for key, item in found.pairs]
        kwargs = plain(found.kwargs)
        return ("instance", plain(found.class_), plain(found.args), kwargs, state, plain(found.items), pairs)
    if type(found) in (list, tuple):
        return type(found)(plain(item) for item in found)
    return found


def instance(class_, args=(), state="no state", items=(), pairs=(), kwargs=None):
    """Return what ``plain`` makes of an Instance."""
    return ("instance", class_, args, kwargs, state, list(items), list(pairs))


def pairs(*content, class_=None, args=(), state=None):
    """Return what ``plain`` makes of a Dict."""
    return ("dict", list(content), class_, args, state)


# The class part.


@pytest.mark.parametrize(
    ("part", "class_", "args"),
    [
        (b"cm\nC\nq\x00.", C, ()),
        (b"cm\nC\np1\n.", C, ()),
        (b"\x80\x03cm\nC\nq\x00.", C, ()),
        (b"\x80\x04\x8c\x01m\x94\x8c\x01C\x94\x93\x94.", C, ()),
        (b"\x80\x04\x8c\x01m\x8c\x07Outer.C\x93.", Global("m", "Outer.C"), ()),
        (b"(cm\nC\nK\x01K\x02\x86t.", C, (1, 2)),
        (b"(cm\nC\nNt.", C, ()),
        (b"\x80\x02cm\nC\n)\x86.", C, ()),
        (b"((U\x01mU\x01Ctq\x01Nt.", C, ()),
        (b"\x80\x03(X\x01\x00\x00\x00mX\x01\x00\x00\x00C\x86K\x07\x85t.", C, (7,)),
        (b"\x80\x02U\x01mU\x01C\x86.", C, ()),
        (b"((U\x00U\x00tNt.", Global("", ""), ()),
        (b"c\n\n.", Global("", ""), ()),
        (b"c\nC\n.", Global("", "C"), ()),
        (b"U\x08" + OID + b"cmeta\nM\n\x86Q.", Ref(42, Global("meta", "M"), None, False, 2), ()),
        (b"(U\x08" + OID + b"cmeta\nM\n\x86QK\x01\x85t.", Ref(42, Global("meta", "M"), None, False, 3), (1,)),
        (b"U\x08" + OID + b"Q.", Ref(42, None, None, False, 2), ()),
        (b"\x82\x05.", Global("copyreg", "extension(5)"), ()),
        (b"\x83\x05\x01.", Global("copyreg", "extension(261)"), ()),
        (b"\x84\x05\x00\x00\x01.", Global("copyreg", "extension(16777221)"), ()),
        (b"(c__builtin__\ngetattr\n(cm\nOuter\nU\x01CtRNt.", Global("m", "Outer.C"), ()),
    ],
)
def test_every_form_of_the_class_part(part, class_, args):
    """The class and its arguments, by whatever form a record has them."""
    found = tuple(name for name in (class_,) if isinstance(name, Ref))
    record = decode_record(part + b"}.")
    assert record._replace(state=None) == Record(class_, args, None, found)
    assert plain(record.state) == pairs()
    assert record_class(part + b"}.") == class_
    assert references(part + b"}.") == found


@pytest.mark.parametrize(
    "part",
    [b"K\x01.", b"N.", b"U\x01C.", b"(cm\nC\nK\x01t.", b"(U\x01mNt.", b"((U\x01mK\x01tNt.", b"cm\nC\n)R.", b"]."],
)
def test_a_class_part_that_names_no_class_is_an_error(part):
    """The error stands where the class part ends."""
    for decode in (decode_record, record_class, references):
        with pytest.raises(RecordError) as caught:
            decode(part + b"}.")
        assert caught.value.offset == len(part) - 1


@pytest.mark.parametrize(
    ("class_", "text"),
    [
        (Global("a.b", "C"), "a.b.C"),
        (Global("", "C"), "C"),
        (Global("", ""), "(unnamed)"),
        (Global("m", ""), "m.(unnamed)"),
        (None, "(unnamed)"),
        (Ref(42), "(persistent class 0x2a)"),
    ],
)
def test_a_class_as_it_is_shown(class_, text):
    """Also where it has no name."""
    assert class_text(class_) == text


def test_the_memo_is_shared_by_the_two_pickles():
    """ZODB writes both with one pickler: the state may refer to the class by the memo."""
    assert decode_record(b"cm\nC\nq\x00.h\x00.").state == C
    assert decode_record(b"\x80\x04\x8c\x01m\x94\x8c\x01C\x94\x93\x94.\x80\x04h\x02.").state == C
    assert decode_record(b"\x80\x04\x8c\x01m\x94\x8c\x01C\x94\x93\x94.\x80\x04K\x07\x94h\x03\x86.").state == (7, 7)


def test_the_stack_is_not_shared_by_the_two_pickles():
    """What the first leaves behind, the second does not find."""
    with pytest.raises(RecordError) as caught:
        decode_record(b"Ncm\nC\n.\x85.")
    assert (caught.value.offset, caught.value.reason) == (7, "TUPLE1 finds too little on the stack")


def test_what_follows_the_state_is_ignored():
    """As ZODB ignores it."""
    assert decode_record(b"cm\nC\n.K\x07.rubbish").state == 7


# References.


@pytest.mark.parametrize(
    ("pid", "reference"),
    [
        (b"U\x08" + OID, Ref(42, offset=8)),
        (b"C\x08" + OID, Ref(42, offset=8)),
        (b"T\x08\x00\x00\x00" + OID, Ref(42, offset=11)),
        (b"B\x08\x00\x00\x00" + OID, Ref(42, offset=11)),
        (b"\x8e\x08\x00\x00\x00\x00\x00\x00\x00" + OID, Ref(42, offset=15)),
        (b"U\x08" + HIGH, Ref(int.from_bytes(HIGH, "big"), offset=8)),
        (b"X\x08\x00\x00\x00" + OID, Ref(42)),
        (b"V\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000*\n", Ref(42)),
        (b"S'\\x00\\x00\\x00\\x00\\x00\\x00\\xc3\\xa9'\n", Ref(0xC3A9)),
        (b"S'\\xff\\x00\\x00\\x00\\x00\\x00\\x00*'\n", Ref(0xFF0000000000002A)),
        (b"U\x08" + OID + b"cm\nC\n\x86", Ref(42, C, offset=8)),
        (b"(U\x08" + OID + b"cm\nC\nt", Ref(42, C, offset=9)),
        (b"(U\x08" + OID + b"Nt", Ref(42, offset=9)),
        (b"(U\x08" + OID + b"(U\x01mU\x01Ctt", Ref(42, C, offset=9)),
        (b"](U\x01wU\x08" + OID + b"\x85e", Ref(42, weak=True, offset=13)),
        (b"](X\x01\x00\x00\x00wC\x08" + OID + b"X\x05\x00\x00\x00other\x86e", Ref(42, None, "other", True, 16)),
        (b"](U\x01wU\x08" + OID + b"N\x86e", Ref(42, weak=True, offset=13)),
        (b"](U\x01nU\x05otherU\x08" + OID + b"\x86e", Ref(42, None, "other", False, 20)),
        (b"](U\x01n(U\x05otherU\x08" + OID + b"le", Ref(42, None, "other", False, 21)),
        (b"](U\x01nU\x02\xff\xfeU\x08" + OID + b"\x86e", Ref(42, None, "\xff\xfe", False, 17)),
        (b"](U\x01mU\x05otherU\x08" + OID + b"cm\nC\n\x87e", Ref(42, C, "other", False, 20)),
        (b"]U\x08" + OID + b"a", Ref(42, weak=True, offset=9)),
    ],
)
def test_every_form_of_a_reference(pid, reference):
    """Oid, class, database, weakness, and where the oid's bytes stand."""
    data = b"cm\nC\n." + pid + b"Q."
    assert decode_record(data) == Record(C, (), reference, (reference,))
    assert references(data) == (reference,)
    if reference.offset is not None:
        assert data[reference.offset : reference.offset + 8] == reference.oid.to_bytes(8, "big")


@pytest.mark.parametrize(
    ("line", "oid"),
    [
        (b"abcdefgh", 0x6162636465666768),
        (OID, 42),
        (b"b'\\x00\\x00\\x00\\x00\\x00\\x00\\x00*'", 42),
        (b"'\\x00\\x00\\x00\\x00\\x00\\x00\\x00*'", 42),
        (b"'abcdef'", int.from_bytes(b"'abcdef'", "big")),
    ],
)
def test_a_reference_of_protocol_0(line, oid):
    """PERSID holds the oid as it is, or as Python 3 writes bytes; it has no place for other bytes."""
    assert decode_record(b"cm\nC\n.P" + line + b"\n.").references == (Ref(oid),)


@pytest.mark.parametrize(
    "pid",
    [
        b"N",
        b"K\x01",
        b"U\x07" + OID[1:],
        b"C\x09" + OID + b"x",
        b")",
        b"U\x08" + OID + b"\x85",
        b"]",
        b"}",
        b"cm\nC\n",
        b"(U\x08" + OID + b"K\x01t",
        b"(U\x08" + OID + b"cm\nC\nNt",
        b"(cm\nC\nU\x08" + OID + b"t",
        b"X\x0c\x00\x00\x00" + b"\xc3\xa9" * 6,
        b"X\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\xc3\xa9",
        b"](U\x01xU\x08" + OID + b"\x85e",
        b"](U\x01wU\x08" + OID + b"e",
        b"](U\x01w)e",
        b"](U\x01nU\x08" + OID + b"\x85e",
        b"](U\x01mU\x05otherU\x08" + OID + b"\x86e",
        b"](U\x01nK\x05U\x08" + OID + b"\x86e",
        b"](NNNe",
        b"(U\x08" + OID + b"(U\x01mNtt",
        b"](NNe",
    ],
)
def test_a_reference_of_any_other_form_is_an_error(pid):
    """The error stands at the BINPERSID."""
    data = b"cm\nC\n." + pid + b"Q."
    for decode in (decode_record, references):
        with pytest.raises(RecordError) as caught:
            decode(data)
        assert caught.value.offset == len(data) - 2


@pytest.mark.parametrize("line", [b"", b"abc", b"123456789", b"b'abc'", b"'\\x00'"])
def test_a_reference_of_protocol_0_without_8_bytes_is_an_error(line):
    """Nothing is made up."""
    with pytest.raises(RecordError) as caught:
        decode_record(b"cm\nC\n.P" + line + b"\n.")
    assert caught.value.offset == 6


def test_an_oid_that_comes_through_the_memo_keeps_its_bytes_and_their_place():
    """Python 2's str may be text or not: an oid is its 8 bytes, wherever it is used again."""
    for oid in (OID, HIGH):
        first = 10
        data = b"cm\nC\n.](U\x08" + oid + b"q\x05cm\nC\nq\x06\x86Qh\x05Qh\x05h\x06\x86Q](U\x01wh\x05\x85eQ2e."
        number = int.from_bytes(oid, "big")
        record = decode_record(data)
        weak = Ref(number, None, None, True, first)
        known = Ref(number, C, None, False, first)
        assert record.references == (known, Ref(number, None, None, False, first), known, weak)
        assert record.state == [known, Ref(number, None, None, False, first), known, weak, weak]


def test_an_oid_by_way_of_latin_1_has_no_place_of_its_own():
    """Protocols below 3 of Python 3 write bytes as text with an encoding."""
    data = b"cm\nC\n.c_codecs\nencode\n(V\\u0000\\u0000\\u0000\\u0000\\u0000\\u0000\xc3*\nX\x06\x00\x00\x00latin1tRQ."
    assert decode_record(data).references == (Ref(0xC32A),)


def test_references_stand_in_the_order_of_the_bytes():
    """The class part's first, one within another's class before it, those that the state drops as well."""
    data = b"U\x08AAAAAAAAQ.(U\x08BBBBBBBBQ0U\x08CCCCCCCCU\x08DDDDDDDDcm\nMeta\n\x86Q\x86Q."
    record = decode_record(data)
    assert [reference.oid.to_bytes(8, "big")[:1] for reference in record.references] == [b"A", b"B", b"D", b"C"]
    assert record.references[3].class_ == record.references[2]
    assert record.class_ == record.references[0]


def test_classes_of_classes_end():
    """A class may be persistent, and so may its class; a hostile chain is an error."""
    fine = b"U\x08" + OID + b"cm\nM\n\x86Q"
    for _ in range(3):
        fine = b"U\x08" + OID + fine + b"\x86Q"
    assert len(decode_record(b"cm\nC\n." + fine + b".").references) == 4
    for _ in range(20):
        fine = b"U\x08" + OID + fine + b"\x86Q"
    with pytest.raises(RecordError, match="class of a class"):
        decode_record(b"cm\nC\n." + fine + b".")


# Values.


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # Python 2's str: text where it is UTF-8.
        (b"U\x03abc.", "abc"),
        (b"U\x02\xc3\xa9.", "\xe9"),
        (b"U\x02\xc3\x28.", b"\xc3("),
        (b"T\x02\x00\x00\x00\xff\xfe.", b"\xff\xfe"),
        (b"U\x08" + OID + b".", OID.decode()),
        (b"U\x08" + HIGH + b".", HIGH),
        # Bytes and text.
        (b"C\x03abc.", b"abc"),
        (b"B\x01\x00\x00\x00a.", b"a"),
        (b"\x8e" + b"\x01" + b"\0" * 7 + b"a.", b"a"),
        (b"\x8d" + b"\x02" + b"\0" * 7 + b"\xc3\xa9.", "\xe9"),
        (b"X\x03\x00\x00\x00\xed\xa0\x80.", "\ud800"),
        # Numbers.
        (b"J\xff\xff\xff\xff.", -1),
        (b"M\xff\xff.", 65535),
        (b"K\xff.", 255),
        (b"\x8a\x00.", 0),
        (b"\x8a\x02\x00\x80.", -32768),
        (b"\x8b\x01\x00\x00\x00\x7f.", 127),
        (b"G?\xf8\x00\x00\x00\x00\x00\x00.", 1.5),
        (b"\x88.", True),
        (b"\x89.", False),
        (b"N.", None),
        # Containers.
        (b").", ()),
        (b"(t.", ()),
        (b"N\x85.", (None,)),
        (b"K\x01K\x02\x86.", (1, 2)),
        (b"K\x01K\x02K\x03\x87.", (1, 2, 3)),
        (b"(K\x01K\x02l.", [1, 2]),
        (b"]K\x01a(K\x02K\x03e.", [1, 2, 3]),
        (b"}.", pairs()),
        (b"(K\x01K\x02d.", pairs((1, 2))),
        (b"}K\x01K\x02s(K\x03K\x04u.", pairs((1, 2), (3, 4))),
        (b"}]Ns.", pairs(([], None))),
        (b"\x8f(K\x01K\x02\x90.", ("set", [1, 2])),
        (b"(K\x01\x91.", ("frozenset", [1])),
        (b"\x96" + b"\x02" + b"\0" * 7 + b"ab.", instance(Global("builtins", "bytearray"), (b"ab",))),
        # The stack and the memo.
        (b"K\x01N0.", 1),
        (b"K\x01(NN1.", 1),
        (b"K\x01(0.", 1),
        (b"K\x012\x86.", (1, 1)),
        (b"Np5\n0g5\n.", None),
        (b"K\x07r\xff\xff\xff\xff0j\xff\xff\xff\xff.", 7),
        (b"K\x07p2000000000\n0g2000000000\n.", 7),
        (b"\x80\x05\x95\x02\0\0\0\0\0\0\0N.", None),
        # Classes and objects.
        (b"cm\nC\n.", C),
        (b"cm\nC\nN\x85R.", instance(C, (None,))),
        (b"cm\nC\nNR.", instance(C)),
        (b"cm\nC\n)\x81.", instance(C)),
        (b"cm\nC\n)\x81}b.", instance(C, (), pairs())),
        (b"cm\nC\n)\x81Nb.", instance(C, (), None)),
        (b"cm\nC\nK\x01\x85}U\x01kK\x02s\x92.", instance(C, (1,), kwargs=pairs(("k", 2)))),
        (b"cm\nC\n)}\x92.", instance(C)),
        (b"(cm\nC\nK\x01o.", instance(C, (1,))),
        (b"(cm\nC\no}U\x01aK\x01sb.", instance(C, (), pairs(("a", 1)))),
        (b"(K\x01im\nC\n.", instance(C, (1,))),
        (b"(im\nC\n}b.", instance(C, (), pairs())),
        (b"cm\nC\n)\x81K\x01a(K\x02e.", instance(C, items=[1, 2])),
        (b"cm\nC\n)\x81K\x01K\x02s.", instance(C, pairs=[(1, 2)])),
        (b"cm\nC\n)\x81(K\x01\x90.", instance(C, items=[1])),
        (b"cm\nC\n)R)R.", instance(instance(C))),
        (b"U\x08" + OID + b"Q)\x81.", instance(Ref(42, offset=2))),
    ],
)
def test_what_instructions_make(data, expected):
    """One value for each instruction's meaning."""
    found = plain(value(data))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"", 0, "the record ends before its STOP"),
        (b"N", 1, "the record ends before its STOP"),
        (b".", 0, "STOP finds too little on the stack"),
        (b"(.", 1, "STOP finds too little on the stack"),
        (b"\xff.", 0, "byte 0xff is no instruction"),
        (b"K", 0, "the record ends inside its argument"),
        (b"M\x01", 0, "the record ends inside BININT2"),
        (b"U\x05abc", 0, "the record ends inside SHORT_BINSTRING, 2 bytes too early"),
        (b"T\xff\xff\xff\xff.", 0, "a negative length, -1"),
        (b"X\xff\xff\xff\xff.", 0, "the record ends inside BINUNICODE, 4294967294 bytes too early"),
        (b"\x8e" + b"\xff" * 8, 0, "the record ends inside BINBYTES8, 18446744073709551615 bytes too early"),
        (b"X\x02\x00\x00\x00\xc3\x28.", 0, "a text that is not UTF-8"),
        (b"c\xff\nC\n.", 0, "a name that is not UTF-8"),
        (b"cm\nC", 0, "the lines of its name have no end"),
        (b"Nt.", 1, "TUPLE finds too little on the stack"),
        (b"N\x86.", 1, "TUPLE2 finds too little on the stack"),
        (b"h\x05.", 0, "the memo has no entry 5"),
        (b"q\x05.", 0, "BINPUT finds too little on the stack"),
        (b"j\x00\x94\x35\x77.", 0, "the memo has no entry 2000000000"),
        (b"(Nd.", 2, "a key without a value"),
        (b"}(Nu.", 3, "a key without a value"),
        (b"NNa.", 2, "items for something that is no list"),
        (b"](NNeNNs.", 7, "keys for something that is no dict"),
        (b"](N\x90.", 3, "items for something that is no set"),
        (b"(\x91(N\x90.", 4, "items for something that is no set"),
        (b"K\x01)R.", 3, "an object whose class is no class"),
        (b"cm\nC\n]R.", 6, "an object whose arguments are no tuple"),
        (b"cm\nC\nN\x81.", 6, "an object whose arguments are no tuple"),
        (b"cm\nC\n)N\x92.", 7, "an object whose keyword arguments are no dict"),
        (b"(o.", 1, "OBJ finds too little on the stack"),
        (b"N}b.", 2, "a state for something that has none"),
        (b"}}b.", 2, "a state for something that has none"),
        (b"cm\nC\n)\x81}b}b.", 10, "an object that gets a state twice"),
        (b"NN\x93.", 2, "a class whose name is no text"),
        (b"\x82\x00.", 0, "extension code 0"),
        (b"\x84\xff\xff\xff\xff.", 0, "extension code -1"),
        (b"\x80\x06N.", 0, "pickle protocol 6; the highest known is 5"),
        (b"\x95\x09\0\0\0\0\0\0\0N.", 0, "a frame of 9 bytes, but 2 are left"),
        (b"\x97.", 0, "NEXT_BUFFER asks for a buffer outside the record"),
        (b"N\x98.", 1, "READONLY_BUFFER asks for a buffer outside the record"),
    ],
)
def test_what_cannot_be_decoded_says_where_and_why(data, offset, reason):
    """The position is that of the instruction."""
    with pytest.raises(RecordError) as caught:
        decode_pickle(data)
    assert (caught.value.offset, caught.value.reason) == (offset, reason)
    assert caught.value.message == f"a record cannot be decoded: {reason} (at byte {offset})"


def test_a_list_may_hold_itself():
    """Also by way of a tuple, a dict and an object's state."""
    found = value(b"]q\x00h\x00ah\x00\x85a.")
    assert found[0] is found
    assert found[1][0] is found
    self_state = value(b"cm\nC\n)\x81q\x01}U\x02meh\x01sb.")
    assert self_state.state.get("me") is self_state


def test_a_shared_value_stays_shared():
    """What the memo holds is one value, wherever it appears."""
    found = value(b"(]q\x00h\x00h\x00l.")
    assert found[0] is found[1] is found[2]
