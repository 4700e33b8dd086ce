"""What Python 2.7 really wrote: one record by pickle and cPickle, by protocols 0, 1 and 2.

Each line of ``python2.b64`` is such a record in base64, first cPickle's, then
pickle's: the class part ``__main__.New``, then a list with an old-style object
that holds itself, one with ``__getinitargs__``, a new-style object, subclasses
of list and dict, what the standard library offers, and references
(``(oid, class)``; bare oids in protocol 0), the last of which repeats an oid.
"""

import base64
import uuid
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from zodbsh.record.decode import decode_record, references
from zodbsh.record.values import Dict, Global, Instance, Ref, Set

RECORDS = [base64.b64decode(line) for line in (Path(__file__).parent / "python2.b64").read_bytes().split()]
OIDS = (0x2A, 0xFF0000000000C328, 0x6162636465666768, 0xFF0000000000C328)
NEW = Global("__main__", "New")


def told(value):
    """Return a value as what compares: an object as class, arguments, state, items and pairs."""
    if isinstance(value, Instance):
        state = value.state.pairs if isinstance(value.state, Dict) else value.state
        return value.class_.dotted, value.args, state, value.items, value.pairs
    if isinstance(value, Dict):
        return value.class_ and value.class_.name, value.pairs
    if isinstance(value, Set):
        return value.frozen, value.items
    return value


@pytest.mark.parametrize("index", range(6))
def test_a_record_of_python_2(index):
    """The same values by both picklers and all protocols."""
    record = decode_record(RECORDS[index])
    assert record.class_ == NEW
    old = record.state[0]
    assert (old.class_, old.args, old.state.get("a")) == (Global("__main__", "Old"), (), 1)
    assert old.state.get("me") is old
    assert [told(value) for value in record.state[1:27]] == [
        ("__main__.OldArgs", (3,), [("x", 3)], [], []),
        ("__main__.New", (), [("a", b"\xff\xfe"), ("b", "\u20ac")], [], []),
        ("__main__.L", (), [("x", 1)], [1, 2], []),
        ("__main__.D", (), [("y", 2)], [], [("a", 1)]),
        datetime(2010, 3, 1, 12, 30, 5, 77),  # it has no zone
        date(1915, 1, 2),
        timedelta(1, 2, 3),
        time(1, 2, 3),
        Decimal("1.5"),
        uuid.UUID(int=77),
        (False, [1, 2]),
        (True, [3]),
        ("OrderedDict", [("b", 1), ("a", 2)]),
        ("defaultdict", [("k", [1])]),
        ("Counter", [("a", 2), ("b", 1)]),
        ("builtins.bytearray", (b"\xff",), None, [], []),
        1 + 2j,
        2**70,
        True,
        1.5,
        b"caf\xe9",
        "caf\xe9",
        "abc",
        ("collections.deque", ([1, 2],), None, [], []),
        ("__builtin__.xrange", (0, 3, 1), None, [], []),
        ("exceptions.Exception", ("x",), None, [], []),
    ]


@pytest.mark.parametrize("index", range(6))
def test_references_of_python_2(index):
    """The oid's bytes, whether or not they are text, and the place of their first appearance."""
    found = references(RECORDS[index])
    if index % 3 == 0:
        assert found == tuple(Ref(oid) for oid in OIDS)
        return
    assert [(reference.oid, reference.class_) for reference in found] == [(oid, NEW) for oid in OIDS]
    for reference in found:
        assert RECORDS[index][reference.offset : reference.offset + 8] == reference.oid.to_bytes(8, "big")
    assert found[1].offset == found[3].offset
