"""The output gate."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zodbsh.render.gate import escape, escape_lines, guard, text_of

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain text, Grüße, 日本語, 👩‍🚀", "plain text, Grüße, 日本語, 👩‍🚀"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2J\x07\x00\x7f", "\\x1b[2J\\x07\\x00\\x7f"),
        ("\x9b31m", "\\x9b31m"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("\u2066a\u2069\u200f\u061c", "\\u2066a\\u2069\\u200f\\u061c"),
        ("a\u2028b", "a\\u2028b"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("\U000e0041tag", "\\U000e0041tag"),
        ("\ud800", "\\ud800"),
        ("back\\slash", "back\\slash"),
    ],
)
def test_what_moves_hides_or_breaks_is_escaped(raw, shown):
    """Controls, bidi, separators, invisible characters and surrogates are escaped; all else stays."""
    assert escape(raw) == shown


@given(ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_nothing_dangerous_passes(text):
    """No control character, surrogate or direction override passes, and a second pass changes nothing."""
    shown = escape(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"}
    overrides = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    assert not {unicodedata.bidirectional(character) for character in shown} & overrides
    assert escape(shown) == shown
    shown.encode("utf-8")


@given(ANY_TEXT)
@settings(max_examples=300, deadline=None)
def test_no_line_begins_with_a_dot(text):
    """Whatever a file holds, no line of it can be a dot command when piped into the shell."""
    for line in escape_lines(text).splitlines():
        assert not line.lstrip().startswith(".")


def test_a_guarded_line_keeps_its_indentation():
    """Only the dot is written differently."""
    assert guard("  .abort --yes") == "  \\x2eabort --yes"
    assert guard("root.accounts") == "root.accounts"


def test_bytes_become_text_without_loss():
    """UTF-8 is decoded; every other byte is shown by its number."""
    assert text_of("Grüße".encode()) == "Grüße"
    assert text_of(b"caf\xe9") == "caf\\xe9"
