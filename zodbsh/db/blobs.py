"""Handing blob files to storages, which take away what they are given."""

from __future__ import annotations

import os
from typing import Any

from ZODB.blob import link_or_copy
from ZODB.utils import mktemp


def own_copy(storage: Any, path: str) -> str:
    """Copy (or link) a blob's file into the storage's temporary folder; whoever owns ``path`` keeps it."""
    folder = storage.temporaryDirectory()
    os.makedirs(folder, exist_ok=True)
    target = mktemp(dir=folder, prefix="BUC")
    os.remove(target)
    link_or_copy(path, target)
    return str(target)
