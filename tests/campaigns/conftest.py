"""The bench of the campaigns, made when it is first asked for."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """A folder to work in, and a warmed process that runs commands under the shim (Linux)."""
    from harness import Bench
    from shim import require_shim

    require_shim()
    made = Bench(tmp_path_factory.mktemp("campaign"))
    yield made
    made.close()
