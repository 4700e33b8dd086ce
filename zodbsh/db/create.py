"""Creating a database: the one place where zodbsh has ZODB make a Data.fs."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zodbsh.db.imports import ModuleFailed, UserCodeFailed, describe, import_modules, search_first, user_traceback
from zodbsh.errors import UsageError

Factory = Callable[[], Any]


class RootEntryFailed(UserCodeFailed):
    """A class given for a root entry could not be called, or its object not be stored."""

    code = "root-entry-failed"


def find_factory(dotted: str) -> Factory:
    """Import ``module.Class`` (user code) and return what it names.

    Raises UsageError for a name without a module, ModuleFailed where the module
    fails to import or has no such attribute.
    """
    module_name, _, name = dotted.rpartition(".")
    if not module_name or not name:
        raise UsageError(f"not a class: {dotted!r}", hint="Write it as module.Class.")
    import_modules([module_name])
    factory = getattr(sys.modules[module_name], name, None)
    if not callable(factory):
        raise ModuleFailed(f"module {module_name!r} has no class {name!r}")
    return factory  # type: ignore[no-any-return]


def with_import_paths(paths: Iterable[str]) -> Callable[[], None]:
    """Search modules in ``paths``, and after everything else in the current folder; return what undoes that."""
    restore = search_first(paths)
    sys.path.append(os.getcwd())
    importlib.invalidate_caches()
    return restore


def create_filestorage(path: str, roots: Mapping[str, Factory], *, blob_dir: str | None, note: str) -> None:
    """Write a new FileStorage at ``path`` (an empty folder's file: ZODB puts its sidecars beside it).

    Each root entry is what its factory returns. Raises RootEntryFailed, OSError.
    """
    import ZODB
    import ZODB.FileStorage

    from zodbsh.db.open import quiet_logging

    quiet_logging()
    storage = ZODB.FileStorage.FileStorage(path, create=True, blob_dir=blob_dir)
    try:
        database = ZODB.DB(storage)
    except BaseException:
        storage.close()
        raise
    try:
        if roots:
            _add_roots(database, roots, note)
    finally:
        database.close()


def _add_roots(database: Any, roots: Mapping[str, Factory], note: str) -> None:
    import transaction

    manager = transaction.TransactionManager()
    connection = database.open(manager)
    try:
        for name, factory in roots.items():
            _guarded(name, lambda: connection.root().__setitem__(name, factory()))  # noqa: B023 - called at once
        manager.get().note(note)
        _guarded(", ".join(roots), manager.commit)
    finally:
        manager.abort()
        connection.close()


def _guarded(name: str, act: Callable[[], None]) -> None:
    try:
        act()
    except OSError:
        raise
    except Exception as exc:
        raise RootEntryFailed(f"root entry {name!r}: {describe(exc)}", traceback=user_traceback(exc)) from exc
