"""What a record decodes to: inert values.

Nothing here runs, imports or calls anything that a record names. Python's own
immutable scalars and plain containers stand for themselves:

    None, bool, int, float, complex, str, bytes   scalars
    list, tuple                                   sequences (a list may hold itself)
    datetime, date, time, timedelta, Decimal, UUID  rebuilt by us from checked fields

Everything else is one of the classes below. A Python 2 ``str`` is a ``str``
where its bytes are UTF-8 and ``bytes`` otherwise.
"""

from __future__ import annotations

from datetime import date, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator


class Global(NamedTuple):
    """A class or function, by name only."""

    module: str
    name: str

    @property
    def dotted(self) -> str:
        """``module.name``, or just the name where a record gives no module."""
        return f"{self.module}.{self.name}" if self.module else self.name


class Ref(NamedTuple):
    """A persistent reference.

    ``class_`` is what the reference itself says of its target's class, None
    where it says nothing. ``database`` is set for a reference into another
    database. ``offset`` is the position of the oid's 8 bytes in the record,
    None where they do not stand there verbatim (protocol 0).
    """

    oid: int
    class_: Global | Ref | None = None
    database: str | None = None
    weak: bool = False
    offset: int | None = None


class Dict:
    """A dict, as pairs in order; keys are values and need not be hashable.

    ``class_`` names a subclass with a dict's content (OrderedDict,
    defaultdict, Counter); None is a plain dict. Of such a subclass, ``args``
    are the arguments that are not content (a defaultdict's factory), ``state``
    its attributes, None mostly.
    """

    __slots__ = ("args", "class_", "pairs", "state")

    def __init__(
        self,
        pairs: list[tuple[Value, Value]] | None = None,
        class_: Global | None = None,
        args: tuple[Value, ...] = (),
    ) -> None:
        self.pairs: list[tuple[Value, Value]] = [] if pairs is None else pairs
        self.class_ = class_
        self.args = args
        self.state: Value = None

    def __len__(self) -> int:
        return len(self.pairs)

    def __iter__(self) -> Iterator[Value]:
        return (key for key, _ in self.pairs)

    def get(self, key: str | int | bytes, default: Value = None) -> Value:
        """Return the value under a scalar key (the last one wins, as in a dict)."""
        for other, value in reversed(self.pairs):
            if type(other) is type(key) and other == key:
                return value
        return default

    def __contains__(self, key: object) -> bool:
        return any(type(other) is type(key) and other == key for other, _ in self.pairs)

    def __repr__(self) -> str:
        return f"<Dict of {len(self.pairs)}>"


class Set:
    """A set or a frozenset, as items in the order the record has them."""

    __slots__ = ("frozen", "items")

    def __init__(self, items: list[Value] | None = None, *, frozen: bool = False) -> None:
        self.items: list[Value] = [] if items is None else items
        self.frozen = frozen

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"<{'FrozenSet' if self.frozen else 'Set'} of {len(self.items)}>"


class Instance:
    """An object that the record builds: class, arguments, state.

    ``class_`` is what was called to make it (a class, or any function), ``args``
    its arguments, ``state`` what BUILD gave it (``HasState`` tells None from no
    state at all), ``items`` what was appended to it, ``pairs`` what was set by key.
    """

    __slots__ = ("args", "class_", "has_state", "items", "kwargs", "pairs", "state")

    def __init__(self, class_: Value, args: tuple[Value, ...] = (), kwargs: Dict | None = None) -> None:
        self.class_ = class_
        self.args = args
        self.kwargs = kwargs
        self.state: Value = None
        self.has_state = False
        self.items: list[Value] = []
        self.pairs: list[tuple[Value, Value]] = []

    def __repr__(self) -> str:
        name = self.class_.dotted if isinstance(self.class_, Global) else "?"
        return f"<Instance of {name}>"


Value: TypeAlias = (
    bool | int | float | complex | str | bytes | list["Value"] | tuple["Value", ...]
    | date | time | timedelta | Decimal | UUID | Global | Ref | Dict | Set | Instance | None
)  # fmt: skip


class Record(NamedTuple):
    """One object's decoded record.

    ``class_`` names the object's class; a Ref where the class is itself a
    persistent object. ``class_args`` are the arguments of ``__getnewargs__``
    (empty mostly). ``references`` lists every reference in the order of the
    record's bytes, each occurrence once; the same object may come twice.
    """

    class_: Global | Ref
    class_args: Value
    state: Value
    references: tuple[Ref, ...]
