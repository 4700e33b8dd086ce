"""Types that people know are shown as such; anything that only looks like one stays class and arguments."""

import pickle
import uuid
from collections import Counter, OrderedDict, defaultdict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest

from zodbsh.record.decode import decode_pickle
from zodbsh.record.values import Dict, Global, Instance, Set

SCALARS = [
    datetime(2024, 2, 29, 23, 59, 58, 123456),
    datetime(2024, 10, 27, 2, 30, fold=1),
    datetime(1, 1, 1),
    datetime(9999, 12, 31, 23, 59, 59, 999999),
    datetime(2024, 5, 1, 12, tzinfo=UTC),
    datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
    datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2), "summer")),
    date(2024, 2, 29),
    time(23, 59, 58, 123456),
    time(2, 30, fold=1),
    time(2, 30, tzinfo=UTC),
    timedelta(days=-1, seconds=5, microseconds=7),
    timedelta.max,
    timedelta.min,
    Decimal("1.50"),
    Decimal("-0"),
    Decimal("1E+999999"),
    Decimal("Infinity"),
    uuid.UUID("12345678-1234-5678-1234-567812345678"),
    uuid.UUID(int=0, is_safe=uuid.SafeUUID.safe),
    complex(1.5, -0.0),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("scalar", SCALARS, ids=repr)
def test_scalars_come_back_as_they_were(scalar, protocol):
    """By every protocol, alone and wherever the memo brings them again."""
    found, end = decode_pickle(data := pickle.dumps([scalar, scalar, {"k": scalar}], protocol))
    assert end == len(data)
    if isinstance(scalar, datetime | time) and protocol < 4:
        scalar = scalar.replace(fold=0)  # Those protocols have no room for it.
    for value in (found[0], found[1], found[2].get("k")):
        assert type(value) is type(scalar)
        assert (str(value), repr(value)) == (str(scalar), repr(scalar))
    if isinstance(scalar, datetime | time):
        assert (found[0].fold, found[0].tzname()) == (scalar.fold, scalar.tzname())
    if isinstance(scalar, uuid.UUID):
        assert found[0].is_safe is scalar.is_safe


def test_not_a_number_of_decimal():
    """NaN is a value; a signalling one, which raises where it is compared, stays what it is in the record."""
    assert str(decode_pickle(pickle.dumps(Decimal("NaN")))[0]) == "NaN"
    found = decode_pickle(pickle.dumps(Decimal("sNaN")))[0]
    assert (found.class_, found.args) == (Global("decimal", "Decimal"), ("sNaN",))


@pytest.mark.parametrize("protocol", range(6))
def test_containers(protocol):
    """Sets, and the dicts of ``collections``, by every protocol."""
    ordered, factory, counts = OrderedDict([("b", 1), ("a", 2)]), defaultdict(list, {"k": [1]}), Counter("aab")
    dumped = pickle.dumps(
        [{1, 2}, frozenset({3}), ordered, factory, counts, bytearray(b"\xff"), b"", b"\xff"], protocol
    )
    found = decode_pickle(dumped)[0]
    assert (type(found[0]), sorted(found[0].items), found[0].frozen) == (Set, [1, 2], False)
    assert (type(found[1]), found[1].items, found[1].frozen) == (Set, [3], True)
    assert (type(found[2]), found[2].pairs, found[2].class_.name) == (Dict, [("b", 1), ("a", 2)], "OrderedDict")
    assert (found[3].pairs, found[3].class_.name) == ([("k", [1])], "defaultdict")
    assert [factory.name for factory in found[3].args] == ["list"]
    assert (found[4].pairs, found[4].class_.name) == ([("a", 2), ("b", 1)], "Counter")
    assert (found[5].class_, found[5].args) == (Global("builtins", "bytearray"), (b"\xff",))
    assert found[6:] == [b"", b"\xff"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"cdatetime\ndatetime\n(U\n\x07\xda\x03\x01\x0c\x1e\x00\x00\x00\x00tR.", datetime(2010, 3, 1, 12, 30)),
        (b"cdatetime\ndatetime\n(U\n\x07\xe8\x02\x1d\x17;:\x01\xe2@tR.", datetime(2024, 2, 29, 23, 59, 58, 123456)),
        (b"cdatetime\ndatetime\n(U\n\x07\x7b\x03\x01\x0c\x1e\x00\x00\x00\x00tR.", datetime(1915, 3, 1, 12, 30)),
        (b"cdatetime\ndate\n(U\x04\x07\xda\x03\x01tR.", date(2010, 3, 1)),
        (b"cdatetime\ntime\n(U\x06\x0c\x1e\x00\x00\x00\x00tR.", time(12, 30)),
        (b"cdatetime\ntimedelta\n(K\x01K\x02K\x03tR.", timedelta(1, 2, 3)),
        (b"cdecimal\nDecimal\n(U\x031.5tR.", Decimal("1.5")),
        (b"c__builtin__\ncomplex\n(G?\xf0\x00\x00\x00\x00\x00\x00G@\x00\x00\x00\x00\x00\x00\x00tR.", 1 + 2j),
        (b"cuuid\nUUID\n)\x81}U\x03intK\x07sb.", uuid.UUID(int=7)),
        (b"ccopy_reg\n_reconstructor\n(cuuid\nUUID\nc__builtin__\nobject\nNtRp1\n(dS'int'\nL7L\nsb.", uuid.UUID(int=7)),
    ],
)
def test_what_python_2_wrote(data, expected):
    """Its str holds the bytes, whether or not they happen to be text."""
    assert decode_pickle(data)[0] == expected


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        (b"cpytz\n_UTC\n)R", UTC),
        (b"cpytz\nUTC\n", UTC),
        (b"czope.datetime\ntzinfo\n(J\x88\xff\xff\xfftR", timezone(timedelta(hours=-2))),
        (b"cpytz\n_FixedOffset\n(K\x3ctR", timezone(timedelta(hours=1))),
        (b"cdateutil.tz.tz\ntzutc\n)R", UTC),
        (b"N", None),
    ],
)
def test_zones_that_say_their_offset(zone, expected):
    """They are zones; nobody needs to be asked."""
    found = decode_pickle(b"cdatetime\ndatetime\n(U\n\x07\xda\x03\x01\x0c\x1e\x00\x00\x00\x00" + zone + b"tR.")[0]
    assert found == datetime(2010, 3, 1, 12, 30, tzinfo=expected)
    assert found.tzinfo == expected


@pytest.mark.parametrize(
    "zone",
    [
        b"cpytz\n_p\n(U\rEurope/ViennaM\x10\x0eK\x00U\x03CETtR",
        b"czoneinfo\nZoneInfo._unpickle\n(U\rEurope/ViennaK\x01tR",
        b"cm\nzone\n",
        b"czope.datetime\ntzinfo\n(J\xff\xff\xff\x7ftR",
        b"cdatetime\ntimezone\n(cdatetime\ntimedelta\n(K\x01K\x00K\x00tRtR",
    ],
)
def test_zones_that_only_code_can_tell(zone):
    """The local time is shown, and the zone as it stands in the record."""
    found = decode_pickle(b"cdatetime\ndatetime\n(U\n\x07\xda\x03\x01\x0c\x1e\x00\x00\x00\x00" + zone + b"tR.")[0]
    assert found.class_ == Global("datetime", "datetime")
    assert found.args[0] == datetime(2010, 3, 1, 12, 30)
    assert isinstance(found.args[1], Global | Instance)
    assert len(found.args) == 2


IMPOSTORS = [
    b"cdatetime\ndatetime\n(U\n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00tR.",
    b"cdatetime\ndatetime\n(U\x03abctR.",
    b"cdatetime\ndatetime\n(K\x01K\x02K\x03tR.",
    b"cdatetime\ndatetime\n)R.",
    b"cdatetime\ndate\n(U\x04\xff\xff\xff\xfftR.",
    b"cdatetime\ntime\n(U\x06\x7f\x7f\x7f\x7f\x7f\x7ftR.",
    b"cdatetime\ntimedelta\n(L999999999999999L\nK\x00K\x00tR.",
    b"cdatetime\ntimedelta\n(\x88K\x00K\x00tR.",
    b"cdatetime\ntimedelta\n(K\x01tR.",
    b"cdecimal\nDecimal\n(U\x01xtR.",
    b"cdecimal\nDecimal\n(K\x01tR.",
    b"cdecimal\nDecimal\n(X\x88\x13\x00\x00" + b"1" * 5000 + b"tR.",
    b"cdecimal\nDecimal\n(U\x0f1E9999999999999tR.",
    b"c__builtin__\nset\n(K\x01tR.",
    b"c__builtin__\nset\n(N(NltR.",
    b"ccollections\nOrderedDict\n((K\x01ltR.",
    b"ccollections\nOrderedDict\n(}tR.",
    b"ccollections\nCounter\n(]tR.",
    b"ccollections\ndefaultdict\n(NNNtR.",
    b"c_codecs\nencode\n(X\x03\x00\x00\x00\xe2\x82\xacU\x06latin1tR.",
    b"c_codecs\nencode\n(U\x01aU\x05utf-8tR.",
    b"c__builtin__\nbytes\n(K\x05tR.",
    b"c__builtin__\nbytearray\n(K\x05tR.",
    b"c__builtin__\ncomplex\n(NNtR.",
    b"c__builtin__\ngetattr\n(U\x01aU\x01btR.",
    b"ccopy_reg\n_reconstructor\n(NNNtR.",
    b"ccopy_reg\n__newobj__\n(NtR.",
    b"ccopy_reg\n__newobj__\n)R.",
    b"ccopy_reg\n__newobj_ex__\n(NNNtR.",
    b"cZODB.broken\nrebuild\n(U\x01mtR.",
    b"cuuid\nUUID\n(U\x03abctR.",
]


@pytest.mark.parametrize("data", IMPOSTORS)
def test_arguments_that_the_type_never_writes_leave_it_a_call(data):
    """No error, and nothing guessed: the class and the arguments are shown."""
    found = decode_pickle(data)[0]
    assert type(found) is Instance
    assert (
        f"c{found.class_.module}\n{found.class_.name}\n".encode()
        == data[: data.index(b"\n", data.index(b"\n") + 1) + 1]
    )


@pytest.mark.parametrize(
    "state",
    [
        b"N",
        b"}",
        b"}U\x03intU\x01xs",
        b"}U\x03int\x88s",
        b"}U\x03intL-1L\ns",
        b"}U\x03intK\x01sU\x01xNs",
        b"}U\x03intK\x01sU\x07is_safeK\x09s",
        b"(N}t",
    ],
)
def test_a_uuid_without_its_number_stays_an_instance(state):
    """Class and state."""
    found = decode_pickle(b"cuuid\nUUID\n)\x81" + state + b"b.")[0]
    assert (type(found), found.class_, found.has_state) == (Instance, Global("uuid", "UUID"), True)


@pytest.mark.parametrize(
    ("data", "class_", "args", "items", "pairs"),
    [
        (b"ccopy_reg\n_reconstructor\n(cm\nC\nc__builtin__\nobject\nNtR.", "C", (), [], []),
        (b"ccopyreg\n_reconstructor\n(cm\nC\ncbuiltins\nobject\nNtR.", "C", (), [], []),
        (b"ccopy_reg\n_reconstructor\n(cm\nC\nc__builtin__\ndict\n(K\x01K\x02dtR.", "C", (), [], [(1, 2)]),
        (b"ccopy_reg\n_reconstructor\n(cm\nC\nc__builtin__\nlist\n(K\x01K\x02ltR.", "C", (), [1, 2], []),
        (b"ccopy_reg\n_reconstructor\n(cm\nC\nc__builtin__\nint\nK\x05tR.", "C", (5,), [], []),
        (b"ccopy_reg\n__newobj__\n(cm\nC\nK\x01K\x02tR.", "C", (1, 2), [], []),
        (b"cZODB.broken\nrebuild\n(U\x01mU\x01CK\x01tR.", "C", (1,), [], []),
        (b"ccopyreg\n__newobj_ex__\n(cm\nC\n(K\x01t}tR.", "C", (1,), [], []),
    ],
)
def test_the_helpers_of_pickle_are_seen_through(data, class_, args, items, pairs):
    """What they make is an object of the class that they are given."""
    found = decode_pickle(data)[0]
    assert (found.class_, found.args, found.items, found.pairs) == (Global("m", class_), args, items, pairs)
    assert found.kwargs is None


def test_keyword_arguments_are_kept():
    """By protocols below 4, which have no instruction for them."""
    found = decode_pickle(b"ccopyreg\n__newobj_ex__\n(cm\nC\n)}U\x01kK\x01stR.")[0]
    assert (found.args, found.kwargs.pairs) == ((), [("k", 1)])


def test_attributes_of_a_dict_of_collections_are_kept():
    """An OrderedDict may have attributes of its own."""
    found = decode_pickle(b"ccollections\nOrderedDict\n)R(K\x01K\x02u}U\x01aK\x03sb.")[0]
    assert (found.pairs, found.state.pairs) == ([(1, 2)], [("a", 3)])


def test_what_a_call_is_given_later_does_not_change_what_it_made():
    """A set holds what its list held."""
    found = decode_pickle(b"](K\x01eq\x00c__builtin__\nset\nh\x00\x85Rh\x00K\x02a0h\x00\x86.")[0]
    assert (found[0].items, found[1]) == ([1], [1, 2])
