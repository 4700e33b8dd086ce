"""Targets: how they are read, where they lead, what is said when they lead nowhere."""

from contextlib import suppress

import pytest
from BTrees.OOBTree import OOBTree
from hypothesis import given, settings
from hypothesis import strategies as st
from persistent.mapping import PersistentMapping

from zodbsh.analysis.keys import Attribute, Item, Segment, ShownKey, literal_text
from zodbsh.analysis.literal import TargetSyntaxError
from zodbsh.analysis.lookup import ForeignReference
from zodbsh.analysis.records import BrokenRecord, DanglingReference
from zodbsh.analysis.target import Target, TargetNotFound, complete_target, locate, parse_target, resolve
from zodbsh.errors import ExitCode, ObjectNotFound, UsageError
from zodbsh.record.values import Dict, Global, Record, Ref

KEYS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8),
    lambda inner: st.tuples(inner) | st.tuples(inner, inner) | st.just(()),
    max_leaves=5,
)
ROOT_CLASS = Global("persistent.mapping", "PersistentMapping")


@pytest.mark.parametrize(
    ("text", "oid", "steps"),
    [
        ("root", 0, ()),
        ("root()", 0, ()),
        (" root.accounts ", 0, (Attribute("accounts"),)),
        ("0x2a", 42, ()),
        ("42", 42, ()),
        ("000000000000002a", 42, ()),
        ("0x2A.owner[0]", 42, (Attribute("owner"), Item(0))),
        ("root()['x']", 0, (Item("x"),)),
        ('root["it\'s"]', 0, (Item("it's"),)),
        (r"root['it\'s \u00e9\n']", 0, (Item("it's é\n"),)),
        (r"root[b'\x00']", 0, (Item(b"\x00"),)),
        (r"root[r'\d']", 0, (Item(r"\d"),)),
        ("root[-3][0x1f][1.5e3][1e999]", 0, (Item(-3), Item(31), Item(1500.0), Item(float("inf")))),
        ("root[None][True][False]", 0, (Item(None), Item(True), Item(False))),
        ("root[()][(1,)][(1)][ ( 'a', (2,) , ) ]", 0, (Item(()), Item((1,)), Item(1), Item(("a", (2,))))),
        ("root[zope.interface.Interface]", 0, (Item(ShownKey("zope.interface.Interface")),)),
        ("root[(<0x2a>, 'a]b')].x", 0, (Item(ShownKey("(<0x2a>, 'a]b')")), Attribute("x"))),
        ("root.keys()[3]", 0, (Attribute("keys()"), Item(3))),
        ("root.é", 0, (Attribute("é"),)),
        ("/", 0, ()),
        ("/accounts/account-1/0/", 0, (Segment("accounts"), Segment("account-1"), Segment("0"))),
    ],
)
def test_a_target_is_read(text, oid, steps):
    """Every form of a target, as oid and steps."""
    assert parse_target(text) == Target(oid, steps)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "an empty target"),
        ("accounts", "not a target: 'accounts'"),
        ("roots", "not a target: 'roots'"),
        ("0x", "not a target: '0x'"),
        ("0x11112222333344445", "not a target: '0x11112222333344445'"),
        ("root accounts", "not a path at character 5 of the target: ' accounts'"),
        ("root.", "no attribute name at character 6 of the target: the target ends"),
        ("root['x", "the string at character 6 of the target does not end"),
        ("root[1", "a ] is missing at character 7 of the target"),
        ("root[1 2]", "a ] is missing at character 8 of the target"),
        ("root[x]", "not a key at character 6 of the target: 'x]'"),
        ("root[(1", "a comma is missing at character 8 of the target"),
        ("root[" + "(" * 40, "tuples nested more than 32 deep at character 38 of the target"),
        ("root[" + "9" * 5000 + "]", "not a number at character 6 of the target: " + "9" * 40),
        ("root" + ".a" * 40_000, "a target of 80,004 characters; at most 65,536 are read"),
        (r"root['\N{no such name}']", r"not a string at character 6 of the target: '\N{no such name}'"),
    ],
)
def test_a_malformed_target_says_where(text, message):
    """The message names the character; the exit status is that of a wrong command line."""
    with pytest.raises(TargetSyntaxError) as caught:
        parse_target(text)
    assert (caught.value.message, caught.value.exit_code) == (message, ExitCode.USAGE)


def test_a_forgotten_root_is_offered():
    """A path that lacks its beginning is offered with it."""
    with pytest.raises(TargetSyntaxError) as caught:
        parse_target("accounts['a']")
    assert caught.value.hint == "A path begins at the root: root.accounts['a']"


@given(KEYS)
@settings(max_examples=200, deadline=None)
def test_a_written_key_reads_back(key):
    """Every key that has a literal form is read as the same key, of the same type."""
    text = literal_text(key)
    if text is None:
        assert abs(key if isinstance(key, int) else 10**100) >= 10**100
        return
    read = parse_target(f"root[{text}]").steps
    assert repr(read) == repr((Item(key),))


@given(st.text(alphabet="root[]().'\"\\0x9a,<>/- \n\ud800é", max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_target_or_a_usage_error(text):
    """Nothing a user may type ends in anything but a target or the error that says what is wrong with it."""
    with suppress(UsageError):
        target = parse_target(text)
        assert any(isinstance(step, Segment) for step in target.steps) or parse_target(target.text) == target


def _embedded(value, path, snapshot):
    found = resolve(snapshot, path)
    return found.embedded and found.value == value


def test_attributes_and_keys_lead_to_objects(world):
    """One object by three ways, with the path as Python writes it."""
    found = [resolve(world, target) for target in ("root.ada", "root['accounts']['account-1']", "/accounts/account-1")]
    assert len({one.oid for one in found}) == 1
    assert [one.path for one in found] == [
        "root.ada", "root.accounts['account-1']", "root.accounts['account-1']",
    ]  # fmt: skip
    assert world.class_of(found[0].oid) == "people.Person"
    assert not any(one.embedded for one in found)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("root.ada.name", "Ada"),
        ("root.ada.address.street", "St James's Square"),
        ("root.config['x'][0]", 10),
        ("root.config['x'][-1]['deep'][2]", 3),
        ("root.config['data']", "a key called data"),
        ("/config/data", "a key called data"),
        ("/config/x/1/deep/0", 1),
        ("root['class']", "a keyword"),
        ("/class", "a keyword"),
        ("root['not an identifier'][1]", "b"),
        ("root.accounts['account-77']", 77),
        ("root.numbers[-495]", "-495"),
        ("/numbers/-495", "-495"),
        ("root.set['a']", "a"),
        ("root.folder['7']", 7),
        ("/folder/7", 7),
        ("root.ada.__args__", ()),
        ("root.config.keys()[0]", "x"),
    ],
)
def test_a_path_leads_to_an_embedded_value(world, path, value):
    """Values without a record of their own are reached through what embeds them."""
    assert _embedded(value, path, world)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/folder/doc", "root.folder._tree['doc']"),
        ("root.folder['doc']", "root.folder._tree['doc']"),
        ("root.ada['front-page']", "root.ada['front-page']"),
        ("/ada/front-page", "root.ada['front-page']"),
        ("root['not an identifier'][-3]", "root['not an identifier'][0]"),
        ("root.odd[('a', 1)]", "root.odd[('a', 1)]"),
        ("root.odd[b'raw']", "root.odd[b'raw']"),
        ("root.odd[1]", "root.odd[True]"),
        ("root.odd[1e999]", "root.odd[inf]"),
        ("root.odd[builtins.str]", "root.odd[builtins.str]"),
        (r"""root.odd["it's \"so\"\n"]""", r"""root.odd['it\'s "so"\n']"""),
    ],
)
def test_the_path_is_shown_as_python_writes_it(world, target, path):
    """What is shown can be pasted, whichever way the target was written."""
    found = resolve(world, target)
    assert (found.path, resolve(world, found.path)) == (path, found)


def test_a_value_in_a_bucket_names_bucket_and_tree(world):
    """A value of a large BTree lies in the record of a bucket; the tree is what owns it."""
    found = resolve(world, "root.accounts['account-77']")
    assert world.class_of(found.oid) == "BTrees.OOBTree.OOBucket"
    assert (found.owner_path, world.class_of(found.owner)) == ("root.accounts", "BTrees.OOBTree.OOBTree")


@pytest.mark.parametrize(
    ("path", "message", "hint"),
    [
        ("root.acounts['x']", "root has no key 'acounts'", "Did you mean root.accounts?"),
        (
            "root.accounts['acount-77'].owner", "root.accounts has no key 'acount-77'",
            "Did you mean root.accounts['account-77'] or root.accounts['account-177'] or root.accounts['account-7']?",
        ),
        ("root.ada.nme", "root.ada has no attribute 'nme'", "Did you mean root.ada.name?"),
        ("/ada/nme", "root.ada has no attribute or key 'nme'", "Did you mean root.ada.name?"),
        ("root.numbers['495']", "root.numbers has no key '495'", "Did you mean root.numbers[495]?"),
        ("root.config['zzz']", "root.config has no key 'zzz'", "It has ['x'], ['data']."),
        ("root.config['x'][9]", "root.config['x'] has 2 items, and no index 9", ""),
        ("root.ada.name.x", "root.ada.name has no 'x': it is a str", ""),
        ("root.odd[None].x", "root.odd[None] has no attribute 'x'", ""),
    ],
)  # fmt: skip
def test_a_missing_part_is_named_and_near_ones_are_offered(world, path, message, hint):
    """The message says up to where the path holds; the hint what resembles the part that failed."""
    with pytest.raises(TargetNotFound) as caught:
        resolve(world, path)
    assert (caught.value.message, caught.value.hint) == (message, hint)
    assert caught.value.exit_code == ExitCode.NOT_FOUND


def test_keys_of_many_types_are_found_without_order(store):
    """A BTree whose keys cannot be compared with the wanted one is walked, and the key of the same type wins."""
    snapshot = store({"tree": OOBTree({(number, "x"): number for number in range(100)}), "one": PersistentMapping({
        1: "int", "1": "str", b"1": "bytes",
    })})  # fmt: skip
    assert _embedded(70, "root.tree[(70, 'x')]", snapshot)
    with pytest.raises(TargetNotFound, match=r"root\.tree has no key 'seventy'"):
        resolve(snapshot, "root.tree['seventy']")
    assert [resolve(snapshot, f"root.one[{key}]").value for key in ("1", "'1'", "b'1'")] == ["int", "str", "bytes"]


def test_a_dangling_reference_names_who_refers(fake):
    """What is missing, where the reference stands, and in whose record."""
    snapshot = fake({0: Record(ROOT_CLASS, (), Dict([("data", Dict([("a", Ref(42, Global("m", "C")))]))]), ())})
    with pytest.raises(DanglingReference) as caught:
        resolve(snapshot, "root.a.x")
    assert (
        caught.value.message == "root.a, in the record of 0x00, refers to 0x2a (m.C), which does not exist at this time"
    )
    assert (caught.value.exit_code, caught.value.oid, caught.value.holder) == (ExitCode.NOT_FOUND, 42, 0)


def test_a_reference_into_another_database_is_not_followed(fake):
    """Where the path leaves the database is said, with the other's name."""
    snapshot = fake({0: Record(ROOT_CLASS, (), Dict([("data", Dict([("a", Ref(42, None, "other"))]))]), ())})
    with pytest.raises(ForeignReference, match=r"root\.a leads to 0x2a in another database, 'other'"):
        resolve(snapshot, "root.a")


def test_a_broken_record_on_the_way_is_named(fake):
    """Oid, offset and reason; exit status 6. The record can still be located."""
    root = Record(ROOT_CLASS, (), Dict([("data", Dict([("a", Ref(42))]))]), ())
    snapshot = fake({0: root, 42: "a strange opcode"})
    with pytest.raises(BrokenRecord) as caught:
        resolve(snapshot, "root.a.x")
    assert caught.value.message == (
        "the record of 0x2a cannot be decoded: a strange opcode (at byte 7 of the record)"
    )  # fmt: skip
    assert (caught.value.exit_code, caught.value.oid, caught.value.offset) == (ExitCode.DAMAGED, 42, 7)
    assert [locate(snapshot, text) for text in ("root.a", "0x2a", "root")] == [
        (42, "root.a"),
        (42, "0x2a"),
        (0, "root"),
    ]


def test_a_database_without_a_root_says_so(fake):
    """No key error, no empty result."""
    with pytest.raises(ObjectNotFound, match="the database has no root object at this time"):
        resolve(fake({}), "root.a")


@pytest.mark.parametrize(
    ("begun", "completions"),
    [
        ("", ["root"]),
        ("ro", ["root"]),
        ("root.ac", ["root.accounts"]),
        ("root['not", ["root['not an identifier']"]),
        ("root.accounts['account-19", [f"root.accounts['account-{n}']" for n in (19, *range(190, 200))]),
        ('root.accounts["account-198', ['root.accounts["account-198"]']),
        ("root.numbers[-49", ["root.numbers[-495]", "root.numbers[-490]"]),
        ("/acc", ["/accounts"]),
        ("/ada/fr", ["/ada/front-page"]),
        ("/accounts/account-17", [f"/accounts/account-{n}" for n in (17, *range(170, 180))]),
        ("root.config['x'][1]['d", ["root.config['x'][1]['deep']"]),
        ("root.nothing.x", []),
        ("nonsense", []),
    ],
)
def test_a_begun_target_is_completed(world, begun, completions):
    """One step further, from what the snapshot holds; nothing for what leads nowhere."""
    assert complete_target(world, begun) == completions


def test_a_slash_path_finds_keys_that_hold_slashes(store):
    """Where no other reading leads anywhere; of several such readings the one with the longest key first."""
    snapshot = store({
        "files": PersistentMapping({"a/b.txt": 1, "a": {"x": 2, "c/d": 3}, "e/f": PersistentMapping({"g": 4})}),
        "x/y/z": 5, "x/y": {"z": 6}, "x": {"w": 7},
    })  # fmt: skip
    found = {
        text: (resolve(snapshot, text).path, resolve(snapshot, text).value, locate(snapshot, text)[1])
        for text in ("/files/a/b.txt", "/files/a/x", "/files/a/c/d", "/files/e/f/g", "/x/y/z", "/x/w")
    }
    paths = {
        "/files/a/b.txt": ("root.files['a/b.txt']", 1), "/files/a/x": ("root.files['a']['x']", 2),
        "/files/a/c/d": ("root.files['a']['c/d']", 3), "/files/e/f/g": ("root.files['e/f']['g']", 4),
        "/x/y/z": ("root['x/y/z']", 5), "/x/w": ("root.x['w']", 7),
    }  # fmt: skip
    assert found == {text: (path, value, path) for text, (path, value) in paths.items()}
    with pytest.raises(TargetNotFound, match=r"^root\.files has no attribute or key 'no'") as caught:
        resolve(snapshot, "/files/no/where")
    assert caught.value.path == "root.files"
    with pytest.raises(TargetNotFound):
        resolve(snapshot, "/files" + "/a" * 4_000)


def test_a_name_may_hold_what_continues_an_identifier(store):
    """Python takes the middle dot of Catalan as a part of a name; so does a path."""
    snapshot = store({"col·lecció": 1})
    assert resolve(snapshot, "root['col·lecció']").path == "root.col·lecció"
    assert resolve(snapshot, "root.col·lecció").value == 1
