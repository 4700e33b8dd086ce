"""Records at random: every protocol, every form of reference and of class, and what damage makes of them."""

from __future__ import annotations

import copyreg
import datetime as dt
import decimal
import pickle
import random
import uuid
from collections import Counter, OrderedDict, defaultdict
from io import BytesIO

from zodbpickle import binary
from zodbpickle import pickle as zodbpickle


class Reference:
    """Stands for a persistent object: pickled as a reference of some form."""

    def __init__(self, form):
        self.form = form


class Plain:
    """An object inside a record."""


class WithArguments:
    """An object inside a record that is made with arguments."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs):
        self.args = args

    def __reduce_ex__(self, protocol):
        return copyreg.__newobj__, (WithArguments, *self.args), {"args": self.args}


CLASSES = [Plain, WithArguments, dict, OrderedDict, uuid.UUID, ("module.of.old", "Class"), ("", ""), ("säule", "Ü")]


def records(seed, count, *, damage=0.3):
    """Yield so many records; a share of them is damaged."""
    rand = random.Random(seed)
    maker = _Maker(rand)
    for _ in range(count):
        data = maker.record()
        while rand.random() < damage:
            data = damaged(rand, data)
        yield data


def damaged(rand, data):
    """Return a record with a few bytes changed, taken away, put in, or cut off."""
    if not data:
        return data
    place = rand.randrange(len(data))
    kind = rand.randrange(5)
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[:place] + bytes((rand.randrange(256),)) + data[place + 1 :]
    if kind == 2:
        return data[:place] + bytes((data[place] ^ 1 << rand.randrange(8),)) + data[place + 1 :]
    if kind == 3:
        return data[:place] + data[place + rand.randrange(1, 9) :]
    # Instructions that do something with what is there.
    return (
        data[:place]
        + bytes(rand.choice(b"0123(()]}ateusbRQ.\x85\x86\x87\x90\x91\x81\x93\x94qh2") for _ in range(3))
        + data[place:]
    )


class _Maker:
    def __init__(self, rand):
        self.rand = rand

    def record(self):
        rand = self.rand
        if rand.random() < 0.005:
            return self._deep()
        protocol = rand.choice((0, 1, 1, 2, 3, 3, 3, 3, 4, 5))
        file = BytesIO()
        module = pickle if protocol > 3 or rand.random() < 0.1 else zodbpickle
        # The subclass only so that the method can be given; both picklers are written in C.
        pickler = type("Pickler", (module.Pickler,), {"persistent_id": self._persistent_id})(file, protocol)
        self.protocol = protocol
        pickler.dump(self._class())
        pickler.dump(self._state())
        return file.getvalue()

    def _deep(self):
        """Return containers in one another, about as deep as they may be: picklers cannot."""
        depth = self.rand.choice((100, 980, 990, 998, 999, 1_000, 1_001, 1_999, 2_000, 2_001))
        state = self.rand.choice(
            (b"]" * depth + b"a" * (depth - 1), b"N" + b"\x85" * depth, b"(" * depth + b"t" * depth)
        )
        return b"cmodule\nClass\nq\x00." + state + b"."

    def _persistent_id(self, *args):
        found = args[-1]
        return found.form() if isinstance(found, Reference) else None

    def _class(self):
        rand = self.rand
        class_ = rand.choice(CLASSES)
        if rand.random() < 0.2:
            return class_, rand.choice((None, (), (1, "x"), (self._reference(),), [1], 7))
        if rand.random() < 0.03:
            return self._reference()
        return class_ if isinstance(class_, type) else (class_, None)

    def _oid(self):
        rand = self.rand
        raw = rand.choice((rand.randrange(200), rand.getrandbits(62), rand.getrandbits(64))).to_bytes(8, "big")
        if self.protocol == 0:
            # A line of ASCII: the eight bytes as they are, or as Python 3 writes them.
            return rand.choice(("abcdefgh", "\x00" * 7 + "\x07", repr(raw), "abc"))
        return binary(raw) if rand.random() < 0.9 else rand.choice((raw, raw[:7], raw.decode("latin-1"), "abcdefgh"))

    def _reference(self):
        oid = self._oid()
        other = self.rand.choice(CLASSES)
        forms = (
            lambda: oid,
            lambda: oid,
            lambda: (oid, Plain),
            lambda: (oid, Plain),
            lambda: (oid, other),
            lambda: (oid, None),
            lambda: ["w", (oid,)],
            lambda: ["w", (oid, "other")],
            lambda: ["n", ("other", oid)],
            lambda: ["m", ("other", oid, Plain)],
            lambda: [oid],
            lambda: ["x", (oid,)],
            lambda: (oid, Plain, 1),
        )
        place = self.rand.randrange(len(forms) if self.rand.random() < 0.3 else 4)
        # Text persistent ids are lines: only strings can stand there.
        return Reference(forms[0] if self.protocol == 0 else forms[place])

    def _state(self):
        rand = self.rand
        self.shared = []
        kind = rand.randrange(12)
        if kind == 0:
            items = sorted(rand.sample(range(10_000), rand.randrange(1, 40)))
            content = tuple(part for item in items for part in (item, self._value(2)))
            return (content, self._reference()) if rand.random() < 0.5 else (content,)
        if kind == 1:
            children = [self._reference()]
            for number in range(rand.randrange(10)):
                children += [f"key {number}", self._reference()]
            return tuple(children), self._reference()
        if kind == 3 and rand.random() < 0.1:
            return [(number, {}) for number in range(1_500)]
        return {f"attribute {number}": self._value(4) for number in range(rand.randrange(8))}

    def _value(self, depth):
        rand = self.rand
        if self.shared and rand.random() < 0.1:
            return rand.choice(self.shared)
        kind = rand.randrange(22 if depth else 13)
        if kind < 13:
            return self._scalar(kind)
        below = [self._value(depth - 1) for _ in range(rand.randrange(5))]
        if kind < 15:
            made = below
        elif kind == 15:
            made = tuple(below)
        elif kind < 18:
            made = {f"key {number}": value for number, value in enumerate(below)}
        elif kind == 18:
            made = rand.choice((set, frozenset))(rand.sample(range(100), 3))
        elif kind == 19:
            made = rand.choice(
                (OrderedDict([("a", below)]), defaultdict(list, a=below), Counter("abca"), bytearray(b"abc"))
            )
        elif kind == 20:
            made = Plain()
            made.__dict__.update(below=below, self=made if rand.random() < 0.3 else None)
        else:
            made = WithArguments(*below)
        self.shared.append(made)
        return made

    def _scalar(self, kind):
        rand = self.rand
        number = rand.choice((rand.randrange(300), -rand.getrandbits(40), rand.getrandbits(90), 2**31, -1))
        return (
            None, rand.random() < 0.5, number, number, rand.random() * 10**6,
            "text " * rand.randrange(5), "ünïcode \u20ac \U0001f600", "line\nbreak \\ 'quoted'",
            b"bytes \xff\x00" * rand.randrange(4), binary(b"abcd\xfe"), self._reference(), self._reference(),
            rand.choice(
                (
                    dt.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC), dt.date(2020, 1, 2),
                    dt.timedelta(1, 2, 3), decimal.Decimal("1.50"), uuid.UUID(int=5), 1 + 2j, "\ud800",
                )
            ),
        )[kind]  # fmt: skip
