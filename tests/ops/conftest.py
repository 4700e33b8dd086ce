"""Fixtures of the tests of backup and restore; what stands beside this file can be imported."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from backups import Clock, Sample

from zodbsh.ops.backups import backup as backup_module


@pytest.fixture
def sample(tmp_path, no_fsync, monkeypatch):
    """A database with a blob of one revision; every look at the clock is a second later."""
    monkeypatch.setattr(backup_module, "_now", Clock())
    found = Sample(tmp_path / "sample")
    found.change()
    return found
