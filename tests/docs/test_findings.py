"""docs/json.md names every kind of finding that the program has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Functions that make a Finding of their first argument.
MAKERS = {"Finding", "_find", "_blob"}
# Whose findings are a command's own, and where the document speaks of them.
SECTIONS = {
    "backup": ("ops/backups/backup.py", "ops/backups/mend.py"),
    "backup --verify": ("ops/backups/check.py",),
    "restore": ("ops/backups/restore.py", "ops/backups/restoreplan.py", "ops/backups/restoreblobs.py"),
}


def constants(tree: ast.Module) -> dict[str, str]:
    """Return the strings that a module gives names, one by one or several at once."""
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            target, value = node.targets[0], node.value
            names, values = (target.elts, value.elts) if isinstance(target, ast.Tuple) else ([target], [value])
            for name, given in zip(names, values, strict=True):
                if isinstance(given, ast.Constant) and isinstance(given.value, str):
                    found[name.id] = given.value
    return found


def kinds(path: Path) -> set[str]:
    """Return the kinds of the findings that a module makes, as far as it says them itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named, found = constants(tree), set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        maker = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        kind = node.args[0]
        if maker in MAKERS and isinstance(kind, ast.Constant) and isinstance(kind.value, str):
            found.add(kind.value)
        elif maker in MAKERS and isinstance(kind, ast.Name) and kind.id in named:
            found.add(named[kind.id])
    return found


def section(heading: str) -> str:
    """Return what stands below a heading."""
    text = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def test_every_kind_is_documented():
    """Whatever kind a module names stands in the document."""
    text = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    found = {path: kinds(path) for path in (ROOT / "zodbsh").rglob("*.py")}
    assert {"dangling", "backup-damaged"} <= set().union(*found.values())
    assert {(path.name, kind) for path, made in found.items() for kind in made if f"`{kind}`" not in text} == set()


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_kinds_of_a_command(heading):
    """They stand in its own section, all of them, and no other ones in its table."""
    made = {kind for name in SECTIONS[heading] for kind in kinds(ROOT / "zodbsh" / name)}
    assert made
    assert {kind for kind in made if f"`{kind}`" not in section(heading)} == set()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", section(heading), re.MULTILINE)) in (made, set())
