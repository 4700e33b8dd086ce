"""BTrees as their records hold them."""

import importlib
import pkgutil

import BTrees
import pytest
from BTrees.check import classify
from BTrees.fsBTree import fsBTree
from BTrees.OOBTree import OOBTree, OOTreeSet
from hypothesis import given, settings
from hypothesis import strategies as st
from ZODB.DB import DB
from ZODB.MappingStorage import MappingStorage

from zodbsh.record.btrees import (
    BucketState,
    TreeKind,
    TreeState,
    TreeStateError,
    read_tree_state,
    record_tree,
    tree_kind,
)
from zodbsh.record.decode import decode_record
from zodbsh.record.values import Global, Record, Ref

FAMILIES = [
    name[1:] for _, name, _ in pkgutil.iter_modules(BTrees.__path__) if name[0] == "_" and name.endswith("BTree")
]
MAP = TreeKind("BTree", "O", "O")
BUCKET = TreeKind("Bucket", "O", "O")
SET = TreeKind("Set", "O", "O")
A, B = Ref(1), Ref(2)


def inline(*content):
    """Return the state of a tree with one bucket, embedded."""
    return (((content,),),)


def every_class():
    """Yield family, name and class of all that BTrees offers, Python's twins included."""
    for family in FAMILIES:
        module = importlib.import_module(f"BTrees.{family}")
        for name in ("BTree", "Bucket", "TreeSet", "Set"):
            for full in (name, f"{family[:2]}{name}", f"{family[:2]}{name}Py"):
                if hasattr(module, full):
                    yield family, full, getattr(module, full)


def test_every_class_of_btrees_is_known():
    """By the name that its records have, and by the names it can be imported by."""
    found = 0
    for family, name, class_ in every_class():
        form = name.removesuffix("Py").removeprefix(family[:2])
        expected = TreeKind(form, family[0], family[1])
        assert tree_kind(Global(f"BTrees.{family}", name)) == expected
        assert tree_kind(Global(class_.__module__, class_.__name__)) == expected
        assert tree_kind(Global(f"BTrees._{family}", name)) == expected
        assert expected.is_tree is (form in ("BTree", "TreeSet"))
        assert expected.is_set is (form in ("Set", "TreeSet"))
        found += 1
    assert found >= 100


@pytest.mark.parametrize(
    "letters", ["OO", "OI", "OL", "OU", "OQ", "IO", "II", "IF", "IU", "LO", "LL", "LF", "LQ", "UU", "QQ", "QF", "fs"]
)
def test_every_family(letters):
    """Also those that an installed BTrees may not have."""
    assert tree_kind(Global(f"BTrees.{letters}BTree", f"{letters}TreeSet")) == TreeKind("TreeSet", *letters)


@pytest.mark.parametrize(
    "class_",
    [
        Global("BTrees.OOBTree", "OOBTreeItems"),
        Global("BTrees.OOBTree", "IOBTree"),
        Global("app", "OOBTree"),
        Global("BTrees.Length", "Length"),
        Global("BTrees.OOBTree", ""),
        Global("", ""),
        Global("BTrees.XXBTree", "XXBTree"),
        Ref(1),
        None,
        "BTrees.OOBTree",
    ],
)
def test_other_classes_are_no_trees(class_):
    """Names have to fit exactly."""
    assert tree_kind(class_) is None


@pytest.mark.parametrize(
    ("kind", "state", "expected"),
    [
        (MAP, None, TreeState()),
        (MAP, ((A, "m", B), A), TreeState((A, B), ("m",), A)),
        (MAP, ((A,), A), TreeState((A,), (), A)),
        (MAP, inline("a", 1, "b", 2), BucketState(("a", "b"), (1, 2))),
        (MAP, inline(), BucketState((), ())),
        (TreeKind("TreeSet", "O", "O"), inline("a", "b"), BucketState(("a", "b"), None)),
        (BUCKET, (("a", 1), B), BucketState(("a",), (1,), B)),
        (BUCKET, ((),), BucketState((), ())),
        (SET, (("a", "b"), B), BucketState(("a", "b"), None, B)),
        (SET, (("a", "b"),), BucketState(("a", "b"), None)),
        (
            TreeKind("Bucket", "f", "s"),
            (("ab", "abcdef", b"\xff\xff", b"\xff" * 6),),
            BucketState((b"ab", b"\xff\xff"), (b"abcdef", b"\xff" * 6)),
        ),
    ],
)
def test_the_forms_of_a_state(kind, state, expected):
    """As BTrees writes them."""
    assert read_tree_state(kind, state) == expected


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (MAP, 5),
        (MAP, ()),
        (MAP, (A, A)),
        (MAP, ((), A)),
        (MAP, ((A, "m"), A)),
        (MAP, ((A, "m", 5), A)),
        (MAP, ((A,), 5)),
        (MAP, ((A,), A, A)),
        (MAP, ((5, 5),)),
        (MAP, ((5,),)),
        (MAP, inline("a")),
        (BUCKET, None),
        (BUCKET, ("a",)),
        (BUCKET, (("a",),)),
        (BUCKET, (("a", 1), 5)),
        (BUCKET, ((), B, B)),
        (SET, []),
        (SET, (["a"],)),
    ],
)
def test_any_other_state_is_an_error(kind, state):
    """Nothing is guessed."""
    with pytest.raises(TreeStateError):
        read_tree_state(kind, state)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (((Ref(1),), Ref(1, Global("BTrees.IOBTree", "IOBucket"))), TreeKind("BTree", "I", "O")),
        (((Ref(1),), Ref(1, Global("BTrees.OIBTree", "OISet"))), TreeKind("TreeSet", "O", "I")),
        (inline(1, "x", 2, "y"), MAP),
        (inline("a", 1), MAP),
        (((Ref(1),), Ref(1, Global("app", "Thing"))), None),
        (((Ref(1),), Ref(1)), None),
        (((5,), Ref(1, Global("BTrees.IOBTree", "IOBucket"))), None),
        (inline(1, 2, 3, 4), None),
        (inline(2, "x", 1, "y"), None),
        (inline(1, "x", 2), None),
        (inline(), None),
        (((1, 2),), None),
        ((None, 1), None),
        (None, None),
    ],
)
def test_a_subclass_is_known_by_its_state(state, expected):
    """Where the state leaves no doubt."""
    assert record_tree(Record(Global("app", "Folder"), (), state, ())) == expected


def read(storage, reference):
    """Return kind and state of a tree's record."""
    record = decode_record(storage.load(reference.oid.to_bytes(8, "big"))[0])
    kind = record_tree(record)
    return kind, read_tree_state(kind, record.state)


def flattened(storage, reference):
    """Return keys and values of a stored tree by its records alone."""
    kind, state = read(storage, reference)
    while isinstance(state, TreeState):
        if state.first is None:
            return [], None if kind.is_set else []
        kind, state = read(storage, state.first)
    keys, values = [], None if kind.is_set else []
    while True:
        keys += state.keys
        if values is not None:
            values += state.values
        if state.next is None:
            return keys, values
        _, state = read(storage, state.next)


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=150), st.sampled_from([OOBTree, OOTreeSet, fsBTree])
)
def test_a_stored_tree_is_read_by_its_records(content, class_):
    """Keys and values in their order, of the empty tree, of the embedded bucket, of the tree with inner nodes."""
    if class_ is fsBTree:
        content = {str(index).zfill(2).encode()[:2]: b"%06d" % index for index in range(min(len(content), 100))}
    database = DB(MappingStorage())
    connection = database.open()
    tree = class_(content)
    connection.root()["tree"] = tree
    connection.transaction_manager.commit()
    keys, values = flattened(database.storage, Ref(int.from_bytes(tree._p_oid, "big")))
    assert keys == sorted(content)
    assert values == (None if class_ is OOTreeSet else [content[key] for key in keys])
    connection.close()
    database.close()


def test_kinds_agree_with_those_of_btrees_itself():
    """BTrees.check tells trees from buckets and maps from sets."""
    from BTrees.check import TYPE_BTREE

    for _, _, class_ in every_class():
        if class_.__name__.endswith("Py"):
            continue
        kind = tree_kind(Global(class_.__module__, class_.__name__))
        what, is_mapping = classify(class_())
        assert (kind.is_tree, not kind.is_set) == (what == TYPE_BTREE, bool(is_mapping))
