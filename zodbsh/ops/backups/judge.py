"""Is a database a later state of what is in a folder of backups, and can the newest backup be continued?"""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING, NamedTuple

from zodbsh.errors import UsageError
from zodbsh.filestorage.repository import BackupDamaged
from zodbsh.ids import tid_text
from zodbsh.ops.backups.chain import Piece, check_files, end_of, has_any
from zodbsh.ops.backups.compare import Comparison, compare
from zodbsh.progress import SILENT, Progress

if TYPE_CHECKING:
    from zodbsh.filestorage.datafile import DataFile
    from zodbsh.ops.backups.scan import Scan
    from zodbsh.ops.backups.step import Job


class OtherDatabase(UsageError):
    """The folder has the backups of another database."""

    code = "backup-other-database"
    hint = "One folder keeps the backups of one database; take another folder."


class Verdict(NamedTuple):
    """How a database stands to its backups.

    ``reason`` says why the newest one cannot be continued, "" where it can; ``damage`` what is wrong with its files.
    ``changed`` is where the database has changed in place. ``is_earlier``: the newest backup has later transactions.
    ``is_stranger``: there is no common one.
    """

    reason: str = ""
    damage: str = ""
    changed: int | None = None
    is_earlier: bool = False
    is_stranger: bool = False


def judge(job: Job, chains: list[list[Piece]], scan: Scan, *, full: bool, quick: bool, lost: str = "") -> Verdict:
    """Compare a database with its backups.

    With ``full`` nothing is to be continued, and the newest backup is not read; ``quick`` compares the database with
    its digests, but does not read its data files. ``lost`` tells that there was a full backup, where there is none.
    Raises OtherDatabase, StorageIOError.
    """
    chain = chains[-1] if chains else []
    last = _last_known(chain)
    is_earlier = last is not None and scan.last_tid < last
    if not chain:
        return Verdict("--full" if full else "the last one is lost" if lost else "there is none yet", lost)
    if full:
        is_stranger = _is_stranger(job, chains, scan, full=full)
        return Verdict("--full", is_earlier=is_earlier, is_stranger=is_stranger)
    found, damage = _compare(job.file, chain, quick=quick, progress=job.progress)
    changed = None if found is None else found.changed
    if found is None or changed is not None:
        _is_stranger(job, chains, scan, full=full)
    reason, in_place = _why_full(job.file, chain, scan, changed, is_earlier=is_earlier)
    return Verdict("the last one is damaged" if damage else reason, damage, in_place, is_earlier)


def _last_known(chain: list[Piece]) -> int | None:
    """Return the last transaction of a chain, None where no manifest tells."""
    return next((piece.manifest.last_tid for piece in reversed(chain) if piece.manifest is not None), None)


def _is_stranger(job: Job, chains: list[list[Piece]], scan: Scan, *, full: bool) -> bool:
    """Raise OtherDatabase where the backups are of another one.

    Only a pack moves a database's beginning, and it leaves the transactions that current records are of. Where all
    of a small database was written anew before the pack, nothing tells it from another one: ``full`` says that
    it is the same, and nothing older is removed then; that is what is returned.
    """
    chain = chains[-1] if chains else []
    manifest = next((piece.manifest for piece in reversed(chain) if piece.manifest is not None), None)
    if not chain or (manifest is not None and not manifest.last_tid):
        return False
    if manifest is not None and not scan.packed_tid and scan.first_tid != manifest.first_tid:
        begins = f"begins with {tid_text(scan.first_tid)}" if scan.first_tid else "is empty"
        raise OtherDatabase(
            f"{job.path} has the backups of another database: {job.name} {begins}, "
            f"theirs with {tid_text(manifest.first_tid)}"
        )
    # The last one may be unreadable.
    if any(has_any(found, lambda tid: scan.holds(job.file, tid), job.progress) for found in reversed(chains)):
        return False
    if full:
        return True
    again = f"zodbsh backup {quote(job.name)} {quote(job.path)} --full"
    raise OtherDatabase(
        f"{job.path} has the backups of another database: not one of their transactions is in {job.name}",
        hint="One folder keeps the backups of one database; take another folder. If all of it was written anew and "
        f"packed since, `{again}` begins again, and removes nothing.",
    )


def _compare(
    file: DataFile, chain: list[Piece], *, quick: bool, progress: Progress = SILENT
) -> tuple[Comparison | None, str]:
    """Compare the database with a chain (None: nothing tells what that held); say what is wrong with its files."""
    damage = check_files(chain)
    try:
        # Whether the database has changed in place is told by manifests, whatever became of the data files.
        found = compare(file, chain, contents=not (quick or damage), progress=progress)
    except BackupDamaged as exc:
        return None, damage or exc.message
    return found, damage or found.damage


def _why_full(
    file: DataFile, chain: list[Piece], scan: Scan, changed: int | None, *, is_earlier: bool
) -> tuple[str, int | None]:
    """Return why a chain cannot be continued, "" where it can, and where the database has changed in place."""
    if changed is None:
        inside = not scan.ends_at(end_of(chain))
        return f"the last one ends within a transaction, at byte {end_of(chain):,}" if inside else "", None
    if is_earlier:
        return "the database was taken back: the last backup has later transactions", None
    if not _is_rewritten(chain[-1], scan, file):
        return f"the database changed at byte {changed:,}, but not by a pack", changed
    last = chain[-1].manifest
    if last is not None and scan.packed_tid == last.packed_tid and not scan.holds(file, last.last_tid):
        return f"the database was taken back, and goes on otherwise from byte {changed:,}", None
    return f"the database changed at byte {changed:,}, as by a pack", None


def _is_rewritten(last: Piece, scan: Scan, file: DataFile) -> bool:
    """Tell whether a pack, or something like it, has been at a file since a step: where it ended, all is otherwise."""
    manifest = last.manifest
    if manifest is None or scan.packed_tid != manifest.packed_tid or not scan.ends_at(manifest.end):
        return True
    return scan.tid_before(file, manifest.end) != manifest.last_tid
