"""ZConfig files as trees of sections, read without any schema.

A zope.conf holds directives that only Zope's schema knows. The sections that
describe databases are ZODB's, so they are picked out (with ``%define`` expanded
and ``%include`` followed) and handed to ZODB.config as a text of their own.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from zodbsh.errors import UsageError

DATABASE_TYPES = ("zodb", "zodb_db")
# Configuration is written by hand; a file larger than this is something else.
MAX_BYTES = 1 << 20
_MAX_INCLUDES = 50
# Keys of Zope's <zodb_db> that ZODB's own <zodb> does not know.
_CAN_BE_READ_ONLY = frozenset({"filestorage", "zeoclient", "clientstorage", "relstorage"})
_ZOPE_KEYS = frozenset({"mount-point", "connection-class", "class-factory", "container-class"})


class ConfigError(UsageError):
    """A configuration file cannot be understood, or describes no such database."""

    code = "config-error"
    hint = "A database is a <zodb> section with a storage in it; zope.conf's <zodb_db> will do."


@dataclass(frozen=True)
class Section:
    """One section: its type, its name, its keys in order, the sections within."""

    type: str
    name: str | None = None
    keys: list[tuple[str, str]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    def get(self, key: str) -> str | None:
        """Return a key's value (the last one given), None where it is not set."""
        return next((value for name, value in reversed(self.keys) if name == key), None)

    def walk(self) -> Iterator[Section]:
        """Yield this section and all within it."""
        yield self
        for section in self.sections:
            yield from section.walk()

    # ZConfig's parser fills a section through this.
    def addValue(self, key: str, value: str, _position: Any) -> None:  # noqa: N802
        self.keys.append((key.lower(), value))


@dataclass(frozen=True)
class Config:
    """A parsed file: its top level, and the packages whose section types it imports."""

    path: str
    top: Section
    imports: tuple[str, ...]

    def databases(self) -> list[Section]:
        """Return the sections that describe databases, in order."""
        return [section for section in self.top.sections if section.type in DATABASE_TYPES]

    def database(self, name: str | None) -> Section:
        """Return the section of that name, the first one without a name.

        Raises ConfigError.
        """
        found = self.databases()
        if name is None and found:
            return found[0]
        for section in found:
            if name is not None and section.name == name.lower():
                return section
        if not found:
            raise ConfigError(f"{self.path}: no <zodb> section in it")
        names = ", ".join(sorted(section.name or "(unnamed)" for section in found))
        raise ConfigError(f"{self.path}: no database is named {name!r}", hint=f"It has: {names}.")


def read_config(path: str) -> Config:
    """Parse a ZConfig file; raises ConfigError with the line that is wrong, or OSError."""
    import ZConfig

    context = _Context()
    top = Section("")
    try:
        context.include(top, os.path.abspath(path), {})
    except ZConfig.ConfigurationError as exc:
        line = getattr(exc, "lineno", None)
        where = f"{path}, line {line}" if line and line > 0 else path
        raise ConfigError(f"{where}: {exc.message}") from exc
    return Config(path, top, tuple(context.imports))


def section_text(section: Section, imports: tuple[str, ...] = ()) -> str:
    """Write a section as a ZConfig text that stands alone."""
    lines = [f"%import {package}" for package in imports]
    _write(section, lines, "")
    return "\n".join(lines) + "\n"


def for_zodb(section: Section) -> Section:
    """Return a database's section with the keys that only Zope's schema knows left out."""
    keys = [(key, value) for key, value in section.keys if key not in _ZOPE_KEYS]
    return Section("zodb", section.name, keys, section.sections)


def storage_paths(text: str) -> list[str]:
    """Return the path of every FileStorage in a section's text."""
    return [
        path for section in _parse_text(text).walk() if section.type == "filestorage" and (path := section.get("path"))
    ]


def read_only_text(text: str) -> str:
    """Return a section's text with every storage that can be read-only asked to be so."""
    context = _Context()
    top = _parse_text(text, context)
    for section in top.walk():
        if section.type in _CAN_BE_READ_ONLY:
            section.keys[:] = [pair for pair in section.keys if pair[0] not in ("read-only", "create")]
            section.keys.append(("read-only", "true"))
    return section_text(top.sections[0], tuple(context.imports))


def _parse_text(text: str, context: _Context | None = None) -> Section:
    from types import SimpleNamespace

    from ZConfig.cfgparser import ZConfigParser

    top = Section("")
    ZConfigParser(SimpleNamespace(file=io.StringIO(text), url=""), context or _Context(), {}).parse(top)
    return top


def _write(section: Section, lines: list[str], indent: str) -> None:
    type_ = section.type
    lines.append(f"{indent}<{type_} {section.name}>" if section.name else f"{indent}<{type_}>")
    # A dollar in an expanded value is no substitution any more.
    lines.extend(f"{indent}  {key} {value.replace('$', '$$')}" for key, value in section.keys)
    for child in section.sections:
        _write(child, lines, indent + "  ")
    lines.append(f"{indent}</{type_}>")


class _Context:
    """What ZConfig's parser calls while it reads: a collector, where ZConfig has a schema."""

    def __init__(self) -> None:
        self.imports: list[str] = []
        self.included = 0

    def include(self, section: Section, path: str, defines: dict[str, str]) -> None:
        from types import SimpleNamespace

        from ZConfig.cfgparser import ZConfigParser

        self.included += 1
        if self.included > _MAX_INCLUDES:
            raise ConfigError(f"{path}: more than {_MAX_INCLUDES} included files")
        with open(path, encoding="utf-8", errors="replace") as file:
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                raise ConfigError(f"{path}: too large for a configuration file")
            ZConfigParser(SimpleNamespace(file=file, url=f"file://{path}"), self, defines).parse(section)

    def startSection(self, parent: Section, type_: str, name: str | None) -> Section:  # noqa: N802
        section = Section(type_, name)
        parent.sections.append(section)
        return section

    def endSection(self, parent: Section, type_: str, name: str | None, section: Section) -> None:  # noqa: N802
        """The parent has it since its start."""

    def importSchemaComponent(self, package: str) -> None:  # noqa: N802
        self.imports.append(package)

    def includeConfiguration(self, section: Section, url: str, defines: dict[str, str]) -> None:  # noqa: N802
        parts = urlsplit(url)
        if parts.scheme != "file":
            raise ConfigError(f"only local files can be included, not {url}")
        self.include(section, unquote(parts.path), defines)
