"""``refs``'s results: on real files as ZODB sees them, and on small ones as people do."""

import os
from collections import defaultdict
from pathlib import Path

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from persistent.wref import WeakRef
from ZODB.Connection import TransactionMetaData
from ZODB.serialize import referencesf

from zodbsh.analysis.graph import ObjectGraph
from zodbsh.analysis.links import links_in, links_out
from zodbsh.analysis.target import resolve
from zodbsh.errors import ObjectNotFound
from zodbsh.ids import from_bytes, oid_text
from zodbsh.ops.refs import refs
from zodbsh.record.decode import strong_references
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot

CORPUS = Path(os.environ.get("ZODBSH_CORPUS", "corpus"))
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="no corpus of real databases here")


@pytest.fixture
def write(tmp_path):
    """Run functions of a connection, one transaction each; return a snapshot and what they return."""
    sources = []

    def run(*steps):
        path = str(tmp_path / f"my{len(sources)}.fs")
        db = ZODB.DB(path)
        connection = db.open()
        results = []
        for step in steps:
            results.append(step(connection))
            transaction.commit()
        connection.close()
        db.close()
        sources.append(FileSource(path))
        return Snapshot(sources[-1]), *results

    yield run
    for source in sources:
        source.close()


def oid_of(obj):
    return from_bytes(obj._p_oid)


def short(links):
    return [(link.path, link.via) for link in links.found]


@needs_corpus
@pytest.mark.parametrize("name", ["wikidocs.fs", "zopache.fs", "plone-4.3.fs"])
def test_references_are_those_that_zodb_finds(name):
    """Both directions, of every object of a real database; ``path`` and ``via`` together lead to the target."""
    source = FileSource(str(CORPUS / name))
    graph = ObjectGraph.read(Snapshot(source))
    _ = graph.turned
    oids = list(source.oids())
    # ZODB cannot read what Python 2 wrote; there the decoder, which other tests compare with it, is the witness.
    if source.info().format == "FS30":
        out = {oid: {from_bytes(raw) for raw in referencesf(source.load(oid).data)} for oid in oids}
    else:
        out = {oid: set(strong_references(source.load(oid).data)) for oid in oids}
    into = defaultdict(set)
    for oid, targets in out.items():
        for target in targets:
            into[target].add(oid)
    for oid in oids[:: max(len(oids) // 400, 1)]:
        found = links_out(graph, oid, None, depth=1, limit=None).found
        # A tree's values are its own, though its buckets hold them.
        own = {link.oid for link in found if not link.weak}
        assert out[oid] <= own
        assert out[oid] == own or any(not link.via for link in found)
        assert all(link.exists == (link.oid in out) for link in found)
        found = links_in(graph, oid, depth=1, limit=50)
        assert {link.oid for link in found.found if not link.weak} <= into[oid]
        assert len({link.oid for link in found.found}) >= min(len(into[oid]), 1)
        if not found.more:
            assert {link.oid for link in found.found if not link.weak} == into[oid]
        for link in found.found[:5]:
            if link.via and "<" not in link.via and ".keys()" not in link.via:
                assert resolve(graph.snapshot, link.path + link.via).oid == oid
    source.close()


def bank(connection):
    """An account in a large tree, with an owner, a bank that is referred to weakly, and a missing friend to come."""
    account, owner = PersistentMapping(), PersistentMapping(friend=PersistentMapping())
    account["owner"], account["bank"] = owner, WeakRef(connection.root())
    account["both"] = [owner]
    connection.root()["accounts"] = OOBTree({f"a{number:03}": PersistentMapping() for number in range(200)})
    connection.root()["accounts"]["a150"] = account
    transaction.savepoint()
    return oid_of(account), oid_of(owner), oid_of(owner["friend"])


def test_each_reference_has_the_attribute_or_key_that_holds_it(write):
    """One line a reference; a weak one is marked; a bucket is shown as its tree, with the key."""
    snapshot, (account, owner, _) = write(bank)
    found = refs(snapshot, oid_text(account))
    assert (found.path, found.part_of, found.exists) == ("root.accounts['a150']", False, True)
    assert [(link.path, link.via, link.weak) for link in found.out.found] == [
        ("root.accounts['a150']['owner']", "['owner']", False),
        ("root", "['bank']", True),
        ("root.accounts['a150']['owner']", "['both'][0]", False),
    ]  # fmt: skip
    [holder] = found.into.found
    assert (holder.path, holder.part_of, holder.via) == ("root.accounts", True, "['a150']")
    assert holder.class_ == "BTrees.OOBTree.OOBucket"
    assert short(refs(snapshot, oid_text(owner)).into) == [
        ("root.accounts['a150']", "['owner']"), ("root.accounts['a150']", "['both'][0]"),
    ]  # fmt: skip
    # The root's keys are written as attributes.
    assert short(refs(snapshot, "root", into=False).out) == [("root.accounts", ".accounts")]


def test_a_weak_referrer_is_marked(write):
    """Who refers weakly is among those that refer."""
    snapshot, _ = write(bank)
    found = refs(snapshot, "root", out=False)
    assert found.out is None
    assert [(link.path, link.weak) for link in found.into.found] == [("root.accounts['a150']", True)]


def test_a_btree_refers_to_its_values_and_its_nodes(write):
    """Nodes have no key; values come in the order of the keys, whichever bucket holds them."""
    snapshot, _ = write(bank)
    found = refs(snapshot, "root.accounts", into=False).out
    values = [link for link in found.found if link.via]
    assert [link.path for link in values] == [f"root.accounts['a{number:03}']" for number in range(200)]
    nodes = [link for link in found.found if not link.via]
    assert len(nodes) > 3
    assert {(link.path, link.part_of) for link in nodes} == {("root.accounts", True)}
    few = refs(snapshot, "root.accounts", into=False, limit=7).out
    assert [link.path for link in few.found if link.via] == [f"root.accounts['a00{number}']" for number in range(7)]
    assert (few.counted, few.more > 0) == (False, True)


def test_levels_follow_and_each_object_is_opened_once(write):
    """Through a tree as if it were one object, in both directions."""
    snapshot, (account, owner, friend) = write(bank)
    into = refs(snapshot, oid_text(friend), out=False, depth=4).into.found
    assert [(link.level, link.path, link.via) for link in into] == [
        (1, "root.accounts['a150']['owner']", "['friend']"), (2, "root.accounts['a150']", "['owner']"),
        (2, "root.accounts['a150']", "['both'][0]"), (3, "root.accounts", "['a150']"), (4, "root", ".accounts"),
    ]  # fmt: skip
    assert [link.through for link in into[:4]] == [friend, owner, owner, account]
    out = refs(snapshot, oid_text(account), into=False, depth=5).out.found
    assert [(link.level, link.oid) for link in out if not link.weak] == [(1, owner), (1, owner), (2, friend)]


def test_a_value_in_a_record_has_its_owner_and_its_own_references(write):
    """What lies beside it does not count; steps start at the value."""
    snapshot, (_, owner, _) = write(bank)
    found = refs(snapshot, "root.accounts['a150']['both']", depth=2)
    assert (found.embedded, found.class_, found.path) == (True, "list", "root.accounts['a150']['both']")
    assert [(link.oid, link.via, link.level) for link in found.out.found][:1] == [(owner, "[0]", 1)]
    assert [(link.path, link.via, link.level) for link in found.into.found] == [
        ("root.accounts['a150']", "['both']", 1), ("root.accounts", "['a150']", 2),
    ]  # fmt: skip


def test_who_refers_to_a_missing_object_is_known(write, tmp_path):
    """By its oid, and by the path that leads to it."""
    path = str(tmp_path / "hole.fs")
    storage = ZODB.FileStorage.FileStorage(path)
    db = ZODB.DB(storage)
    _, owner, friend = bank(db.open())
    transaction.commit()
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    storage.deleteObject(friend.to_bytes(8, "big"), storage.load(friend.to_bytes(8, "big"))[1], meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    db.close()
    source = FileSource(path)
    snapshot = Snapshot(source)
    for target in (oid_text(friend), "root.accounts['a150']['owner']['friend']"):
        found = refs(snapshot, target)
        assert (found.exists, found.class_, found.oid) == (False, None, friend)
        assert short(found.into) == [("root.accounts['a150']['owner']", "['friend']")]
    [link] = refs(snapshot, oid_text(owner)).out.found
    assert (link.exists, link.class_, link.path) == (False, None, oid_text(friend))
    with pytest.raises(ObjectNotFound, match="nothing refers to it"):
        refs(snapshot, "0x123456")
    source.close()


def test_many_referrers_are_bounded_and_counted(write):
    """Whoever is referred to by everybody."""

    def make(connection):
        shared = PersistentMapping()
        connection.root()["all"] = PersistentMapping({n: PersistentMapping(up=shared) for n in range(30)})
        transaction.savepoint()
        return oid_of(shared)

    snapshot, shared = write(make)
    found = refs(snapshot, oid_text(shared), limit=10).into
    assert (len(found.found), found.more, found.counted) == (10, 20, True)
    assert (refs(snapshot, oid_text(shared), limit=0).into.more) == 30
    found = refs(snapshot, oid_text(shared), limit=None).into
    assert (len(found.found), found.more) == (30, 0)


def test_at_an_earlier_time_references_are_those_of_then(write):
    """What refers to it now did not refer to it then."""

    def more(connection):
        connection.root()["second"] = connection.root()["first"]

    def first(connection):
        connection.root()["first"] = PersistentMapping()

    snapshot, *_ = write(first, more)
    assert short(refs(snapshot, "root.first", out=False).into) == [("root", ".first"), ("root", ".second")]
    then = Snapshot(snapshot.source, snapshot.tid - 1)
    assert short(refs(then, "root.first", out=False).into) == [("root", ".first")]
