"""What a DATABASE argument names, found out without opening it and without ZODB.

A path, ``:memory:``, a URI that zodburi resolves, a ZConfig file (``zope.conf``
included, ``#name`` picks one of its databases), or a name from the
``[databases]`` table of the user's config file.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, replace
from typing import Literal

from zodbsh.errors import DatabaseNotFound, UsageError

MEMORY = ":memory:"
MAGICS = (b"FS21", b"FS30")

Kind = Literal["file", "memory", "uri", "zconfig"]

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:(//|\()")
_FILE_KEYS = frozenset({"create", "read_only", "blobstorage_dir", "blobstorage_layout"})
_HEAD = 4096
_SECTION = re.compile(rb"^[ \t]*(<[A-Za-z][\w.-]*(\s+[^\s()<>]+)?\s*/?>|%(define|import|include)\s)", re.MULTILINE)


@dataclass(frozen=True)
class Spec:
    """A database, named.

    ``text`` is what the user wrote. ``kind`` is ``file`` (a plain FileStorage:
    ``path``, and ``blob_dir`` where one is configured), ``memory``, ``uri``, or
    ``zconfig`` (``config`` is the text of its ``<zodb>`` section, to be handed
    to ZODB.config; ``path`` the file it comes from). ``others`` are the names of
    the further databases of a configuration, where the user has not picked one.
    """

    text: str
    kind: Kind
    path: str = ""
    blob_dir: str | None = None
    uri: str = ""
    config: str = ""
    name: str | None = None
    read_only: bool = False
    others: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """What tells this database from others: the same however it was written."""
        if self.kind == "uri":
            return self.uri
        if self.kind == "zconfig":
            return f"zconfig://{os.path.realpath(self.path)}#{self.name or ''}"
        return os.path.realpath(self.path) if self.kind == "file" else MEMORY


def parse_spec(text: str) -> Spec:
    """Find out what a DATABASE argument names.

    Raises DatabaseNotFound where there is nothing (near names are offered),
    UsageError (ConfigError) for a URI or a configuration that says nothing
    sensible, OSError where a file cannot be read.
    """
    if text == MEMORY:
        return Spec(text, "memory")
    if _URI.match(text):
        return _uri_spec(text)
    if os.path.lexists(text):
        return _path_spec(text, text, None)
    path, hash_, name = text.rpartition("#")
    if hash_ and os.path.isfile(path):
        return _path_spec(text, path, name)
    return _named_spec(text)


def is_address(text: str) -> bool:
    """Tell whether a text names a database by a URI, or the one in memory, rather than by a path."""
    return text == MEMORY or _URI.match(text) is not None


def config_path() -> str:
    """Return the path of the user's config file (it need not exist)."""
    from platformdirs import user_config_dir

    return os.path.join(user_config_dir("zodbsh", appauthor=False), "config.toml")


def named_databases() -> dict[str, str]:
    """Return the ``[databases]`` table of the user's config file; empty without one.

    Raises UsageError where the file is no TOML or the table holds no text.
    """
    import tomllib

    path = config_path()
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file).get("databases", {})
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path}: {exc}", hint='It is TOML: a [databases] table of name = "path or URI".') from exc
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise UsageError(f"{path}: [databases] must hold names with a path or a URI in quotes each")
    return table


def check_file(path: str) -> bytes:
    """Return the first bytes of a regular file, without waiting on a pipe or a device.

    Raises DatabaseNotFound for anything that is no regular file.
    """
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise DatabaseNotFound(f"{path}: no such file", hint=_near_hint(path)) from None
    if stat.S_ISDIR(status.st_mode):
        inside = os.path.join(path, "Data.fs")
        hint = f"There is {inside}." if os.path.isfile(inside) else DatabaseNotFound.hint
        raise DatabaseNotFound(f"{path}: is a folder, not a database", hint=hint)
    if not stat.S_ISREG(status.st_mode):
        raise DatabaseNotFound(f"{path}: is no regular file")
    with open(path, "rb") as file:
        return file.read(_HEAD)


def _path_spec(text: str, path: str, name: str | None) -> Spec:
    head = check_file(path)
    looks_like_config = head[:4] not in MAGICS and b"\0" not in head and _SECTION.search(head) is not None
    if not looks_like_config and name is None:
        return Spec(text, "file", path=path)
    return zconfig_spec(text, path, name)


def zconfig_spec(text: str, path: str, name: str | None) -> Spec:
    """Return the spec of a database that a ZConfig file describes; a plain FileStorage becomes a file."""
    from zodbsh.db.zconfig import for_zodb, read_config, section_text

    config = read_config(path)
    section = config.database(name or None)
    others = () if name else tuple(other.name for other in config.databases() if other is not section and other.name)
    for storage in section.walk():
        if storage.type == "filestorage":
            _resolve_path(storage.keys, path)
    spec = Spec(
        text,
        "zconfig",
        path=path,
        config=section_text(for_zodb(section), config.imports),
        name=section.name,
        others=others,
    )
    if len(section.sections) != 1:
        return spec
    storage, blob_dir = section.sections[0], None
    if storage.type == "blobstorage" and len(storage.sections) == 1:
        blob_dir, storage = storage.get("blob-dir"), storage.sections[0]
    known = {"path", "blob-dir", "create", "read-only", "pack-gc", "pack-keep-old"}
    data_file = storage.get("path")
    if storage.type != "filestorage" or data_file is None or not known.issuperset(key for key, _ in storage.keys):
        return spec
    check_file(data_file)
    read_only = (storage.get("read-only") or "").lower() in ("1", "true", "yes", "on")
    blob_dir = blob_dir or storage.get("blob-dir")
    return Spec(text, "file", path=data_file, blob_dir=blob_dir, name=section.name, read_only=read_only, others=others)


def _resolve_path(keys: list[tuple[str, str]], config: str) -> None:
    """Read a relative path from where the configuration stands, unless it exists from here."""
    for position, (key, value) in enumerate(keys):
        if key in ("path", "blob-dir") and not os.path.isabs(value) and not os.path.exists(value):
            keys[position] = (key, os.path.join(os.path.dirname(os.path.abspath(config)), value))


def _uri_spec(text: str) -> Spec:
    scheme, _, rest = text.partition("://")
    if scheme.lower() == "zconfig":
        path, _, name = rest.partition("#")
        path = path.partition("?")[0]
        check_file(path)
        return zconfig_spec(text, path, name or None)
    if scheme.lower() == "zeo" and not rest.partition("?")[0].strip("/"):
        raise UsageError(f"{text}: no server is named", hint="Write zeo://HOST:PORT, or zeo:///PATH for a socket.")
    if scheme.lower() != "file":
        return Spec(text, "uri", uri=text)
    path, _, query = rest.partition("?")
    from urllib.parse import parse_qsl

    options = dict(parse_qsl(query))
    if not _FILE_KEYS.issuperset(options):
        check_file(path)
        return Spec(text, "uri", uri=text)
    check_file(path)
    read_only = options.get("read_only", "").lower() in ("1", "true", "yes", "on")
    return Spec(text, "file", path=path, blob_dir=options.get("blobstorage_dir"), read_only=read_only)


def _named_spec(text: str) -> Spec:
    names = named_databases() if os.sep not in text else {}
    if text in names:
        meant = os.path.expanduser(names[text])
        if meant in names:
            raise UsageError(f"{config_path()}: {text} names {meant!r}, which is a name itself")
        return replace(parse_spec(meant), text=text)
    raise DatabaseNotFound(f"{text}: no such file", hint=_near_hint(text, names))


def _near_hint(text: str, names: dict[str, str] | None = None) -> str:
    from zodbsh.near import near_names

    folder, base = os.path.split(text)
    try:
        with os.scandir(folder or ".") as entries:
            files = {entry.name: os.path.join(folder, entry.name) for entry in entries if entry.is_file()}
    except OSError:
        return f"There is no folder {folder}." if folder and not os.path.isdir(folder) else DatabaseNotFound.hint
    sidecars = (".lock", ".tmp", ".index", ".old", ".stage")
    files = {name: path for name, path in files.items() if not name.endswith(sidecars)}
    # What names end with alike (.fs) says nothing of which is meant.
    ending = os.path.splitext(base)[1]
    stems = {name.removesuffix(ending): path for name, path in files.items()}
    near = [stems[stem] for stem in near_names(base.removesuffix(ending), stems, limit=2)]
    near += near_names(text, names or {}, limit=2)
    return f"Did you mean {' or '.join(near)}?" if near else DatabaseNotFound.hint
