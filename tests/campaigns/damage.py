"""Random damage to a file, with the place that every byte of the result came from."""

from __future__ import annotations

import struct
from typing import NamedTuple


class Piece(NamedTuple):
    """Bytes of the damaged file: from ``source`` in the sound one, None where they are new."""

    source: int | None
    data: bytes


def damage(made, dice, times):
    """Damage a file; return its bytes, and for each byte where it came from (-1: it is new)."""
    data = bytearray(made.data)
    origin = list(range(len(data)))
    names = []
    for _ in range(times):
        if len(data) < 2:
            break
        kind = dice.choice(KINDS)
        names.append(kind.__name__)
        kind(data, origin, made, dice)
    return bytes(data), origin, names


def _put(data, origin, at, raw):
    raw = raw[: max(0, len(data) - at)]
    for number, byte in enumerate(raw):
        if data[at + number] != byte:
            data[at + number] = byte
            origin[at + number] = -1


def flip(data, origin, made, dice):
    at = dice.randrange(len(data))
    _put(data, origin, at, bytes((data[at] ^ 1 << dice.randrange(8),)))


def header_field(data, origin, made, dice):
    start = dice.choice(list(made.transactions))
    at, size = dice.choice(((0, 8), (8, 8), (16, 1), (17, 2), (19, 2), (21, 2)))
    _put(data, origin, start + at, _odd(dice, size))


def record_field(data, origin, made, dice):
    start = dice.choice(list(made.records))
    at, size = dice.choice(((8, 8), (16, 8), (24, 8), (32, 2), (34, 8), (42, 8)))
    _put(data, origin, start + at, _odd(dice, size))


def oid(data, origin, made, dice):
    """Give a record the oid of another, or one of nobody."""
    start, other = dice.choice(list(made.records)), dice.choice(list(made.records))
    raw = struct.pack(">Q", made.records[other].oid)
    _put(data, origin, start, dice.choice((raw, raw, dice.randbytes(8))))


def ending(data, origin, made, dice):
    _, _, end = made.transactions[dice.choice(list(made.transactions))]
    _put(data, origin, end - 8, _odd(dice, 8))


def _odd(dice, size):
    if size < 8:
        return dice.randbytes(size)
    number = dice.choice((0, 1, 2**63, 2**64 - 1, 2**64 - 50, dice.getrandbits(64), dice.getrandbits(20)))
    return struct.pack(">Q", number)


def zeros(data, origin, made, dice):
    size = dice.choice((16, 64, 512, 4096))
    at = dice.randrange(len(data)) // 16 * 16
    _put(data, origin, at, bytes(size))


def noise(data, origin, made, dice):
    _put(data, origin, dice.randrange(len(data)), dice.randbytes(dice.choice((1, 8, 60, 600))))


def cut(data, origin, made, dice):
    at = dice.randrange(len(data))
    size = dice.choice((1, 7, 100, 1000, 5000))
    del data[at : at + size], origin[at : at + size]


def insert(data, origin, made, dice):
    at = dice.randrange(len(data))
    size = dice.choice((1, 7, 100, 1000))
    raw = bytes(size) if dice.random() < 0.3 else dice.randbytes(size)
    data[at:at] = raw
    origin[at:at] = [-1] * size


def double(data, origin, made, dice):
    at = dice.randrange(len(data))
    end = min(len(data), at + dice.choice((30, 300, 3000)))
    data[end:end] = data[at:end]
    # The second copy is no better than noise: what is undamaged is there once already.
    origin[end:end] = [-1] * (end - at)


def overwrite(data, origin, made, dice):
    size = dice.choice((100, 512, 4096))
    source, at = dice.randrange(len(data)), dice.randrange(len(data))
    _put(data, origin, at, bytes(data[source : source + size]))


def truncate(data, origin, made, dice):
    at = dice.randrange(len(data))
    del data[at:], origin[at:]


def append(data, origin, made, dice):
    raw = dice.choice((bytes(500), dice.randbytes(500), bytes(data[: len(data) // 2])))
    data += raw
    origin += [-1] * len(raw)


KINDS = (
    flip, flip, header_field, header_field, record_field, record_field, oid, ending, zeros, noise, cut, insert, double,
    overwrite, truncate, append,
)  # fmt: skip


def untouched(made, origin):
    """Return the positions of the records of which every byte is still there, in one piece and unchanged."""
    places = {source: at for at, source in enumerate(origin) if source >= 0}
    found = []
    for start, record in made.records.items():
        at = places.get(start)
        if at is None or at + record.end - start > len(origin):
            continue
        if origin[at : at + record.end - start] == list(range(start, record.end)):
            found.append(start)
    return found
