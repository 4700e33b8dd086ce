"""A restored backup equals its source, blobs included, over random histories.

A reduced campaign; with ZODBSH_CAMPAIGN set it runs 500 histories. The number of cases is printed.
"""

import os
import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from backup_histories import live_through

HISTORIES = 500 if os.environ.get("ZODBSH_CAMPAIGN") else 10


def test_histories(tmp_path, no_fsync, capsys):
    """Every state that was backed up comes back, byte for byte; nothing is put on top of what has rotted."""
    restored, doubted, said = 0, 0, Counter()
    for seed in range(HISTORIES):
        folder = tmp_path / str(seed)
        folder.mkdir()
        try:
            states, rotten, doubts = live_through(seed, folder)
            restored += states
            doubted += doubts
            said[rotten] += 1
        except Exception as exc:  # noqa: BLE001 - the seed is what one needs to know
            pytest.fail(f"seed {seed}: {type(exc).__name__}: {exc}")
    with capsys.disabled():
        print(f"\nbackup and restore: {HISTORIES} histories, {restored} states restored, all equal")
        print(f"  packed with nothing in common, so that --full had to say that it is the same database: {doubted}")
        for (kind, findings), number in said.most_common():
            print(f"  one of its files has rotted, then {kind} ({', '.join(findings) or 'no finding'}): {number}")
    assert restored >= HISTORIES
