"""The output gate: what every string from a file passes before a person sees it.

Escaped are the characters that move the cursor, change the reading direction,
hide or break a line, and what no terminal can be sent: C0 and C1 controls, DEL,
bidirectional marks, line and paragraph separators, invisible format characters,
tags, lone surrogates. The escapes are Python's (``\\x1b``, ``\\u202e``), and a
backslash stays what it is, so passing the gate twice changes nothing more.
"""

from __future__ import annotations

import re

# U+200C and U+200D (joiners) stay: Persian, Indic scripts and emoji need them.
UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
# The shell takes a line that begins with a dot for a command; white space before it may be stripped by a pipe.
_DOT_COMMAND = re.compile(r"(\s*)\.")


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def escape(text: str) -> str:
    """Return ``text`` on one line, with every unsafe character escaped."""
    return text if text.isprintable() else UNSAFE.sub(_escaped, text)


def escape_lines(text: str) -> str:
    """Escape like ``escape``, but keep line feeds; no line begins with a dot."""
    return "\n".join(guard(escape(line)) for line in text.split("\n"))


def guard(line: str) -> str:
    """Make sure that a line of output piped into the shell is no dot command."""
    if match := _DOT_COMMAND.match(line):
        return f"{match[1]}\\x2e{line[match.end() :]}"
    return line


def text_of(raw: bytes) -> str:
    """Return a file's bytes as text: UTF-8, and ``\\xff`` for every byte that is not (unescaped otherwise)."""
    return raw.decode("utf-8", "backslashreplace")
