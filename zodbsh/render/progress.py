"""A progress bar on stderr: title, share, rate, time left. Drawn a few times a second at most."""

from __future__ import annotations

import time
from typing import TextIO

from zodbsh.render.sizes import size_text

_INTERVAL = 0.2
_WIDTH = 24


class Bar:
    """Progress for a terminal; one line that is redrawn, and wiped at the end of each phase."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._title = ""
        self._total: int | None = None
        self._unit = ""
        self._began = self._drawn = 0.0

    def start(self, title: str, total: int | None, unit: str) -> None:
        """Begin a phase; nothing is drawn until it has lasted a moment."""
        self._title, self._total, self._unit = title, total, unit
        self._began = self._drawn = time.monotonic()

    def advance(self, done: int) -> None:
        """Redraw where the last drawing is old enough."""
        now = time.monotonic()
        if now - self._drawn < _INTERVAL:
            return
        self._drawn = now
        self._stream.write(f"\r\x1b[2K{self._line(done, now - self._began)}")
        self._stream.flush()

    def finish(self) -> None:
        """Wipe the line."""
        if self._drawn != self._began:
            self._stream.write("\r\x1b[2K")
            self._stream.flush()

    def _line(self, done: int, seconds: float) -> str:
        rate = done / seconds if seconds > 0 else 0.0
        if not self._total:
            return f"{self._title}  {self._amount(done)}  {self._amount(int(rate))}/s"
        share = min(done / self._total, 1.0)
        bar = ("#" * round(share * _WIDTH)).ljust(_WIDTH, ".")
        left = duration_text((self._total - done) / rate) if rate > 0 else "?"
        return f"{self._title}  [{bar}] {share:4.0%}  {self._amount(int(rate))}/s  {left} left"

    def _amount(self, number: int) -> str:
        return size_text(number) if self._unit == "bytes" else f"{number:,} {self._unit}"


def duration_text(seconds: float) -> str:
    """Return a duration as ``0:07`` or ``1:02:03``."""
    whole = max(round(seconds), 0)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
