"""Records that ZODB writes decode to what ZODB loads.

``matches`` compares a loaded object with a decoded value and shares no code with
the decoder.
"""

import io
import pickle
import struct
import uuid
from collections import Counter, OrderedDict, defaultdict
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import persistent
import zodbpickle.pickle
from BTrees.IOBTree import IOBTree
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree, OOTreeSet
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping
from persistent.wref import WeakRef
from transaction import TransactionManager
from ZODB.DB import DB
from ZODB.MappingStorage import MappingStorage
from ZODB.persistentclass import PersistentMetaClass
from ZODB.serialize import ObjectWriter, get_refs, referencesf

from zodbsh.record.decode import decode_pickle, decode_record, record_class, references
from zodbsh.record.shape import edges
from zodbsh.record.values import Dict, Global, Instance, Ref, Set

SETTINGS = settings(max_examples=120, deadline=None)


class Node(persistent.Persistent):
    """A persistent object with attributes."""


class Slotted(persistent.Persistent):
    """A persistent object with a slot and attributes."""

    __slots__ = ("__dict__", "slot")


class NewArgs(persistent.Persistent):
    """A persistent object that is made with arguments: references to it carry no class."""

    def __new__(cls, *args):
        made = super().__new__(cls)
        made.args = args
        return made

    def __getnewargs__(self):
        return ("made", 7)


class Custom(persistent.Persistent):
    """A persistent object whose state is no dict."""

    def __getstate__(self):
        return ("state", self.content)

    def __setstate__(self, state):
        self.content = state[1]


class Plain:
    """An object that is embedded."""


class PlainSlots:
    """An embedded object with slots only."""

    __slots__ = ("left", "right")


class Reduced:
    """An embedded object that says how it is made."""

    def __init__(self, *args):
        self.args = args

    def __reduce__(self):
        return Reduced, self.args


class Keywords:
    """An embedded object that is made with keyword arguments."""

    def __new__(cls, *, size):
        made = super().__new__(cls)
        made.__dict__["size"] = size
        return made

    def __getnewargs_ex__(self):
        return (), {"size": self.size}


class ListLike(list):
    """A list with attributes."""


class DictLike(dict):
    """A dict with attributes."""


class Outer:
    """Holds a class."""

    class Inner:
        """A class within a class."""


def same_float(left, right):
    return struct.pack(">d", left) == struct.pack(">d", right)


def class_matches(value, class_):
    # Protocols below 3 use Python 2's names.
    module = "builtins" if value.module == "__builtin__" else value.module
    return (type(value), module, value.name) == (Global, class_.__module__, class_.__qualname__)


def matches(value, loaded):
    """Tell whether a decoded value is what a loaded object should decode to."""
    kind = type(loaded)
    if isinstance(loaded, persistent.Persistent | WeakRef):
        weak = isinstance(loaded, WeakRef)
        oid = loaded.oid if weak else loaded._p_oid
        if type(value) is not Ref or value.weak is not weak or value.oid.to_bytes(8, "big") != oid:
            return False
        return weak or isinstance(loaded, NewArgs) or class_matches(value.class_, kind)
    if kind is float:
        return type(value) is float and same_float(value, loaded)
    if kind is complex:
        return type(value) is complex and same_float(value.real, loaded.real) and same_float(value.imag, loaded.imag)
    if kind in (list, tuple):
        return type(value) is kind and all_match(value, loaded)
    if kind in (dict, OrderedDict, defaultdict, Counter):
        if type(value) is not Dict or not pairs_match(value.pairs, loaded):
            return False
        if kind is defaultdict and [factory.name for factory in value.args] != [loaded.default_factory.__name__]:
            return False
        return value.class_ is None if kind is dict else class_matches(value.class_, kind)
    if kind in (set, frozenset):
        expected = sorted(map(repr, loaded))
        return type(value) is Set and value.frozen is (kind is frozenset) and sorted(map(repr, value.items)) == expected
    if kind is bytearray:
        return type(value) is Instance and value.class_.name == "bytearray" and value.args == (bytes(loaded),)
    if kind is type:
        return class_matches(value, loaded)
    if kind in (Plain, PlainSlots, Reduced, Keywords, ListLike, DictLike, Outer.Inner):
        return type(value) is Instance and class_matches(value.class_, kind) and content_matches(value, loaded)
    if kind in (datetime, time):
        return type(value) is kind and (value, value.fold, value.tzinfo) == (loaded, loaded.fold, loaded.tzinfo)
    return type(value) is kind and value == loaded


def all_match(values, loaded):
    return len(values) == len(loaded) and all(map(matches, values, loaded))


def pairs_match(pairs, loaded):
    keys, values = [key for key, _ in pairs], [value for _, value in pairs]
    return all_match(keys, list(loaded)) and all_match(values, list(loaded.values()))


def content_matches(value, loaded):
    kind = type(loaded)
    if kind is Reduced:
        return all_match(value.args, loaded.args) and not value.has_state
    if kind is PlainSlots:
        slots = {name: getattr(loaded, name) for name in ("left", "right") if hasattr(loaded, name)}
        if not slots:
            return not value.has_state or value.state is None
        return value.state[0] is None and pairs_match(value.state[1].pairs, slots)
    # Protocols 0 and 1 write no arguments.
    if kind is Keywords and value.kwargs is not None and value.kwargs.pairs != [("size", loaded.size)]:
        return False
    if kind is ListLike and not all_match(value.items, loaded):
        return False
    if kind is DictLike and not pairs_match(value.pairs, loaded):
        return False
    attributes = value.state.pairs if value.has_state and value.state is not None else []
    return pairs_match(attributes, vars(loaded))


TEXT = st.text(st.characters(exclude_categories=()), max_size=12)
KEYS = st.none() | st.booleans() | st.integers() | TEXT | st.binary(max_size=12)
TIMES = st.datetimes(timezones=st.none() | st.just(UTC)) | st.times() | st.dates() | st.timedeltas()
SCALARS = st.one_of(
    KEYS,
    st.floats(),
    st.complex_numbers(),
    st.integers(-(2**700), 2**700),
    st.binary(min_size=8, max_size=8),
    st.text("ab\xe9", min_size=8, max_size=8),
    st.decimals(allow_nan=False),
    st.uuids(),
    TIMES,
    st.sampled_from([Plain, Node, Outer, dict]),
    st.binary(max_size=12).map(bytearray),
)


def filled(kind, attributes):
    made = kind()
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def like(made, attributes):
    vars(made).update(attributes)
    return made


NAMES = st.sampled_from(["a", "b", "left", "right", "na_me", "\xe9", "data"])


def embedded(inner):
    """Return what a record may hold, given what may stand inside it."""
    attributes = st.dictionaries(NAMES, inner, max_size=3)
    return st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.dictionaries(KEYS, inner, max_size=4).map(OrderedDict),
        st.dictionaries(KEYS, inner, max_size=4).map(lambda content: defaultdict(list, content)),
        st.dictionaries(KEYS, st.integers(), max_size=4).map(Counter),
        st.sets(st.integers() | st.text(max_size=3), max_size=4),
        st.frozensets(st.integers() | st.binary(max_size=3), max_size=4),
        attributes.map(lambda found: filled(Plain, found)),
        st.dictionaries(st.sampled_from(["left", "right"]), inner).map(lambda found: filled(PlainSlots, found)),
        st.lists(inner, max_size=3).map(lambda args: Reduced(*args)),
        st.builds(lambda size, found: like(Keywords(size=size), found), st.integers(0, 9), attributes),
        st.builds(lambda content, found: like(ListLike(content), found), st.lists(inner, max_size=3), attributes),
        st.builds(
            lambda content, found: like(DictLike(content), found), st.dictionaries(KEYS, inner, max_size=3), attributes
        ),
        # The same object twice: the second time by the memo.
        inner.map(lambda shared: [shared, (shared, shared)]),
    )


def nested(inner):
    """Return what zodbpickle cannot write: a class within a class, and its objects."""
    attributes = st.dictionaries(NAMES, inner, max_size=3)
    return st.just(Outer.Inner) | attributes.map(lambda found: filled(Outer.Inner, found))


VALUES = st.recursive(SCALARS, embedded, max_leaves=12)


def dumps(module, value, protocol):
    """Pickle a value, or reject the example where that protocol cannot."""
    try:
        data = module.dumps(value, protocol)
    except TypeError as error:
        if "__slots__" not in str(error):
            raise
        reject()
    if b"functools" in data:
        # How Python's own protocols 2 and 3 write keyword arguments; ZODB's pickler does not.
        reject()
    return data


@SETTINGS
@given(st.recursive(SCALARS, lambda inner: embedded(inner) | nested(inner), max_leaves=12), st.integers(0, 5))
def test_a_pickle_of_any_protocol_decodes_to_what_python_loads(value, protocol):
    """Whatever may be embedded in a record, by each protocol."""
    data = dumps(pickle, value, protocol)
    found, end = decode_pickle(data)
    assert end == len(data)
    assert matches(found, pickle.loads(data))


@SETTINGS
@given(VALUES, st.integers(0, 3))
def test_a_pickle_of_zodbpickle_decodes_to_what_it_loads(value, protocol):
    """ZODB's own pickler, by each of its protocols."""
    data = dumps(zodbpickle.pickle, value, protocol)
    found, end = decode_pickle(data)
    assert end == len(data)
    assert matches(found, zodbpickle.pickle.loads(data))


def persistents(inner):
    """Return persistent objects of every kind, given what may stand inside them."""
    attributes = st.dictionaries(NAMES, inner, max_size=3)
    return st.one_of(
        attributes.map(lambda found: filled(Node, found)),
        attributes.map(lambda found: filled(NewArgs, found)),
        st.builds(lambda slot, found: like_slot(filled(Slotted, found), slot), inner, attributes),
        inner.map(lambda content: filled(Custom, {"content": content})),
        st.lists(inner, max_size=3).map(PersistentList),
        st.dictionaries(KEYS, inner, max_size=3).map(PersistentMapping),
        st.dictionaries(st.text(max_size=3), inner, max_size=3).map(OOBTree),
        st.integers(0, 99).map(Length),
        attributes.map(lambda found: WeakRef(filled(Node, found))),
    )


def like_slot(made, slot):
    made.slot = slot
    return made


GRAPHS = st.recursive(SCALARS, lambda inner: embedded(inner) | persistents(inner), max_leaves=14)


def stored(value):
    """Store a value under the root of a new database; yield each object's loaded form and its record."""
    database = DB(MappingStorage())
    manager = TransactionManager()
    connection = database.open(manager)
    connection.root()["value"] = value
    manager.commit()
    connection.cacheMinimize()
    todo, met = [connection.root()._p_oid], set()
    try:
        while todo:
            oid = todo.pop()
            if oid in met:
                continue
            met.add(oid)
            data, _ = database.storage.load(oid)
            found = connection.get(oid)
            found._p_activate()
            yield found, data
            todo.extend(referencesf(data))
    finally:
        manager.abort()
        connection.close()
        database.close()


@settings(max_examples=120, deadline=None)
@given(GRAPHS)
def test_a_record_decodes_to_what_zodb_loads(value):
    """Class, arguments and state of every object; its references, each where it says that it stands."""
    for loaded, data in stored(value):
        record = decode_record(data)
        assert class_matches(record.class_, type(loaded))
        assert record_class(data) == record.class_
        assert record.class_args == (("made", 7) if isinstance(loaded, NewArgs) else ())
        assert matches(record.state, loaded.__getstate__())
        assert references(data) == record.references
        strong = [reference.oid.to_bytes(8, "big") for reference in record.references if not reference.weak]
        assert strong == referencesf(data)
        for reference in record.references:
            assert data[reference.offset : reference.offset + 8] == reference.oid.to_bytes(8, "big")
        assert sorted(map(repr, (reference for _, reference in edges(record)))) == sorted(map(repr, record.references))


def test_what_references_say_of_their_targets_class():
    """Its class, and nothing where the class takes arguments; the oids are those that ZODB reads."""
    inner = filled(Node, {"a": filled(NewArgs, {}), "b": OOTreeSet("k"), "left": PersistentList(), "right": Node()})
    (data,) = [data for loaded, data in stored(inner) if type(loaded) is Node and hasattr(loaded, "a")]
    found = references(data)
    assert [reference.oid.to_bytes(8, "big") for reference in found] == [oid for oid, _ in get_refs(data)]
    assert [reference.class_ for reference in found] == [
        None,
        Global("BTrees.OOBTree", "OOTreeSet"),
        Global("persistent.list", "PersistentList"),
        Global(__name__, "Node"),
    ]


def test_persistent_classes():
    """Each form of the class part that ZODB writes for them, and for their instances."""
    database = DB(MappingStorage())
    manager = TransactionManager()
    root = database.open(manager).root()
    root["named"] = PersistentMetaClass("Named", (persistent.Persistent,), {"__module__": "__zodb__"})
    root["nameless"] = PersistentMetaClass("Nameless", (persistent.Persistent,), {"__module__": ""})
    manager.commit()
    root["first"], root["second"] = root["named"](), root["nameless"]()
    manager.commit()
    records = {}
    for name in root:
        data, _ = database.storage.load(root[name]._p_oid)
        records[name] = decode_record(data)
        assert [found.oid.to_bytes(8, "big") for found in references(data)] == referencesf(data)
    meta = Global("ZODB.persistentclass", "PersistentMetaClass")
    assert (records["named"].class_, records["named"].class_args[0]) == (meta, "Named")
    assert (records["first"].class_, records["first"].class_args) == (Global("__zodb__", "Named"), ())
    nameless = int.from_bytes(root["nameless"]._p_oid, "big")
    assert records["second"].class_ == Ref(nameless, offset=4)
    assert list(edges(records["second"])) == [(".__class__", Ref(nameless, offset=4))]
    manager.abort()
    database.close()


class Jar:
    """Enough of a connection for ObjectWriter: it hands out oids."""

    xrefs = True
    database_name = "here"

    def __init__(self, first=1):
        self.next = first
        self.databases = {"here": self}

    def new_oid(self):
        self.next += 1
        return self.next.to_bytes(8, "big")

    def db(self):
        return self

    def get_connection(self, name):
        return self.databases[name].jar

    def _implicitlyAdding(self, oid):  # noqa: N802
        return False


def test_references_into_another_database():
    """With and without a class, strong and weak: not this database's, and said so."""
    here, there = Jar(), Jar(0xFFFF)
    there.database_name = "there"
    here.databases["there"] = there
    here.jar, there.jar = here, there
    owner, other, made, weak = Node(), Node(), NewArgs(), Node()
    for index, target in enumerate((other, made, weak)):
        target._p_jar, target._p_oid = there, (0x1000 + index).to_bytes(8, "big")
    owner._p_jar, owner._p_oid = here, (1).to_bytes(8, "big")
    vars(owner).update(a=other, b=made, c=WeakRef(weak))
    data = ObjectWriter(owner).serialize(owner)
    found = [reference._replace(offset=None) for reference in references(data)]
    assert found == [
        Ref(0x1000, Global(__name__, "Node"), "there"),
        Ref(0x1001, None, "there"),
        Ref(0x1002, None, "there", True),
    ]
    assert referencesf(data) == []


class OldWriter(pickle.Pickler):
    """Writes references as ZODB does, by any protocol."""

    def persistent_id(self, obj):
        if isinstance(obj, Node):
            return (0xFF0000000000C328).to_bytes(8, "big")
        if isinstance(obj, NewArgs):
            return b"abcdefgh"
        return None


def test_references_by_every_protocol():
    """Text in protocol 0, by way of an encoding in 1 and 2, verbatim from 3 on."""
    for protocol in range(6):
        file = io.BytesIO()
        OldWriter(file, protocol).dump(Node)
        OldWriter(file, protocol).dump([Node(), NewArgs(), Node()])
        data = file.getvalue()
        found = references(data)
        assert [reference.oid for reference in found] == [0xFF0000000000C328, 0x6162636465666768, 0xFF0000000000C328]
        for reference in found:
            if protocol >= 3:
                assert data[reference.offset : reference.offset + 8] == reference.oid.to_bytes(8, "big")
            else:
                assert reference.offset is None


def test_a_record_of_each_container_that_zodb_brings():
    """One big tree with inner nodes and buckets, a set, a mapping: every record of them."""
    content = PersistentMapping(
        tree=IOBTree({number: Node() for number in range(500)}), names=OOTreeSet(map(str, range(500)))
    )
    seen = set()
    for loaded, data in stored(content):
        record = decode_record(data)
        assert matches(record.state, loaded.__getstate__())
        seen.add(record.class_.name)
    assert seen >= {"PersistentMapping", "IOBTree", "IOBucket", "OOTreeSet", "OOSet", "Node"}


def test_values_of_the_comparer():
    """The comparer sees differences: it can fail."""
    assert matches(1, 1)
    assert not matches(True, 1)
    assert not matches(1.0, 1)
    assert not matches(-0.0, 0.0)
    assert not matches((1,), [1])
    assert not matches(Dict([("a", 1)]), {"a": 2})
    assert not matches(Set([1]), {1, 2})
    assert not matches(Instance(Global(__name__, "Plain")), filled(Plain, {"a": 1}))
    assert not matches(Decimal(1), uuid.UUID(int=1))
    assert not matches(date(2024, 1, 1), datetime(2024, 1, 1, tzinfo=UTC))
    assert not matches(timedelta(1), timedelta(2))
