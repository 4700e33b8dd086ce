"""Looking at live objects without running their code.

Everything here goes past properties, ``__getattr__``, ``__getattribute__`` and
``__class__`` of user classes: it reads the instance's dict, its slots and the
dicts of its type's MRO. Only ``activate`` loads, and only the object it is given.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, NamedTuple

from persistent import Persistent
from ZODB.broken import Broken
from ZODB.Connection import RootConvenience

from zodbsh.db.changes import PROVISIONAL
from zodbsh.db.root import Root
from zodbsh.ids import from_bytes, oid_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MISSING: Any = object()

# Descriptors of C types that read a field and run no user code.
_FIELD_DESCRIPTORS = (types.MemberDescriptorType, types.GetSetDescriptorType)
_TREE_SUFFIXES = {"BTree": "BTree", "TreeSet": "TreeSet", "Bucket": "Bucket", "Set": "Set"}


class TreeClass(NamedTuple):
    """A BTrees class: its kind and the letters of its key and value types."""

    kind: str
    keys: str
    values: str

    @property
    def is_mapping(self) -> bool:
        """True for BTree and Bucket, False for the two sets."""
        return self.kind in ("BTree", "Bucket")


def class_name(class_: type) -> str:
    """Return ``module.Name``, without the module for builtins."""
    module = type.__getattribute__(class_, "__dict__").get("__module__", None)
    name = type.__getattribute__(class_, "__qualname__")
    if not isinstance(module, str):
        # C types keep no __module__ in their dict; type's own getter parses tp_name.
        module = type.__dict__["__module__"].__get__(class_)
    return str(name) if module == "builtins" else f"{module}.{name}"


def is_persistent(obj: object) -> bool:
    """Tell whether the object has a record of its own (or would get one)."""
    return issubclass(type(obj), Persistent)


def is_ghost(obj: object) -> bool:
    """Tell whether a persistent object's state is not loaded."""
    return is_persistent(obj) and _special(obj, "_p_changed") is None and _special(obj, "_p_jar") is not None


def oid_of(obj: object) -> int | None:
    """Return a persistent object's oid, None while it has none."""
    raw = _special(obj, "_p_oid")
    return from_bytes(raw) if isinstance(raw, bytes) and len(raw) == 8 else None


def jar_of(obj: object) -> Any:
    """Return the connection that a persistent object belongs to, or None."""
    return _special(obj, "_p_jar")


def label(obj: object) -> str:
    """Return a persistent object in one word, loading nothing: ``<account.Account 0x2a ghost>``."""
    oid = oid_of(obj)
    stored = oid is not None and oid < PROVISIONAL
    words = [class_name(type(obj)), oid_text(oid) if oid is not None and stored else "new"]
    if is_ghost(obj):
        words.append("ghost")
    elif is_stand_in(obj):
        words.append("stand-in")
    elif stored and _special(obj, "_p_changed"):
        words.append("changed")
    return f"<{' '.join(words)}>"


def activate(obj: object) -> None:
    """Load a ghost's own state; anything else is left alone. Raises what loading raises."""
    if is_ghost(obj):
        Persistent._p_activate(obj)


def is_stand_in(obj: object) -> bool:
    """Tell whether the object stands in for one whose class is missing."""
    return isinstance_of(obj, Broken)


def root_mapping(obj: object) -> Any:
    """Return the mapping behind ``root`` or ``connection.root``, MISSING for any other object."""
    if type(obj) is Root:
        return obj()
    if type(obj) is RootConvenience:
        return instance_dict(obj).get("_root", MISSING)
    return MISSING


def instance_dict(obj: object) -> Mapping[Any, Any]:
    """Return the instance's own ``__dict__``, empty where it has none."""
    try:
        found = object.__getattribute__(obj, "__dict__")
    except AttributeError:
        return {}
    return found if isinstance(found, (dict, types.MappingProxyType)) else {}


def attributes(obj: object) -> Iterator[tuple[str, Any]]:
    """Yield the instance's attributes: its dict, then its filled slots."""
    for name, value in list(_state(obj).items()):
        if isinstance(name, str):
            yield name, value
    for class_ in _mro(type(obj)):
        for name, member in list(type.__getattribute__(class_, "__dict__").items()):
            if isinstance(member, types.MemberDescriptorType) and not name.startswith("__"):
                value = _field(member, obj)
                if value is not MISSING:
                    yield name, value


def attribute_names(obj: object) -> Iterator[str]:
    """Yield the names that ``obj.`` can be followed by; a name may come twice."""
    if isinstance(obj, types.ModuleType):
        yield from list(types.ModuleType.__getattribute__(obj, "__dict__"))
        return
    yield from (name for name in list(_state(obj)) if isinstance(name, str))
    for class_ in (*_mro(obj), *_mro(type(obj))) if isinstance_of(obj, type) else _mro(type(obj)):
        yield from list(type.__getattribute__(class_, "__dict__"))


def static_attribute(obj: object, name: str) -> Any:
    """Return an attribute's value without running code, MISSING where that needs any.

    A property, ``__getattr__`` and any user-written descriptor count as code. A
    plain function comes back bound to nothing: good to look at, not to call.
    """
    if isinstance(obj, types.ModuleType):
        return types.ModuleType.__getattribute__(obj, "__dict__").get(name, MISSING)
    own = _state(obj)
    for class_ in _mro(type(obj)):
        found = type.__getattribute__(class_, "__dict__").get(name, MISSING)
        if found is MISSING:
            continue
        if isinstance(found, _FIELD_DESCRIPTORS):
            return _field(found, obj)
        if name in own and not hasattr(type(found), "__set__"):
            return own[name]
        return MISSING if isinstance(found, property) or _is_user_descriptor(found) else found
    if isinstance_of(obj, type):
        for class_ in _mro(obj):
            found = type.__getattribute__(class_, "__dict__").get(name, MISSING)
            if found is not MISSING:
                return MISSING if isinstance(found, property) or _is_user_descriptor(found) else found
    return own.get(name, MISSING)


def tree_class(class_: type) -> TreeClass | None:
    """Return what kind of BTrees class this is (or is derived from), None for any other."""
    for base in _mro(class_):
        if not class_name(base).startswith("BTrees."):
            continue
        name = type.__getattribute__(base, "__name__").removesuffix("Py")
        letters, kind = name[:2], _TREE_SUFFIXES.get(name[2:])
        if kind is not None:
            return TreeClass(kind, letters[0], letters[1])
    return None


def mapping_data(obj: object) -> dict[Any, Any] | None:
    """Return the dict behind a loaded mapping: a dict itself, or a PersistentMapping's; None for others."""
    if isinstance_of(obj, dict):
        return obj  # type: ignore[return-value]
    if is_stand_in(obj) or any(base.__name__ == "UserDict" for base in _mro(type(obj))):
        own = _state(obj)
        # Before ZODB 3.3 the dict was kept as _container.
        data = own.get("data", own.get("_container"))
        return data if isinstance_of(data, dict) else None
    return None


def sequence_data(obj: object) -> Sequence[Any] | None:
    """Return the list or tuple behind a loaded sequence, None for others."""
    if isinstance_of(obj, list) or isinstance_of(obj, tuple):
        return obj  # type: ignore[return-value]
    if is_stand_in(obj) or any(base.__name__ == "UserList" for base in _mro(type(obj))):
        data = _state(obj).get("data")
        return data if isinstance_of(data, list) else None
    return None


def isinstance_of(obj: object, class_: type | tuple[type, ...]) -> bool:
    """Like isinstance, but never asks the object for its ``__class__``."""
    return issubclass(type(obj), class_)


def _state(obj: object) -> Mapping[Any, Any]:
    """Return the instance's attributes; a stand-in's are those of its record."""
    own = instance_dict(obj)
    if not is_stand_in(obj):
        return own
    state = own.get("__Broken_state__")
    found: dict[Any, Any] = {}
    # A class with __slots__ has two dicts for its state.
    for part in state if type(state) is tuple and len(state) == 2 else (state,):
        if type(part) is dict:
            found.update(part)
        elif part is not None:
            found["(state)"] = part
    # What a pickle filled into a subclass of dict or list.
    for name in ("__items__", "__values__"):
        if name in own:
            found["data"] = own[name]
    return found


def _mro(class_: Any) -> tuple[type, ...]:
    return type.__getattribute__(class_, "__mro__")  # type: ignore[no-any-return]


def _special(obj: object, name: str) -> Any:
    try:
        return object.__getattribute__(obj, name)
    except AttributeError:
        return None


def _field(member: Any, obj: object) -> Any:
    try:
        return member.__get__(obj, type(obj))
    except Exception:  # noqa: BLE001 - whatever a C type says, there is no value to show
        return MISSING


def _is_user_descriptor(found: object) -> bool:
    if isinstance(found, (types.FunctionType, classmethod, staticmethod, type)):
        return False
    getter = getattr(type(found), "__get__", None)
    return isinstance(getter, types.FunctionType)
