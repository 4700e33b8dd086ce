"""Bars of plain characters."""

import pytest

from zodbsh.render.bars import bar, stacked_bar


@pytest.mark.parametrize(
    ("share", "text"), [(0, ""), (0.0001, "#"), (0.5, "#####"), (1, "##########"), (7, "##########"), (-1, "")]
)
def test_a_bar_shows_whatever_is_more_than_nothing(share, text):
    """It is never longer than its width."""
    assert bar(share, 10) == text


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([(0.0, "#"), (0.0, "=")], "[..........]"),
        ([(0.5, "#"), (0.2, "=")], "[#####==...]"),
        ([(0.001, "#"), (0.001, "=")], "[#=........]"),
        ([(0.999, "#"), (0.001, "=")], "[##########]"),
        ([(0.25, "#"), (0.75, "=")], "[##========]"),
        ([(0.0, "#"), (1.0, "=")], "[==========]"),
    ],
)
def test_a_stacked_bar_is_as_long_as_the_whole(parts, text):
    """Each part has its character, the rest dots."""
    assert stacked_bar(parts, 10) == text
