"""What a pack did, or would do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zodbsh.analysis.packplan import ClassRemoval, Dangling
from zodbsh.errors import Unsupported
from zodbsh.progress import SILENT, Progress

if TYPE_CHECKING:
    from zodbsh.source.base import Source


class Figures(NamedTuple):
    """A database's size at one moment; ``bytes`` is None where the storage does not tell."""

    bytes: int | None
    transactions: int
    records: int
    objects: int


class PackResult(NamedTuple):
    """What a pack did, or (``dry_run``) would do.

    ``tid`` is the pack time. ``changed`` is False where there was nothing to
    remove. ``old`` is the path of the copy of before, ``old_blobs`` the folder
    with its blob files, None where there is none.
    ``classes`` is known of a dry run only. ``findings`` are references that lead
    nowhere, and records that cannot be read: afterwards, or in a dry run at the
    pack time. ``before`` and ``after`` are None where the storage cannot be read
    through. ``trouble`` says what failed once the new file was in place,
    ``blobs_stay`` that there are blobs whose folder is not known.
    """

    database: str
    tid: int
    dry_run: bool
    collect: bool
    changed: bool
    before: Figures | None
    after: Figures | None
    objects_removed: int | None
    revisions_removed: int | None
    blobs_removed: int | None = None
    blob_bytes_removed: int | None = None
    classes: tuple[ClassRemoval, ...] = ()
    findings: tuple[Dangling, ...] = ()
    old: str | None = None
    old_blobs: str | None = None
    trouble: str | None = None
    blobs_stay: bool = False

    @property
    def refused(self) -> bool:
        """Whether a pack would collect no garbage, because it cannot be known what that is."""
        unsure = any(finding.oid is None or finding.target is None for finding in self.findings)
        return self.dry_run and self.collect and unsure

    @property
    def clean(self) -> bool:
        """Whether nothing was found that a user has to look at."""
        return not self.findings and self.trouble is None


def figures_of(source: Source, *, progress: Progress = SILENT) -> Figures:
    """Return a database's size. Raises FramingDamage, Unsupported where the storage lists no transactions."""
    census = source.census(progress=progress)
    return Figures(source.info().bytes, census.transactions, census.records, census.objects)


def figures_if_any(source: Source, *, progress: Progress = SILENT) -> Figures | None:
    """Return a database's size, None where the storage lists no transactions."""
    try:
        return figures_of(source, progress=progress)
    except Unsupported:
        return None
