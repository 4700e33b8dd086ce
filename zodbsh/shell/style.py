"""Colours of the prompt, the toolbar, the menu and the code; the terminal's own sixteen."""

from __future__ import annotations

import os

from prompt_toolkit.styles import BaseStyle, Style

_RULES = {
    "prompt": "ansigreen",
    "prompt.note": "ansiyellow",
    "bottom-toolbar": "noreverse",
    "bottom-toolbar.text": "ansibrightblack",
    "toolbar.database": "bold",
    "toolbar.mode": "ansigreen",
    "toolbar.read-only": "ansiyellow",
    "toolbar.dirty": "ansired bold",
    "toolbar.key": "ansibrightblack",
    "auto-suggestion": "ansibrightblack",
    "completion-menu": "noinherit",
    "completion-menu.completion.current": "reverse",
    "completion-menu.meta.completion": "noinherit ansibrightblack",
    "completion-menu.meta.completion.current": "reverse",
    "pygments.keyword": "ansiblue",
    "pygments.keyword.constant": "ansimagenta",
    "pygments.literal.string": "ansigreen",
    "pygments.literal.number": "ansimagenta",
    "pygments.comment": "ansibrightblack italic",
    "pygments.name.builtin": "ansicyan",
    "pygments.name.function": "ansicyan",
    "pygments.name.class": "ansicyan bold",
    "pygments.name.decorator": "ansiyellow",
    "pygments.operator.word": "ansiblue",
    "pygments.error": "",
}


def shell_style(*, color: bool) -> BaseStyle:
    """Return the style; without colour only bold and reverse remain."""
    if color and not os.environ.get("NO_COLOR"):
        return Style.from_dict(_RULES)
    rules = {"bottom-toolbar": "noreverse", "completion-menu": "noinherit", "toolbar.dirty": "bold"}
    return Style.from_dict({**rules, "completion-menu.completion.current": "reverse"})
