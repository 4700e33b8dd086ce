"""The shell in a real terminal: what a person types and sees."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pexpect
import pytest

from zodbsh.db.spec import parse_spec
from zodbsh.stage import store

ACCOUNT = """
import time

import persistent


class Account(persistent.Persistent):
    def __init__(self):
        self.balance = 0
        self.log = []

    def deposit(self, amount):
        self.balance += amount


def wait():
    print("waiting", flush=True)
    time.sleep(60)
"""
ESCAPES = re.compile(r"\x1b\][^\x07]*\x07|\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>]")
CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """A person at the shell: types, and waits for what appears."""

    def __init__(self, folder, *args):
        self.text = ""
        environment = {
            **os.environ,
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "TERM": "xterm",
            "NO_COLOR": "1",
            "XDG_STATE_HOME": str(folder / "state"),
            "HOME": str(folder),
        }
        arguments = ["-m", "zodbsh", "shell", "bank.fs", "-p", ".", "-m", "account", *args]
        self.child = pexpect.spawn(
            sys.executable,
            arguments,
            cwd=str(folder),
            env=environment,
            dimensions=(50, 120),
            encoding="utf-8",
            timeout=20,
        )
        self.sees(">>>")

    def types(self, text):
        self.child.send(text)

    def enters(self, text):
        """Type a line, and wait until it was read: the prompt of the next one, or a question, follows."""
        self.child.send(text + "\r")

    def sees(self, wanted):
        """Wait until a text appears after what was seen before; return all up to it."""
        deadline = time.monotonic() + 20
        while wanted not in self.text:
            assert time.monotonic() < deadline, f"{wanted!r} is not in {self.text[-2000:]!r}"
            try:
                self.text = ESCAPES.sub("", self.text + self.child.read_nonblocking(4096, timeout=1))
            except pexpect.TIMEOUT:
                continue
            except pexpect.EOF:
                assert wanted in self.text, f"{wanted!r} is not in {self.text[-2000:]!r}"
        before, _, self.text = self.text.partition(wanted)
        return before

    def ends(self):
        """Wait for the end; return what appeared last, and the exit status."""
        rest = self.text + ESCAPES.sub("", self.child.read())
        self.child.close()
        return rest, self.child.exitstatus


@pytest.fixture
def folder(tmp_path):
    """A folder with a module and a database of a hundred accounts."""
    (tmp_path / "account.py").write_text(ACCOUNT)
    code = (
        "import account, BTrees.OOBTree, ZODB; db = ZODB.DB('bank.fs')\n"
        "with db.transaction() as c:\n"
        "    c.root.accounts = BTrees.OOBTree.OOBTree({f'account-{n}': account.Account() for n in range(100)})\n"
        "db.close()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    return tmp_path


@pytest.fixture
def terminal(folder):
    """Start shells, and end what is left of them."""
    started = []

    def start(*args):
        started.append(Terminal(folder, *args))
        return started[-1]

    yield start
    for each in started:
        each.child.close(force=True)


@pytest.fixture
def balance(folder):
    """Read an account's balance with plain ZODB."""

    def read(name):
        code = (
            "import sys, ZODB; db = ZODB.DB('bank.fs')\n"
            "with db.transaction() as c: print(c.root.accounts[sys.argv[1]].balance)\n"
            "db.close()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, name], cwd=folder, capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    return read


def test_a_session_from_completion_to_commit(terminal, balance):
    """Complete a key, see the object, change it, see what is dirty, abort, change again, commit, leave."""
    shell = terminal()
    shell.types("root.accounts['account-7")
    shell.types("\t")
    shell.sees("account-71'")
    shell.types("5']\r")
    shell.sees("<account.Account 0x")
    shell.sees("balance = 0")
    shell.sees(">>>")
    shell.enters("_.deposit(10)")
    shell.sees("1 uncommitted")
    shell.enters(".status")
    shell.sees("root.accounts['account-7")
    shell.enters(".abort")
    shell.sees("[y/N]")
    shell.enters("y")
    shell.sees("clean")
    shell.enters("root.accounts['account-3'].deposit(4); root.accounts['account-4'].log.append('x')")
    shell.sees("1 uncommitted")
    shell.enters(".commit -m 'by hand'")
    shell.sees("silent   root.accounts['account-4']")
    shell.sees("[i]gnore?")
    shell.enters("r")
    shell.sees("committed: ")
    shell.sees("clean")
    shell.types(CTRL_D)
    assert shell.ends()[1] == 0
    assert balance("account-3") == 4


def test_ctrl_c_never_loses_the_session(terminal):
    """It clears a line, it ends what runs, and the changes are still there."""
    shell = terminal()
    shell.enters("root.accounts['account-1'].deposit(5)")
    shell.sees("1 uncommitted")
    shell.types("nonsense(")
    shell.sees("nonsense(")
    shell.types(CTRL_C)
    shell.sees(">>>")
    shell.enters("account.wait()")
    shell.sees("waiting")
    shell.types(CTRL_C)
    shell.sees("interrupted")
    shell.sees(">>>")
    shell.enters("while True: pass\r")
    time.sleep(0.5)
    shell.types(CTRL_C)
    shell.sees("interrupted")
    shell.enters("root.accounts['account-1'].balance")
    shell.sees("5")
    shell.enters(".quit")
    shell.sees("[Enter]?")
    shell.enters("a")
    assert shell.ends()[1] == 0


def test_leaving_with_changes(terminal, balance, folder):
    """The dirty objects are shown; staying, staging, going on with the stage, and committing it."""
    shell = terminal()
    shell.enters("root.accounts['account-1'].deposit(5)")
    shell.sees("1 uncommitted")
    shell.types(CTRL_D)
    shell.sees("changed  root.accounts['account-1']")
    shell.sees("[Enter]?")
    shell.enters("")
    shell.sees(">>>")
    shell.enters(".quit")
    shell.sees("[Enter]?")
    shell.enters("s")
    assert "staged: 1 changed" in shell.ends()[0]
    assert len(store.load(parse_spec(str(folder / "bank.fs"))).entries) == 1

    shell = terminal()
    assert shell.text == "" or "staged" not in shell.text
    shell.types(CTRL_D)
    assert "the stage is kept" in shell.ends()[0]

    shell = terminal()
    shell.enters("root.accounts['account-1'].deposit(5)")
    shell.sees("1 uncommitted")
    shell.enters("exit(4)")
    shell.sees("[Enter]?")
    shell.enters("c")
    rest, status = shell.ends()
    assert "committed: " in rest
    assert status == 4
    assert store.load(parse_spec(str(folder / "bank.fs"))) is None
    assert balance("account-1") == 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_stages_what_is_uncommitted(terminal, folder, number):
    """A shell that is told to end keeps the changes on disk, and ends with the signal's status."""
    shell = terminal()
    shell.enters("root.accounts['account-1'].deposit(5)")
    shell.sees("1 uncommitted")
    shell.child.kill(number)
    assert shell.ends()[1] == 128 + number
    assert len(store.load(parse_spec(str(folder / "bank.fs"))).entries) == 1


def test_history_is_kept_for_the_next_session(terminal, folder):
    """The arrow brings back the last session's line; the file is private; a leading space keeps a line out."""
    shell = terminal()
    shell.enters("6 * 7")
    shell.sees("42")
    shell.sees(">>>")
    shell.enters(" 'sec' + 'ret'")
    shell.sees("'secret'")
    shell.types(CTRL_D)
    shell.ends()
    shell = terminal()
    time.sleep(0.3)
    shell.types("\x1b[A")
    shell.sees("6 * 7")
    shell.types(CTRL_C)
    shell.types(CTRL_D)
    shell.ends()
    files = [os.path.join(base, name) for base, _, names in os.walk(folder / "state") for name in names]
    assert [os.stat(file).st_mode & 0o777 for file in files] == [0o600]
    assert "sec" not in Path(files[0]).read_text()


def test_old_database_in_a_read_only_shell(terminal):
    """With --read-only the prompt says so, and a commit is refused."""
    shell = terminal("--read-only")
    shell.enters("root.accounts['account-1'].deposit(5)")
    shell.sees("1 uncommitted")
    shell.enters(".commit")
    shell.sees("error: ")
    shell.types(CTRL_D)
    shell.sees("[s]tage, [a]bort")
    shell.enters("a")
    assert shell.ends()[1] == 0


def run_shell(folder, *args, stdin=""):
    return subprocess.run([sys.executable, *args], cwd=folder, input=stdin, capture_output=True, text=True, timeout=60)


def test_code_and_pipes_never_import_prompt_toolkit(folder):
    """-c and a piped script show values, stage what is left, and need no terminal library."""
    check = (
        "import sys; from zodbsh.cli.main import main\n"
        "try: main()\n"
        "finally: print(any(name.startswith('prompt_toolkit') for name in sys.modules))"
    )
    base = ("-c", check, "shell", "bank.fs", "-p", ".")
    done = run_shell(folder, *base, "-c", "root.accounts['account-1'].balance")
    assert (done.stdout, done.stderr, done.returncode) == ("0\nFalse\n", "", 0)
    done = run_shell(folder, *base, stdin="root.accounts['account-1'].deposit(3)\n.status --format csv\n")
    assert done.stdout.endswith("False\n")
    assert "root.accounts['account-1']" in done.stdout
    assert done.stderr == "staged: 1 changed     (zodbsh diff | commit | abort)\n"
    done = run_shell(folder, *base, "-c", "1/0")
    assert done.stdout == "False\n"
    assert "ZeroDivisionError" in done.stderr
    assert done.returncode == 1


def test_paths_that_cannot_be_opened(folder):
    """A mistyped path is an error, and nothing appears."""
    before = sorted(os.listdir(folder))
    done = run_shell(folder, "-m", "zodbsh", "shell", "bnak.fs", "-c", "1")
    assert done.returncode == 3
    assert "bnak.fs" in done.stderr
    assert sorted(os.listdir(folder)) == before
    done = run_shell(folder, "-m", "zodbsh", "shell", "bank.fs", "-m", "nothing", "-c", "1")
    assert done.returncode == 1
    assert "nothing" in done.stderr
