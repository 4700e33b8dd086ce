"""The root object as a user meets it: entries by attribute and by item."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ZODB.utils import z64

_METHODS = frozenset({"get", "items", "keys", "values"})


class Root:
    """The database's root: ``root.name``, ``root['name']``, ``root()`` for the mapping itself.

    An entry whose name is a method's (``keys``, ``values``, ``items``, ``get``)
    or no identifier is reached by item. Showing a root loads the root's own
    record and no other.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Any) -> None:
        object.__setattr__(self, "_connection", connection)

    def __call__(self) -> Any:
        """Return the root object itself (mostly a PersistentMapping)."""
        return self._connection.get(z64)

    def __getattr__(self, name: str) -> Any:
        mapping = self()
        try:
            return mapping[name]
        except (KeyError, TypeError):
            if not name.startswith("_") and hasattr(type(mapping), name):
                return getattr(mapping, name)
            raise AttributeError(f"the root has no entry {name!r}", name=name, obj=self) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _METHODS:
            raise AttributeError(f"root.{name} is a method: write root[{name!r}] for an entry of that name")
        self()[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self()[name]
        except KeyError:
            raise AttributeError(f"the root has no entry {name!r}", name=name, obj=self) from None

    def __getitem__(self, key: Any) -> Any:
        return self()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self()[key] = value

    def __delitem__(self, key: Any) -> None:
        del self()[key]

    def __contains__(self, key: object) -> bool:
        return key in self()

    def __iter__(self) -> Iterator[Any]:
        return iter(self())

    def __len__(self) -> int:
        return len(self())

    def __eq__(self, other: object) -> bool:
        return bool(self() == (other() if isinstance(other, Root) else other))

    __hash__ = None  # type: ignore[assignment]

    def __dir__(self) -> list[str]:
        names = [key for key in self() if isinstance(key, str) and key.isidentifier()]
        return sorted({*names, *_METHODS})

    def __repr__(self) -> str:
        names = sorted(key if isinstance(key, str) else repr(key) for key in self())
        shown = ", ".join(names[:20]) + (f", ... ({len(names)} in all)" if len(names) > 20 else "")
        return f"<root: {shown}>" if names else "<root: empty>"

    def get(self, key: Any, default: Any = None) -> Any:
        return self().get(key, default)

    def keys(self) -> Any:
        return self().keys()

    def values(self) -> Any:
        return self().values()

    def items(self) -> Any:
        return self().items()
