"""``why``'s results: every path pasted back, garbage, what does not exist."""

import os
from pathlib import Path

import pytest
import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping

from zodbsh.analysis.graph import ObjectGraph
from zodbsh.analysis.target import resolve
from zodbsh.analysis.ways import ways_to
from zodbsh.errors import ExitCode, ObjectNotFound
from zodbsh.ids import from_bytes, oid_text
from zodbsh.ops.refs import refs
from zodbsh.ops.why import why
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot
from zodbsh.source.storage import StorageSource

CORPUS = Path(os.environ.get("ZODBSH_CORPUS", "corpus"))
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="no corpus of real databases here")


@pytest.fixture
def database(tmp_path):
    """A tree with a shared value and a list in a value, garbage, and a root; a snapshot and oids by name."""
    path = str(tmp_path / "my.fs")
    db = ZODB.DB(path)
    connection = db.open()
    root = connection.root()
    shared = PersistentMapping(tags=["a", {"deep": 1}])
    root["tree"] = OOBTree({f"k{number:03}": PersistentMapping() for number in range(100)})
    root["tree"]["k050"]["x"] = shared
    root["short"] = shared
    root["dead"] = PersistentMapping(child=PersistentMapping(shared=shared))
    transaction.commit()
    named = {
        "shared": shared,
        "dead": root["dead"],
        "child": root["dead"]["child"],
        "bucket": root["tree"]._firstbucket,
    }
    oids = {name: from_bytes(obj._p_oid) for name, obj in named.items()}
    del root["dead"]
    transaction.commit()
    db.close()
    source = FileSource(path)
    yield Snapshot(source), oids
    source.close()


@needs_corpus
@pytest.mark.parametrize("name", ["wikidocs.fs", "zopache.fs", "plone-4.3.fs", "wor-large.fs"])
def test_every_way_of_a_real_database_leads_back(name):
    """Pasted as a target, each of ten ways gives that very object; no two are the same; the first is its path."""
    source = FileSource(str(CORPUS / name))
    graph = ObjectGraph.read(Snapshot(source))
    oids = list(source.oids())
    for oid in oids[:: max(len(oids) // 60, 1)]:
        if not graph.is_reachable(graph.columns.find(oid)):
            continue
        found = ways_to(graph, oid, 10, budget=2_000)
        assert found.places
        assert len(set(found.places)) == len(found.places)
        assert found.places[0].path == graph.path(oid) or not graph.path(oid).startswith("root")
        for place in found.places:
            if not place.internal:
                target = resolve(graph.snapshot, place.path)
                assert (target.oid, target.embedded) == (oid, False)
    source.close()


def test_the_ways_to_an_object_the_shortest_first(database):
    """One unless more are asked for; then all there are."""
    snapshot, oids = database
    target = oid_text(oids["shared"])
    assert [way.path for way in why(snapshot, target).ways] == ["root.short"]
    found = why(snapshot, target, count=9)
    assert ([way.path for way in found.ways], found.complete) == (["root.short", "root.tree['k050']['x']"], True)
    assert (found.reachable, found.island, found.class_) == (True, None, "persistent.mapping.PersistentMapping")


def test_a_value_in_a_record_has_the_ways_to_its_object(database):
    """With the steps from there."""
    snapshot, _ = database
    found = why(snapshot, "root.short['tags'][1]", count=5)
    assert [way.path for way in found.ways] == ["root.short['tags'][1]", "root.tree['k050']['x']['tags'][1]"]
    assert (found.embedded, found.class_) == (True, "dict")
    assert all(resolve(snapshot, way.path).value.get("deep") == 1 for way in found.ways)


def test_a_bucket_is_part_of_its_tree(database):
    """It has no path of its own."""
    snapshot, oids = database
    [way] = why(snapshot, oid_text(oids["bucket"]), count=5).ways
    assert way == ("root.tree", True, True)


def test_garbage_has_an_island(database):
    """Of what the root does not reach, the top, and the way from there; what lives does not count."""
    snapshot, oids = database
    found = why(snapshot, oid_text(oids["child"]), count=3)
    assert (found.reachable, found.ways, found.has_root) == (False, (), True)
    [top] = found.island.tops
    assert [member.oid for member in top.members] == [oids["dead"]]
    assert top.path == f"{oid_text(oids['dead'])}['child']"
    assert (found.island.objects, found.island.more_tops) == (2, False)


def test_what_does_not_exist_is_said_with_who_refers_to_it(database):
    """Exit status 3; the hint names refs."""
    snapshot, _ = database
    with pytest.raises(ObjectNotFound, match=r"no object 0x0fff .* nothing refers to it") as caught:
        why(snapshot, "0x0fff")
    assert caught.value.exit_code is ExitCode.NOT_FOUND
    with pytest.raises(ObjectNotFound, match="no object"):
        why(Snapshot(snapshot.source, 1), "0x01")


def test_at_an_earlier_time_the_garbage_lives(database):
    """Before it was cut off."""
    snapshot, oids = database
    then = Snapshot(snapshot.source, snapshot.tid - 1)
    assert [way.path for way in why(then, oid_text(oids["child"])).ways] == ["root.dead['child']"]


def test_the_root_lives_by_itself(database):
    """Its path is ``root``."""
    assert [way.path for way in why(database[0], "root", count=3).ways] == ["root"]


def test_a_storage_in_memory_answers_like_a_file():
    """Both commands, over the storage's own transactions."""
    from ZODB.MappingStorage import MappingStorage

    storage = MappingStorage()
    db = ZODB.DB(storage)
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping(b=PersistentMapping())
    source = StorageSource(storage, ":memory:", owned=False)
    assert [way.path for way in why(Snapshot(source), "0x02").ways] == ["root.a['b']"]
    [link] = refs(Snapshot(source), "0x02").into.found
    assert (link.path, link.via) == ("root.a", "['b']")
    source.close()
    db.close()
