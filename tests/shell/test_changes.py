"""What becomes of uncommitted changes: in an empty database, in the past, of an undo, beside another's stage."""

from __future__ import annotations

import pytest

from zodbsh.db.spec import parse_spec
from zodbsh.errors import ExitCode
from zodbsh.shell.script import run_script
from zodbsh.stage import store
from zodbsh.times import time_text


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


OTHERS = "import subprocess, sys; _ = subprocess.run([sys.executable, '-m', 'zodbsh', 'run', path, '-c', 'root.z = 1'])"


def test_abort_leaves_the_stage_of_another_process(shell, path, run):
    """What another process has staged meanwhile stays, and is named by .status and .abort."""
    shell.evaluator.namespace["path"] = path
    out, err, status = run(shell, "root.q = 1", OTHERS, ".status", ".abort -y", ".status")
    assert (err, status) == ("", 0)
    assert "root  persistent.mapping.PersistentMapping  0x00\nnot part of this session: a stage of 1 object, " in out
    assert "dropped: 1 object\nkept: a stage of 1 object, which another process made" in out
    assert "nothing is uncommitted\nnot part of this session: a stage of 1 object, " in out
    assert [entry.oid for entry in store.load(parse_spec(path)).entries] == [0]


def test_changes_in_the_past_are_not_lost(shell, path, run):
    """Coming back with changes is refused; nothing can be committed there, and the message says so."""
    out, err, status = run(shell, f".at {shell.session.base_tid:016x}", "root.account.deposit(1)", ".at now", "1")
    assert (out, status) == ("", 1)
    assert "error: 1 uncommitted change would be lost\nhint: First `.stage` or `.abort` them.\n" in err
    _, err, status = run(shell, ".commit")
    assert status == ExitCode.UNSUPPORTED
    assert f"error: this session shows the past (as of {time_text(shell.session.at)} (" in err
    assert "): nothing can be committed here\n" in err


def test_changes_staged_in_the_past_are_continued_in_the_present(shell, path, run):
    """After .stage the way back is free, and the session goes on with the stage: its commit is the stage's."""
    first = shell.session.base_tid
    out, err, status = run(
        shell, "root.fresh = 1", ".commit", f".at {first:016x}", "root.account.deposit(1)", ".stage", ".at now",
        "root.account.balance", ".commit",
    )  # fmt: skip
    assert "goes on with what is staged: 1 changed\nback in the present\n" in err
    assert out.splitlines()[1] == "11"
    assert (status, store.load(parse_spec(path))) == (0, None)
    assert (shell.session.root.account.balance, shell.session.root.fresh) == (11, 1)


def test_staged_changes_survive_a_look_at_the_past(shell, path, run):
    """What is on disk is no reason to refuse .at; it is there again afterwards."""
    first = shell.session.base_tid
    out, err, status = run(
        shell, "root.fresh = 1", ".commit", "root.account.deposit(1)", ".stage", f".at {first:016x}",
        "'fresh' in root", ".at now", "root.account.balance",
    )  # fmt: skip
    assert (out.splitlines()[1:], status) == (["False", "11"], 0)
    assert shell.session.dirty_count() == 1
    assert "goes on with what is staged: 1 changed\nback in the present\n" in err


def test_end_of_input_in_the_past_stages(shell, path, run):
    """As in the present; a stage that waits already is not mixed with it."""
    assert run(shell, f".at {shell.session.base_tid:016x}", "root.account.deposit(1)")[2] == 0
    assert len(store.load(parse_spec(path)).entries) == 1
    _, err, status = run(shell, ".abort -y", f".at {shell.session.base_tid:016x}", "root.account.deposit(1)", ".stage")
    assert status == 0, err
    shell.session.abort()
    shell.session.known_stage = ""
    _, err, status = run(shell, "root.account.deposit(2)")
    assert status == ExitCode.CONFLICT
    assert err.startswith(f"error: {path}: a stage waits already, and changes of the past cannot be added to it\n")


def test_time_before_the_first_transaction_is_refused(shell, run):
    """With the first transaction's time."""
    out, err, status = run(shell, ".at 1999-01-01T00:00:00Z", "root.account")
    assert (out, status) == ("", ExitCode.NOT_FOUND)
    assert ": the database is not as old as 1999-01-01 00:00:00.000 UTC\nhint: Its first transaction: " in err


def test_pending_undo_is_shown(shell, run, said):
    """.status and .diff tell what the undo will change, .abort that it was dropped."""
    run(shell, "root.account.deposit(5)", ".commit")
    tid = f"{shell.session.base_tid:016x}"
    assert shell.execute(".undo") == 0
    said(shell)
    out, _, status = run(shell, ".status", ".diff", ".abort -y", ".status")
    assert out.startswith(f"uncommitted: the undo of transaction {tid} (")
    assert "changed  root.account  bank.Account  " in out
    assert "balance: 15 -> 10\n" in out
    assert f"dropped: the undo of transaction {tid} (" in out
    assert (out.splitlines()[-1], status) == ("nothing is uncommitted", 0)


def test_pending_undo_is_not_lost(shell, run):
    """The end of the input and .at say that it was not committed; it cannot be staged."""
    run(shell, "root.account.deposit(5)", ".commit")
    first = shell.session.base_tid
    _, err, status = run(shell, ".undo")
    assert status == 1
    assert err.endswith(f"not committed: the undo of {first:016x}; `.commit` as a line of its own carries it out\n")
    assert run(shell, ".stage")[1].startswith("error: an undo cannot be staged\n")
    assert run(shell, f".at {first:016x}")[1].startswith("error: the undo would be forgotten\n")
    assert run(shell, ".commit")[2] == 0
    assert shell.session.root.account.balance == 10
