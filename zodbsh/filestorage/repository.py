"""A folder of backups: names, order and ``.dat`` files as ``ZODB/scripts/repozo.py`` has them.

A step is one data file, named by its time (UTC): ``2026-05-17-14-30-00.fs`` a
whole database, ``.deltafs`` what came after the step before it; with a ``z``
compressed by gzip. A full backup and the increments that follow it in the order
of their names are a chain; its content is theirs, one after another. ``.dat``,
named after the full backup, has a line ``path start end md5`` for each of its
steps; ``.index``, named after a step, is the index of the database then.
zodbsh adds ``.manifest`` (`backupmanifest`), and blobs in the folder ``blobs``.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from shlex import quote
from typing import NamedTuple

from zodbsh.errors import ExitCode, ZodbshError, os_error_kind, os_hint

BLOBS = "blobs"
LOCK = ".zodbsh-backup.lock"
LAYOUT = "bushy"
LARGEST_INDEX = 1 << 34
"""More bytes than the index of any file has: eight for each object."""

_STAMP = r"\d{4}(?:-\d\d){5}"
_DATA = re.compile(rf"({_STAMP})\.(delta)?fs(z)?", re.ASCII)
_BESIDE = re.compile(rf"({_STAMP})\.(dat|index|manifest)", re.ASCII)
# Temporary files as `publish` names them, of what is written here and nothing else.
_LEFTOVER = re.compile(
    rf"\.(?:{_STAMP}\.(?:(?:delta)?fsz?|dat|index|manifest)|0x[0-9a-f]+\.blob|\.layout)\.[0-9a-f]{{32}}\.new", re.ASCII
)
REPOZO_LEFTOVER = "tmp.tmp"
"""repozo's own temporary file: it may be writing it now."""

_LARGEST_DAT = 1 << 24


class BackupNotFound(ZodbshError):
    """There is no folder of backups, no backup in it, or none of the time asked for."""

    code, exit_code = "backup-not-found", ExitCode.NOT_FOUND
    hint = "Name the folder that `zodbsh backup` or repozo wrote."


class BackupDamaged(ZodbshError):
    """A file of a backup is missing, changed or cut; nothing was written."""

    code, exit_code = "backup-damaged", ExitCode.DAMAGED

    def __init__(self, message: str, *, folder: str, hint: str | None = None) -> None:
        look = f"`zodbsh backup --verify {quote(folder)}` finds all that is wrong."
        super().__init__(message, hint=look if hint is None else hint)


class Step(NamedTuple):
    """One data file: its name, its time as the name has it, and what it is."""

    name: str
    stamp: str
    increment: bool
    compressed: bool

    @property
    def kind(self) -> str:
        """``full`` or ``increment``."""
        return "increment" if self.increment else "full"


class Line(NamedTuple):
    """One line of a ``.dat`` file: the range of the database that a step holds, and its MD5."""

    name: str
    start: int
    end: int
    md5: str


class Chain(NamedTuple):
    """A full backup and its increments; ``lines`` are those of its ``.dat``, ``trouble`` what is wrong with that."""

    steps: tuple[Step, ...]
    lines: dict[str, Line]
    trouble: str = ""

    @property
    def full(self) -> Step:
        """The full backup."""
        return self.steps[0]


class Folder(NamedTuple):
    """What is in a folder of backups.

    ``lost`` are increments before any full backup; ``beside`` the names of
    ``.dat``, ``.index`` and ``.manifest`` files; ``leftovers`` temporary files of
    runs that were killed; ``foreign`` what has no business there.
    """

    path: str
    chains: tuple[Chain, ...]
    lost: tuple[Step, ...]
    beside: frozenset[str]
    leftovers: tuple[str, ...]
    foreign: tuple[str, ...]

    def join(self, name: str) -> str:
        """Return the path of a file in the folder."""
        return os.path.join(self.path, name)

    @property
    def newest(self) -> str:
        """The latest time in any name; "" where there is none."""
        names = [name.partition(".")[0] for name in self.beside]
        names += [step.stamp for chain in self.chains for step in chain.steps]
        return max(names, default="")


def read_folder(path: str) -> Folder:
    """Return what is in a folder of backups. Raises BackupNotFound, StorageIOError."""
    try:
        names = sorted(os.listdir(path))
    except FileNotFoundError as exc:
        raise BackupNotFound(f"no such folder: {path}") from exc
    except NotADirectoryError as exc:
        raise BackupNotFound(f"{path} is a file, not a folder of backups") from exc
    except OSError as exc:
        raise os_error_kind(exc)(f"cannot read {path}: {exc.strerror or exc}", hint=os_hint(exc)) from exc
    chains: list[list[Step]] = []
    lost: list[Step] = []
    beside, leftovers, foreign = set(), [], []
    for name in names:
        if step := parse_step(name):
            if not step.increment:
                chains.append([step])
            elif chains:
                chains[-1].append(step)
            else:
                lost.append(step)
        elif _BESIDE.fullmatch(name):
            beside.add(name)
        elif is_leftover(name):
            leftovers.append(name)
        elif name not in (BLOBS, LOCK):
            foreign.append(name)
    return Folder(
        path,
        tuple(_chain(path, steps) for steps in chains),
        tuple(lost),
        frozenset(beside),
        tuple(leftovers),
        tuple(foreign),
    )


def parse_step(name: str) -> Step | None:
    """Return the step that a file name stands for, None where it is no data file."""
    match = _DATA.fullmatch(name)
    return None if match is None else Step(name, match[1], match[2] is not None, match[3] is not None)


def is_leftover(name: str) -> bool:
    """Tell whether a name is that of a temporary file of zodbsh's or repozo's."""
    return name == REPOZO_LEFTOVER or _LEFTOVER.fullmatch(name) is not None


def step_name(stamp: str, *, increment: bool, compressed: bool) -> str:
    """Return the name of a data file."""
    return f"{stamp}.{'delta' if increment else ''}fs{'z' if compressed else ''}"


def stamp_after(newest: str, now: datetime) -> tuple[str, float]:
    """Return the time for the next step's name, later than ``newest``, and the seconds to wait for it."""
    now = now.replace(microsecond=0)
    last = stamp_time(newest)
    moment = now if last is None or now > last else last + timedelta(seconds=1)
    return moment.strftime("%Y-%m-%d-%H-%M-%S"), (moment - now).total_seconds()


def stamp_time(stamp: str) -> datetime | None:
    """Return the time in a name, None where it is none of the calendar."""
    try:
        return datetime.strptime(stamp, "%Y-%m-%d-%H-%M-%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def dat_name(full: Step) -> str:
    """Return the name of a chain's ``.dat``."""
    return full.stamp + ".dat"


def dat_bytes(folder: str, lines: Iterable[Line]) -> bytes:
    """Return a ``.dat`` file.

    repozo splits its lines at spaces and looks only at the last part of the path, so a path with spaces is left out.
    """
    parts = []
    for name, start, end, md5 in lines:
        path = os.path.join(folder, name)
        shown = path if len(path.split()) == 1 and path.isprintable() else name
        parts.append(f"{shown} {start} {end} {md5}\n")
    return "".join(parts).encode("utf-8", "surrogateescape")


def read_regular(path: str, limit: int) -> bytes:
    """Return what is in a file. Raises OSError, also where it is larger than ``limit``, or no regular file."""
    # Looking first keeps us from waiting for a FIFO's writer.
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", path)
    with open(path, "rb") as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise OSError(errno.EFBIG, "it is too large", path)
    return raw


def _chain(folder: str, steps: list[Step]) -> Chain:
    name = dat_name(steps[0])
    try:
        raw = read_regular(os.path.join(folder, name), _LARGEST_DAT)
    except FileNotFoundError:
        return Chain(tuple(steps), {}, f"{name} is missing")
    except OSError as exc:
        return Chain(tuple(steps), {}, f"{name} cannot be read: {exc.strerror or exc}")
    lines: dict[str, Line] = {}
    trouble = ""
    for number, text in enumerate(raw.decode("utf-8", "surrogateescape").splitlines(), 1):
        line = _parse_line(text)
        if line is None or line.name in lines:
            trouble = trouble or f"{name}: line {number} is not `path start end md5` of a step of its own"
        else:
            lines[line.name] = line
    if raw and not raw.endswith(b"\n"):
        # repozo would go on within the line.
        trouble = trouble or f"{name} ends within a line"
    return Chain(tuple(steps), lines, trouble)


def _parse_line(text: str) -> Line | None:
    # A path may have spaces, whatever repozo makes of it.
    words = text.rsplit(None, 3)
    if len(words) < 4 or not all(word.isascii() and word.isdigit() and len(word) < 20 for word in words[1:3]):
        return None
    name = os.path.basename(words[0])
    start, end = int(words[1]), int(words[2])
    if parse_step(name) is None or end < start or not re.fullmatch("[0-9a-f]{32}", words[3]):
        return None
    return Line(name, start, end, words[3])
