"""The leftovers that ``status`` names, as a person reads them."""

from __future__ import annotations

import io

from zodbsh.ops.leftovers import Leftover
from zodbsh.ops.status import StatusResult
from zodbsh.render.output import Output, emit
from zodbsh.render.status import StatusView


def test_each_stands_with_what_it_is_and_what_to_do():
    """A name that begins with a dot is shown as it is."""
    left = (Leftover(".my.fs.00.new", "not finished", "remove it"), Leftover("my.fs.tr0", "cut off", "look"))
    out = io.StringIO()
    emit(StatusView(StatusResult("my.fs", 1, 1, (), leftovers=left)), Output(stdout=out))
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        "nothing is staged",
        "",
        "left over by an interrupted command, and in nobody's use on this machine:",
        "what          path           what to do",
        "not finished  .my.fs.00.new  remove it",
        "cut off       my.fs.tr0      look",
    ]
