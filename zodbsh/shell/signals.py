"""Signals while the prompt waits.

An exception that a signal handler raises within the event loop may end up in
the loop's own error handling. So the prompt is ended first, and the program's
handler called after that.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from prompt_toolkit import PromptSession

_ENDING = (signal.SIGTERM, signal.SIGHUP)


class _Ended(Exception):
    """The prompt was left because of a signal."""


def read(session: PromptSession[str], message: str | None = None) -> str:
    """Prompt for a text. Raises what the program's own signal handlers raise, EOFError, KeyboardInterrupt."""
    arrived: list[int] = []
    text = ""

    def leave() -> None:
        # The prompt may be ending already.
        with suppress(Exception):
            session.app.exit(exception=_Ended())

    def end(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)
        if session.app.loop is not None:
            session.app.loop.call_soon_threadsafe(leave)

    def begin() -> None:
        if arrived:
            leave()

    with _handled_by(end) as before, suppress(_Ended):
        text = session.prompt(pre_run=begin) if message is None else session.prompt(message, pre_run=begin)
    for number in arrived:
        before[number](number, None)
    return text


@contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], None],
) -> Iterator[dict[int, Callable[[int, FrameType | None], object]]]:
    """Handle ending signals within the block; yield the handlers that were there, of signals not ignored."""
    before: dict[int, Callable[[int, FrameType | None], object]] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            found = signal.getsignal(number)
            if callable(found):
                before[number] = found
                signal.signal(number, handler)
    try:
        yield before
    finally:
        for ended, its_own in before.items():
            signal.signal(ended, its_own)
