"""When two decoded values mean the same."""

from zodbsh.analysis.identity import Identities


def test_a_long_text_at_many_places_is_compared_once() -> None:
    """Two records that hold equal long texts at many places are the same; one letter tells them apart."""
    old, new, other = ("x" * 5_000 + letter for letter in "aab")
    assert old is not new
    same = Identities().same
    assert same([old] * 1_000, [new] * 1_000)
    assert not same([old] * 1_000, [new] * 999 + [other])
    assert not same(old, other)
    assert not same(old, old.encode())
