"""The prompt and the bottom toolbar: counters only, the storage is never asked."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from zodbsh.render.gate import escape

if TYPE_CHECKING:
    from prompt_toolkit.formatted_text import StyleAndTextTuples

    from zodbsh.shell.interpreter import Shell

_NAME_WIDTH = 40


def prompt_fragments(shell: Shell) -> StyleAndTextTuples:
    """Return the prompt: what is special about the session, then ``>>> ``."""
    notes = prompt_notes(shell)
    before: StyleAndTextTuples = [("class:prompt.note", f"{', '.join(notes)} ")] if notes else []
    return [*before, ("class:prompt", ">>> ")]


def prompt_notes(shell: Shell) -> list[str]:
    """Return what the prompt says of the session: the past, read-only, a stage that is continued."""
    notes = []
    if shell.session.at is not None:
        notes.append("past")
    elif not shell.session.writable:
        notes.append("read-only")
    if shell.session.stage_id is not None:
        notes.append("staged")
    return notes


def continuation(width: int) -> StyleAndTextTuples:
    """Return what stands before the further lines of a cell."""
    return [("class:prompt", "... ".rjust(width))]


def toolbar_fragments(shell: Shell) -> StyleAndTextTuples:
    """Return the toolbar: the database, the mode, what is dirty."""
    session = shell.session
    fragments: StyleAndTextTuples = [("class:toolbar.database", f" {database_name(session.spec.text)} ")]
    mode = "toolbar.mode" if session.writable else "toolbar.read-only"
    fragments.append((f"class:{mode}", f" {mode_text(shell)} "))
    count = session.dirty_count()
    if count:
        fragments.append(("class:toolbar.dirty", f" {count:,} uncommitted "))
    elif not session.undoing:
        fragments.append(("", " clean "))
    if session.undoing:
        fragments.append(("class:toolbar.dirty", f" {len(session.undoing)} to undo "))
    fragments.append(("class:toolbar.key", " .help  Tab completes  Ctrl-D leaves"))
    return fragments


def mode_text(shell: Shell) -> str:
    """Return the session's mode in a few words."""
    session = shell.session
    if session.at is not None:
        return escape(session.mode_reason)
    return "read-write" if session.writable else "read-only"


def database_name(text: str) -> str:
    """Return a database's short name: the file's, or an address without what may be a password."""
    if "://" in text:
        scheme, _, rest = text.partition("://")
        text = f"{scheme}://{rest.rpartition('@')[2].partition('?')[0]}"
    else:
        text = os.path.basename(text) or text
    text = escape(text)
    return text if len(text) <= _NAME_WIDTH else f"{text[: _NAME_WIDTH - 1]}…"
