"""The documentation says what the program is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from zodbsh.cli.group import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


def load_generator():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load_generator()


def test_the_command_line_reference_is_up_to_date():
    """docs/cli.md is what --help says now (`make docs`)."""
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == generate.cli_text()


def test_every_error_code_is_documented():
    """docs/exit-codes.md lists every status and every error class's code (`make docs`)."""
    assert (ROOT / "docs" / "exit-codes.md").read_text(encoding="utf-8") == generate.exit_codes_text()


@pytest.mark.parametrize("shell", generate.SHELLS)
def test_completion_scripts_are_up_to_date(shell):
    """completions/ is what click generates now (`make completions`)."""
    written = (ROOT / "completions" / f"zodbsh.{shell}").read_text(encoding="utf-8")
    assert written == generate.completion_text(shell)


def test_an_error_code_has_one_status():
    """Who checks the code need not check the exit status."""
    statuses: dict[str, set[int]] = {}
    for error in generate.errors():
        statuses.setdefault(error.code, set()).add(int(error.exit_code))
    assert {code: found for code, found in statuses.items() if len(found) > 1} == {}


def test_error_codes_are_kebab_case():
    """A code is a word for programs: small letters and hyphens; and it is not the base's."""
    codes = {error.code for error in generate.errors()}
    assert {code for code in codes if not re.fullmatch(r"[a-z]+(-[a-z]+)*", code)} == set()
    assert "error" not in codes


@pytest.mark.parametrize("verb", [verb for verb in COMMANDS if verb != "shell"])
def test_every_command_with_data_has_its_json_documented(verb):
    """docs/json.md has a section for each."""
    assert re.search(rf"^## {verb}\b", (ROOT / "docs" / "json.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_links_between_documents_lead_somewhere():
    """Every relative link in the documents names a file that is there."""
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / target).exists(), f"{document.name}: {target}"
