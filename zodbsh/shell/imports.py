"""Completion of import statements: names of modules, without importing any."""

from __future__ import annotations

import pkgutil
import re
import sys
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

SCANNED = 10_000
"""Modules that one completion looks at, at most."""

_START = r"(?:^|[\n;:])\s*"
_MODULE = re.compile(rf"{_START}(?:from\s+|import\s+(?:[\w.]+(?:\s+as\s+\w+)?\s*,\s*)*)(?P<name>[\w.]*)$")
_MEMBER = re.compile(
    rf"{_START}from\s+(?P<module>[\w.]+)\s+import\s+\(?\s*(?:\w+(?:\s+as\s+\w+)?\s*,\s*)*(?P<name>\w*)$"
)


class Import(NamedTuple):
    """What an import statement asks for at the cursor: a module, or (``module`` is not empty) a member of one."""

    prefix: str
    module: str = ""


def import_at_cursor(text: str) -> Import | None:
    """Tell what the text before the cursor asks for, None where it is no import statement."""
    found = _MEMBER.search(text)
    if found is not None:
        return Import(found["name"], found["module"])
    found = _MODULE.search(text)
    return None if found is None else Import(found["name"])


def module_names(prefix: str) -> list[str]:
    """Return the modules whose dotted name begins with ``prefix``: those on sys.path, and those in loaded packages."""
    package, dot, part = prefix.rpartition(".")
    names = set(_in_package(package)) if dot else {*sys.stdlib_module_names, *_listed(None), *sys.modules}
    fitting = sorted(name for name in names if name.startswith(part) and name.isidentifier())
    return [f"{package}{dot}{name}" for name in fitting if part.startswith("_") or not name.startswith("_")]


def submodule_names(module: ModuleType) -> list[str]:
    """Return the names of the modules in a loaded package; none for a plain module."""
    path = vars(module).get("__path__")
    return [] if path is None else _listed(list(path))


def _in_package(name: str) -> list[str]:
    module = sys.modules.get(name)
    return [] if module is None else submodule_names(module)


def _listed(path: Iterable[str] | None) -> list[str]:
    return [found.name for found in islice(pkgutil.iter_modules(path), SCANNED)]
