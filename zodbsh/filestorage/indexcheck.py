"""Whether a saved index says of every object what the file says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zodbsh.engine.chosen import Pass
from zodbsh.engine.columns import Newest, Options
from zodbsh.filestorage.index import Index, IndexDoubt, read_index
from zodbsh.filestorage.structs import MAGIC_SIZE
from zodbsh.findings import Finding

if TYPE_CHECKING:
    from zodbsh.filestorage.datafile import DataFile

_NAMED = 100


def check_saved_index(file: DataFile, newest: Newest, end: int) -> Iterator[Finding]:
    """Yield what is wrong with ``Data.fs.index``; nothing where there is none.

    ``newest`` has the position of each object's newest record before ``end``. An index that ends earlier is no fault:
    it is compared with what the file was then.
    """
    import os

    path = f"{file.path}.index"
    if not os.path.lexists(path):
        return
    index = read_index(path)
    if isinstance(index, IndexDoubt):
        yield Finding("index", None, None, None, f"{path} is no index that can be used: {index.reason}")
        return
    if index.end > end:
        yield Finding("index", None, None, None, f"{path} ends at {index.end}, beyond what is sound of the file: {end}")
        return
    if index.end < end:
        taking = Pass(Options(references=False))
        reached = taking.read(file.fd, MAGIC_SIZE, index.end)
        if reached.end != index.end:
            yield Finding("index", None, None, None, f"{path} ends at {index.end}, where no transaction ends")
            return
        newest = Newest(taking.finish())
    wrong = 0
    for prefix, suffixes, positions in index.parts():
        if newest.placed(prefix, suffixes, positions):
            continue
        for oid, position in Index(0, {prefix: suffixes + positions}).items():
            if newest.get(oid) != position:
                wrong += 1
                if wrong <= _NAMED:
                    yield Finding("index", oid, None, position, _reason(newest.get(oid), position))
    if len(index) != len(newest) or wrong:
        missing = newest.keys() - {oid for oid, _ in index.items()}
        for oid in sorted(missing)[:_NAMED]:
            yield Finding("index", oid, None, newest[oid], "the saved index does not know this object")
        if wrong > _NAMED or len(missing) > _NAMED:
            more = max(0, wrong - _NAMED) + max(0, len(missing) - _NAMED)
            yield Finding("index", None, None, None, f"the saved index is wrong about {more:,} more objects")


def _reason(position: int | None, said: int) -> str:
    if position is None:
        return f"the saved index has a record of it at {said}, the file has none at all"
    return f"the saved index has its newest record at {said}, but that is at {position}"
