"""Loading what Python 2 stored into a live session.

ZODB's reader takes every Python 2 ``str`` for ASCII and stops at the first that
is not: an oid from 0x80 on, a datetime, a name with an accent. Here such a
string is text where its bytes are UTF-8 and bytes otherwise, as the decoder
shows it, and what needs the bytes gets them back.
"""

from __future__ import annotations

import datetime as dt
from io import BytesIO
from typing import Any

from ZODB.serialize import ObjectReader
from zodbpickle.pickle import Unpickler

from zodbsh.db.standins import ClassFinder

_DATETIMES = {"datetime": dt.datetime, "date": dt.date, "time": dt.time}


class Python2Reader(ObjectReader):  # type: ignore[misc]
    """An ObjectReader for the records of a FileStorage that Python 2 wrote."""

    def load_persistent(self, oid: Any, klass: Any) -> Any:
        """Return the object a reference with a class leads to."""
        return super().load_persistent(_raw(oid), klass)

    def load_oid(self, oid: Any) -> Any:
        """Return the object a bare oid leads to."""
        return super().load_oid(_raw(oid))

    def load_persistent_weakref(self, oid: Any, database_name: str | None = None) -> Any:
        """Return a weak reference."""
        return super().load_persistent_weakref(_raw(oid), database_name)

    loaders = {**ObjectReader.loaders, "w": load_persistent_weakref}  # noqa: RUF012 - ZODB's own table, one entry changed

    def called(self, module: str, name: str, function: Any) -> Any:
        """Return what a record calls under this name."""
        return _Called(self._conn._db.finder, module, name, function)

    def _get_unpickler(self, pickle: bytes) -> Any:
        return _Unpickler(self, pickle)


class _Unpickler(Unpickler):  # type: ignore[misc]
    def __init__(self, reader: Python2Reader, pickle: bytes) -> None:
        super().__init__(BytesIO(pickle), encoding="utf-8", errors="bytes")
        self._reader = reader

    def find_class(self, module: str, name: str) -> Any:
        if module == "datetime" and name in _DATETIMES:
            return self._reader.called(module, name, _DATETIMES[name])
        found = self._reader._get_class(module, name)
        return found if isinstance(found, type) else self._reader.called(module, name, found)

    def persistent_load(self, reference: Any) -> Any:
        return self._reader._persistent_load(reference)


class _Called:
    """A function, or a class of datetime, that a record calls; what it refuses is shown as a stand-in.

    Such a call may fail on Python 3, or on a stand-in among its arguments
    (patterns with old flags, interfaces and time zones that are not installed).
    That is no reason to hide the rest of the object.
    """

    def __init__(self, finder: ClassFinder, module: str, name: str, function: Any) -> None:
        self._finder, self._module, self._name, self._function = finder, module, name, function

    def __call__(self, *args: Any) -> Any:
        # The state of a datetime is bytes that may have been taken for text.
        stored = self._module == "datetime"
        try:
            return self._function(*(_raw(arg) for arg in args)) if stored else self._function(*args)
        except Exception as exc:  # noqa: BLE001 - any code may be behind the name
            return self._finder.stand_in(self._module, self._name, f"{type(exc).__name__}: {exc}")(*args)

    def __repr__(self) -> str:
        return f"<function {self._module}.{self._name}>"


def _raw(value: Any) -> Any:
    return value.encode("utf-8") if isinstance(value, str) else value
