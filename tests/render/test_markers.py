"""Decoded values as zodb-json-codec's markers."""

from __future__ import annotations

import collections
import json
import pickle
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction

import BTrees.IIBTree
import BTrees.Length
import BTrees.OOBTree
import pytest
import transaction
import ZODB
from persistent import Persistent
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping

from zodbsh.record.decode import decode_pickle, decode_record
from zodbsh.record.values import Dict, Global, Ref
from zodbsh.render.jsontext import dumps, value_json
from zodbsh.render.markers import state_json


class Plain:
    def __init__(self):
        self.x = 1

    def __repr__(self):
        return "Plain()"


class Account(Persistent):
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class WithSlots(Persistent):
    __slots__ = ("q",)

    def __init__(self):
        self.q = 1


def ours(value) -> object:
    return json.loads(dumps(value_json(value)))


VALUES = [
    None, True, 12, -5, 2**63 - 1, 2**63, -(2**70), 1.5, "text", "", b"", b"abc\xff", [], [1, [2]], (), (1, (2,)), {},
    {"a": {"b": 1}}, {1: 2, "x": 3}, {(1, 2): 3}, {None: 1}, {1}, frozenset({"a"}),
    datetime(2020, 1, 2), datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    datetime(2020, 1, 2, tzinfo=timezone(timedelta(hours=2))), date(2020, 1, 2), time(1, 2, 3), time(1, tzinfo=UTC),
    timedelta(1, 2, 3), Decimal("1.50"), Decimal("NaN"), uuid.UUID(int=5), complex(1, 2), Fraction(1, 2), Plain(),
    Plain, len, range(3), ValueError("x"),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_are_written_as_the_codec_writes_them(value):
    """Every marker of a plain pickle equals zodb-json-codec's."""
    codec = pytest.importorskip("zodb_json_codec")
    data = pickle.dumps(value, 3)
    assert ours(decode_pickle(data)[0]) == codec.pickle_to_dict(data)


def records() -> list[bytes]:
    """One record of each kind that the markers tell apart."""
    database = ZODB.DB(None)
    connection = database.open()
    root = connection.root()
    root["account"] = Account(x=1, child=Account(y=(1, b"2")))
    root["slots"] = WithSlots()
    root["small"] = BTrees.OOBTree.BTree({"a": 1, "b": 2})
    root["large"] = BTrees.OOBTree.BTree({str(number): number for number in range(100)})
    root["empty"] = BTrees.OOBTree.BTree()
    root["treeset"] = BTrees.OOBTree.TreeSet(map(str, range(100)))
    root["smallset"] = BTrees.OOBTree.TreeSet([1, 2])
    root["set"] = BTrees.IIBTree.IISet([1, 2])
    root["noset"] = BTrees.IIBTree.IISet()
    root["bucket"] = BTrees.OOBTree.OOBucket({1: 2})
    root["nobucket"] = BTrees.OOBTree.OOBucket()
    root["length"] = BTrees.Length.Length(5)
    root["mapping"] = PersistentMapping({1: 2, "x": 3})
    root["list"] = PersistentList([1, 2])
    transaction.commit()
    found = [record.data for entry in database.storage.iterator() for record in entry]
    connection.close()
    database.close()
    return found


def test_records_are_written_as_the_codec_writes_them():
    """Classes, references, BTrees of every kind: record by record, equal to zodb-json-codec's."""
    codec = pytest.importorskip("zodb_json_codec")
    data = records()
    assert len(data) == 29
    for raw in data:
        record = decode_record(raw)
        whole = {"@cls": [record.class_.module, record.class_.name], "@s": state_json(record)}
        assert json.loads(dumps(whole)) == codec.decode_zodb_record(raw)


def test_a_key_that_looks_like_a_marker_is_written_as_a_pair():
    """A dict with the key @ref is no reference: its pairs are written out."""
    assert ours(Dict([("@ref", "0000000000000001")])) == {"@d": [["@ref", "0000000000000001"]]}


def test_keys_that_repeat_are_all_written():
    """A damaged or hostile dict with a key twice loses neither value."""
    assert ours(Dict([("a", 1), ("a", 2)])) == {"@d": [["a", 1], ["a", 2]]}


def test_the_items_of_a_reduced_object_are_kept():
    """An OrderedDict keeps its pairs, a deque its items."""
    reduced = ours(decode_pickle(pickle.dumps(collections.OrderedDict([("a", 1)]), 3))[0])
    assert reduced == {
        "@reduce": {"callable": {"@cls": ["collections", "OrderedDict"]}, "args": {"@t": []}, "pairs": [["a", 1]]}
    }
    deque = ours(decode_pickle(pickle.dumps(collections.deque([1, 2]), 3))[0])
    assert deque["@reduce"]["items"] == [1, 2]


def test_a_reference_says_all_it_knows():
    """Oid, class, database, weakness."""
    assert ours(Ref(0x2A)) == {"@ref": "000000000000002a"}
    assert ours(Ref(0x2A, Global("account", "Account"))) == {"@ref": ["000000000000002a", "account.Account"]}
    assert ours(Ref(1, database="other", weak=True)) == {
        "@ref": "0000000000000001",
        "@weak": True,
        "@database": "other",
    }


def test_a_number_of_any_length_is_written():
    """Digits beyond what Python converts are written in hex."""
    assert ours(1 << 20000) == {"@bi": hex(1 << 20000)}
