"""``zodbsh backup --list``: what is in a folder of backups, without reading the data through."""

from __future__ import annotations

import os
from typing import NamedTuple

from zodbsh.filestorage.datafile import DataFile
from zodbsh.filestorage.repository import read_folder
from zodbsh.filestorage.structs import NUMBER, TRANSACTION_HEADER, TransactionHeader
from zodbsh.ops.backups.chain import Piece, pieces


class ListedStep(NamedTuple):
    """One step of a backup.

    ``size`` is that of the data file, ``end`` how many bytes the database had; ``last_tid``, ``transactions`` and
    ``blobs`` (new with this step) are None where no manifest tells. ``trouble`` is "" where nothing is wrong at a look.
    """

    step: str
    stamp: str
    kind: str
    compressed: bool
    size: int
    end: int | None
    last_tid: int | None
    transactions: int | None
    blobs: int | None
    blob_bytes: int | None
    trouble: str


def list_backups(path: str) -> tuple[ListedStep, ...]:
    """Return the steps in a folder, oldest first. Raises BackupNotFound, StorageIOError."""
    folder = read_folder(path)
    listed: list[ListedStep] = []
    for step in folder.lost:
        nothing = (None,) * 5
        trouble = "there is no full backup before it"
        size = _size(folder.join(step.name))
        listed.append(ListedStep(step.name, step.stamp, step.kind, step.compressed, size, *nothing, trouble))
    for chain in folder.chains:
        listed += map(_listed, pieces(folder, chain))
    return tuple(listed)


def _listed(piece: Piece) -> ListedStep:
    step, manifest = piece.step, piece.manifest
    size = _size(piece.path)
    trouble = piece.trouble
    if manifest is not None and size != manifest.size:
        trouble = f"it has {size:,} bytes, not {manifest.size:,}"
    elif manifest is None and piece.line is None and not trouble:
        trouble = "neither a manifest nor a line in .dat is of it"
    if manifest is None:
        return ListedStep(
            step.name, step.stamp, step.kind, step.compressed, size, piece.end, _last_tid(piece), None, None, None,
            trouble,
        )  # fmt: skip
    return ListedStep(
        step.name, step.stamp, step.kind, step.compressed, size, manifest.end, manifest.last_tid,
        manifest.transactions, len(manifest.blobs), sum(blob.size for blob in manifest.blobs), trouble,
    )  # fmt: skip


def _last_tid(piece: Piece) -> int | None:
    """Return the last transaction's tid from the end of an uncompressed data file, None where that is no end of one."""
    if piece.step.compressed:
        return None
    with DataFile(piece.path) as file:
        raw = file.read(file.limit - NUMBER.size, NUMBER.size) if file.limit > NUMBER.size else b""
        start = file.limit - NUMBER.size - NUMBER.unpack(raw)[0] if raw else -1
        raw = file.read(start, TRANSACTION_HEADER.size) if start >= 0 else b""
    if len(raw) < TRANSACTION_HEADER.size:
        return None
    header = TransactionHeader._make(TRANSACTION_HEADER.unpack(raw))
    return header.tid if start + header.length + NUMBER.size == file.limit else None


def _size(path: str) -> int:
    return os.lstat(path).st_size
