"""A large Data.fs for the benchmarks: folders of accounts, each found by two BTrees, some with old revisions.

ZODB serialises a few folders; their records are then written again and again
with other oids, names and texts. It takes seconds where commits take minutes.
The file is an ordinary one: ZODB opens it here and leaves its index beside it.
"""

import datetime as dt
import os
import random
import tempfile
from array import array
from struct import Struct
from typing import BinaryIO, NamedTuple

import ZODB.FileStorage
from BTrees.IOBTree import IOBTree
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping
from ZODB.serialize import ObjectWriter
from ZODB.utils import p64

from zodbsh.record.decode import references

_TRANSACTION = Struct(">QQcHHH")
_DATA = Struct(">QQQQHQ")
_FIRST_TID = 0x03D1_0000_0000_0000
_SECOND = (1 << 32) // 60
_KINDS = 48
_REVISED = 0.08
# Stand in a template where each copy has its own.
_NAME = "00000000"
_ELSEWHERE = (1 << 63) - 1


class Kind(NamedTuple):
    """One folder as a template: its records, and which of them are accounts.

    A record is cut at the places that differ in each copy. ``holes`` has for
    each of them the number of an object in the folder, or one of the two below.
    """

    records: list[tuple[list[bytes], list[int]]]
    accounts: list[int]


_HOLE_NAME, _HOLE_ELSEWHERE = -1, -2


def make_database(objects: int) -> str:
    """Return the path of a Data.fs of about so many objects, about 500 bytes each; made once and kept."""
    path = os.path.join(tempfile.gettempdir(), f"zodbsh-bench-{objects}-objects.fs")
    if os.path.exists(path):
        return path
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "wb", buffering=1 << 20) as file:
        _Writer(file, random.Random(objects)).write(objects)
    ZODB.FileStorage.FileStorage(temporary).close()
    for suffix in (".lock", ".tmp"):
        os.remove(temporary + suffix)
    os.rename(temporary + ".index", path + ".index")
    os.rename(temporary, path)
    return path


class _Writer:
    def __init__(self, file: BinaryIO, rand: random.Random) -> None:
        self.file, self.rand = file, rand
        self.place = file.write(b"FS30")
        self.transactions = 0
        # By oid, where its newest record is.
        self.positions = array("Q")

    def write(self, objects: int) -> None:
        """Write an empty root, folder by folder, then the tree that holds them."""
        rand = self.rand
        kinds = [_folder(rand) for _ in range(_KINDS)]
        self._transaction([(0, _serialized(PersistentMapping()))])
        folders: list[int] = []
        accounts = array("Q")
        origins: list[tuple[Kind, int, int]] = []
        while len(self.positions) < objects:
            kind = rand.choice(kinds)
            first = len(self.positions)
            records = [
                (first + number, self._filled(kind, number, first, accounts)) for number in range(len(kind.records))
            ]
            for _ in range(round(len(kind.accounts) * _REVISED + rand.random() - 0.5) if origins else 0):
                other, base, number = rand.choice(origins)
                records.append((base + number, self._filled(other, number, base, accounts)))
            origins.extend((kind, first, number) for number in rand.sample(kind.accounts, 1))
            self._transaction(list(dict(records).items()))
            folders.append(first)
            accounts.extend(first + number for number in kind.accounts)
        self._transaction(_top(folders, len(self.positions)))

    def _filled(self, kind: Kind, number: int, first: int, accounts: array) -> bytes:
        pieces, holes = kind.records[number]
        filled = [b""] * (len(pieces) + len(holes))
        filled[::2] = pieces
        for index, hole in enumerate(holes):
            if hole >= 0:
                value = (first + hole).to_bytes(8, "big")
            elif hole == _HOLE_NAME:
                value = b"%08d" % (first + number)
            else:
                value = (accounts[int(self.rand.random() * len(accounts))] if accounts else 0).to_bytes(8, "big")
            filled[2 * index + 1] = value
        return b"".join(filled)

    def _transaction(self, records: list[tuple[int, bytes]]) -> None:
        tid = _FIRST_TID + self.transactions * _SECOND
        user, description = b"/user-%d" % (self.transactions % 7), b"edited"
        header = _TRANSACTION.size + len(user) + len(description)
        length = header + sum(_DATA.size + len(data) for _, data in records)
        parts = [_TRANSACTION.pack(tid, length, b" ", len(user), len(description), 0), user, description]
        here = self.place + header
        for oid, data in records:
            previous = self.positions[oid] if oid < len(self.positions) else 0
            parts += (_DATA.pack(oid, tid, previous, self.place, 0, len(data)), data)
            if oid == len(self.positions):
                self.positions.append(here)
            else:
                self.positions[oid] = here
            here += _DATA.size + len(data)
        parts.append(length.to_bytes(8, "big"))
        self.place += self.file.write(b"".join(parts))
        self.transactions += 1


def _folder(rand: random.Random) -> Kind:
    """Return a folder: a mapping, its accounts by name and by number in BTrees, the accounts."""
    folder = PersistentMapping(
        title=f"folder {_NAME}", created=dt.datetime(2021, 3, rand.randrange(1, 29), 9, 30, tzinfo=dt.UTC)
    )
    folder["by_name"], folder["by_number"] = by_name, by_number = OOBTree(), IOBTree()
    elsewhere = _numbered(PersistentMapping(), _ELSEWHERE)
    accounts = []
    for number in range(rand.randrange(2, 70)):
        account = PersistentMapping(
            name=f"account {_NAME}",
            number=number,
            balance=rand.randrange(100_000) / 100,
            entries=[("deposit", rand.randrange(1000)) for _ in range(rand.randrange(4))],
            address={"street": "x" * rand.randrange(10, 40), "city": "y" * rand.randrange(5, 20), "country": "de"},
            note="a line of text, " * rand.randrange(2, 10),
            folder=folder,
        )
        if rand.random() < 0.6:
            account["partner"] = elsewhere
        by_name[f"account-{number:04}"] = by_number[number] = account
        accounts.append(account)
    objects: list[Persistent] = [folder, *_nodes(by_name), *_nodes(by_number)]
    first = len(objects)
    objects += accounts
    for number, found in enumerate(objects):
        # Told apart from anything else in a record by the upper bytes.
        _numbered(found, (1 << 62) + number)
    records = [_cut(ObjectWriter().serialize(found)) for found in objects]
    return Kind(records, list(range(first, len(objects))))


def _cut(data: bytes) -> tuple[list[bytes], list[int]]:
    """Cut a template where copies differ."""
    holes: dict[int, int] = {}
    for ref in references(data):
        assert ref.offset is not None
        holes[ref.offset] = _HOLE_ELSEWHERE if ref.oid == _ELSEWHERE else ref.oid - (1 << 62)
    place = data.find(_NAME.encode())
    if place >= 0:
        holes[place] = _HOLE_NAME
    pieces, end = [], 0
    for place in sorted(holes):
        pieces.append(data[end:place])
        end = place + 8
    return [*pieces, data[end:]], [holes[place] for place in sorted(holes)]


def _top(folders: list[int], oid: int) -> list[tuple[int, bytes]]:
    """Return the root and the nodes of the tree that holds the folders; the nodes' oids start at ``oid``."""
    tree = IOBTree()
    for number, folder in enumerate(folders):
        tree[number] = _numbered(PersistentMapping(), folder)
    nodes = _nodes(tree)
    for number, node in enumerate(nodes):
        _numbered(node, oid + number)
    root = _serialized(PersistentMapping(folders=tree))
    return [*((oid + number, _serialized(node)) for number, node in enumerate(nodes)), (0, root)]


def _nodes(tree: Persistent) -> list[Persistent]:
    """Return a BTree and its buckets, parents first."""
    found = [tree]
    for node in found:
        state = node.__getstate__()
        # An inner node is ((child, key, child, ...), first bucket); ((state,),) holds its only bucket itself.
        if type(node) is type(tree) and state is not None and len(state) == 2:
            found.extend(state[0][::2])
    return found


def _numbered(found: Persistent, oid: int) -> Persistent:
    found._p_oid = p64(oid)
    return found


def _serialized(found: Persistent) -> bytes:
    data: bytes = ObjectWriter().serialize(found)
    return data
