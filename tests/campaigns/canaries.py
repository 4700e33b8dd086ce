"""Databases that would run code in whoever loads a pickle of theirs. Each payload makes the file CANARY, if it runs."""

import pickle
import struct
import subprocess

CANARY = "canary-sang"
COMMAND = f"touch {CANARY}"
STATE = b"}."
CLASS = b"cpersistent.mapping\nPersistentMapping\nq\x01."


class _Calls:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class _Builds:
    """Calls through a state setter: the sixth item of what __reduce__ gives."""

    def __reduce__(self):
        return (list, (), None, iter([_Calls(eval, f"__import__('os').system({COMMAND!r})")]))


def payloads():
    """Yield a name and a pickle that runs code, in every protocol and by every opcode that calls."""
    import os

    objects = {
        "os.system": _Calls(os.system, COMMAND),
        "subprocess": _Calls(subprocess.call, ["touch", CANARY]),
        "eval": _Calls(eval, f"__import__('os').system({COMMAND!r})"),
        "open": _Calls(open, CANARY, "w"),
        "in a list": _Builds(),
    }
    for name, value in objects.items():
        for protocol in range(6):
            yield f"{name}, protocol {protocol}", pickle.dumps(value, protocol)
    text = COMMAND.encode()
    short = b"U" + bytes([len(text)]) + text
    yield "INST", b"(S'" + text + b"'\nios\nsystem\n."
    yield "OBJ", b"(cos\nsystem\n" + short + b"o."
    yield "NEWOBJ", b"\x80\x02ccanary_module\nThing\n" + short + b"\x85\x81."
    yield "NEWOBJ_EX", b"\x80\x04ccanary_module\nThing\n" + short + b"\x85}\x92."
    yield "BUILD", b"\x80\x02ccanary_module\nThing\n)\x81}U\x01xK\x01sb."
    yield "BUILD of a module", b"\x80\x02cos\nenviron\n}U\x01xU\x01ysb."
    yield "STACK_GLOBAL", b"\x80\x04\x8c\x02os\x8c\x06system\x93" + short + b"\x85R."
    yield "EXT1", b"\x80\x02\x82\x01" + short + b"\x85R."
    yield "EXT4", b"\x80\x02\x84\x01\x00\x00\x00."
    yield "GLOBAL alone", b"ccanary_module\nThing\n."
    yield "getattr", b"c__builtin__\ngetattr\n(cos\n__dict__\nU\x06systemtR" + short + b"\x85R."
    yield "reconstructor", b"ccopy_reg\n_reconstructor\n(ccanary_module\nThing\nc__builtin__\nobject\nNtR."
    yield "NEXT_BUFFER", b"\x80\x05\x97" + short + b"."
    yield "a frame", b"\x80\x04\x95\x40\x00\x00\x00\x00\x00\x00\x00cos\nsystem\n" + short + b"\x85R."


def open_end(payload):
    """Return a pickle without its STOP, to be followed by more."""
    return payload[:-1]


def build(records, *, extension=b"", user=b"user", note=b"note"):
    """Return the bytes of a Data.fs with one transaction of these records."""
    tid, header = 0x03F0000000000001, 23 + len(user) + len(note) + len(extension)
    body = b"".join(
        struct.pack(">QQQQHQ", oid, tid, 0, 4, 0, len(data)) + data for oid, data in sorted(records.items())
    )
    length = header + len(body)
    return (
        b"FS30" + struct.pack(">QQcHHH", tid, length, b" ", len(user), len(note), len(extension))
        + user + note + extension + body + struct.pack(">Q", length)
    )  # fmt: skip


ROOT = CLASS + b"}q\x02U\x04dataq\x03}q\x04U\x01aq\x05(U\x08" + (1).to_bytes(8, "big") + b"capp\nThing\ntQss."
CHILD = b"capp\nThing\n." + STATE


def place_class(payload, path):
    """In the class part of a record."""
    path.write_bytes(build({0: ROOT, 1: payload + STATE}))


def place_state(payload, path):
    """In the state of a record."""
    path.write_bytes(build({0: ROOT, 1: CLASS + payload}))


def place_root(payload, path):
    """In the root's mapping."""
    inside = open_end(payload)
    path.write_bytes(build({0: CLASS + b"}U\x04data}U\x01a" + inside + b"ss.", 1: CHILD}))


def place_reference(payload, path):
    """As a persistent id."""
    path.write_bytes(build({0: ROOT, 1: CLASS + b"}U\x01x" + open_end(payload) + b"Qs."}))


def place_reference_class(payload, path):
    """As the class that a reference tells."""
    oid = b"(U\x08" + (1).to_bytes(8, "big")
    path.write_bytes(build({0: ROOT, 1: CLASS + b"}U\x01x" + oid + open_end(payload) + b"tQs."}))


def place_extension(payload, path):
    """In a transaction's extension."""
    path.write_bytes(build({0: ROOT, 1: CHILD}, extension=payload[:65535]))


def place_index(payload, path):
    """In the saved index: its first pickle, and where a bucket goes."""
    path.write_bytes(build({0: ROOT, 1: CHILD}))
    path.with_name(path.name + ".index").write_bytes(payload + pickle.dumps(None, 1))


def place_index_bucket(payload, path):
    """In the saved index, in place of a bucket."""
    path.write_bytes(build({0: ROOT, 1: CHILD}))
    size = path.stat().st_size
    path.with_name(path.name + ".index").write_bytes(
        pickle.dumps(size, 1) + b"(U\x06\0\0\0\0\0\0" + open_end(payload) + b"t." + pickle.dumps(None, 1)
    )


def place_stage(payload, path):
    """As the stage's file."""
    path.write_bytes(build({0: ROOT, 1: CHILD}))
    path.with_name(path.name + ".stage").write_bytes(payload)


def place_staged_record(payload, path):
    """In a record of a sound stage."""
    from zodbsh.db.changes import Entry
    from zodbsh.stage.format import encode
    from zodbsh.stage.model import Stage, new_id

    path.write_bytes(build({0: ROOT, 1: CHILD}))
    tid = 0x03F0000000000001
    stage = Stage(entries=(Entry(1, tid, CLASS + payload),), base_tid=tid, id=new_id(), created=tid)
    path.with_name(path.name + ".stage").write_bytes(encode(stage, {}))


def place_manifest(payload, path):
    """As the manifest that verify compares with."""
    path.write_bytes(build({0: ROOT, 1: CHILD}))
    path.with_name("manifest").write_bytes(payload)


def place_names(payload, path):
    """In the names and notes of a transaction, and the names of blob files."""
    name = f"$({COMMAND});`{COMMAND}`\x1b]0;x\x07\u202e"
    blob = b"cZODB.blob\nBlob\n.N."
    path.write_bytes(build({0: ROOT, 1: CHILD, 2: blob}, user=name.encode(), note=payload[:65535]))
    folder = path.with_name(path.name + ".blobs")
    for part in ("0x00",) * 7 + ("0x02",):
        folder /= part
    folder.mkdir(parents=True)
    (path.with_name(path.name + ".blobs") / ".layout").write_text("bushy")
    for text in ("0x03f0000000000001.blob", f"0x03f0{name}.blob", name.replace("/", "_")):
        (folder / text).write_bytes(payload)


PLACES = [value for name, value in sorted(globals().items()) if name.startswith("place_")]
