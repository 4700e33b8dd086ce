"""The few lines a session begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zodbsh.ids import tid_text
from zodbsh.shell.stage import staged_text
from zodbsh.times import time_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zodbsh.db.session import Session
    from zodbsh.stage.model import Stage


def banner_lines(session: Session, stage: Stage | None, *, interactive: bool) -> Iterator[str]:
    """Yield what is to be known of a session: its database, its view, why it cannot write, the stage it goes on with.

    Without a person at the prompt only what is unusual is said.
    """
    if interactive:
        tid = session.base_tid
        yield f"{session.spec.text}: {session.mode}. `.help` helps."
        if session.at is None:
            yield f"as of {time_text(tid)} ({tid_text(tid)})" if tid else "empty: no transaction yet"
    if not session.writable:
        staging = "" if session.python2 else "; changes can be staged"
        mark = "," if session.mode_reason.startswith("as ") else ":"
        yield f"read-only{mark} {session.mode_reason}{staging}"
    if stage is not None:
        yield f"goes on with what is {staged_text(stage)}     (.status | .diff | .commit | .abort)"
