"""What the operating system refuses has one code and a hint, wherever it is noticed."""

from __future__ import annotations

import errno
import os

import pytest

from zodbsh.cli.dispatch import describe
from zodbsh.db.open import translated
from zodbsh.errors import StorageIOError
from zodbsh.filestorage.datafile import AccessDenied
from zodbsh.publish import failing_well

OWNER = "Check the owner and the mode of the file and of its folder."


def told(error: BaseException) -> tuple[str, int, str]:
    code, status, _, hint = describe(error)
    return code, status, hint


@pytest.mark.parametrize(
    ("number", "code", "hint"),
    [
        (errno.EACCES, "permission-denied", OWNER),
        (errno.EPERM, "permission-denied", OWNER),
        (errno.EROFS, "permission-denied", "The file system is read-only."),
        (errno.EIO, "io-error", "The disk or the file system failed; look at the system's log."),
    ],
)
def test_the_same_everywhere(number: int, code: str, hint: str) -> None:
    """Raw, met while a file is replaced, and met inside of ZODB."""
    error = OSError(number, os.strerror(number), "my.fs")
    with pytest.raises(StorageIOError) as caught, failing_well("my.fs", "packed"):
        raise error
    with pytest.raises(StorageIOError) as inside, translated("my.fs"):
        raise error
    assert [told(one) for one in (error, caught.value, inside.value)] == [(code, 7, hint)] * 3


def test_a_commit_without_room_says_what_to_do() -> None:
    """A full disk inside of ZODB has a hint, too."""
    with pytest.raises(StorageIOError) as caught, translated("my.fs"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.hint == "Free some space, then try again."


def test_a_file_that_may_not_be_read() -> None:
    """The code that every refusal of this kind has."""
    assert told(AccessDenied("no permission to read my.fs")) == ("permission-denied", 7, OWNER)
