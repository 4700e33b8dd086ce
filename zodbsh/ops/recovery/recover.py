"""``recover``: what is sound in a damaged Data.fs, saved into a new one.

The damaged file is only read, beside whoever writes it. The new one is written
and checked before it gets its name.
"""

from __future__ import annotations

import io
import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from zodbsh.db.spec import is_address
from zodbsh.engine import chosen
from zodbsh.errors import DamagedDatabase, DatabaseNotFound, StorageIOError, UsageError, ZodbshError
from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.index import index_bytes
from zodbsh.filestorage.rebuild import Rebuilt, rebuild
from zodbsh.filestorage.salvage.parts import Contradiction, Reader
from zodbsh.filestorage.salvage.plan import Plan, choose
from zodbsh.filestorage.salvage.records import Damaged, record_places
from zodbsh.filestorage.salvage.salvage import Survey, survey
from zodbsh.filestorage.structs import DATA_HEADER, FORMATS, MAGIC_SIZE
from zodbsh.ops.recovery.blobs import BlobsResult, BlobStage
from zodbsh.ops.recovery.lost import LostObject, LostRange, Shifted, fitting_index, lost_objects, lost_ranges, shifted
from zodbsh.ops.recovery.pairs import likely_pairs
from zodbsh.ops.verify import FRAMING, VerifyResult, verify
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import AlreadyExists, failing_well, publish, require_room, staged, uninterrupted
from zodbsh.source.file import FileSource

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

    from zodbsh.db.spec import Spec

# What stands beside a file of this name would be taken for the new database's.
_REMAINS = (".index", ".old", ".pack", ".stage")
_SAMPLED = 1_000


class NothingRecovered(DamagedDatabase):
    """There is not one sound record in the file."""

    code = "nothing-recovered"
    hint = "Is it a FileStorage at all? Look for a backup, or for another copy of the file."


class RecoverResult(NamedTuple):
    """What a recovery kept and what it lost.

    ``out`` is the new file, None where nothing was to be written. ``assumed``
    says in a sentence what the file's beginning does not tell. ``bytes_kept``
    counts the new file. ``lost`` are the objects that are known to have lost a
    revision; there may be others, whose only trace was in ``ranges``. ``tail``
    counts the bytes of a transaction that was never finished: nobody was told
    that it was committed. ``contradictions`` are numbers that others contradict,
    ``contradictions_more`` counts further records that point to another object's.
    """

    database: str
    out: str | None
    format: str
    assumed: str | None
    bytes: int
    bytes_kept: int
    transactions: int
    records: int
    damaged: tuple[Damaged, ...]
    ranges: tuple[LostRange, ...]
    shifted: tuple[Shifted, ...]
    lost: tuple[LostObject, ...]
    contradictions: tuple[Contradiction, ...]
    contradictions_more: int
    tail: int
    blobs: BlobsResult | None
    check: VerifyResult | None

    @property
    def bytes_lost(self) -> int:
        """How many bytes of the file were not taken."""
        return sum(one.end - one.start for one in self.ranges)

    @property
    def lost_nothing(self) -> bool:
        """Whether all that was there is kept, as far as can be told."""
        missing = any(one.bytes < 0 for one in self.shifted)
        headers = all(one.header for one in self.damaged)
        blobs = self.blobs is None or not self.blobs.missing
        ranges = any(one.kind != "undone" for one in self.ranges)
        decided = all(one.repaired for one in self.contradictions) and not self.contradictions_more
        return headers and blobs and decided and not (ranges or missing or self.lost)

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, nothing had to be repaired and the new file is sound."""
        repaired = self.assumed or self.damaged or self.contradictions
        return self.lost_nothing and not repaired and (self.check is None or self.check.ok)


def recover(
    spec: Spec,
    out: str,
    *,
    blobs: bool = True,
    dry_run: bool = False,
    hold: ExitStack | None = None,
    progress: Progress = SILENT,
) -> RecoverResult:
    """Save what is sound in the file ``spec`` names into the new file ``out``, and check that.

    With ``dry_run`` nothing is written. Once the new file is about to get its
    name, signals wait until ``hold`` is left (without it, until this returns):
    whoever stops the program hears what was lost. Raises DatabaseNotFound,
    Unsupported, AlreadyExists, NothingRecovered, DiskFullError, StorageIOError.
    """
    path = spec.path
    _require_free(out)
    with ExitStack() as own, DataFile(path) as file:
        found = survey(file, progress)
        # Only a file of that age can hold a transaction undone by other means than another transaction.
        undone = file.read(0, MAGIC_SIZE) == b"FS21"
        found, plan = choose(file, found, undone=undone)
        if not plan.parts:
            raise _nothing(file)
        recovery = _Recovery(path, file, found, plan, progress)
        if dry_run:
            return recovery.result(recovery.rebuild(_Nowhere()))
        with failing_well(path, "recovered"):
            require_room(os.path.dirname(out), file.limit, f"recovering {path}")
            with (
                BlobStage(spec, out, wanted=blobs) as stage,
                # Whoever may not read the damaged file may not read the new one.
                staged(out, exclusive=True, like=path) as temporary,
            ):
                result, index = recovery.write(temporary, out, stage)
                (own if hold is None else hold).enter_context(uninterrupted())
        # Whoever finds no index makes one.
        with suppress(OSError, ZodbshError):
            publish(f"{out}.index", lambda output: output.writelines(index), exclusive=True, like=path)
    return result


class _Recovery:
    """One file to be recovered."""

    def __init__(self, path: str, file: DataFile, found: Survey, plan: Plan, progress: Progress) -> None:
        self.path, self.file, self.found, self.plan, self.progress = path, file, found, plan, progress
        self.magic, self.assumed = _magic(file, plan)

    def rebuild(self, output: BinaryIO) -> Rebuilt:
        """Write the new file."""
        rebuilt = rebuild(
            self.file, self.found, self.plan, output, self.magic, self.progress,
            index=fitting_index(self.path, self.file, self.plan),
        )  # fmt: skip
        if not rebuilt.transactions:
            raise _nothing(self.file)
        return rebuilt

    def write(self, temporary: str, out: str, stage: BlobStage) -> tuple[RecoverResult, list[bytes]]:
        """Write the new file and its blobs, and check them; return the parts of an index, too."""
        with open(temporary, "r+b") as output:
            rebuilt = self.rebuild(output)
        stage.fill(temporary)
        source = FileSource(temporary, blob_dir=stage.folder, unchecked=True)
        try:
            check = verify(source, progress=self.progress)
            broken = [finding for finding in check.findings if finding.kind == FRAMING]
            if broken:
                raise StorageIOError(f"{out} is not what was written: {broken[0].message}; nothing changed")
            result = self.result(rebuilt, source, dangling=any(one.kind == "dangling" for one in check.findings))
            positions = sorted(source.positions().items())
            index = list(index_bytes(os.path.getsize(temporary), positions))
        finally:
            source.close()
        # Of a file that did not come along, it is said why.
        unreadable = {(one.oid, one.tid) for one in stage.unreadable}
        found = [one for one in check.findings if one.kind != "blob-missing" or (one.oid, one.tid) not in unreadable]
        missing = sum(finding.kind == "blob-missing" for finding in found) + len(stage.unreadable)
        findings = (*(one._replace(message=stage.named(one.message)) for one in found), *stage.unreadable)
        stage.publish()
        size = os.path.getsize(temporary)
        return result._replace(
            out=out,
            bytes_kept=size,
            check=check._replace(database=out, findings=findings),
            blobs=stage.result(missing, check.unlocated_blobs),
        ), index

    def result(self, rebuilt: Rebuilt, source: FileSource | None = None, *, dangling: bool = False) -> RecoverResult:
        """Return what was found, with names where the new file can be asked; ``dangling``: it misses objects."""
        missing: list[int] = []
        pairs: list[Contradiction] = []
        if source is not None and dangling:
            columns = source.columns()
            ends = chosen.dangling(columns.classes, columns.starts, columns.counts, columns.targets)
            missing = sorted({columns.oids[target] for _, target in ends})
            pairs = likely_pairs(self.file, self.plan, source, columns, missing)
        return RecoverResult(
            database=self.path,
            out=None,
            format=self.magic.decode("ascii"),
            assumed=self.assumed,
            bytes=self.file.limit,
            bytes_kept=0,
            transactions=rebuilt.transactions,
            records=rebuilt.records,
            damaged=rebuilt.damaged,
            ranges=lost_ranges(self.file, self.found, self.plan, rebuilt),
            shifted=shifted(self.plan),
            lost=lost_objects(self.path, self.found, rebuilt, source, missing),
            contradictions=tuple(sorted([*rebuilt.contradictions, *pairs])),
            contradictions_more=rebuilt.more,
            tail=self.found.tail,
            blobs=None,
            check=None,
        )


def _nothing(file: DataFile) -> NothingRecovered:
    return NothingRecovered(f"{file.path}: no sound record was found in its {file.limit:,} bytes")


def _magic(file: DataFile, plan: Plan) -> tuple[bytes, str | None]:
    """Return the new file's magic, and what was assumed where the file does not tell."""
    for position in (max(plan.parts[0].shift, 0), 0):
        magic = file.read(position, MAGIC_SIZE)
        if magic in FORMATS:
            return magic, None
    if _is_python2(file, plan):
        return b"FS21", "the file's first bytes are damaged; its records are those of Python 2, so FS21 was assumed"
    return b"FS30", "the file's first bytes are damaged; FS30 was assumed, the format of Python 3"


def _is_python2(file: DataFile, plan: Plan) -> bool:
    """Tell whether no record looks as Python 3 writes them, and some look as Python 2 did."""
    reader, looked, old = Reader(file), 0, 0
    for part in plan.parts:
        for position in record_places(reader, part):
            record = reader.record(position)
            if record is None or not record.length:
                continue
            head = file.read(position + DATA_HEADER.size, 2)
            if head[:1] == b"\x80" and head[1:] >= b"\x03":
                return False
            # Protocols 0 and 1 begin with a class or a tuple, protocol 2 says so.
            old += head[:1] in (b"c", b"(") or head == b"\x80\x02"
            looked += 1
            if looked >= _SAMPLED:
                return old > 0
    return old > 0


def _require_free(out: str) -> None:
    if is_address(out):
        raise UsageError(f"recover writes a FileStorage, and {out!r} is no path", hint="Name a new file.")
    folder = os.path.dirname(out) or "."
    if not os.path.basename(out):
        raise UsageError(f"{out!r} names no file")
    if os.path.lexists(out):
        raise AlreadyExists(f"{out} exists already")
    if not os.path.isdir(folder):
        raise DatabaseNotFound(f"there is no folder {folder}", hint="Create the folder first.")
    taken = [out + suffix for suffix in _REMAINS if os.path.lexists(out + suffix)]
    if taken:
        raise AlreadyExists(
            f"{', '.join(taken)}: left over from another database of this name",
            hint="Move it away, or choose another name; it would be taken for the new database's.",
        )


class _Nowhere(io.BytesIO):
    """Takes all that is written, and keeps nothing."""

    def write(self, data: Buffer, /) -> int:
        """Return the length of what is forgotten."""
        return memoryview(data).nbytes
