"""The program's frame: help, errors, exit statuses, streams, signals."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from zodbsh.cli import group as group_module
from zodbsh.cli import options
from zodbsh.cli.context import AppContext, Database
from zodbsh.cli.dispatch import dispatch
from zodbsh.cli.group import COMMANDS, GROUPS, group
from zodbsh.errors import ExitCode, ZodbshError
from zodbsh.ids import MAX_ID
from zodbsh.render.output import Output, Rows, emit

PROGRAM = str(Path(sys.executable).with_name("zodbsh"))
COMMAND = [PROGRAM] if os.path.exists(PROGRAM) else [sys.executable, "-m", "zodbsh"]


def run(*args, **settings):
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, timeout=60, **settings)


class Broken(ZodbshError):
    code, exit_code, hint = "test-broken", ExitCode.DAMAGED, "Mend it."


class NumbersView:
    def json(self):
        return [{"n": 1}, {"n": 2}]

    def rows(self):
        return Rows(("n", "text"), [(1, ".abort"), (2, None)])

    def text(self, page):
        page.table(self.rows(), right=("n",))


@pytest.fixture
def try_command(monkeypatch):
    """Run one click command through the boundary, on the command line or in a shell."""

    def run_it(command, *args, session=None):
        monkeypatch.setitem(COMMANDS, command.name, group_module.Entry("look", "Test."))
        monkeypatch.setattr(group_module.LazyGroup, "get_command", lambda *_: command)
        out, err = io.StringIO(), io.StringIO()
        app = AppContext(session=session, defaults=Output(stdout=out, stderr=err))
        status = dispatch([command.name, *args], app)
        return status, out.getvalue(), err.getvalue()

    return run_it


def failing(error):
    @options.command()
    @options.output_options
    def command(output):
        """Fail."""
        raise error

    command.name = "fail"
    return command


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (Broken("it is broken"), 6, "error: it is broken\nhint: Mend it.\n"),
        (Broken("a\x1b[31m\n.abort\r"), 6, "error: a\\x1b[31m\\n.abort\\r\nhint: Mend it.\n"),
        (Broken("no", hint="b\nc"), 6, "error: no\nhint: b\\nc\n"),
        (Broken("no", context="  a b\x07\n.abort"), 6, "error: no\n  a b\\x07\n\\x2eabort\nhint: Mend it.\n"),
        (click.UsageError("Choose from:\n\ta,\n\tb"), 2, "error: Choose from: a, b\n"),
        (PermissionError(13, "Permission denied", "Data.fs"), 7, "error: Data.fs: Permission denied\nhint: Check"),
        (OSError(28, "No space left on device"), 7, "error: No space left on device\nhint: Free some space"),
        (OSError(5, "Input/output error", "Data.fs"), 7, "error: Data.fs: Input/output error\nhint: The disk"),
        (MemoryError(), 7, "error: not enough memory\n"),
        (ValueError("oops"), 70, "error: a bug in zodbsh: ValueError: oops\nhint: Nothing of yours"),
        (RecursionError("deep"), 70, "error: a bug in zodbsh: RecursionError: deep\n"),
        (click.UsageError("no such thing"), 2, "error: no such thing\n"),
        (click.Abort(), 130, "error: stopped; nothing was changed\n"),
    ],
)
def test_an_error_is_two_lines_and_a_status(try_command, error, status, text):
    """Message and hint on stderr, a line each whatever they quote, nothing on stdout, no traceback."""
    found, out, err = try_command(failing(error))
    assert (found, out) == (status, "")
    assert err.startswith(text)
    assert "Traceback" not in err


@pytest.mark.parametrize("form", ["json", "ndjson"])
def test_an_error_is_json_where_a_program_reads(try_command, form):
    """One object with code, message and hint."""
    status, out, err = try_command(failing(Broken("it is broken")), "--format", form)
    assert (status, out) == (6, "")
    assert json.loads(err) == {"error": {"code": "test-broken", "message": "it is broken", "hint": "Mend it."}}


def test_debug_shows_the_traceback_first(try_command):
    """--debug is the one way to see a traceback of zodbsh itself."""
    status, _, err = try_command(failing(ValueError("oops")), "--debug")
    assert status == 70
    assert err.startswith("Traceback (most recent call last):")
    assert "error: a bug in zodbsh: ValueError: oops" in err


def test_a_closed_pipe_is_silent(try_command):
    """Whoever read the output has seen enough."""
    assert try_command(failing(BrokenPipeError())) == (0, "", "")


def test_signals_pass_the_boundary(try_command):
    """They are for main and for the shell's loop."""
    with pytest.raises(KeyboardInterrupt):
        try_command(failing(KeyboardInterrupt()))


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("table", "n  text\n1  .abort\n2\n"),
        ("json", '[\n  {\n    "n": 1\n  },\n  {\n    "n": 2\n  }\n]\n'),
        ("ndjson", '{"n": 1}\n{"n": 2}\n'),
        ("csv", "n,text\n1,.abort\n2,\n"),
    ],
)
def test_a_view_has_four_forms(try_command, form, expected):
    """Table, JSON, NDJSON and CSV of one result."""

    @options.command()
    @options.output_options
    def command(output):
        """Show."""
        emit(NumbersView(), output)

    command.name = "show-numbers"
    assert try_command(command, "--format", form) == (0, expected, "")


class FakeSession:
    class spec:  # noqa: N801 - as the session has it
        text = "mydata.fs"

    def source(self):
        return "the session's source"


def count_command():
    @options.command()
    @options.database_argument
    @options.target_argument()
    @options.at_option
    @options.output_options
    def command(database, target, at, output):
        """Count."""
        session = database.session is not None
        print(database.text, target, at, session, file=output.out)

    command.name = "count"
    return command


def test_database_and_target_on_the_command_line(try_command):
    """DATABASE comes first, then TARGET."""
    assert try_command(count_command(), "a.fs", "0x2a", "--at", "040d35cc589813ee") == (
        0,
        f"a.fs 0x2a {0x040D35CC589813EE} False\n",
        "",
    )


@pytest.mark.parametrize(
    ("database", "terminal", "said"),
    [("zeo://h:1", True, "connecting to zeo://h:1\n"), ("zeo://h:1", False, ""), ("a.fs", True, "")],
)
def test_a_server_may_take_a_while(monkeypatch, try_command, database, terminal, said):
    """Somebody who waits at a terminal is told for what."""
    monkeypatch.setattr("zodbsh.render.output.is_terminal", lambda _: terminal)
    assert try_command(count_command(), database) == (0, f"{database} None {MAX_ID} False\n", said)


def test_a_dot_command_leaves_the_database_out(try_command):
    """In the shell the session is the database, in the call and in the usage line."""
    status, out, _ = try_command(count_command(), "0x2a", session=FakeSession())
    assert (status, out) == (0, f"mydata.fs 0x2a {2**64 - 1} True\n")
    status, _, err = try_command(count_command(), "0x2a", "0x2b", session=FakeSession())
    assert (status, err) == (
        2,
        "error: Got unexpected extra argument (0x2b)\nhint: `.count --help` shows what it takes.\n",
    )
    with click.Context(count_command(), obj=AppContext(session=FakeSession()), info_name=".count") as ctx:
        assert count_command().get_usage(ctx) == "Usage: .count [OPTIONS] [TARGET]"


def test_a_session_gives_its_own_source():
    """It ends at the transaction that the session sees, and is not closed."""
    with Database("mydata.fs", FakeSession()).source() as source:
        assert source == "the session's source"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "Missing argument 'DATABASE'."),
        (("a.fs", "--bogus"), "No such option '--bogus'."),
        (("a.fs", "--format", "xml"), "Invalid value for '--format'"),
        (("a.fs", "--at", "someday"), "Invalid value for '--at': not a time: 'someday'."),
    ],
)
def test_a_wrong_command_line_is_status_2(try_command, args, message):
    """In words, or as JSON where JSON was asked for."""
    status, out, err = try_command(count_command(), *args)
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {message}")
    status, out, err = try_command(count_command(), "--format=json", *args)
    if "xml" not in args:
        assert json.loads(err)["error"]["message"].startswith(message)


def test_every_command_has_the_common_options_help_and_examples():
    """--debug, -q and --color everywhere; the table's help line is the docstring's first sentence."""
    with click.Context(group) as ctx:
        for verb, entry in COMMANDS.items():
            command = group.get_command(ctx, verb)
            assert command is not None
            assert command.name == verb
            opts = {opt for parameter in command.params for opt in parameter.opts}
            assert {"--debug", "--quiet", "-q", "--color"} <= opts, verb
            assert command.get_short_help_str(100) == entry.help, verb
            assert "Examples:" in (command.epilog or ""), verb
            assert entry.group in GROUPS


def test_help_lists_the_commands_without_importing_them():
    """The table is enough for --help."""
    code = (
        "import sys; from zodbsh.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit as e: assert e.code == 0\n"
        "loaded = [m for m in sys.modules if 'cmd_' in m or m in ('ZODB', 'prompt_toolkit', 'rich')]\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    for verb, entry in COMMANDS.items():
        assert f"  {verb}" in done.stdout
        assert entry.help in done.stdout


def test_no_command_at_all_shows_the_help():
    """The same as --help, on stdout, with status 0; options alone lack a command."""
    bare = run()
    assert (bare.returncode, bare.stdout, bare.stderr) == (0, run("--help").stdout, "")
    assert bare.stdout.startswith("Usage: zodbsh [OPTIONS] COMMAND DATABASE")
    lone = run("inspect")
    assert (lone.returncode, lone.stdout) == (2, "")
    assert lone.stderr == "error: Missing argument 'DATABASE'.\nhint: `zodbsh inspect --help` shows what it takes.\n"


def test_an_unknown_command_offers_a_near_one():
    """Status 2 and a suggestion."""
    done = run("ini")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: no command 'ini'. Did you mean 'init'?\nhint: `zodbsh --help` shows what it takes.\n"


def test_the_installed_program_runs_from_another_folder(tmp_path):
    """The program finds itself, not the checkout."""
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("zodbsh ")
    assert run("init", "a.fs", cwd=tmp_path).returncode == 0
    assert os.listdir(tmp_path) == ["a.fs"]


def test_python_m_is_the_same_program(tmp_path):
    """``python -m zodbsh``."""
    done = subprocess.run(
        [sys.executable, "-m", "zodbsh", "--version"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == run("--version").stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
@pytest.mark.parametrize("args", [["--version"], ["--help"]])
def test_a_full_disk_under_the_output(args):
    """Status 7 and one line; nothing from the interpreter."""
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, *args], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 7
    assert "No space left on device\n" in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_reader_that_left_is_no_error():
    """A closed pipe is silent, with status 0."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run([*COMMAND, "--help"], stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_closed_streams_are_never_a_database(tmp_path):
    """With descriptors 0 to 2 closed, files get others: nothing of ours is printed into a database."""
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *COMMAND, "init", str(tmp_path / "a.fs")], timeout=60
    )
    assert done.returncode == 0
    assert run("init", str(tmp_path / "b.fs")).returncode == 0
    assert len((tmp_path / "a.fs").read_bytes()) == len((tmp_path / "b.fs").read_bytes())


WAIT = "import sys, time\nprint('importing', flush=True)\ntime.sleep(30)\nclass A: pass\n"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_cleans_up_and_is_the_status(tmp_path, number, status):
    """Whatever was half done is gone; no traceback."""
    (tmp_path / "waiting_module.py").write_text(WAIT)
    process = subprocess.Popen(
        [*COMMAND, "init", "a.fs", "--root", "a=waiting_module.A"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert process.stdout.readline() == "importing\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == status
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == ["waiting_module.py"]


def test_an_ignored_hangup_stays_ignored(tmp_path):
    """Under nohup the work goes on."""
    code = (
        "import os, signal, sys\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from zodbsh.cli.main import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
