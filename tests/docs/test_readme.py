"""The README's first session, executed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from zodbsh.cli.group import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


def sessions() -> list[list[tuple[str, str]]]:
    """Return the commands of each console block, with the output written below each."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        commands = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
        found.append([split(command) for command in commands])
    return found


def split(command: str) -> tuple[str, str]:
    """Part a command (which may have several lines in quotes) from its output."""
    lines = command.splitlines(keepends=True)
    for number in range(1, len(lines) + 1):
        if "".join(lines[:number]).count('"') % 2 == 0:
            return "".join(lines[:number]).strip(), "".join(lines[number:])
    raise AssertionError(command)


def test_the_first_session_works_as_written(tmp_path):
    """Every command ends with 0, and prints what the README shows."""
    shutil.copy(ROOT / "examples" / "account.py", tmp_path)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "zodbsh").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m zodbsh "$@"\n')
    (bin_ / "zodbsh").chmod(0o755)
    environment = {**os.environ, "PATH": f"{bin_}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
    first = sessions()[0]
    assert len(first) == 7
    for command, output in first:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, text=True, timeout=60,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        if output:
            assert done.stdout == output


def test_the_other_sessions_name_real_commands_and_options():
    """Every command and option in the README exists."""
    import click

    from zodbsh.cli.group import group

    with click.Context(group) as ctx:
        for session in sessions()[1:]:
            for command, _ in session:
                words = shlex.split(command, comments=True)
                assert words[0] == "zodbsh"
                assert words[1] in COMMANDS
                known = {opt for parameter in group.get_command(ctx, words[1]).params for opt in parameter.opts}
                assert {word for word in words if word.startswith("-")} <= known, command
