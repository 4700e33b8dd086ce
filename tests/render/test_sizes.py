"""Sizes as people write them."""

import pytest

from zodbsh.errors import UsageError
from zodbsh.render.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("512", 512), ("512b", 512), ("1kb", 1_000), ("1.5 KB", 1_500), ("64k", 64_000), ("64KiB", 65_536),
        ("1.5mb", 1_500_000), ("0.1GB", 100_000_000), ("2TiB", 2 << 40), (" 3 bytes ", 3),
    ],
)  # fmt: skip
def test_a_size_is_read_as_it_is_shown(text, size):
    """Decimal units, and binary ones where they are named."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "big", "-1", "1e5", "1.2.3", "kb", "1xb", "9" * 40])
def test_anything_else_is_an_error(text):
    """With what may be written."""
    with pytest.raises(UsageError):
        parse_size(text)
