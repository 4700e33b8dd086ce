"""What reading commands share: how the source is opened, and as of when it is read."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from zodbsh.ids import MAX_ID

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.render.output import Output
    from zodbsh.source.base import Source
    from zodbsh.source.snapshot import Snapshot

_FOR_PROGRAMS = 1_000

_F = TypeVar("_F", bound=Callable[..., Any])


class Reading(NamedTuple):
    """The options of reading commands: as of which tid, past damage or not, where the blobs are."""

    at: int = MAX_ID
    ignore_damage: bool = False
    blob_dir: str | None = None

    @contextmanager
    def source(self, database: Database) -> Iterator[Source]:
        """Open the database as a source, and close it again."""
        with database.source(ignore_damage=self.ignore_damage, blob_dir=self.blob_dir) as source:
            yield source

    @contextmanager
    def snapshot(self, database: Database) -> Iterator[Snapshot]:
        """Open the database as it was at ``at``, and close it again."""
        from zodbsh.source.snapshot import Snapshot

        with self.source(database) as source:
            yield Snapshot(source, self.at)


def reading_options(*, at: bool = True) -> Callable[[_F], _F]:
    """Pass ``reading: Reading``, with ``--at`` unless the command has a time of its own."""
    from zodbsh.cli.options import BLOBS, TIME

    def decorate(function: _F) -> _F:
        @functools.wraps(function)
        def wrapper(*args: Any, ignore_damage: bool, blob_dir: str | None, at: int = MAX_ID, **kwargs: Any) -> Any:
            return function(*args, reading=Reading(at, ignore_damage, blob_dir), **kwargs)

        decorated = click.option("--blobs", "blob_dir", metavar="DIR", type=BLOBS, help="Where the blob files are.")(
            wrapper
        )
        decorated = click.option(
            "--ignore-damage", is_flag=True, help="Read what comes before the first damage of a damaged file."
        )(decorated)
        if at:
            decorated = click.option("--at", type=TIME, default=MAX_ID, show_default=False, help="As it was then.")(
                decorated
            )
        return decorated  # type: ignore[return-value]

    return decorate


class Bound(NamedTuple):
    """How many of something are shown: as asked, or as suits who reads it."""

    asked: int | None
    everything: bool
    people: int
    programs: int | None = _FOR_PROGRAMS

    def limit(self, output: Output) -> int | None:
        """Return the number for an output, None for all."""
        if self.everything:
            return None
        if self.asked is not None:
            return self.asked
        return self.people if output.format == "table" else self.programs


def limit_option(people: int, noun: str, *, programs: int | None = _FOR_PROGRAMS) -> Callable[[_F], _F]:
    """Pass ``bound: Bound``; ``people`` is how many a table shows unless asked otherwise, ``programs`` JSON or CSV."""

    def decorate(function: _F) -> _F:
        @functools.wraps(function)
        def wrapper(*args: Any, limit: int | None, everything: bool, **kwargs: Any) -> Any:
            return function(*args, bound=Bound(limit, everything, people, programs), **kwargs)

        decorated = click.option("--all", "everything", is_flag=True, help=f"All {noun}.")(wrapper)
        number = click.IntRange(0, sys.maxsize)
        others = "all" if programs is None else f"{programs:,}"
        text = f"At most so many {noun} [default: {people}; {others} as JSON or CSV]."
        return click.option("-n", "--limit", type=number, metavar="N", help=text)(decorated)  # type: ignore[return-value]

    return decorate
