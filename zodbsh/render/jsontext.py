"""JSON: an iterative encoder, and decoded values as zodb-json-codec's markers.

The encoder never recurses (a record may nest deeper than Python's stack) and
streams iterables. What the gate escapes for people is written as ``\\uXXXX``
here, so output on a terminal is safe and still exact. There is no NaN in JSON:
a float that is none of its numbers becomes ``{"@float": "NaN"}``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, NamedTuple, TextIO

from zodbsh.render.gate import UNSAFE

if TYPE_CHECKING:
    import re

    from zodbsh.record.values import Value

# Shared values are written out at each place; a few hundred bytes can ask for more than the world holds.
# A document may repeat so many parts beyond four times what its values hold.
_REPEATED = 1_000_000
_BLOCK = 1 << 16


class Marked(NamedTuple):
    """A decoded value on its way to JSON; the encoder expands it one level at a time."""

    value: Value


def value_json(value: Value) -> Marked:
    """Mark a decoded value for the encoder, which writes it with zodb-json-codec's markers."""
    return Marked(value)


def write_json(data: object, stream: TextIO) -> None:
    """Write one JSON document, indented by two, and a line feed."""
    _write(encode(data, indent=2), stream)


def write_ndjson(data: object, stream: TextIO) -> None:
    """Write a list's items one to a line; anything else is one line."""
    items = data if _is_array(data) else (data,)
    for item in items:  # type: ignore[attr-defined]
        _write(encode(item), stream)


def dumps(data: object, *, indent: int | None = None) -> str:
    """Return a JSON document as a string."""
    return "".join(encode(data, indent=indent))


def encode(data: object, *, indent: int | None = None) -> Iterator[str]:
    """Yield a document's JSON in pieces.

    ``data`` is made of None, bool, int, float, str, mappings with str keys,
    iterables, and ``value_json`` marks. A value that shared parts blow up beyond
    use is ``{"@large": N}``, N being the parts it would be written as.
    """
    return _Encoder(indent).pieces(data)


def string(text: str) -> str:
    """Return a JSON string of ASCII-safe structure: unsafe characters as escapes, all others as they are."""
    encoded = encode_basestring(text)
    return encoded if text.isprintable() else UNSAFE.sub(_unicode_escape, encoded)


def _unicode_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 | code >> 10:04x}\\u{0xDC00 | code & 0x3FF:04x}"


class _Level:
    """An open array or object: what is still to be written of it, and which value it stands for."""

    __slots__ = ("close", "empty", "identity", "members")

    def __init__(self, members: Iterator[tuple[str, object]], close: str, identity: int) -> None:
        self.members = members
        self.close = close
        self.identity = identity
        self.empty = True


class _Encoder:
    def __init__(self, indent: int | None) -> None:
        self._indent = indent
        self._repeated = 0
        self._open: dict[int, int] = {}

    def pieces(self, data: object) -> Iterator[str]:
        levels: list[_Level] = []
        text = self._begin(data, levels)
        yield text
        while levels:
            level = levels[-1]
            member = next(level.members, None)
            if member is None:
                levels.pop()
                self._open.pop(level.identity, None)
                yield level.close if level.empty else self._newline(len(levels)) + level.close
                continue
            key, value = member
            separator = "" if level.empty else "," if self._indent else ", "
            level.empty = False
            yield separator + self._newline(len(levels)) + key + self._begin(value, levels)
        yield "\n" if self._indent else ""

    def _newline(self, depth: int) -> str:
        return "\n" + " " * (self._indent * depth) if self._indent else ""

    def _begin(self, data: object, levels: list[_Level]) -> str:
        """Return a scalar's text, or open a level and return its bracket."""
        identity = 0
        if isinstance(data, Marked):
            value = data.value
            identity = id(value)
            # The parts of a value are measured with it.
            if not self._open and (parts := self._too_large(value)):
                return f'{{"@large": {parts}}}'
            if identity in self._open:
                return f'{{"@cycle": {len(levels) - self._open[identity]}}}'
            from zodbsh.render.markers import expand

            data = expand(value)
        scalar = _scalar(data)
        if scalar is not None:
            return scalar
        if identity:
            self._open[identity] = len(levels)
        if isinstance(data, Mapping):
            members = ((f"{string(str(key))}: ", value) for key, value in data.items())
            levels.append(_Level(members, "}", identity))
            return "{"
        if isinstance(data, Iterable):
            levels.append(_Level((("", value) for value in data), "]", identity))
            return "["
        raise TypeError(f"no JSON for {type(data).__name__}")

    def _too_large(self, value: Value) -> int:
        """Return the number of parts of a value that must not be written out, 0 for any other."""
        from zodbsh.record.walk import unfolded

        parts, held = unfolded(value)
        repeated = max(0, parts - 4 * held)
        if self._repeated + repeated > _REPEATED:
            return parts
        self._repeated += repeated
        return 0


def _scalar(data: object) -> str | None:
    if data is None:
        return "null"
    if data is True:
        return "true"
    if data is False:
        return "false"
    if isinstance(data, str):
        return string(data)
    if isinstance(data, int):
        return int.__repr__(data)
    if isinstance(data, float):
        return _float(data)
    return None


def _float(number: float) -> str:
    if number != number:
        return '{"@float": "NaN"}'
    if number in (float("inf"), float("-inf")):
        return f'{{"@float": "{"" if number > 0 else "-"}Infinity"}}'
    return float.__repr__(number)


def _is_array(data: object) -> bool:
    return isinstance(data, Iterable) and not isinstance(data, (str, Mapping, Marked))


def _write(pieces: Iterator[str], stream: TextIO) -> None:
    block: list[str] = []
    size = 0
    for piece in pieces:
        block.append(piece)
        size += len(piece)
        if size >= _BLOCK:
            stream.write("".join(block))
            block.clear()
            size = 0
    text = "".join(block)
    stream.write(text if text.endswith("\n") else text + "\n")
