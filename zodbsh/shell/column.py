"""Where the user's code left the cursor: the prompt would overwrite a line that has not ended."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Watched:
    """A stream that knows whether its last line has ended; everything else is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.line_is_open = False

    def write(self, text: str) -> Any:
        if text:
            self.line_is_open = not text.endswith("\n")
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def ended_lines() -> Iterator[None]:
    """Let the block write to stdout, and end its last line where it did not."""
    stream = sys.stdout
    watched = _Watched(stream)
    sys.stdout = watched
    try:
        yield
    finally:
        # Code that has put another stream there keeps it.
        if sys.stdout is watched:
            sys.stdout = stream
        if watched.line_is_open:
            stream.write("\n")
            stream.flush()
