"""The manifest of one step of a backup: digests of what was written, and the blobs that belong to it (docs/backup.md).

JSON, with the SHA-256 of everything before it in its last line. Written last:
what has a manifest was read back and found right. Digests are of the
database's bytes, not of the compressed file's.
"""

from __future__ import annotations

import json
import os
import re
from hashlib import sha256
from typing import Any, NamedTuple

from zodbsh.errors import StorageIOError
from zodbsh.filestorage.repository import BackupDamaged, Step, parse_step, read_regular
from zodbsh.ids import oid_text, tid_text

CHUNK = 4 << 20
"""Bytes of the database that one digest is of."""

_FORMAT = "zodbsh-backup 1"
_LARGEST = 1 << 30
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_TID = re.compile(r"[0-9a-f]{16}")
_OID = re.compile(r"0x[0-9a-f]{2,16}")
_END = re.compile(rb'(?s)(.*)\{"sha256":"([0-9a-f]{64})"\}\n')


class Blob(NamedTuple):
    """A blob's revision and its file's content."""

    oid: int
    tid: int
    size: int
    sha256: str


class BackupManifest(NamedTuple):
    """What one step holds: the database's bytes from ``start`` to ``end``.

    ``size`` is that of the data file, ``chunks`` the SHA-256 of each `CHUNK` of
    the range, counted from ``start``, ``index_sha256`` that of the index file. ``first_tid`` and
    ``last_tid`` are the database's first and last transaction before ``end``, ``packed_tid`` the last one that a pack
    went over; 0: there is none. ``blobs`` are those
    that belong to the content up to ``end`` and that no earlier manifest of the
    chain has; ``missing`` the oid and tid of those whose files were not there. ``previous``
    are the steps of the chain before this one that have manifests, too.
    """

    step: str
    full: str
    start: int
    end: int
    size: int
    first_tid: int
    last_tid: int
    packed_tid: int
    transactions: int
    md5: str
    chunks: tuple[str, ...]
    index_sha256: str
    blobs: tuple[Blob, ...] = ()
    missing: tuple[tuple[int, int], ...] = ()
    previous: tuple[str, ...] = ()


def manifest_name(step: Step) -> str:
    """Return the name of a step's manifest."""
    return step.stamp + ".manifest"


def manifest_bytes(manifest: BackupManifest) -> bytes:
    """Return the file."""
    document = {
        "format": _FORMAT,
        **manifest._asdict(),
        "chunk": CHUNK,
        "first_tid": tid_text(manifest.first_tid),
        "last_tid": tid_text(manifest.last_tid),
        "packed_tid": tid_text(manifest.packed_tid),
        "blobs": [[oid_text(oid), tid_text(tid), size, digest] for oid, tid, size, digest in manifest.blobs],
        "missing": [[oid_text(oid), tid_text(tid)] for oid, tid in manifest.missing],
    }
    body = json.dumps(document, indent=None, separators=(",\n", ":")).encode("ascii") + b"\n"
    return body + b'{"sha256":"' + sha256(body).hexdigest().encode("ascii") + b'"}\n'


def read_backup_manifest(folder: str, step: Step) -> BackupManifest | None:
    """Return a step's manifest, None where it has none. Raises BackupDamaged, StorageIOError."""
    path = os.path.join(folder, manifest_name(step))
    try:
        raw = read_regular(path, _LARGEST)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise StorageIOError(f"cannot read {path}: {exc.strerror or exc}") from exc
    try:
        manifest = _parse(raw)
    except (ValueError, KeyError, TypeError, RecursionError) as exc:
        raise BackupDamaged(f"{path} is damaged: {exc}", folder=folder) from exc
    if manifest.step != step.name:
        raise BackupDamaged(f"{path} is the manifest of {manifest.step}, not of {step.name}", folder=folder)
    return manifest


def _parse(raw: bytes) -> BackupManifest:
    match = _END.fullmatch(raw)
    if match is None or sha256(match[1]).hexdigest().encode("ascii") != match[2]:
        raise ValueError("its own checksum does not fit")
    found: dict[str, Any] = json.loads(match[1])
    if found["format"] != _FORMAT or found["chunk"] != CHUNK:
        raise ValueError(f"its format is {found['format']!r}, which this version does not know")
    manifest = BackupManifest(
        step=_name(found["step"]),
        full=_name(found["full"]),
        **{key: _natural(found[key]) for key in ("start", "end", "size", "transactions")},
        first_tid=int(_text(_TID, found["first_tid"]), 16),
        last_tid=int(_text(_TID, found["last_tid"]), 16),
        packed_tid=int(_text(_TID, found["packed_tid"]), 16),
        md5=_text(_MD5, found["md5"]),
        index_sha256=_text(_DIGEST, found["index_sha256"]),
        chunks=tuple(_text(_DIGEST, digest) for digest in found["chunks"]),
        blobs=tuple(
            Blob(int(_text(_OID, oid), 16), int(_text(_TID, tid), 16), _natural(size), _text(_DIGEST, digest))
            for oid, tid, size, digest in found["blobs"]
        ),
        missing=tuple((int(_text(_OID, oid), 16), int(_text(_TID, tid), 16)) for oid, tid in found["missing"]),
        previous=tuple(map(_name, found["previous"])),
    )
    if manifest.end < manifest.start or len(manifest.chunks) != -(-(manifest.end - manifest.start) // CHUNK):
        raise ValueError("its digests do not cover its range")
    return manifest


def _text(pattern: re.Pattern[str], value: object) -> str:
    if not isinstance(value, str) or pattern.fullmatch(value) is None:
        raise ValueError(f"{str(value)[:80]!r} is not what should be there")
    return value


def _name(value: object) -> str:
    if not isinstance(value, str) or parse_step(value) is None:
        raise ValueError(f"{str(value)[:80]!r} is no step's name")
    return value


def _natural(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError(f"{str(value)[:80]!r} is no size")
    return value
