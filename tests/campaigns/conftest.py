"""The bench of the campaigns, made when it is first asked for, and their figures at the end of the run."""

import os
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
LINES = "ZODBSH_CAMPAIGN_LINES"


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    """A folder to work in, and a warmed process that runs commands under the shim (Linux)."""
    from harness import Bench
    from shim import require_shim

    require_shim()
    made = Bench(tmp_path_factory.mktemp("campaign"))
    yield made
    made.close()


def pytest_configure(config):
    """Let every process of this run write its figures into one file."""
    if not hasattr(config, "workerinput"):
        descriptor, os.environ[LINES] = tempfile.mkstemp(prefix="zodbsh-figures-")
        os.close(descriptor)


def pytest_terminal_summary(terminalreporter):
    """Print each campaign's case count and figures."""
    lines = Path(os.environ[LINES])
    if found := sorted(lines.read_text(encoding="utf-8").splitlines()):
        terminalreporter.section("campaigns")
        for line in found:
            terminalreporter.write_line(line)


def pytest_unconfigure(config):
    """Remove the file."""
    if not hasattr(config, "workerinput"):
        Path(os.environ.pop(LINES)).unlink(missing_ok=True)
