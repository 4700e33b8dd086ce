"""The instructions of pickle protocols 0 to 5, and how their arguments are read.

Source: CPython's ``pickletools`` and zodbpickle, whose protocol 3 is the same
set. Readers take the record, the position of the instruction and the limits,
and return the argument with the position after it; they raise RecordError with
the position of the instruction.
"""

# ruff: noqa: ARG001, ARG005 -- readers stand in a table, so all have one signature.
from __future__ import annotations

import codecs
import re
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from zodbsh.record.limits import Limits, RecordError
from zodbsh.record.values import Global

Argument: TypeAlias = bool | int | float | str | bytes | Global | None
Reader: TypeAlias = Callable[[bytes, int, Limits], tuple[Argument, int]]

MAX_INDEX = 2**32 - 1
"""The largest memo index: what LONG_BINPUT can say."""

_DECIMAL = re.compile(rb"[+-]?[0-9]+")
_FLOAT = re.compile(rb"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf|nan|infinity)", re.IGNORECASE)
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.?)", re.DOTALL)
_ESCAPES = {
    b"\n": b"", b"\\": b"\\", b"'": b"'", b'"': b'"', b"a": b"\a", b"b": b"\b",
    b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v",
}  # fmt: skip
_CACHED_NAME = 256


class Opcode(NamedTuple):
    """One instruction: its byte, its name, how its argument is read."""

    code: int
    name: str
    read: Reader


def line(data: bytes, position: int) -> tuple[bytes, int]:
    """Return the instruction's first argument line, without its end, and the position after it."""
    end = data.find(b"\n", position + 1)
    if end < 0:
        raise RecordError(position, "the line of its argument has no end")
    return data[position + 1 : end], end + 1


def counted(data: bytes, position: int, start: int, size: int) -> tuple[bytes, int]:
    """Return ``size`` bytes from ``start``, never past the record's end, and the position after them."""
    if size < 0:
        raise RecordError(position, f"a negative length, {size}")
    end = start + size
    if end > len(data):
        raise RecordError(position, f"a length of {size} bytes, but {max(0, len(data) - start)} are left")
    return data[start:end], end


def text_or_bytes(raw: bytes) -> str | bytes:
    """Return Python 2's ``str`` as text where it is UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


@lru_cache(maxsize=4096)
def _cached_global(raw: bytes) -> Global:
    module, name = raw.split(b"\n")
    return Global(module.decode(), name.decode())


def read_global(data: bytes, position: int, limits: Limits) -> tuple[Global, int]:
    """Return the class or function that two lines name."""
    middle = data.find(b"\n", position + 1)
    end = data.find(b"\n", middle + 1) if middle >= 0 else -1
    if end < 0:
        raise RecordError(position, "the lines of its name have no end")
    raw = data[position + 1 : end]
    try:
        # The names of a database are few and come again in each record; hostile ones are not kept.
        named = _cached_global(raw) if len(raw) <= _CACHED_NAME else _cached_global.__wrapped__(raw)
    except UnicodeDecodeError:
        raise RecordError(position, "a name that is not UTF-8") from None
    return named, end + 1


def read_string_line(data: bytes, position: int) -> tuple[bytes, int]:
    """Return the bytes that a quoted line (STRING) stands for."""
    raw, end = line(data, position)
    if len(raw) < 2 or raw[:1] != raw[-1:] or raw[0] not in b"'\"":
        raise RecordError(position, "a string without its quotes")
    return unescape(raw[1:-1], position), end


def unescape(raw: bytes, position: int) -> bytes:
    """Return what the escapes of Python 2's ``repr`` of a string (``\\n``, ``\\x00``) stand for."""
    if b"\\" not in raw:
        return raw

    def replace(match: re.Match[bytes]) -> bytes:
        escape: bytes = match[1]
        if escape[:1] == b"x":
            if len(escape) != 3:
                raise RecordError(position, "a string with a broken escape")
            return bytes((int(escape[1:], 16),))
        if not escape:
            raise RecordError(position, "a string that ends inside an escape")
        if escape[:1] in b"01234567":
            return bytes((int(escape, 8) & 0xFF,))
        # An escape that Python does not know keeps its backslash.
        return _ESCAPES.get(escape, match[0])

    return _ESCAPE.sub(replace, raw)


def read_index(data: bytes, position: int, limits: Limits) -> tuple[int, int]:
    """Return the memo index of a text line (GET, PUT)."""
    raw, end = line(data, position)
    if not raw.isdigit() or len(raw) > 20 or int(raw) > MAX_INDEX:
        raise RecordError(position, "a memo index that is no number below 2**32")
    return int(raw), end


def _none(data: bytes, position: int, limits: Limits) -> tuple[None, int]:
    return None, position + 1


def _fixed(code: str) -> Reader:
    layout = struct.Struct(code)
    unpack = layout.unpack_from
    size = layout.size

    def read(data: bytes, position: int, limits: Limits) -> tuple[Argument, int]:
        end = position + 1 + size
        if end > len(data):
            raise RecordError(position, "the record ends inside its argument")
        number: int | float = unpack(data, position + 1)[0]
        return number, end

    return read


def _blob(code: str) -> Callable[[bytes, int], tuple[bytes, int]]:
    layout = struct.Struct(code)
    unpack = layout.unpack_from
    size = layout.size

    def read(data: bytes, position: int) -> tuple[bytes, int]:
        start = position + 1 + size
        if start > len(data):
            raise RecordError(position, "the record ends inside its argument")
        return counted(data, position, start, unpack(data, position + 1)[0])

    return read


def _bytes(code: str) -> Reader:
    blob = _blob(code)
    return lambda data, position, limits: blob(data, position)


def _string(code: str) -> Reader:
    blob = _blob(code)

    def read(data: bytes, position: int, limits: Limits) -> tuple[Argument, int]:
        raw, end = blob(data, position)
        return text_or_bytes(raw), end

    return read


def _text(code: str) -> Reader:
    blob = _blob(code)

    def read(data: bytes, position: int, limits: Limits) -> tuple[Argument, int]:
        raw, end = blob(data, position)
        try:
            return raw.decode("utf-8", "surrogatepass"), end
        except UnicodeDecodeError:
            raise RecordError(position, "a text that is not UTF-8") from None

    return read


def _number(code: str) -> Reader:
    blob = _blob(code)

    def read(data: bytes, position: int, limits: Limits) -> tuple[Argument, int]:
        raw, end = blob(data, position)
        # A decimal digit holds 3.3219 bits.
        if len(raw) > max(255, limits.digits * 3321 // 8000):
            raise RecordError(position, f"a number of {len(raw)} bytes; the limit is {limits.digits} digits")
        return int.from_bytes(raw, "little", signed=True), end

    return read


def _decimal(raw: bytes, position: int, limits: Limits) -> int:
    if len(raw) > limits.digits:
        raise RecordError(position, f"a number of {len(raw)} digits; the limit is {limits.digits}")
    if not _DECIMAL.fullmatch(raw):
        raise RecordError(position, "a number that is not decimal")
    try:
        return int(raw)
    except ValueError:  # Python's own limit on digits, where it is set lower than ours.
        raise RecordError(position, f"a number of {len(raw)} digits") from None


def _int_line(data: bytes, position: int, limits: Limits) -> tuple[Argument, int]:
    raw, end = line(data, position)
    if raw in (b"00", b"01"):  # How protocols 0 and 1 write False and True.
        return raw == b"01", end
    return _decimal(raw, position, limits), end


def _long_line(data: bytes, position: int, limits: Limits) -> tuple[Argument, int]:
    raw, end = line(data, position)
    return _decimal(raw.removesuffix(b"L"), position, limits), end


def _float_line(data: bytes, position: int, limits: Limits) -> tuple[Argument, int]:
    raw, end = line(data, position)
    if len(raw) > limits.digits or not _FLOAT.fullmatch(raw):
        raise RecordError(position, "a floating-point number that cannot be read")
    return float(raw), end


def _string_line(data: bytes, position: int, limits: Limits) -> tuple[Argument, int]:
    raw, end = read_string_line(data, position)
    return text_or_bytes(raw), end


def _text_line(data: bytes, position: int, limits: Limits) -> tuple[Argument, int]:
    raw, end = line(data, position)
    try:
        # Not raw.decode(): the first use of that codec's name imports it.
        return codecs.raw_unicode_escape_decode(raw)[0], end
    except UnicodeDecodeError:
        raise RecordError(position, "a text with a broken escape") from None


def _bytes_line(data: bytes, position: int, limits: Limits) -> tuple[Argument, int]:
    return line(data, position)


_TABLE: tuple[tuple[str, str, Reader], ...] = (
    # Numbers and constants.
    ("I", "INT", _int_line), ("J", "BININT", _fixed("<i")), ("K", "BININT1", _fixed("B")),
    ("M", "BININT2", _fixed("<H")), ("L", "LONG", _long_line), ("\x8a", "LONG1", _number("B")),
    ("\x8b", "LONG4", _number("<i")), ("F", "FLOAT", _float_line), ("G", "BINFLOAT", _fixed(">d")),
    ("N", "NONE", _none), ("\x88", "NEWTRUE", _none), ("\x89", "NEWFALSE", _none),
    # Strings: Python 2's, bytes, text.
    ("S", "STRING", _string_line), ("T", "BINSTRING", _string("<i")), ("U", "SHORT_BINSTRING", _string("B")),
    ("B", "BINBYTES", _bytes("<I")), ("C", "SHORT_BINBYTES", _bytes("B")), ("\x8e", "BINBYTES8", _bytes("<Q")),
    ("\x96", "BYTEARRAY8", _bytes("<Q")), ("V", "UNICODE", _text_line), ("\x8c", "SHORT_BINUNICODE", _text("B")),
    ("X", "BINUNICODE", _text("<I")), ("\x8d", "BINUNICODE8", _text("<Q")),
    # Containers.
    ("]", "EMPTY_LIST", _none), ("a", "APPEND", _none), ("e", "APPENDS", _none), ("l", "LIST", _none),
    (")", "EMPTY_TUPLE", _none), ("t", "TUPLE", _none), ("\x85", "TUPLE1", _none), ("\x86", "TUPLE2", _none),
    ("\x87", "TUPLE3", _none), ("}", "EMPTY_DICT", _none), ("d", "DICT", _none), ("s", "SETITEM", _none),
    ("u", "SETITEMS", _none), ("\x8f", "EMPTY_SET", _none), ("\x90", "ADDITEMS", _none),
    ("\x91", "FROZENSET", _none),
    # The stack and the memo.
    ("0", "POP", _none), ("2", "DUP", _none), ("(", "MARK", _none), ("1", "POP_MARK", _none),
    ("g", "GET", read_index), ("h", "BINGET", _fixed("B")), ("j", "LONG_BINGET", _fixed("<I")),
    ("p", "PUT", read_index), ("q", "BINPUT", _fixed("B")), ("r", "LONG_BINPUT", _fixed("<I")),
    ("\x94", "MEMOIZE", _none),
    # Classes and objects.
    ("c", "GLOBAL", read_global), ("\x93", "STACK_GLOBAL", _none), ("\x82", "EXT1", _fixed("B")),
    ("\x83", "EXT2", _fixed("<H")), ("\x84", "EXT4", _fixed("<i")), ("R", "REDUCE", _none),
    ("b", "BUILD", _none), ("i", "INST", read_global), ("o", "OBJ", _none), ("\x81", "NEWOBJ", _none),
    ("\x92", "NEWOBJ_EX", _none),
    # Persistent references.
    ("P", "PERSID", _bytes_line), ("Q", "BINPERSID", _none),
    # The machine.
    ("\x80", "PROTO", _fixed("B")), (".", "STOP", _none), ("\x95", "FRAME", _fixed("<Q")),
    ("\x97", "NEXT_BUFFER", _none), ("\x98", "READONLY_BUFFER", _none),
)  # fmt: skip

OPCODES: dict[int, Opcode] = {ord(char): Opcode(ord(char), name, read) for char, name, read in _TABLE}
"""Every instruction by its byte."""


def opcode_name(code: int) -> str:
    """Return an instruction's name; ``byte 0x..`` where there is none."""
    opcode = OPCODES.get(code)
    return opcode.name if opcode else f"byte 0x{code:02x}"
