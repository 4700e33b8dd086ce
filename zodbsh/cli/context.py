"""What a command runs in: the plain command line, or a shell with its open session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from zodbsh.render.output import Output

if TYPE_CHECKING:
    from zodbsh.db.session import Session
    from zodbsh.source.base import Source


class AppContext:
    """Click's ``ctx.obj``.

    ``session`` is the shell's live session, None on the command line. With one,
    DATABASE is left out of every command. ``defaults`` holds the streams and
    the output options that hold where a command's line gives none. ``output``
    is what the running command was given; the error boundary reads it.
    """

    def __init__(self, *, session: Session | None = None, defaults: Output | None = None) -> None:
        self.session = session
        self.defaults = defaults if defaults is not None else Output()
        self.output: Output | None = None

    @property
    def in_shell(self) -> bool:
        """Whether the command is a dot command."""
        return self.session is not None


class Database(NamedTuple):
    """The DATABASE argument: the text as given, and the shell's session where there is one."""

    text: str
    session: Session | None = None

    @contextmanager
    def source(self, **options: Any) -> Iterator[Source]:
        """Open for reading, and close again; a session's source is left open.

        ``options`` go to ``zodbsh.db.source.open_source`` (``ignore_damage``,
        ``blob_dir``). In the shell the session's own source is read: it ends at
        the transaction that the session sees.
        """
        if self.session is not None:
            yield self.session.source()
            return
        from zodbsh.db.source import open_source
        from zodbsh.db.spec import parse_spec

        source = open_source(parse_spec(self.text), **options)
        try:
            yield source
        finally:
            source.close()
