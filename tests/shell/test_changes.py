"""What becomes of uncommitted changes: in an empty database, in the past, of an undo, beside another's stage."""

from __future__ import annotations

import pytest

from zodbsh.shell.script import run_script


@pytest.fixture
def run(said):
    """Run a script in a shell; return stdout, stderr and the exit status."""

    def run_(shell, *lines):
        status = run_script(shell, [f"{line}\n" for line in lines], name="<stdin>")
        return (*said(shell), status)

    return run_


def test_empty_file_opens(make_shell, tmp_path, run):
    """A file with nothing but its first four bytes has an empty root; an abort leaves it so, a commit stores it."""
    (tmp_path / "empty.fs").write_bytes(b"FS30")
    shell = make_shell(str(tmp_path / "empty.fs"))
    out, _, status = run(shell, "root.x = 1", ".abort -y", "dict(root)", ".status", "root.y = 2", ".commit", "root.y")
    first, *_, last = out.splitlines()
    assert (first, out.splitlines()[1:3]) == ("dropped: 1 object", ["{}", "nothing is uncommitted"])
    assert (last, status) == ("2", 0)
    assert shell.session.pending().entries == ()
