"""Dot commands: the CLI's own on the session, and the shell's."""

from __future__ import annotations

import subprocess
import sys

import pytest
import ZODB

from zodbsh.db.spec import parse_spec
from zodbsh.errors import ExitCode
from zodbsh.shell.banner import banner_lines
from zodbsh.shell.completer import candidates
from zodbsh.shell.dot import table_names
from zodbsh.shell.interpreter import Leave
from zodbsh.shell.prompt import prompt_notes, toolbar_fragments
from zodbsh.stage import store


def offered(shell, before, after=""):
    return [before[: len(before) - item.replaces] + item.text for item in candidates(shell, before, after)]


def test_commands_of_the_program_are_dot_commands(shell, said):
    """Every command of the CLI that makes sense in a session is there, DATABASE left out."""
    assert {"status", "diff", "commit", "abort", "inspect", "log", "show"} <= set(table_names(shell))
    assert not {"init", "run", "shell", "pack"} & set(table_names(shell))
    assert shell.execute(".inspect root.account --format json") == 0
    out, err = said(shell)
    assert '"class": "bank.Account"' in out
    assert err == ""


def test_reading_commands_see_what_is_committed(shell, said):
    """.log and .show work on the session's own view."""
    shell.execute(".log --format json")
    tid = said(shell)[0].split('"tid": "')[1][:16]
    assert shell.execute(f".show {tid}") == 0
    assert tid in said(shell)[0]


def test_usage_is_about_the_session_s_view(shell, said):
    """.usage counts what is committed, by every question it knows; DATABASE is left out."""
    assert shell.execute(".usage --format json") == 0
    assert '"class": "bank.Account"' in said(shell)[0]
    for by in ("path", "transaction", "month", "user"):
        assert shell.execute(f".usage --by {by} --top 3") == 0
    out, err = said(shell)
    assert "root.accounts" in out
    assert err == ""
    shell.execute(".log --format json")
    tid = said(shell)[0].split('"tid": "')[1][:16]
    assert shell.execute(f".usage {tid}..{tid} --by user --format json") == 0
    assert '"transactions": 1' in said(shell)[0]


def test_status_and_diff_show_the_session(shell, said):
    """What is uncommitted is what .status and .diff tell."""
    shell.execute("root.account.deposit(5)")
    shell.execute(".status --format json")
    assert '"path": "root.account"' in said(shell)[0]
    shell.execute(".diff")
    assert "balance: 10 -> 15" in said(shell)[0]


def test_commit_and_abort(shell, path, said):
    """.abort takes changes back, .commit makes them last."""
    shell.execute("root.account.deposit(5)")
    assert shell.execute(".abort --yes") == 0
    assert shell.session.root.account.balance == 10
    shell.execute("root.account.deposit(7)")
    assert shell.execute('.commit -m "a note"') == 0
    assert "  changed  root.account" in said(shell)[1]
    shell.execute(".log -n 1")
    assert "a note" in said(shell)[0]
    shell.close()
    db = ZODB.DB(path)
    with db.transaction() as connection:
        assert connection.root()["account"].balance == 17
    db.close()


def test_failed_commit_keeps_the_changes(shell, said):
    """An object that cannot be written fails the commit; a later one, without it, saves the rest."""
    shell.execute("root.account.deposit(5); root.account.bad = lambda: 0")
    assert shell.execute(".commit") != 0
    assert "error:" in said(shell)[1]
    shell.execute("del root.account.bad")
    assert shell.execute(".commit") == 0
    assert shell.session.root.account.balance == 15
    assert shell.session.dirty_count() == 0


def test_commit_that_the_storage_refuses_puts_the_changes_back(shell, said, monkeypatch):
    """ZODB drops what it could not commit; the shell still has it, and commits it the next time."""
    storage = shell.session.connection._normal_storage
    shell.execute("root.account.deposit(5); root.fresh = bank = __import__('bank').Account(3)")

    def full(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "tpc_vote", full)
        assert shell.execute(".commit") == ExitCode.IO
    assert "still uncommitted" in said(shell)[1]
    assert shell.session.root.account.balance == 15
    assert shell.session.dirty_count() > 0
    assert shell.execute(".commit") == 0
    shell.session.connection.cacheMinimize()
    assert shell.session.root.account.balance == 15
    assert shell.session.root.fresh.balance == 3


def test_stage_and_commit(shell, path, said):
    """.stage keeps the changes on disk and in the session; a commit removes the stage."""
    shell.execute("root.account.deposit(5)")
    assert shell.execute(".stage") == 0
    assert "staged: 1 changed" in said(shell)[1]
    assert len(store.load(parse_spec(path)).entries) == 1
    assert prompt_notes(shell) == ["staged"]
    shell.execute("root.account.deposit(5)")
    shell.execute(".stage")
    assert shell.execute(".commit") == 0
    assert store.load(parse_spec(path)) is None
    assert prompt_notes(shell) == []
    assert shell.session.root.account.balance == 20


def test_the_past_and_back(shell, said):
    """.at shows an older state read-only; .at now returns, and nothing is lost on the way."""
    before = shell.session.base_tid
    shell.execute("root.account.deposit(5)")
    assert shell.execute(".at yesterday") == ExitCode.FINDINGS
    assert said(shell)[1].startswith("error: 1 uncommitted change would be lost\n")
    shell.execute(".commit")
    assert shell.execute(f".at {before:016x}") == 0
    said(shell)
    shell.execute("root.account.balance")
    assert said(shell)[0] == "10\n"
    assert prompt_notes(shell) == ["past"]
    shell.execute(f".at {before:016x}")
    shell.execute(".at now")
    said(shell)
    shell.execute("root.account.balance")
    assert said(shell)[0] == "15\n"
    assert shell.session is shell.home


def test_undo_of_the_last_transaction(shell, said):
    """.undo shows it and waits for .commit; .abort forgets it."""
    shell.execute("root.account.deposit(5)")
    shell.execute(".commit")
    said(shell)
    assert shell.execute(".undo") == 0
    out, err = said(shell)
    assert "root.account" in out
    assert "will be undone by .commit" in err
    assert any("1 to undo" in text for _, text in toolbar_fragments(shell))
    shell.execute(".abort --yes")
    assert shell.session.undoing == {}
    assert shell.session.root.account.balance == 15
    shell.execute(".undo")
    assert shell.execute(".commit") == 0
    assert "undo     transaction" in said(shell)[1]
    assert shell.session.root.account.balance == 10
    assert shell.session.undoing == {}


def test_undo_that_conflicts(shell, said):
    """A transaction whose objects changed again is not undone; the session goes on."""
    shell.execute("root.account.deposit(5)")
    shell.execute(".commit")
    first = shell.session.base_tid
    shell.execute("root.account.deposit(5)")
    shell.execute(".commit")
    assert shell.execute(f".undo {first:016x}") == 0
    said(shell)
    assert shell.execute(".commit") == ExitCode.CONFLICT
    assert "cannot undo" in said(shell)[1]
    shell.execute("root.account.balance")
    assert said(shell)[0] == "20\n"
    assert shell.execute(".undo ffffffffffffffff") == ExitCode.NOT_FOUND


def test_load_and_reload(shell, tmp_path, said):
    """.load brings a module's name; .reload its new code, for objects of the database too."""
    assert shell.execute(".load bank") == 0
    assert shell.execute("bank.Account") == 0
    source = (tmp_path / "bank.py").read_text()
    (tmp_path / "bank.py").write_text(source.replace("self.balance += amount", "self.balance += 100 * amount"))
    assert shell.execute(".reload") == 0
    said(shell)
    shell.execute("root.account.deposit(1); root.account.balance")
    assert said(shell)[0] == "110\n"
    assert shell.execute(".load no_such_module") == ExitCode.FINDINGS
    assert "no_such_module" in said(shell)[1]
    assert shell.execute(".reload") == ExitCode.FINDINGS


def test_help(shell, said):
    """.help lists every dot command; .help COMMAND is the command's own help, without DATABASE."""
    shell.execute(".help")
    out = said(shell)[0]
    for name in (*table_names(shell), "help", "stage", "at", "undo", "load", "reload", "pager", "quit", "missing"):
        assert f"\n  .{name} " in out
    shell.execute(".help inspect")
    out = said(shell)[0]
    assert "Usage: .inspect" in out
    assert "DATABASE" not in out.split("\n")[0]
    assert shell.execute(".help nothing") == ExitCode.USAGE


@pytest.mark.parametrize("line", [".nothing", ".inspect root['", ".inspect --nope", ".at", ".undo xyz", ".pager maybe"])
def test_bad_lines_are_told(shell, said, line):
    """A line that is no command ends with a message and the status for usage."""
    assert shell.execute(line) == ExitCode.USAGE
    assert said(shell)[1].startswith("error: ")


def test_quit_and_pager(shell, said):
    """.quit leaves; .pager is a switch."""
    with pytest.raises(Leave):
        shell.execute(".quit")
    assert [shell.pager, shell.execute(".pager"), shell.pager] == [False, 0, True]
    shell.execute(".pager off")
    assert shell.pager is False


def test_dot_commands_are_completed(shell):
    """Names, options, choices and targets are offered."""
    assert offered(shell, ".com") == [".commit"]
    assert ".inspect --format" in offered(shell, ".inspect --fo")
    assert offered(shell, ".inspect --format js") == [".inspect --format json"]
    assert offered(shell, ".inspect ro") == [".inspect root"]
    assert offered(shell, ".inspect root.acc") == [".inspect root.accounts", ".inspect root.account"]
    assert offered(shell, ".inspect root.accounts['199")[0] == ".inspect root.accounts['199']"
    assert offered(shell, ".help st") == [".help stage", ".help status"]
    assert offered(shell, ".pager o") == [".pager on", ".pager off"]
    assert offered(shell, ".nothing ") == []


def test_toolbar_and_prompt_load_nothing(shell, count_loads):
    """Drawing asks the storage for nothing, whatever the state of the session."""
    shell.execute("root.account.deposit(5)")
    loads = count_loads(shell)
    text = "".join(text for _, text in toolbar_fragments(shell))
    assert "bank.fs" in text
    assert "1 uncommitted" in text
    assert prompt_notes(shell) == []
    assert loads.count == 0


def test_locked_database_opens_read_only_and_says_who_holds_it(path, make_shell, said):
    """The pid of the other process is named; changes can be staged."""
    code = f"import ZODB; db = ZODB.DB({path!r}); print('open', flush=True); input(); db.close()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"open\n"
        shell = make_shell(path)
        lines = list(banner_lines(shell.home, None, interactive=True))
        assert str(holder.pid) in lines[2]
        assert prompt_notes(shell) == ["read-only"]
        shell.execute("root.account.deposit(5)")
        assert shell.execute(".commit") == ExitCode.LOCKED
        assert shell.execute(".stage") == 0
        assert "staged: 1 changed" in said(shell)[1]
        holder.communicate(b"\n", timeout=20)


def test_missing_classes_are_told_once(make_shell, path, said, monkeypatch, tmp_path):
    """One line names the module, the class, where it is used and what would help; then the reading goes on."""
    sys.modules.pop("bank")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    shell = make_shell(path)
    shell.execute("root.account.balance")
    out, err = said(shell)
    assert out == "10\n"
    told = [line for line in err.splitlines() if "Account " in line]
    assert len(told) == 1
    assert "module bank" in told[0]
    assert "used by root" in told[0]
    assert "-p DIR" in told[0]
    shell.execute("root.account")
    assert "Account of module" not in said(shell)[1]
    shell.execute(".missing")
    assert "Account of module bank" in said(shell)[1]


def test_the_greeting_and_help_fit_into_80_columns(shell, said, path):
    """Nothing that a new session shows wraps."""
    shell.execute(".help")
    lines = [*said(shell)[0].splitlines(), *banner_lines(shell.home, None, interactive=True)]
    assert [line.replace(path, "mydata.fs") for line in lines if len(line.replace(path, "mydata.fs")) > 79] == []
    assert not any("..." in line for line in lines)


def test_missing_class_is_told_when_it_is_met(make_shell, path, said, monkeypatch, tmp_path):
    """A reference to an object of a missing class is no reason for a warning; the object is."""
    sys.modules.pop("bank")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])
    shell = make_shell(path)
    assert shell.execute("len(root)") == 0
    assert said(shell) == ("9\n", "")
    shell.execute("root.account")
    assert "missing class Account of module bank" in said(shell)[1]


@pytest.mark.parametrize(("name", "shown"), [("less", "-R \x1b[2mdim\x1b[0m\n"), ("more", " dim\n")])
def test_pager_gets_colours_it_can_show(shell, tmp_path, monkeypatch, name, shown):
    """less is told to show them, another pager is given none."""
    import click._termui_impl

    from zodbsh.shell.pager import page

    pager = tmp_path / name
    pager.write_text(f"#!/bin/sh\n{{ printf '%s ' \"$LESS\"; cat; }} > '{tmp_path}/shown'\n")
    pager.chmod(0o755)
    monkeypatch.setenv("PAGER", str(pager))
    monkeypatch.delenv("LESS", raising=False)
    monkeypatch.setattr(click._termui_impl, "isatty", lambda stream: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: (80, 1))
    page("\x1b[2mdim\x1b[0m\n", shell.output)
    assert (tmp_path / "shown").read_text().rstrip("\n") == shown.rstrip("\n")
