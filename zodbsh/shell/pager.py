"""Long output through the user's pager, when the shell is asked for it (``.pager``)."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from zodbsh.render.output import Output
    from zodbsh.shell.interpreter import App


def paged(app: App, run: Callable[[], int]) -> int:
    """Run a command whose results go to the pager where they are longer than the screen."""
    before = app.defaults
    collected = io.StringIO()
    app.defaults = before._replace(stdout=collected, color="always" if before.uses_color(before.out) else before.color)
    try:
        status = run()
    finally:
        app.defaults = before
    page(collected.getvalue(), before)
    return status


def page(text: str, output: Output) -> None:
    """Write text, through the pager where it is longer than the screen."""
    width, height = shutil.get_terminal_size()
    # A line that is longer than the screen is wide takes several; escapes for colour count, which only pages earlier.
    if sum(1 + max(0, len(line) - 1) // width for line in text.splitlines()) < height:
        output.out.write(text)
        output.out.flush()
    else:
        # Left to click: colours for a less that shows them (LESS is set where it is not), none for other pagers.
        click.echo_via_pager(text)
