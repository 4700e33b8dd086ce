"""Attribute changes as a person reads them."""

from __future__ import annotations

import io

from zodbsh.analysis.compare import AttributeChange, compare_records
from zodbsh.record.values import Dict, Global, Instance, Record
from zodbsh.render.attributes import show_changes
from zodbsh.render.output import Output
from zodbsh.render.page import Page

NOTE = Global("app", "Note")


def shown(old: Dict, new: Dict) -> list[str]:
    """Return the lines that tell one state from another."""
    changes = compare_records(Record(NOTE, None, old, ()), Record(NOTE, None, new, ()))
    assert all(isinstance(change, AttributeChange) for change in changes)
    stream = io.StringIO()
    show_changes(Page(Output(stdout=stream)), changes, indent="  ", class_of=None)
    return stream.getvalue().splitlines()


def test_what_is_new_gone_or_different_has_a_mark() -> None:
    """A plus, a minus, a tilde with both sides."""
    old = Dict([("a", 1), ("b", "x")])
    new = Dict([("b", "y"), ("c", Instance(NOTE))])
    assert shown(old, new) == ["  ~ b: 'x' -> 'y'", "  + c: app.Note()", "  - a: 1"]


def test_text_differs_by_line() -> None:
    """With a line of context; a line that would be a dot command is none."""
    assert shown(Dict([("t", "a\nb\n.quit\nd")]), Dict([("t", "a\nb\n.abort\nd")])) == [
        "  ~ t:",
        "      @@ -2,3 +2,3 @@",
        "       b",
        "      -.quit",
        "      +.abort",
        "       d",
    ]


def test_many_changes_in_one_value_are_counted() -> None:
    """Twenty are shown, and where the rest is to be had."""
    old, new = (Dict([(key, value) for key in range(30)]) for value in (0, 1))
    lines = shown(Dict([("d", old)]), Dict([("d", new)]))
    assert (len(lines), lines[1], lines[-1]) == (22, "      ~ d[0]: 0 -> 1", "      (... and 10 more: --format json)")


def test_texts_too_long_to_compare_are_shown_short() -> None:
    """Comparing thousands of lines would take minutes."""
    old, new = ("\n".join(str(number * step) for number in range(9000)) for step in (1, 2))
    (line,) = shown(Dict([("t", old)]), Dict([("t", new)]))
    assert line.startswith("  ~ t: '0\\n1\\n2")
    assert len(line) < 250
