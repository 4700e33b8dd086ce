"""Removing old backups, when the newest one is known to be good."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import NamedTuple

from zodbsh.filestorage.backupmanifest import manifest_name
from zodbsh.filestorage.repository import BLOBS, REPOZO_LEFTOVER, BackupDamaged, Chain, Folder, dat_name, read_folder
from zodbsh.ops.backups.blobfiles import blob_file, prune_blobs, size_of, sweep_blobs
from zodbsh.ops.backups.chain import Piece, check_chain, pieces, recorded_blobs
from zodbsh.progress import SILENT, Progress
from zodbsh.publish import fsync_folder


class Pruned(NamedTuple):
    """What was removed: steps by name, blob files; ``note`` says why blobs that may be superfluous stayed."""

    steps: tuple[str, ...] = ()
    bytes: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    note: str = ""


def prune(path: str, keep: int, progress: Progress = SILENT, *, bad: str = "") -> Pruned:
    """Remove all full backups but the ``keep`` newest, and the increments that belong to them.

    The newest chain is read through first: digests, lengths, framing, and the sizes of its blobs. ``bad`` is
    what was found wrong with it already. Raises BackupDamaged
    where it is not good, and nothing was removed then; StorageIOError, OSError.
    """
    folder = read_folder(path)
    superfluous = folder.chains[: max(len(folder.chains) - keep, 0)]
    if not superfluous:
        return Pruned()
    chains = [pieces(folder, chain) for chain in folder.chains]
    _require_good(path, chains[-1], progress, bad)
    removed: list[str] = []
    size = 0
    for step in folder.lost:
        size += os.lstat(folder.join(step.name)).st_size
        os.unlink(folder.join(step.name))
        removed.append(step.name)
    for chain in superfluous:
        for name, freed in _remove(folder, chain):
            removed.append(name)
            size += freed
    sweep(path)
    fsync_folder(path)
    kept = chains[len(superfluous) :]
    unknown = next((piece.trouble for chain in kept for piece in chain if piece.trouble), "")
    if unknown or not os.path.isdir(os.path.join(path, BLOBS)):
        return Pruned(tuple(removed), size, note=unknown and f"blobs were left alone: {unknown}")
    names = {key for chain in kept for key in recorded_blobs(chain)}
    return Pruned(tuple(removed), size, *prune_blobs(path, names))


def _require_good(path: str, chain: list[Piece], progress: Progress, bad: str) -> None:
    trouble = bad or next((piece.trouble for piece in chain if piece.trouble), "")
    for blob in recorded_blobs(chain).values():
        file = blob_file(path, blob.oid, blob.tid)
        if not trouble and size_of(file) != blob.size:
            trouble = f"{file} is missing or has another size"
    try:
        if trouble:
            raise BackupDamaged(trouble, folder=path)
        check_chain(chain, progress)
    except BackupDamaged as exc:
        raise BackupDamaged(f"{exc.message}; no older backup was removed", folder=path) from exc


def sweep(path: str) -> None:
    """Remove what killed backups have left: temporary files, and what belonged to removed steps. Raises OSError."""
    folder = read_folder(path)
    leftovers = [name for name in folder.leftovers if name != REPOZO_LEFTOVER]
    if leftovers:
        sweep_blobs(path)
        chains = [pieces(folder, chain) for chain in folder.chains]
        if not any(piece.trouble for chain in chains for piece in chain):
            prune_blobs(path, {key for chain in chains for key in recorded_blobs(chain)})
    stamps = {step.stamp for step in folder.lost}
    oldest = folder.chains[0].full.stamp if folder.chains else ""
    removed = [name for name in folder.beside if name < oldest and name.partition(".")[0] not in stamps]
    for name in (*leftovers, *removed):
        os.unlink(folder.join(name))


def _remove(folder: Folder, chain: Chain) -> list[tuple[str, int]]:
    """Remove a chain, newest step first: what is left at any moment is a whole, older state.

    Without its manifest a step is one of repozo's; what is left of one without its data file, `sweep` removes.
    """
    removed = []
    for step in reversed(chain.steps):
        for name in (manifest_name(step), step.stamp + ".index"):
            with suppress(FileNotFoundError):
                os.unlink(folder.join(name))
        size = os.lstat(folder.join(step.name)).st_size
        os.unlink(folder.join(step.name))
        if not step.increment:
            with suppress(FileNotFoundError):
                os.unlink(folder.join(dat_name(step)))
        removed.append((step.name, size))
    return removed
