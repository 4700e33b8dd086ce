"""The shell without a prompt: statements in turn, values shown, what is left staged, failures that stop."""

from __future__ import annotations

import re

import pytest

from zodbsh.db.spec import parse_spec
from zodbsh.shell.script import run_code, run_script
from zodbsh.stage import store


@pytest.fixture
def run(shell, said):
    """Run a script given as text; return stdout, stderr and the exit status."""

    def run_(text, code=False):
        status = run_code(shell, text) if code else run_script(shell, text.splitlines(keepends=True), name="<stdin>")
        return (*said(shell), status)

    return run_


def test_values_of_all_expressions_are_shown(run):
    """Each expression's value comes out in turn, blocks need no empty line after them."""
    text = "1 + 1\nfor n in range(2):\n    print\nelse:\n    n = 7\nn\nif n:\n  m = 8\nm\n"
    assert run(text) == ("2\n7\n8\n", "", 0)


def test_what_is_left_is_staged(run, path):
    """A run that succeeds stages its changes, as `zodbsh run` does."""
    out, err, status = run("root.account.deposit(5)\nroot.account.balance\n")
    assert (out, status) == ("15\n", 0)
    assert err == "staged: 1 changed     (zodbsh diff | commit | abort)\n"
    assert len(store.load(parse_spec(path)).entries) == 1


def test_first_failure_ends_the_run_and_stages_nothing(run, path):
    """The statements before it ran, those after it did not; the exit status is 1."""
    out, err, status = run("root.account.deposit(5)\n'before'\n\n1/0\n'after'\n")
    assert (out, status) == ("'before'\n", 1)
    assert err.startswith('Traceback (most recent call last):\n  File "<stdin>", line 4, in <module>\n    1/0\n')
    assert err.endswith("not staged, because the run failed: 1 uncommitted change\n")
    assert store.load(parse_spec(path)) is None


def test_dot_commands_stand_between_statements(run, shell):
    """.commit in a script commits; a line with a dot inside brackets or a text is Python."""
    text = "root.account.deposit(5)\n.commit\nx = (root\n.account\n.balance)\ny = '''\n.quit\n'''\n(x, y)\n"
    out, err, status = run(text)
    assert out.endswith("(15, '\\n.quit\\n')\n")
    assert "  changed  root.account" in err
    assert status == 0
    assert shell.session.dirty_count() == 0


def test_failed_dot_command_ends_the_run(run):
    """Its exit status is the script's."""
    out, err, status = run(".inspect root.nothing\n'after'\n")
    assert (out, status) == ("", 3)
    assert err.startswith("error: ")


def test_syntax_error_says_the_line(run):
    """Line numbers are those of the whole input."""
    out, err, status = run("1\n\nx = = 2\n")
    assert (out, status) == ("1\n", 1)
    assert 'File "<stdin>", line 3' in err


def test_unfinished_input_is_an_error(run):
    """An open bracket at the end does not hang, and does not run."""
    out, err, status = run("root.account.deposit(\n")
    assert (out, status) == ("", 1)
    assert "SyntaxError" in err


def test_code_is_checked_as_a_whole(run):
    """With -c nothing runs where a later line is no Python; common indentation is taken off."""
    assert run("\n    1\n    2 +\n", code=True)[0] == ""
    assert run("\n    1\n    for n in (2,):\n        3\n    n\n", code=True) == ("1\n2\n", "", 0)
    assert run(".status --format json", code=True)[2] == 0


def test_exit_ends_with_its_status(run, path):
    """sys.exit(0) stages like the end of the input, any other status drops."""
    assert run("root.account.deposit(5)\nexit(4)\n")[2] == 4
    assert store.load(parse_spec(path)) is None
    assert run("raise SystemExit\n1\n") == ("", "staged: 1 changed     (zodbsh diff | commit | abort)\n", 0)


def test_await_works_without_a_prompt(run):
    """Top-level await runs statement by statement."""
    assert run("import asyncio\nawait asyncio.sleep(0, 9)\n") == ("9\n", "", 0)


def test_long_text_is_read_in_linear_time(run):
    """Thousands of lines within one literal are not compiled thousands of times over."""
    import time

    text = (
        "x = [\n" + "    1,\n" * 20_000 + "]\nlen(x)\ny = '''\n" + "text (it's)\n" * 20_000 + "'''\n.status\nlen(y)\n"
    )
    start = time.process_time()
    out = run(text)[0]
    assert out.startswith("20000\n")
    assert out.endswith("240001\n")
    assert time.process_time() - start < 10


def test_a_script_may_close_the_database(run, path, witness):
    """A commit before it is told; what is uncommitted goes, with a word."""
    body = ("root.account.deposit(5)", "transaction.commit()", "connection.close()", "db.close()")
    text = "def main():\n" + "".join(f"    {line}\n" for line in body) + "main()\n"
    out, err, status = run(text)
    assert (out, status) == ("", 0)
    assert re.fullmatch("committed [0-9a-f]{16}\n", err)
    with witness(path) as root:
        assert root["account"].balance == 15


def test_closing_the_database_drops_what_is_uncommitted(run, path):
    """The shell says so, and every later use says that it is closed."""
    out, err, status = run("root.account.deposit(5)\ndb.close()\nroot.account\n")
    assert (out, status) == ("", 1)
    assert err.startswith("warning: dropped, because the database was closed: 1 uncommitted object\nTraceback")
    assert err.endswith("ConnectionStateError: The database connection is closed\n")
    assert store.load(parse_spec(path)) is None


def test_a_dot_command_on_a_closed_database(run, path):
    """An error in plain words."""
    hint = "hint: Leave the shell, and open it again.\n"
    assert run("db.close()\n.log\n") == ("", f"error: {path}: the database was closed by your code\n{hint}", 2)
