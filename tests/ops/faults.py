"""Failing, or being killed, at each call that changes what is on the disk."""

from __future__ import annotations

import os
import warnings
from contextlib import contextmanager
from unittest import mock

CALLS = (
    "link", "rename", "replace", "unlink", "mkdir", "rmdir", "fsync", "chmod", "truncate", "ftruncate", "write", "open",
)  # fmt: skip
_WRITES = os.O_CREAT | os.O_WRONLY | os.O_RDWR


@contextmanager
def at_call(number, action):
    """Call ``action`` instead of the call of this number (from 1); yield how many there were in a list."""
    seen = [0]

    def replaced(original, name):
        def call(*args, **kwargs):
            if name == "open" and not args[1] & _WRITES:
                return original(*args, **kwargs)
            seen[0] += 1
            if seen[0] == number:
                action(name)
            return original(*args, **kwargs)

        return call

    with mock.patch.multiple(os, **{name: replaced(getattr(os, name), name) for name in CALLS}):
        yield seen


def killed_at(number, work):
    """Do the work in another process, which is gone at the call of this number; tell whether it came to its end."""
    with warnings.catch_warnings():
        # The child makes threads of its own, and waits for none that it has not got.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    try:
        with at_call(number, lambda _: os._exit(9)):
            work()
        os._exit(0)
    finally:
        os._exit(1)


def failing_with(error, failed=None):
    """Return an action that raises the system's error of this number; ``failed`` gets the name of what fails."""

    def fail(name):
        if failed is not None:
            failed.append(name)
        raise OSError(error, os.strerror(error))

    return fail
