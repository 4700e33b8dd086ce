"""The tests' own way to run the program hides nothing."""

from __future__ import annotations

import os
import tempfile

import pytest
from program import zodbsh

SEEN = "import os, sys; print(os.getcwd(), os.environ.get('SEEN'), oct(os.umask(0)), sys.argv, repr(sys.stdin.read()))"


def code(text: str, **settings: object) -> str:
    return zodbsh("run", ":memory:", "-q", "-c", text, **settings).stdout


def test_a_child_has_what_it_was_given_and_nothing_of_an_earlier_one(tmp_path):
    """Folder, environment, umask, standard input; and the next one has this process's again."""
    given = code(SEEN, cwd=tmp_path, env={**os.environ, "SEEN": "yes"}, umask=0o027, stdin="text\n")
    assert given == f"{tmp_path} yes 0o27 ['-c'] 'text\\n'\n"
    umask = os.umask(0)
    os.umask(umask)
    assert code(SEEN) == f"{os.getcwd()} None {oct(umask)} ['-c'] ''\n"


@pytest.mark.parametrize("end", ["import os; os._exit(70)", "import signal; signal.alarm(1); signal.pause()"])
def test_a_bug_or_a_hang_fails_the_test(end):
    """A bug's exit status is no result, nor is a child that its alarm had to end."""
    with pytest.raises(AssertionError, match="run"):
        code(end)


def test_a_traceback_fails_the_test():
    """The user's is let through where it is expected; zodbsh's own never."""
    assert zodbsh("run", ":memory:", "-c", "1/0", script=True).returncode == 1
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        zodbsh("run", ":memory:", "-c", "1/0")
    own = "import sys, zodbsh.ids; print('File \"' + zodbsh.ids.__file__ + '\", line 1', file=sys.stderr)"
    with pytest.raises(AssertionError, match="zodbsh"):
        zodbsh("run", ":memory:", "-c", own, script=True)


def test_other_settings_make_a_process_of_its_own():
    """With the same checks."""
    with tempfile.TemporaryFile("w+") as out:
        assert zodbsh("--version", stdout=out).stdout is None
        out.seek(0)
        assert out.read() == zodbsh("--version").stdout
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        zodbsh("run", ":memory:", "-c", "1/0", text=True)
