"""Packing: both engines write the same copy, to the byte, and find the same fault in a wrong one."""

from __future__ import annotations

import importlib
import os
import random
import sys
from pathlib import Path

import pytest
import ZODB
from persistent.mapping import PersistentMapping

sys.path.insert(0, str(Path(__file__).parent))
from engines import NATIVE, passes
from random_history import random_history, tids

from zodbsh.engine import packing
from zodbsh.engine.columns import DELETED, Options
from zodbsh.filestorage.index import index_bytes, index_file

ENGINES = {"python": packing} | ({"native": importlib.import_module("zodbsh.engine._pack")} if NATIVE else {})
CORPUS = sorted(Path(os.environ["ZODBSH_CORPUS"]).rglob("*.fs")) if "ZODBSH_CORPUS" in os.environ else []


class Job:
    """One engine at work on one file: everything that stays is what exists, or only each second object of it."""

    def __init__(self, engine: str, path: Path, tid: int, copy: Path, *, half: bool = False) -> None:
        self.engine, self.copy_path = ENGINES[engine], copy
        self.fd = os.open(path, os.O_RDONLY)
        self.end = os.fstat(self.fd).st_size
        make = passes()[engine]
        taking = make(Options())
        reached = taking.read(self.fd, 4, self.end, until=tid)
        self.columns, self.border = taking.finish(), reached.end
        rest = make(Options(references=False))
        assert rest.read(self.fd, self.border, self.end, last_tid=reached.last_tid).end == self.end
        self.later_columns = rest.finish()
        self.later = self.engine.survey(self.fd, self.border, self.end, self.columns)
        self.marks = bytearray(
            class_ < DELETED and not (half and oid % 2)
            for class_, oid in zip(self.columns.classes, self.columns.oids, strict=True)
        )
        self.targets = packing.array("Q", sorted({pointer.target for pointer in self.later.pointers}))

    def copy(self) -> bytes:
        out = os.open(self.copy_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.pwrite(out, b"FS30", 0)
        counted = self.engine.copy_packed(self.fd, self.border, self.columns, self.marks, self.targets, -1)
        copied = self.engine.copy_packed(self.fd, self.border, self.columns, self.marks, self.targets, out)
        assert counted[:3] == copied[:3]
        end = self.engine.copy_later(
            self.fd, self.border, self.end, copied, self.columns, self.later_columns, self.targets, out
        )
        os.close(out)
        assert end == self.copy_path.stat().st_size
        return self.copy_path.read_bytes()

    def compare(self, content: bytes | None = None) -> str | None:
        if content is not None:
            self.copy_path.write_bytes(content)
        fd = os.open(self.copy_path, os.O_RDONLY)
        try:
            return self.engine.compare(
                self.fd, self.border, self.end, self.columns, self.marks, self.targets, fd, os.fstat(fd).st_size
            )
        except packing.Changed:
            return "unreadable"
        finally:
            os.close(fd)

    def surveyed(self) -> object:
        def oids(marks: bytearray) -> set[int]:
            return {self.columns.oids[number] for number, mark in enumerate(marks) if mark}

        later = self.later
        return list(later.pointers), oids(later.referred), oids(later.stored), list(later.undecodable), list(later.odd)


def jobs(path: Path, tid: int, folder: Path, **options: bool) -> list[Job]:
    return [Job(engine, path, tid, folder / f"{engine}.fs", **options) for engine in sorted(ENGINES)]


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_both_engines_write_the_same(tmp_path: Path, seed: int, half: bool) -> None:
    """At any pack time of a random history; each finds nothing wrong with what it wrote."""
    path = tmp_path / "a.fs"
    random_history(path, seed, packed_before=seed % 3 == 0)
    for tid in [0, *random.Random(seed).choices(tids(path), k=4), tids(path)[-1]]:
        done = jobs(path, tid, tmp_path, half=half)
        assert len({job.copy() for job in done}) == 1
        assert [job.compare() for job in done] == [None] * len(done)
        assert all(job.surveyed() == done[0].surveyed() for job in done)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_both_engines_write_the_same_of_real_databases(path: Path, tmp_path: Path) -> None:
    """At half of their history, and at its end."""
    with open(path, "rb") as file:
        taking = passes()["python"](Options(references=False))
        rows: list[object] = []
        taking.read(file.fileno(), 4, path.stat().st_size, on_transactions=rows.extend)
    for row in (rows[len(rows) // 2], rows[-1]):
        done = jobs(path, row.tid, tmp_path)
        assert len({job.copy()[4:] for job in done}) == 1
        assert [job.compare() for job in done] == [None] * len(done)


@pytest.mark.parametrize("seed", range(6))
def test_both_engines_find_what_is_wrong_with_a_copy(tmp_path: Path, seed: int) -> None:
    """Any changed byte that is not a pointer of the framing, which the framing's own check is for, is told."""
    path, rand = tmp_path / "a.fs", random.Random(seed)
    random_history(path, seed)
    done = jobs(path, rand.choice(tids(path)), tmp_path)
    content = done[0].copy()
    told = 0
    for _ in range(150):
        place = rand.randrange(4, len(content))
        wrong = content[:place] + bytes([content[place] ^ 1 << rand.randrange(8)]) + content[place + 1 :]
        said = {job.compare(wrong) for job in done}
        assert len(said) == 1
        told += said != {None}
    assert told > 100


def test_records_larger_than_a_window(tmp_path: Path) -> None:
    """A record of 9 MB, own and pointed back to, goes through both engines' windows."""
    path = tmp_path / "a.fs"
    db = ZODB.DB(str(path))
    for size in (9_000_000, 10, 5_000_000):
        with db.transaction() as connection:
            connection.root()["big"] = PersistentMapping(text=random.Random(size).randbytes(size))
    with db.transaction() as connection:
        connection.root()["big"]["text"] = b""
    with db.transaction():
        pass
    import transaction

    db.undo(db.undoInfo(0, 1)[0]["id"])
    transaction.commit()
    db.close()
    for tid in tids(path)[-2:]:
        done = jobs(path, tid, tmp_path)
        assert len({job.copy() for job in done}) == 1
        assert [job.compare() for job in done] == [None] * len(done)
        broken = bytearray(done[0].copy_path.read_bytes())
        broken[-2_000_000] ^= 1
        assert None not in {job.compare(bytes(broken)) for job in done}


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_a_long_way_of_pointers_is_walked_once(tmp_path: Path, engine: str) -> None:
    """Undo of undo of undo: each record points to the one before; their data is found all the same."""
    path = tmp_path / "a.fs"
    db = ZODB.DB(str(path))
    with db.transaction() as connection:
        connection.root()["n"] = 1
    with db.transaction() as connection:
        connection.root()["n"] = 2
    import transaction

    for _ in range(40):
        db.undo(db.undoInfo(0, 1)[0]["id"])
        transaction.commit()
    db.close()
    for tid in tids(path)[1::7]:
        job = Job(engine, path, tid, tmp_path / "b.fs")
        job.copy()
        assert job.compare() is None


@pytest.mark.parametrize("engine", sorted(ENGINES))
def test_the_index_is_that_of_the_positions(tmp_path: Path, engine: str) -> None:
    """What is written from columns is what is written from oids and positions."""
    path = tmp_path / "a.fs"
    random_history(path, 3)
    columns = Job(engine, path, tids(path)[-1], tmp_path / "b.fs").columns
    found = sorted((oid, columns.position(number)) for number, oid in enumerate(columns.oids) if columns.where[number])
    assert b"".join(index_file(7, ENGINES[engine].index_parts(columns))) == b"".join(index_bytes(7, found))
