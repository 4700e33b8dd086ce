"""``run``: a script, its transaction, and what becomes of it."""

from __future__ import annotations

import sys

import pytest
import transaction

from zodbsh.db.imports import UserCodeFailed
from zodbsh.db.locks import DatabaseLocked
from zodbsh.db.session import Session
from zodbsh.db.spec import parse_spec
from zodbsh.db.writer import CannotSave
from zodbsh.errors import UsageError
from zodbsh.ops.run import Script, ScriptFailed, read_script, run
from zodbsh.stage import store


@pytest.fixture
def script(path):
    """Run code on the database."""

    def execute(code, *argv, **options):
        return run(parse_spec(str(path)), Script(code, "<code>", ("-c", *argv)), **options)

    return execute


def staged(path):
    return store.load(parse_spec(str(path)))


def test_what_is_left_uncommitted_is_staged(path, script, bank):
    before = path.read_bytes()
    result = script(
        "root.account.deposit(1)\nroot.account.friend = bank.Account()", modules=["bank"], note="n", user="u"
    )
    assert (result.exit_code, result.kept.saved, result.kept.changed, result.kept.new) == (0, True, 1, 1)
    assert staged(path) == result.kept.stage
    assert (staged(path).note, staged(path).user) == ("n", "u")
    assert path.read_bytes() == before


def test_what_the_code_commits_is_committed(path, script, witness):
    result = script("root.account.deposit(1); transaction.commit(); root.counter.value = 9")
    assert (result.kept.changed, [entry.oid for entry in staged(path).entries]) == (1, [2])
    with witness(path) as root:
        assert (root["account"].balance, root["counter"].value) == (11, 0)


def test_the_names_of_a_script(script, bank):
    script(
        "import sys\n"
        "assert __name__ == '__main__'\n"
        "assert sys.argv == ['-c', 'one', '--two'], sys.argv\n"
        "assert sys.modules['__main__'].root is root\n"
        "assert db.storage and connection.root() is root()\n"
        "assert transaction.get() and bank.Account",
        "one",
        "--two",
        modules=["bank"],
    )


def test_nothing_of_a_script_stays(script):
    before = sys.modules["__main__"], sys.argv, list(sys.path)
    script("x = 1", import_paths=["."])
    assert (sys.modules["__main__"], sys.argv, sys.path) == before


def test_committing_at_the_end(path, script, witness):
    result = script("root.account.deposit(1)", commit=True, note="n", user="u")
    assert (result.committed.objects, result.kept, staged(path)) == (1, None, None)
    with witness(path) as root:
        assert root["account"].balance == 11
        (info,) = root._p_jar.db().undoInfo(0, 1)
        assert (info["description"], info["user_name"]) == ("n", "u")


def test_nothing_to_commit(script):
    assert script("1", commit=True).committed is None


def test_a_dry_run_shows_and_drops(path, script):
    before = path.read_bytes()
    result = script("root.account.deposit(1)", dry_run=True)
    ((item,),) = (result.diff.objects,)
    assert [(change.name, change.old, change.new) for change in item.attributes] == [("balance", 10, 11)]
    assert (result.kept, staged(path), path.read_bytes()) == (None, None, before)


def test_a_dry_run_leaves_the_stage(path, script):
    script("root.account.deposit(1)")
    before = staged(path)
    result = script("root.account.deposit(1)", dry_run=True)
    assert result.diff.objects[0].attributes[0].new == 12
    assert staged(path) == before


def test_a_stage_is_continued(path, script):
    first = script("root.account.deposit(1)").kept.stage
    second = script("assert root.account.balance == 11; root.account.deposit(1); root.counter.value = 1").kept
    assert (second.changed, second.stage.created) == (2, first.created)
    assert script("assert root.account.balance == 12").kept == (second.stage, False)


def test_a_script_that_fails_stages_nothing(path, script):
    before = path.read_bytes()
    with pytest.raises(ScriptFailed) as caught:
        script("def f():\n    raise ValueError('no')\n\nroot.account.deposit(1)\nf()")
    assert (caught.value.message, caught.value.exit_code) == ("ValueError: no", 1)
    told = caught.value.traceback
    assert [line.strip() for line in told.splitlines() if "File" in line] == [
        'File "<code>", line 5, in <module>',
        'File "<code>", line 2, in f',
    ]
    assert "raise ValueError('no')" in told
    assert (staged(path), path.read_bytes()) == (None, before)


def test_a_script_that_fails_leaves_the_stage(path, script):
    script("root.account.deposit(1)")
    before = staged(path)
    with pytest.raises(ScriptFailed):
        script("root.account.deposit(1); 1/0")
    assert staged(path) == before


def test_a_syntax_error_is_the_scripts(script):
    with pytest.raises(ScriptFailed, match="SyntaxError") as caught:
        script("root.account.deposit(")
    assert "root.account.deposit(" in caught.value.traceback
    assert "zodbsh" not in caught.value.traceback


@pytest.mark.parametrize(
    ("code", "exit_code", "message"),
    [("0", 0, ""), ("None", 0, ""), ("3", 3, ""), ("256", 0, ""), ("'too bad'", 1, "too bad")],
)
def test_a_script_may_say_how_it_ends(path, script, code, exit_code, message):
    """Only an end without an error stages."""
    result = script(f"root.account.deposit(1)\nraise SystemExit({code})")
    assert (result.exit_code, result.message) == (exit_code, message)
    assert (staged(path) is not None) == (exit_code == 0)


def test_what_is_no_exception_passes(path, script):
    """An interrupt ends the program, not only the script."""
    with pytest.raises(KeyboardInterrupt):
        script("root.account.deposit(1); raise KeyboardInterrupt")
    assert staged(path) is None


def test_warnings_of_what_would_be_lost(script):
    result = script(
        "root.account.entries.append(1)\n"
        "from persistent import Persistent\n"
        "class Mine(Persistent): pass\n"
        "root.mine = Mine()"
    )
    assert [item.path for item in result.dirty.silent] == ["root.account"]
    assert result.dirty.main_classes == ("__main__.Mine",)


def test_missing_classes_are_told(path, script, bank, monkeypatch):
    monkeypatch.delattr(bank, "Account")
    assert [found.dotted for found in script("root.account.balance").missing] == ["bank.Account"]
    assert script("root.account").missing == ()


def test_what_cannot_be_saved_is_not_staged(path, script):
    with pytest.raises(CannotSave, match="attribute 'broken'"):
        script("root.account.broken = lambda: 0")
    assert staged(path) is None


def test_beside_a_writer_it_stages(path, script):
    """And says that it cannot commit before it runs anything."""
    with Session.open(str(path)) as writer:
        transaction.begin()
        result = script("root.account.deposit(1)")
        assert result.read_only == f"{path}: already open for writing in this process"
        assert result.kept.changed == 1
        with pytest.raises(DatabaseLocked):
            script("raise AssertionError('it ran')", commit=True)
        assert writer.connection.opened


def test_memory_keeps_nothing(bank):
    result = run(parse_spec(":memory:"), Script("root.x = 1", "<code>", ("-c",)))
    assert (result.lost, result.kept) == (1, None)


def test_reading_a_script(tmp_path):
    """Decoded as Python decodes it."""
    path = tmp_path / "s.py"
    path.write_bytes("# -*- coding: latin-1 -*-\nx = 'süß'\n".encode("latin-1"))
    assert read_script(str(path)).endswith("x = 'süß'\n")
    path.write_bytes(b"x = '\xff'")
    with pytest.raises(UsageError, match="no Python source"):
        read_script(str(path))
    with pytest.raises(UsageError, match="no such script"):
        read_script(str(tmp_path / "no.py"))


@pytest.mark.parametrize(
    "code", ["db.close()", "connection.close()", "transaction.commit(); connection.close(); db.close()"]
)
def test_a_script_may_close_what_it_was_given(path, script, code):
    """As scripts do that were written for plain ZODB."""
    result = script(code)
    assert (result.exit_code, staged(path)) == (0, None)
    with Session.open(str(path)) as session:
        assert session.writable


def test_a_doomed_transaction_is_not_staged(path, script):
    with pytest.raises(UserCodeFailed, match="doomed"):
        script("root.account.deposit(1); transaction.doom()")
    assert staged(path) is None


def test_an_exception_group_shows_the_scripts_frames(script):
    with pytest.raises(ScriptFailed) as caught:
        script("raise ExceptionGroup('several', [ValueError(1), KeyError(2)])")
    assert "zodbsh" not in caught.value.traceback
    assert "KeyError: 2" in caught.value.traceback
