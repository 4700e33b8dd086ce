"""What keys do beyond prompt_toolkit's own emacs and vi bindings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prompt_toolkit.application import get_app
from prompt_toolkit.enums import DEFAULT_BUFFER
from prompt_toolkit.filters import (
    Condition,
    emacs_insert_mode,
    has_completions,
    has_focus,
    has_selection,
    vi_insert_mode,
)
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

if TYPE_CHECKING:
    from collections.abc import Callable

INDENT = "    "


def shell_bindings(is_finished: Callable[[str], bool]) -> KeyBindings:
    """Return the bindings; ``is_finished`` tells whether Enter at the end of a text runs it."""
    bindings = KeyBindings()
    inserting = (emacs_insert_mode | vi_insert_mode) & has_focus(DEFAULT_BUFFER) & ~has_selection

    @Condition
    def before_any_text() -> bool:
        return not get_app().current_buffer.document.current_line_before_cursor.strip()

    @Condition
    def in_indentation() -> bool:
        line = get_app().current_buffer.document.current_line_before_cursor
        return bool(line) and not line.strip() and len(line) % len(INDENT) == 0

    @bindings.add("enter", filter=inserting & ~has_completions)
    def _(event: KeyPressEvent) -> None:
        """Run the text when it is whole; within a cell of several lines, only from its end. Else begin a line."""
        buffer = event.current_buffer
        text = buffer.text
        at_end = not buffer.document.text_after_cursor.strip()
        if (at_end or "\n" not in text) and (text.lstrip().startswith(".") or is_finished(text)):
            buffer.text = text.rstrip()
            buffer.validate_and_handle()
        else:
            begin_line(event)

    @bindings.add("enter", filter=inserting & has_completions)
    def _(event: KeyPressEvent) -> None:
        """Take what is chosen in the menu."""
        buffer = event.current_buffer
        state = buffer.complete_state
        if state is not None and state.current_completion is not None:
            buffer.complete_state = None
        else:
            buffer.cancel_completion()
            event.key_processor.feed(event.key_sequence[0], first=True)

    @bindings.add("escape", "enter", filter=inserting)
    def _(event: KeyPressEvent) -> None:
        """Begin a line, whatever stands there."""
        begin_line(event)

    @bindings.add("tab", filter=inserting & before_any_text & ~has_completions)
    def _(event: KeyPressEvent) -> None:
        """Indent."""
        column = event.current_buffer.document.cursor_position_col
        event.current_buffer.insert_text(" " * (len(INDENT) - column % len(INDENT)))

    @bindings.add("backspace", filter=inserting & in_indentation)
    def _(event: KeyPressEvent) -> None:
        """Take back one step of indentation."""
        event.current_buffer.delete_before_cursor(count=len(INDENT))

    return bindings


def begin_line(event: KeyPressEvent) -> None:
    """Insert a line feed and the indentation that the code asks for."""
    buffer = event.current_buffer
    line = buffer.document.current_line_before_cursor
    indent = line[: len(line) - len(line.lstrip())]
    if line.rstrip().endswith(":"):
        indent += INDENT
    elif line.split()[:1] in (["return"], ["pass"], ["break"], ["continue"], ["raise"]):
        indent = indent[: -len(INDENT)] if indent else ""
    buffer.insert_text(f"\n{indent}")
