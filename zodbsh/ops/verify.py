"""``zodbsh verify``: is a database sound? Nothing is written, and nothing stops it at the first finding."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.blobcheck import check_blobs, unlocated_blobs
from zodbsh.analysis.graph import ObjectGraph
from zodbsh.analysis.treecheck import Tally, check_trees
from zodbsh.engine import chosen
from zodbsh.engine.columns import POINTS_BACK, Newest, Options
from zodbsh.errors import Unsupported, ZodbshError
from zodbsh.filestorage.indexcheck import check_saved_index
from zodbsh.filestorage.manifest import Comparison, ManifestSummary, write_manifest
from zodbsh.filestorage.structs import NUMBER, TID_OFFSET
from zodbsh.findings import Finding
from zodbsh.ids import MAX_ID, ROOT_OID, oid_text
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import AlreadyExists
from zodbsh.record.shape import edges
from zodbsh.source.columns import check_histories
from zodbsh.source.file import FileSource
from zodbsh.source.snapshot import Snapshot

if TYPE_CHECKING:
    from zodbsh.engine.columns import Columns
    from zodbsh.filestorage.damage import Damage
    from zodbsh.source.base import Source

LEVELS = ("framing", "records", "references", "all")
FRAMING = "framing"

# To find a path costs a millisecond or so; whoever has more dangling references than this looks at oids.
_PATHS = 1_000


class Checked(NamedTuple):
    """What was looked at; ``references`` counts the ordinary ones of every data record, None where not looked at."""

    transactions: int
    records: int
    objects: int
    references: int | None
    trees: int | None
    tree_nodes: int | None


class VerifyResult(NamedTuple):
    """What a check found.

    ``garbage`` objects exist and are unreachable: no fault, and None where it is not known. ``tail`` counts the bytes
    of a transaction in flight. ``not_checked`` says in sentences what this check cannot tell. ``manifest`` is the
    manifest that was written. ``unlocated_blobs`` counts the blobs whose files no known folder has.
    """

    database: str
    level: str
    tid: int
    checked: Checked
    findings: tuple[Finding, ...]
    garbage: int | None
    garbage_bytes: int | None
    tail: int
    not_checked: tuple[str, ...]
    manifest: ManifestSummary | None = None
    unlocated_blobs: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    @property
    def damaged(self) -> bool:
        """Whether the file's framing is damaged."""
        return any(finding.kind == FRAMING for finding in self.findings)


def verify(
    source: Source,
    *,
    at: int = MAX_ID,
    level: str = "all",
    manifest: str | None = None,
    write: str | None = None,
    progress: Progress = SILENT,
) -> VerifyResult:
    """Check a database up to tid ``at``; a file's source may be unchecked (see `FileSource`).

    ``manifest`` is a file to compare with, ``write`` the one to write a new manifest to; none is written of a damaged
    file. Raises ManifestDamaged, ManifestNotFound, AlreadyExists, what opening the source raises, and Unsupported where
    there is no file to make a manifest of; never for what is found.
    """
    if (manifest or write) and not isinstance(source, FileSource):
        raise Unsupported("a manifest is about the bytes of a file; this database is none")
    if write and os.path.lexists(write):
        # Rather now than when all is read.
        raise AlreadyExists(f"{write} exists already")
    compared = None
    if manifest and isinstance(source, FileSource):
        compared = Comparison(source.file, manifest, progress=progress)
        compared.check_manifest()
    check = _Check(source, at, LEVELS.index(level), progress)
    check.run()
    summary = None
    if isinstance(source, FileSource):
        if compared is not None:
            check.findings += compared
            check.packed = compared.packed
        if write and not any(finding.kind == FRAMING for finding in check.findings):
            summary = write_manifest(source.file, check.end, write, progress=progress)
    return VerifyResult(
        source.info().name,
        level,
        check.snapshot.tid,
        check.checked(),
        tuple(check.findings),
        check.garbage,
        check.garbage_bytes,
        check.tail,
        tuple(_not_checked(check, compared=manifest is not None)),
        summary,
        check.unlocated,
    )


class _Check:
    """One look at a database, level by level."""

    def __init__(self, source: Source, at: int, level: int, progress: Progress) -> None:
        self.source, self.at, self.level, self.progress = source, at, level, progress
        self.snapshot: Snapshot
        self.findings: list[Finding] = []
        self.tally = Tally()
        self.garbage: int | None = None
        self.garbage_bytes: int | None = None
        self.tail = 0
        self.end = 0
        # Transactions of the manifest that a pack has removed or rewritten since.
        self.packed = 0
        # Blobs whose folder is not known.
        self.unlocated = 0
        # Whether a pack took this file's place meanwhile, and blobs that only this file has.
        self.blobs_packed = False
        # Whether there is more than was looked at.
        self.later = False
        self.damaged = False
        self.columns: Columns
        self.exists = 0

    def run(self) -> None:
        source, records, references = self.source, self.level >= 1, self.level >= 2
        options = Options(references=records, history=references, previous=isinstance(source, FileSource))
        if isinstance(source, FileSource):
            found = source.survey(options=options, at=self.at, on_damage=self._damaged, progress=self.progress)
            self.columns, self.end, self.tail = found.columns, found.end, found.tail
            check_histories(source.file, self.columns.odd_previous, self._damaged)
            # Where records are lost, nobody knows what an index or a blob folder should hold.
            self.damaged = any(finding.kind == FRAMING for finding in self.findings)
            if found.whole and not self.damaged:
                self.findings += check_saved_index(source.file, Newest(self.columns), self.end)
            self.later = not found.whole
        else:
            self.columns = source.columns(self.at, options=options, progress=self.progress)
        self.snapshot = Snapshot(source, self.at)
        counted = chosen.sums(self.columns.classes, self.columns.sizes, None, len(self.columns.class_names))
        self.exists = sum(counted.objects)
        if records:
            self.findings += _undecodable(self.columns)
        graph = ObjectGraph(self.snapshot, self.columns)
        if references:
            self._references(graph)
        if self.level >= 3:
            self.findings += self._trees(graph)
            self.findings += self._blobs(graph)
            self.unlocated = unlocated_blobs(graph)

    def checked(self) -> Checked:
        totals = self.columns.totals
        trees = self.level >= 3
        return Checked(
            totals.transactions,
            totals.records,
            self.exists,
            totals.references if self.level else None,
            self.tally.trees if trees else None,
            self.tally.nodes if trees else None,
        )

    def _damaged(self, damage: Damage) -> None:
        message = f"{damage.field}: {damage.reason}"
        self.findings.append(Finding(FRAMING, damage.oid, damage.tid, damage.position, message))

    def _references(self, graph: ObjectGraph) -> None:
        if graph.root is None and self.exists:
            self.findings.append(Finding("no-root", ROOT_OID, None, None, "the database has objects, but no root"))
        self.findings += _dangling(graph, isinstance(self.source, FileSource))
        if graph.root is not None:
            columns = self.columns
            counted = chosen.sums(columns.classes, columns.sizes, graph.reached.parents, len(columns.class_names))
            self.garbage, self.garbage_bytes = sum(counted.garbage_objects), sum(counted.garbage_bytes)

    def _trees(self, graph: ObjectGraph) -> Iterator[Finding]:
        for found in check_trees(graph, tally=self.tally, progress=self.progress):
            number = self.columns.find(found.oid)
            offset = None if number is None else self._offset(self.columns.where[number])
            yield Finding(found.kind, found.oid, _tid(self.source, number, self.columns), offset, found.message)

    def _blobs(self, graph: ObjectGraph) -> list[Finding]:
        found = list(check_blobs(graph, progress=self.progress))
        if found and isinstance(self.source, FileSource) and not self.source.file.still_named():
            self.blobs_packed = True
            return []
        return [finding for finding in found if not (self.damaged and finding.kind == "blob-orphaned")]

    def _offset(self, where: int) -> int | None:
        return where & ~POINTS_BACK if isinstance(self.source, FileSource) else None


def _undecodable(columns: Columns) -> Iterator[Finding]:
    for oid, tid, where, offset, reason in columns.undecodable:
        place = None if where == tid else where
        yield Finding("undecodable", oid, tid, place, f"its record does not decode: {reason} (at byte {offset} of it)")


def _dangling(graph: ObjectGraph, is_file: bool) -> Iterator[Finding]:
    """Yield references to what does not exist: now, then those of old records at their time."""
    columns = graph.columns
    paths = _Paths(graph)
    seen: set[tuple[int, int, int]] = set()
    for source, target in chosen.dangling(columns.classes, columns.starts, columns.counts, columns.targets):
        oid, missing, where = columns.oids[source], columns.oids[target], columns.position(source)
        if (oid, missing, where) in seen:
            continue
        seen.add((oid, missing, where))
        message = f"{paths.to(oid, missing)} refers to {oid_text(missing)}, which does not exist"
        tid = _tid(graph.snapshot.source, source, columns)
        yield Finding("dangling", oid, tid, where if is_file else None, message)
    for oid, tid, where, missing in columns.dangled:
        if (oid, missing, where) in seen or not (is_file or _is_gone(columns, missing)):
            continue
        seen.add((oid, missing, where))
        message = f"an old record refers to {oid_text(missing)}, which did not exist then"
        yield Finding("dangling-then", oid, tid, where if is_file else None, message)
    if columns.dangled_more and is_file:
        message = f"{columns.dangled_more:,} more references of old records led nowhere at their time"
        yield Finding("dangling-then", None, None, None, message)


def _tid(source: Source, number: int | None, columns: Columns) -> int | None:
    """Return the tid of an object's newest record, None where there is none."""
    where = None if number is None else columns.position(number)
    if not where or not isinstance(source, FileSource):
        return where
    raw = source.file.read(where + TID_OFFSET, NUMBER.size)
    return int(NUMBER.unpack(raw)[0]) if len(raw) == NUMBER.size else None


def _is_gone(columns: Columns, oid: int) -> bool:
    """Tell whether an object does not exist any more.

    What exists in a storage whose packs leave no trace may have existed before its oldest revision, too.
    """
    number = columns.find(oid)
    return number is None or not columns.exists(number)


class _Paths:
    """The paths of referrers, of so many of them."""

    def __init__(self, graph: ObjectGraph) -> None:
        self._graph = graph
        self._left = _PATHS

    def to(self, oid: int, target: int) -> str:
        """Return the place of a reference: the path of its holder, and the attribute or key."""
        self._left -= 1
        if self._left < 0:
            return oid_text(oid)
        try:
            path, record = self._graph.path(oid), self._graph.snapshot.record(oid)
        except ZodbshError:
            # What is damaged on the way there is a finding of its own.
            return oid_text(oid)
        return path + next((step for step, ref in edges(record) if ref.oid == target and not ref.weak), "")


def _not_checked(check: _Check, *, compared: bool) -> Iterator[str]:
    if not compared:
        yield "whether records still hold the bytes that were written: a pickle has no checksum (see --write-manifest)"
    if not isinstance(check.source, FileSource):
        yield "the file or the tables behind the storage: only what it hands over"
        if check.level >= 2:
            yield "whether what old records refer to existed at their time: a pack may have taken the revision of then"
    left_out = ("whether records decode", "whether references lead somewhere", "BTrees and blobs")
    for words in left_out[check.level :]:
        yield f"{words} (--level {LEVELS[LEVELS.index('records') + left_out.index(words)]})"
    if check.level >= 2:
        yield "weak references, and references into other databases"
    if check.level >= 3:
        yield "what is inside blobs; whether classes can be imported, and what they make of their state"
        if check.tally.unordered_keys:
            yield f"the order of {check.tally.unordered_keys:,} keys of BTrees that only their classes can compare"
    if check.later or check.snapshot.tid < check.source.last_tid:
        yield "what was written after the time given by --at, and the saved index"
    if check.unlocated:
        yield f"the files of {check.unlocated:,} blobs: no folder of blob files is known (--blobs DIR)"
    if check.blobs_packed:
        yield "blob files: a pack put another file in this one's place meanwhile, and removed blobs"
    if check.damaged:
        yield "the saved index, and blob files without a record: what belongs to them may be among the damage"
    if check.packed:
        yield f"{check.packed:,} transactions of the manifest, which a pack has removed or rewritten since, as a whole"
    if check.tail:
        yield f"the last {check.tail:,} bytes: a transaction that is being written"
