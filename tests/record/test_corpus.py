"""Every record of real databases decodes, and refers to what ZODB says."""

import os
import struct
from collections import Counter
from pathlib import Path

import pytest
from ZODB.serialize import referencesf

from zodbsh.record.btrees import read_tree_state, record_tree
from zodbsh.record.decode import decode_record, record_class, references
from zodbsh.record.disassemble import disassemble
from zodbsh.record.shape import edges

CORPUS = os.environ.get("ZODBSH_CORPUS", "")
pytestmark = pytest.mark.skipif(not Path(CORPUS or "/nowhere").is_dir(), reason="ZODBSH_CORPUS names no folder")

# References in every data record, as the corpus counts them.
FILES = {
    "plone-4.3.fs": 7498,
    "zopache.fs": 1676,
    "wor-small.fs": 207,
    "wor-large.fs": 4234,
    "wikidocs.fs": 15814,
    "zodbtools-py2_pickle1/data.fs": 23,
    "zodbtools-nozext-py3_pickle3/data.fs": 23,
}


def records(name):
    """Yield the data of every record of a Data.fs; a sound file is taken for granted."""
    data = (Path(CORPUS) / name).read_bytes()
    position = 4
    while position < len(data):
        _, length, _, *sizes = struct.unpack_from(">QQcHHH", data, position)
        end, record = position + length, position + 23 + sum(sizes)
        while record < end:
            size = struct.unpack_from(">Q", data, record + 34)[0]
            if size:
                yield data[record + 42 : record + 42 + size]
            record += 42 + (size or 8)
        position = end + 8


@pytest.mark.parametrize("name", FILES)
def test_every_record_of_a_real_database(name):
    """It decodes; class and references are the same by each way; a step leads to every reference."""
    total = 0
    for data in records(name):
        record = decode_record(data)
        total += len(record.references)
        assert references(data) == record.references
        assert record_class(data) == record.class_
        for reference in record.references:
            assert data[reference.offset : reference.offset + 8] == reference.oid.to_bytes(8, "big")
        found = [reference for _, reference in edges(record)]
        assert Counter(map(id, found)) == Counter(map(id, record.references))
        kind = record_tree(record)
        if kind is not None:
            read_tree_state(kind, record.state)
        assert [found.name for found in disassemble(data)].count("STOP") == 2
    assert total == FILES[name]


@pytest.mark.parametrize("name", ["wikidocs.fs", "zodbtools-nozext-py3_pickle3/data.fs"])
def test_references_are_those_that_zodb_finds(name):
    """In the files that ZODB can still read."""
    for data in records(name):
        found = [reference.oid.to_bytes(8, "big") for reference in references(data) if not reference.weak]
        assert found == referencesf(data)
