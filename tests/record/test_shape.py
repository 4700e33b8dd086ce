"""What a record means: attributes, items, and the step to each reference."""

import pytest

from zodbsh.record.decode import decode_pickle, decode_record
from zodbsh.record.shape import (
    attribute_step,
    attributes,
    content_name,
    edges,
    mapping_items,
    python_key_text,
    sequence_items,
)
from zodbsh.record.values import Dict, Global, Instance, Record, Ref, Set
from zodbsh.record.walk import children, deeper_than, walk


def record(state, class_=("app", "Thing"), args=()):
    """Return a record of a class with a state."""
    return Record(Global(*class_), args, state, ())


def made(class_="Part", args=(), state=None, items=(), pairs=(), kwargs=None):
    """Return an embedded object."""
    found = Instance(Global("app", class_), args, kwargs)
    found.items.extend(items)
    found.pairs.extend(pairs)
    if state is not None:
        found.state, found.has_state = state, True
    return found


def steps(found):
    """Return a record's edges as (step, oid)."""
    return [(step, reference.oid) for step, reference in edges(found)]


def test_attributes_of_a_dict_state():
    """In the record's order; a name that is no text stands in brackets."""
    state = Dict([("name", "x"), ("front-page", 1), (3, 2), (b"\xff", None)])
    assert attributes(record(state)) == [("name", "x"), ("front-page", 1), ("[3]", 2), ("[b'\\xff']", None)]


def test_attributes_of_slots():
    """With a dict beside them, and without."""
    assert attributes(record((Dict([("a", 1)]), Dict([("slot", 2)])))) == [("a", 1), ("slot", 2)]
    assert attributes(record((None, Dict([("slot", 2)])))) == [("slot", 2)]
    assert attributes(made(state=Dict([("a", 1)]))) == [("a", 1)]


@pytest.mark.parametrize("state", [None, 5, (), (1, 2), [Dict()], (Dict(), 1), (Dict(), Dict(), Dict())])
def test_a_state_that_is_no_dict_has_no_attributes(state):
    """It is a state of its own kind."""
    assert attributes(record(state)) == []


@pytest.mark.parametrize(
    "class_",
    [
        ("persistent.mapping", "PersistentMapping"),
        ("persistent.dict", "PersistentDict"),
        ("ZODB.PersistentMapping", "PersistentMapping"),
        ("Persistence", "PersistentMapping"),
        ("Persistence.mapping", "PersistentMapping"),
        ("BoboPOS.PersistentMapping", "PersistentMapping"),
    ],
)
@pytest.mark.parametrize("name", ["data", "_container"])
def test_a_persistent_mapping_under_each_of_its_names(class_, name):
    """Old ones keep their items in another attribute."""
    found = record(Dict([(name, Dict([("k", Ref(1)), (3, [Ref(2)])])), ("extra", Ref(3))]), class_)
    assert content_name(found) == name
    assert mapping_items(found) == [("k", Ref(1)), (3, [Ref(2)])]
    assert sequence_items(found) is None
    assert steps(found) == [("['k']", 1), ("[3][0]", 2), (".extra", 3)]


@pytest.mark.parametrize("module", ["persistent.list", "ZODB.PersistentList", "Persistence", "Persistence.list"])
def test_a_persistent_list_under_each_of_its_names(module):
    """Its items are the object's own."""
    found = record(Dict([("data", [Ref(1), Ref(2)])]), (module, "PersistentList"))
    assert sequence_items(found) == [Ref(1), Ref(2)]
    assert mapping_items(found) is None
    assert steps(found) == [("[0]", 1), ("[1]", 2)]


def test_an_application_class_is_not_taken_for_a_mapping():
    """Its attribute called data is an attribute."""
    found = record(Dict([("data", Dict([("k", Ref(1))]))]))
    assert (content_name(found), mapping_items(found), sequence_items(found)) == (None, None, None)
    assert steps(found) == [(".data['k']", 1)]


def test_a_mapping_whose_state_is_none_of_the_known_forms():
    """It is shown as what it is."""
    for state in (None, Dict(), Dict([("data", 5)]), (1, 2)):
        assert mapping_items(record(state, ("persistent.mapping", "PersistentMapping"))) is None
    assert sequence_items(record(Dict([("data", Dict())]), ("persistent.list", "PersistentList"))) is None


def test_steps_go_through_what_the_record_embeds():
    """As Python would write the way, and with names of no object where Python has no words."""
    state = Dict(
        [
            ("owner", Ref(1)),
            ("front-page", Ref(2)),
            ("class", Ref(3)),
            ("items", [0, [Ref(4)], (1, Ref(5))]),
            ("by_name", Dict([("k", Ref(6)), (3, Ref(7)), (b"b", Ref(8)), ((1, "a"), Ref(9))])),
            ("part", made(state=Dict([("address", Ref(10))]))),
            ("args", made(args=(1, Ref(11)), kwargs=Dict([("k", Ref(12))]), items=[Ref(13)], pairs=[("k", Ref(14))])),
            ("tuple_state", made(state=(Ref(15),))),
            ("reference_state", made(state=Ref(16))),
            ("tags", Set([Ref(17)])),
            ("keys", Dict([(Ref(18), Ref(19)), ((Ref(20), 1), 2)])),
            ("factory", Dict([("k", Ref(21))], Global("collections", "defaultdict"), (made(state=Ref(22)),))),
            ("typed", Ref(23, Ref(24, Ref(25)))),
            ("called", Instance(Ref(26))),
            (5, Ref(27)),
            (Ref(28), 1),
        ]
    )
    assert steps(record(state)) == [
        (".owner", 1),
        ("['front-page']", 2),
        ("['class']", 3),
        (".items[1][0]", 4),
        (".items[2][1]", 5),
        (".by_name['k']", 6),
        (".by_name[3]", 7),
        (".by_name[b'b']", 8),
        (".by_name[(1, 'a')]", 9),
        (".part.address", 10),
        (".args.__args__[1]", 11),
        (".args.__kwargs__['k']", 12),
        (".args[0]", 13),
        (".args['k']", 14),
        (".tuple_state.__state__[0]", 15),
        (".reference_state.__state__", 16),
        (".tags[0]", 17),
        (".keys.keys()[0]", 18),
        (".keys[<0x12>]", 19),
        (".keys.keys()[1][0]", 20),
        (".factory.__args__[0].__state__", 22),
        (".factory['k']", 21),
        (".typed", 23),
        (".typed.__class__", 24),
        (".typed.__class__.__class__", 25),
        (".called.__class__", 26),
        ("[5]", 27),
        (".keys()[15]", 28),
    ]


def test_steps_of_class_and_arguments():
    """The class part's references come first."""
    found = Record(Ref(1), (0, Ref(2)), (Ref(3),), ())
    assert steps(found) == [(".__class__", 1), (".__args__[1]", 2), (".__state__[0]", 3)]
    assert steps(record(Ref(4))) == [(".__state__", 4)]


TREE = ("BTrees.OOBTree", "OOBTree")


@pytest.mark.parametrize(
    ("class_", "state", "expected"),
    [
        (TREE, None, []),
        (TREE, ((Ref(1), "m", Ref(2)), Ref(1)), [("", 1), ("", 2), ("", 1)]),
        (TREE, (((("k", Ref(1), "l", [Ref(2)]),),),), [("['k']", 1), ("['l'][0]", 2)]),
        (("BTrees.IOBTree", "IOBucket"), ((3, Ref(1)), Ref(2)), [("[3]", 1), ("", 2)]),
        (("BTrees.OOBTree", "OOSet"), ((Ref(1),), Ref(2)), [(".keys()[0]", 1), ("", 2)]),
        (
            ("BTrees.OOBTree", "OOBucket"),
            ((made(state=Ref(1)), Ref(2)),),
            [(".keys()[0].__state__", 1), ("[<...>]", 2)],
        ),
        (TREE, (Ref(1), 5), [(".__state__[0]", 1)]),
        (("app", "Folder"), ((Ref(1),), Ref(1, Global("BTrees.OOBTree", "OOBucket"))), [("", 1), ("", 1)]),
        (("app", "Folder"), (((("a", Ref(1), "b", Ref(2)),),),), [("['a']", 1), ("['b']", 2)]),
    ],
)
def test_steps_of_btrees(class_, state, expected):
    """Keys are steps; children and next buckets are none; a damaged state is gone through as it is."""
    assert steps(record(state, class_)) == expected


def test_what_is_shared_is_gone_through_once():
    """Under the first way to it; a value that holds itself ends."""
    shared = [Ref(1)]
    shared.append(shared)
    part = made(state=Dict([("me", shared)]))
    other = made(state=part.state)
    assert steps(record(Dict([("a", shared), ("b", shared), ("c", part), ("d", other)]))) == [(".a[0]", 1)]


def test_ways_and_keys_are_bounded():
    """However long the keys of a record are."""
    long = "k" * 3000
    assert steps(record(Dict([("d", Dict([(long, Ref(1))]))]))) == [(f".d['{'k' * 999}...]", 1)]
    inner = [Ref(1)]
    for _ in range(20):
        inner = [Dict([("k" * 900, inner)])]
    ((way, _),) = steps(record(Dict([("a", inner)])))
    assert len(way) <= 4000
    assert way.startswith(".a[0]['kkk")
    assert way.endswith("kkk'][0]")
    assert "..." in way


@pytest.mark.parametrize(
    ("name", "step"),
    [("a", ".a"), ("_b1", "._b1"), ("é", ".é"), ("1a", "['1a']"), ("a b", "['a b']"), ("for", "['for']"), ("", "['']")],
)
def test_the_step_to_an_attribute(name, step):
    """Only what Python takes for a name stands behind a dot."""
    assert attribute_step(name) == step


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("a'b\n", '"a\'b\\n"'),
        (b"\xff", "b'\\xff'"),
        (3, "3"),
        (True, "True"),
        (None, "None"),
        (1.5, "1.5"),
        ((), "()"),
        ((1,), "(1,)"),
        ((1, ("a", b"b")), "(1, ('a', b'b'))"),
        (Ref(42), "<0x2a>"),
        ((Ref(42), 1), "(<0x2a>, 1)"),
        (Global("m", "C"), "m.C"),
        ([1], "<...>"),
        (Dict(), "<...>"),
        (made(), "<...>"),
        (Ref(42, Ref(43)), "<0x2a>"),
    ],
)
def test_a_key_as_python_writes_it(key, text):
    """Between the brackets."""
    assert python_key_text(key) == text


def test_the_text_of_a_key_is_bounded():
    """A tuple may hold a thousand tuples of a thousand tuples."""
    key = 1
    for _ in range(30):
        key = (key,) * 10
    assert len(python_key_text(key)) < 10_000
    assert python_key_text(tuple(range(1001))).endswith(", 999, <...>)")


def test_walking_yields_each_container_once():
    """In the record's order, scalars each time, whatever the sharing."""
    shared = ["x"]
    value = [shared, shared, Dict([("k", (Set([1]), shared))]), made(args=(2,), state=Ref(5, Ref(6)))]
    value.append(value)
    found = list(walk(value))
    assert found[0] is value
    assert found[1] is shared
    assert [
        item for item in found if not isinstance(item, list | tuple | Dict | Set | Instance) or isinstance(item, Ref)
    ] == [
        "x",
        "k",
        1,
        2,
        Ref(5, Ref(6)),
        Ref(6),
    ]
    assert sum(item is shared for item in found) == 1


def test_walking_what_unfolds_to_more_than_any_memory_holds():
    """Two hundred lists, each of which holds the one before it twice."""
    value = []
    for _ in range(200):
        value = [value, value]
    assert sum(1 for _ in walk(value)) == 201
    assert steps(record(Dict([("a", value)]))) == []
    assert not deeper_than(value, 201)
    assert deeper_than(value, 200)


def test_the_children_of_everything():
    """What holds nothing has none."""
    for scalar in (None, True, 1, 1.5, "a", b"b", Global("m", "C"), Ref(1), (), [], Dict(), Set()):
        assert list(children(scalar)) == []
    ordered = Dict([(1, 2)], Global("collections", "OrderedDict"), (3,))
    ordered.state = 4
    assert list(children(ordered)) == [1, 2, 3, 4]
    kwargs = Dict([("k", 7)])
    instance = made(args=(1,), state=5, items=[2], pairs=[(3, 4)], kwargs=kwargs)
    assert list(children(instance)) == [1, kwargs, 2, 3, 4, 5]
    assert list(children(Instance(instance))) == [instance]


def test_the_longest_way_counts_for_depth():
    """Also where everything on it was met before by a shorter one."""
    chain = [()]
    nested = (chain[0],)
    for _ in range(50):
        chain.append(nested)
        nested = (nested,)
    assert not deeper_than(chain, 52)
    assert deeper_than(chain, 51)


def test_a_cycle_is_as_deep_as_what_is_on_it():
    """The edge back does not count."""
    value = decode_pickle(b"]q\x00]q\x01h\x00aa.")[0]
    assert not deeper_than(value, 2)
    assert deeper_than(value, 1)


def test_edges_of_a_decoded_record():
    """From the bytes on."""
    owner, friend = b"\x00\x00\x00\x00\x00\x00\x00\x07", b"\x00\x00\x00\x00\x00\x00\x00\x08"
    data = b"capp\nThing\n.}(U\x05ownerU\x08" + owner + b"capp\nUser\n\x86QU\x01n]U\x08" + friend + b"Qau."
    found = decode_record(data)
    assert list(edges(found)) == [(".owner", found.references[0]), (".n[0]", found.references[1])]
