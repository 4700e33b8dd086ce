"""A restored backup equals its source, blobs included, over random histories.

A reduced campaign; with ZODBSH_CAMPAIGN set it runs 500 histories. The number of cases is printed.
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from backup_histories import live_through

HISTORIES = 500 if os.environ.get("ZODBSH_CAMPAIGN") else 10


def test_histories(tmp_path, no_fsync, capsys):
    """Every state that was backed up comes back, byte for byte."""
    restored = 0
    for seed in range(HISTORIES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            restored += live_through(seed, folder)
        except Exception as exc:  # noqa: BLE001 - the seed is what one needs to know
            pytest.fail(f"seed {seed}: {type(exc).__name__}: {exc}")
    with capsys.disabled():
        print(f"\nbackup and restore: {HISTORIES} histories, {restored} states restored, all equal")
    assert restored >= HISTORIES
