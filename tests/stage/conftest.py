"""Every test here is quick, and leaves no transaction to the next."""

import pytest


@pytest.fixture(autouse=True)
def quick(no_fsync, clean_transaction):
    """Take both from the shared fixtures."""
