"""The user's own modules: where they are searched, and how a failed import is told."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from types import ModuleType

from zodbsh.errors import ExitCode, ZodbshError

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class UserCodeFailed(ZodbshError):
    """Code of the user's raised; ``traceback`` holds the frames that are theirs."""

    code, exit_code = "user-code-failed", ExitCode.FINDINGS

    def __init__(self, message: str, *, traceback: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.traceback = traceback


class ModuleFailed(UserCodeFailed):
    """A module named by -m could not be imported."""

    code = "module-failed"


def search_first(paths: Iterable[str]) -> Callable[[], None]:
    """Put folders before sys.path, and take the current folder off it; return what undoes that.

    ``python -m zodbsh`` puts the current folder on sys.path by itself: what
    happens to lie there must not decide what a database's classes are.
    """
    before = list(sys.path)
    wanted = [os.path.abspath(path) for path in paths]
    allowed = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    kept = [path for path in before if path not in ("", os.getcwd()) or path in allowed]
    sys.path[:] = wanted + [path for path in kept if path not in wanted]

    def restore() -> None:
        sys.path[:] = before

    return restore


def import_modules(names: Iterable[str]) -> dict[str, ModuleType]:
    """Import modules and return them under the names an import statement would bind.

    Raises ModuleFailed, with the frames of the module's own code.
    """
    found: dict[str, ModuleType] = {}
    for name in names:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as exc:
            hint = "Give the folder that holds it with -p DIR." if _is_missing(exc, name) else ""
            raise ModuleFailed(
                f"cannot import {name!r}: {describe(exc)}", traceback=user_traceback(exc), hint=hint
            ) from exc
        top = name.partition(".")[0]
        found[top] = sys.modules[top]
    return found


def describe(exc: BaseException) -> str:
    """Return an exception as its last traceback line says it."""
    return traceback.format_exception_only(exc)[-1].strip()


def user_traceback(exc: BaseException) -> str:
    """Format a traceback without the frames of zodbsh and of the import system, causes included."""
    told = traceback.TracebackException.from_exception(exc)
    waiting: list[traceback.TracebackException | None] = [told]
    while waiting:
        each = waiting.pop()
        if each is not None:
            each.stack = traceback.StackSummary.from_list(
                [frame for frame in each.stack if not _is_ours(frame.filename)]
            )
            waiting += [each.__cause__, each.__context__, *(each.exceptions or ())]
    return "".join(told.format())


def _is_ours(file: str) -> bool:
    return file.startswith((_OURS, "<frozen importlib", "<frozen runpy")) or _is_importlib(file)


def _is_importlib(file: str) -> bool:
    return os.path.dirname(file) == os.path.dirname(importlib.__file__)


def _is_missing(exc: BaseException, name: str) -> bool:
    return isinstance(exc, ModuleNotFoundError) and exc.name is not None and (name + ".").startswith(exc.name + ".")
