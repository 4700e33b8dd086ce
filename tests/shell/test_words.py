"""The words of a dot command's line."""

from __future__ import annotations

import pytest

from zodbsh.shell.words import UnfinishedWord, is_dot_command, last_word, split_words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (".status", [".status"]),
        (".inspect root.accounts['a b'].owner", [".inspect", "root.accounts['a b'].owner"]),
        ('.commit -m "first account"', [".commit", "-m", "first account"]),
        (".commit --note='a b' -y", [".commit", "--note=a b", "-y"]),
        (".inspect root['it\\'s'][(1, 'x y')]", [".inspect", "root['it\\'s'][(1, 'x y')]"]),
        (".at '2 hours ago'", [".at", "2 hours ago"]),
        ('.commit -m "say \\"hi\\""', [".commit", "-m", 'say "hi"']),
        (".inspect /a/b", [".inspect", "/a/b"]),
        (".x ''", [".x", ""]),
    ],
)
def test_words(line, words):
    """Quotes inside a target belong to it; a word in quotes loses them."""
    assert split_words(line) == words


@pytest.mark.parametrize("line", [".inspect root['a", ".commit -m 'x", ".inspect root[(1"])
def test_unfinished_words_are_refused(line):
    """An open quote or bracket is named."""
    with pytest.raises(UnfinishedWord):
        split_words(line)


@pytest.mark.parametrize(
    ("line", "words", "word"),
    [
        (".insp", [], ".insp"),
        (".inspect ", [".inspect"], ""),
        (".inspect root.accounts['a b", [".inspect"], "root.accounts['a b"),
        (".inspect x --fo", [".inspect", "x"], "--fo"),
    ],
)
def test_word_at_the_cursor(line, words, word):
    """Completion gets the finished words and the one that is being typed."""
    assert last_word(line) == (words, word)


def test_what_is_a_dot_command():
    """A dot and a letter at the very beginning; numbers and indented lines are Python."""
    assert [is_dot_command(line) for line in (".quit", ".5 + 1", " .quit", "...", ".append(1)")] == [
        True,
        False,
        False,
        False,
        True,
    ]
