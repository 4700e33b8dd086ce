"""Finding the classes that records name, and standing in for those that are not there.

A stand-in carries the recorded module and name. Its attributes can be read, and
a mapping or a list within can be walked, but it is never written back: what its
class would have made of it is not known here.
"""

from __future__ import annotations

import copyreg
import sys
from importlib.util import find_spec
from typing import Any

import persistent
from ZODB.broken import Broken, PersistentBroken, find_global
from zodbpickle import binary

from zodbsh.db.changes import MissingClass
from zodbsh.errors import ExitCode, ZodbshError
from zodbsh.ids import from_bytes, oid_text
from zodbsh.record.decode import decode_pickle
from zodbsh.record.values import Global

_MARK = object()
_MAX_NAMES = 8

# What ``--no-import`` lets records import: ZODB's own data structures, and inert
# values of the standard library. No function here does more than build a value.
_PLAIN = {
    "builtins": frozenset({"object", "bool", "int", "float", "complex", "str", "bytes", "bytearray"})
    | {"list", "tuple", "dict", "set", "frozenset", "range", "slice"},
    "copyreg": frozenset({"_reconstructor", "__newobj__"}),
    "_codecs": frozenset({"encode"}),
    "collections": frozenset({"OrderedDict", "deque", "Counter"}),
    "datetime": frozenset({"date", "datetime", "time", "timedelta", "timezone"}),
    "decimal": frozenset({"Decimal"}),
    "fractions": frozenset({"Fraction"}),
    "uuid": frozenset({"UUID"}),
    "persistent": frozenset({"Persistent"}),
    "persistent.mapping": frozenset({"PersistentMapping", "PersistentDict"}),
    "persistent.list": frozenset({"PersistentList"}),
    "persistent.dict": frozenset({"PersistentDict"}),
    "ZODB.PersistentMapping": frozenset({"PersistentMapping"}),
    "ZODB.PersistentList": frozenset({"PersistentList"}),
    "PersistentMapping": frozenset({"PersistentMapping"}),
    "PersistentList": frozenset({"PersistentList"}),
    "ZODB.blob": frozenset({"Blob"}),
    "zodbpickle": frozenset({"binary"}),
    "BTrees.Length": frozenset({"Length"}),
}
# Old names of modules, as Python 2's pickles spell them.
_RENAMED = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "PersistentMapping": "persistent.mapping",
    "PersistentList": "persistent.list",
    "ZODB.PersistentMapping": "persistent.mapping",
    "ZODB.PersistentList": "persistent.list",
}
_NEW_NAMES = {"unicode": "str", "long": "int", "xrange": "range"}
_BTREE_PARTS = ("BTree", "Bucket", "Set", "TreeSet")


class StandInError(ZodbshError):
    """A stand-in was to be changed or written back."""

    code, exit_code = "class-missing", ExitCode.FINDINGS
    hint = "Open again with -p DIR or -m MODULE, so that the class can be imported."


class ClassFinder:
    """A DB's class factory: imports classes, and stands in for the missing ones.

    ``missing`` holds what was not found, by module and name. ``loading`` is the
    oid whose record is being loaded.
    """

    def __init__(self, *, no_import: bool = False) -> None:
        self.no_import = no_import
        self.missing: dict[tuple[str, str], MissingClass] = {}
        self.loading: int | None = None
        self._made: dict[tuple[str, str], Any] = {}

    def find(self, _connection: Any, module: str, name: str) -> Any:
        """Return the global of that name, or a stand-in class."""
        if name == "_reconstructor" and module in ("copy_reg", "copyreg"):
            return _reconstruct
        if self.no_import:
            found = _allowed(module, name)
            return self.stand_in(module, name, "not imported (--no-import)") if found is _MARK else found
        reason = ""
        try:
            found = find_global(module, name)
        except Exception as exc:  # noqa: BLE001 - the module's own code may raise anything while it is imported
            found, reason = None, f"{type(exc).__name__}: {exc}"
        if reason or (isinstance(found, type) and issubclass(found, Broken) and found is not Broken):
            return self.stand_in(module, name, reason or _why(module, name))
        return found

    def loaded(self) -> list[MissingClass]:
        """Return the missing classes of which an instance's state was loaded, not merely a reference seen."""
        return [self.missing[key] for key, class_ in self._made.items() if class_.__loaded__]

    def stand_in(self, module: str, name: str, reason: str) -> type:
        """Return the stand-in for a name, noting that it is missing and why."""
        key = (module, name)
        if key not in self.missing:
            self.missing[key] = MissingClass(module, name, self.loading, reason, self._hint(module))
        made: type = self._made.setdefault(key, None) or _make(module, name)
        self._made[key] = made
        return made

    def _hint(self, module: str) -> str:
        if self.no_import:
            return "Leave out --no-import to import classes."
        top = module.partition(".")[0]
        if _is_there(top):
            return f"-m MODULE with a module that defines it again, if {module} was renamed or taken out."
        return f"-p DIR with the folder that holds {top!r}, or install the package that provides it."


class StandIn(Broken):  # type: ignore[misc]
    """Base of the stand-ins for values inside a record (and, mixed in, for whole objects)."""

    # Shared by both classes that stand for one: not empty once an instance was loaded.
    __loaded__: list[bool] = []  # noqa: RUF012 - each pair of classes gets its own

    def __setstate__(self, state: Any) -> None:
        type(self).__loaded__[:] = [True]
        super().__setstate__(state)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_p_") or (name.startswith("__") and name.endswith("__")):
            raise AttributeError(name)
        for attributes in _states(self.__Broken_state__):
            if name in attributes:
                return attributes[name]
        raise AttributeError(f"{_what(self)} has no attribute {name!r} in its record", name=name, obj=self)

    def __setattr__(self, name: str, value: Any) -> None:
        raise StandInError(f"cannot set {name!r}: {_what(self)} is missing, this is a stand-in")

    def __delattr__(self, name: str) -> None:
        raise StandInError(f"cannot delete {name!r}: {_what(self)} is missing, this is a stand-in")

    def __dir__(self) -> list[str]:
        return sorted({name for attributes in _states(self.__Broken_state__) for name in attributes})

    def __reduce__(self) -> Any:
        raise StandInError(f"cannot write back an instance of {_what(self)}: the class is missing")

    # Pickles fill subclasses of dict and list through these.
    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__.setdefault("__items__", {})[key] = value

    def append(self, value: Any) -> None:
        self.__dict__.setdefault("__values__", []).append(value)

    def extend(self, values: Any) -> None:
        self.__dict__.setdefault("__values__", []).extend(values)

    def __getitem__(self, key: Any) -> Any:
        return self._content()[key]

    def __iter__(self) -> Any:
        return iter(self._content())

    def __len__(self) -> int:
        return len(self._content())

    def __bool__(self) -> bool:
        return True

    def _content(self) -> Any:
        """Return the mapping or the list that this object holds, if it shows one."""
        own = self.__dict__
        for found in (own.get("__items__"), own.get("__values__")):
            if found is not None:
                return found
        for attributes in _states(self.__Broken_state__):
            for name in ("data", "_container"):
                if isinstance(attributes.get(name), dict | list):
                    return attributes[name]
        raise TypeError(f"{_what(self)} shows no items in its record")

    def __repr__(self) -> str:
        names = dir(self)
        shown = ", ".join(names[:_MAX_NAMES]) + (", ..." if len(names) > _MAX_NAMES else "")
        return f"<stand-in for {_what(self)}{': ' + shown if shown else ''}>"


class PersistentStandIn(PersistentBroken):  # type: ignore[misc]
    """Base of the stand-ins for objects with a record of their own.

    Other objects may go on referring to one: see ``reference_to``.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_p_changed" and value:
            raise StandInError(f"cannot mark {oid_of(self)} changed: {_what(self)} is missing, this is a stand-in")
        if not name.startswith("_p_"):
            raise StandInError(f"cannot set {name!r}: {_what(self)} is missing, this is a stand-in")
        persistent.Persistent.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if not name.startswith("_p_"):
            raise StandInError(f"cannot delete {name!r}: {_what(self)} is missing, this is a stand-in")
        persistent.Persistent.__delattr__(self, name)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise StandInError(f"cannot set {key!r}: {_what(self)} is missing, this is a stand-in")

    def append(self, value: Any) -> None:
        raise StandInError(f"cannot append: {_what(self)} is missing, this is a stand-in")

    extend = append

    def __repr__(self) -> str:
        # A ghost stays one: to show an object is no reason to load it.
        if self._p_changed is None:
            return f"<stand-in for {_what(self)} {oid_of(self)}>"
        return StandIn.__repr__(self)[:-1] + f" {oid_of(self)}>"


def _reconstruct(class_: Any, base: Any, content: Any) -> Any:
    """Build an instance as copyreg does, also of a stand-in for a subclass of dict or list."""
    if not issubclass(class_, Broken):
        return copyreg._reconstructor(class_, base, content)  # type: ignore[attr-defined]
    made = class_.__new__(class_)
    if isinstance(content, dict):
        made.__dict__["__items__"] = content
    elif isinstance(content, list | tuple | set):
        made.__dict__["__values__"] = list(content)
    return made


def is_stand_in(obj: object) -> bool:
    """Tell whether an object stands in for one whose class is missing."""
    return isinstance(obj, StandIn)


def reference_to(connection: Any, obj: Any) -> Any:
    """Return what stands for a stand-in in a record: the reference that its class itself would have got.

    The class goes into it by name, as ZODB reads it, too; but not where the
    class makes its instances with arguments, which its record tells.
    """
    oid = binary(obj._p_oid)
    part, _ = decode_pickle(connection._storage.load(obj._p_oid)[0])
    return (oid, (part.module, part.name)) if isinstance(part, Global) else oid


def oid_of(obj: Any) -> str:
    """Return an object's oid as text."""
    return oid_text(from_bytes(obj._p_oid)) if obj._p_oid else "(not stored)"


def _make(module: str, name: str) -> type:
    # A name from a record may be anything; type() takes any text without a NUL.
    safe = name.replace("\0", "?") or "(unnamed)"
    plain = type(safe, (StandIn,), {"__module__": module, "__loaded__": []})
    whole = type(safe, (PersistentStandIn, plain), {"__module__": module})
    # ZODB asks for a broken class's persistent twin under this name, and makes one where it finds none.
    plain.__Broken_Persistent__ = whole  # type: ignore[attr-defined]
    return plain


def _allowed(module: str, name: str) -> Any:
    """Return a global that ``--no-import`` lets in, or _MARK."""
    name = _NEW_NAMES.get(name, name) if module in ("__builtin__", "builtins") else name
    module = _RENAMED.get(module, module)
    parts = module.split(".")
    if parts[0] == "BTrees" and len(parts) == 2 and _is_btree(parts[1], name):
        return find_global(module, name)
    return find_global(module, name) if name in _PLAIN.get(module, ()) else _MARK


def _is_btree(module: str, name: str) -> bool:
    """Tell whether BTrees.<module>.<name> is one of the package's own containers."""
    prefix = module.removesuffix("BTree")
    if module == prefix or len(prefix) != 2 or not set(prefix) <= set("OIULFQ") | set("fs"):
        return False
    return name in {prefix + part + py for part in _BTREE_PARTS for py in ("", "Py")}


def _states(state: Any) -> list[dict[str, Any]]:
    """Return the attribute dicts of a state: none, one, or (with __slots__) two."""
    found = state if isinstance(state, tuple) and len(state) == 2 else (state,)
    return [part for part in found if isinstance(part, dict) and all(isinstance(key, str) for key in part)]


def _what(obj: Any) -> str:
    class_ = type(obj)
    return f"{class_.__module__}.{class_.__name__}"


def _why(module: str, name: str) -> str:
    if module in sys.modules:
        return f"module {module!r} has no {name!r}"
    missing = module
    while "." in missing and not _is_there(missing.rpartition(".")[0]):
        missing = missing.rpartition(".")[0]
    return f"no module named {missing!r}"


def _is_there(module: str) -> bool:
    if module in sys.modules:
        return True
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False
