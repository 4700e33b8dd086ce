"""The prompt: keys in; values, questions and database state out."""

from __future__ import annotations

import threading
import time

import pytest
import ZODB
from prompt_toolkit.application import create_app_session
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from zodbsh.shell.repl import interact

# What the prompt does in a task of its own (the menu, the history, a lone Escape) takes a moment.
PAUSE = object()

ENTER, TAB, CTRL_C, CTRL_D, ESCAPE, UP = "\r", "\t", "\x03", "\x04", "\x1b", "\x1b[A"


@pytest.fixture
def typed(said):
    """Type keys at a shell's prompt until it ends; return what it wrote to stdout and stderr, and its exit status."""

    def type_(shell, *keys, vi=False):
        with create_pipe_input() as pipe, create_app_session(input=pipe, output=DummyOutput()):

            def send():
                for key in keys:
                    if key is PAUSE:
                        time.sleep(1.5)
                    else:
                        pipe.send_text(key)
                # A shell that asks more than the test answers meets the end of its input.
                pipe.close()

            hands = threading.Thread(target=send)
            hands.start()
            status = interact(shell, history=InMemoryHistory(), vi=vi)
            hands.join()
        return (*said(shell), status)

    return type_


@pytest.fixture
def stored(path):
    """Read a root entry back with plain ZODB, after the shell has let go of the file."""

    def read(shell, name):
        shell.close()
        db = ZODB.DB(path)
        try:
            with db.transaction() as connection:
                found = connection.root().get(name)
                return found if not hasattr(found, "balance") else found.balance
        finally:
            db.close()

    return read


def test_values_are_shown(shell, typed):
    """Each cell's value comes out, the last one stays in _."""
    out, err, status = typed(shell, "6 * 7", ENTER, "_ + 1", ENTER, CTRL_D)
    assert (out, err, status) == ("42\n43\n", "", 0)


def test_cell_of_several_lines(shell, typed):
    """Enter in an unfinished block begins an indented line; an empty one runs it."""
    out, _, _ = typed(shell, "def f(x):", ENTER, "return x + 1", ENTER, ENTER, "f(1)", ENTER, CTRL_D)
    assert out == "2\n"


def test_escape_enter_begins_a_line(shell, typed):
    """Two statements can be one cell."""
    out, _, _ = typed(shell, "a = 1", ESCAPE, ENTER, "a + 1", ENTER, CTRL_D)
    assert out == "2\n"


def test_pasted_block_runs_as_it_is(shell, typed):
    """A bracketed paste keeps its own indentation."""
    paste = "\x1b[200~for n in range(2):\n    print(n)\n\nprint('end')\x1b[201~"
    typed(shell, paste, ENTER, "n", ENTER, CTRL_D)
    assert shell.evaluator.namespace["n"] == 1


def test_tab_completes_a_key(shell, typed):
    """A key typed in part is completed from the database."""
    out, _, _ = typed(shell, "root['nam", TAB, PAUSE, ENTER, CTRL_D)
    assert out == "Named Ann\n"


def test_tab_indents_an_empty_line(shell, typed):
    """At the beginning of a line Tab is four spaces, Backspace takes them back."""
    out, _, _ = typed(shell, "if 1:", ENTER, "\x7f", TAB, "x = 5", ENTER, ENTER, "x", ENTER, CTRL_D)
    assert out == "5\n"


def test_ctrl_c_clears_the_line(shell, typed):
    """What was typed is gone, the session is not."""
    out, err, status = typed(shell, "a = 1", ENTER, "garbage(", CTRL_C, "a", ENTER, CTRL_D)
    assert (out, err, status) == ("1\n", "", 0)


def test_interrupt_of_running_code_keeps_the_session(shell, typed):
    """Ctrl-C during evaluation returns to the prompt with every change still there."""
    keys = ("root.a = 1", ENTER, "raise KeyboardInterrupt", ENTER, "root.a", ENTER, CTRL_D, "a")
    out, err, _ = typed(shell, *keys)
    assert out.startswith("1\n")
    assert err.startswith("interrupted\n")


def test_history_is_offered(shell, typed):
    """The arrow brings back the last cell, whole."""
    out, _, _ = typed(shell, "2 + 3", ENTER, PAUSE, UP, PAUSE, ENTER, CTRL_D)
    assert out == "5\n5\n"


def test_vi_keys(shell, typed):
    """With --vi, Escape leads to commands."""
    out, _, _ = typed(shell, "1 + 2", ESCAPE, PAUSE, "0", "x", "i", "7", ENTER, CTRL_D, vi=True)
    assert out == "9\n"


def test_line_without_an_end_is_not_overwritten(shell, typed, capsys):
    """What the user's code prints last is ended before the prompt comes."""
    typed(shell, "print('x', end='')", ENTER, "print('y')", ENTER, CTRL_D)
    assert capsys.readouterr().out == "x\ny\n"


def test_error_of_the_user_is_a_traceback_of_theirs(shell, typed):
    """The error is shown, and the shell goes on."""
    out, err, _ = typed(shell, "1/0", ENTER, "2", ENTER, CTRL_D)
    assert out == "2\n"
    assert err.startswith('Traceback (most recent call last):\n  File "<cell 1>", line 1, in <module>\n')


def test_leaving_a_clean_session_asks_nothing(shell, typed):
    """Ctrl-D and .quit end it at once; SystemExit with its status."""
    assert typed(shell, CTRL_D) == ("", "", 0)
    assert typed(shell, ".quit", ENTER) == ("", "", 0)
    assert typed(shell, "raise SystemExit(3)", ENTER) == ("", "", 3)
    assert typed(shell, "import sys; sys.exit('why')", ENTER) == ("", "why\n", 1)


@pytest.mark.parametrize("leave", [CTRL_D, ".quit" + ENTER, "exit()" + ENTER])
def test_leaving_with_changes_asks(shell, typed, stored, leave):
    """What is dirty is shown; staying keeps the session, committing saves."""
    out, err, status = typed(
        shell, "root.account.deposit(5)", ENTER, leave, ENTER, "'stayed'", ENTER, leave, "c", ENTER
    )
    assert out.startswith("'stayed'\n")
    assert "1 changed\n  changed  root.account" in err
    assert status == 0
    assert stored(shell, "account") == 15


def test_leaving_with_abort_drops_changes(shell, typed, stored):
    """Nothing is saved, nothing staged."""
    typed(shell, "root.account.deposit(5)", ENTER, CTRL_D, "a", ENTER)
    assert stored(shell, "account") == 10


def test_leaving_with_stage_keeps_changes(shell, make_shell, path, typed):
    """The changes are on disk; the next session goes on with them, and leaves them there without a question."""
    from zodbsh.stage.live import continue_stage

    _, err, _ = typed(shell, "root.account.deposit(5)", ENTER, CTRL_D, "s", ENTER)
    assert "staged: 1 changed" in err
    shell.close()
    again = make_shell(path)
    continue_stage(again.session)
    out, err, _ = typed(again, "root.account.balance", ENTER, CTRL_D)
    assert out == "15\n"
    assert "the stage is kept" in err


def test_interrupted_question_stays(shell, typed):
    """Ctrl-C at the question goes back to the prompt; the end of input stages what there is."""
    out, err, _ = typed(shell, "root.account.deposit(5)", ENTER, CTRL_D, CTRL_C, "'here'", ENTER, CTRL_D, CTRL_D)
    assert out.startswith("'here'\n")
    assert "staged: 1 changed" in err


def test_commit_shows_what_is_dirty(shell, typed, stored):
    """.commit lists the objects by path, then commits."""
    _, err, _ = typed(shell, "root.account.deposit(5); root.fresh = 1", ENTER, ".commit", ENTER, CTRL_D)
    assert "2 changed\n" in err
    assert "  changed  root " in err
    assert "  changed  root.account " in err
    assert stored(shell, "account") == 15


def test_silent_mutation_is_marked_changed(shell, typed, stored):
    """A list changed in place is found, and saved when the user says so."""
    _, err, _ = typed(shell, "root.account.tags.append('c')", ENTER, ".commit", ENTER, "c", ENTER, CTRL_D)
    assert "silent" in err
    assert "root.account" in err
    stored(shell, "account")
    assert shell.evaluator.namespace["root"] is not None


def test_silent_mutation_is_reverted(shell, typed):
    """The stored state is loaded again, and the session is clean."""
    keys = ("root.account.tags.append('c')", ENTER, ".commit", ENTER, "r", ENTER, "root.account.tags", ENTER, CTRL_D)
    out, _, _ = typed(shell, *keys)
    assert out.endswith("['a', 'b']\n")


def test_commit_by_hand_is_told(shell, typed, stored):
    """transaction.commit() works; the shell names the transaction, and what it missed."""
    keys = ("root.account.deposit(5); root.account.owner.tags.append(3)", ENTER, "transaction.commit()", ENTER)
    _, err, _ = typed(shell, *keys, CTRL_D, "a", ENTER)
    assert err.startswith(f"committed {shell.home.base_tid:016x}\n")
    assert "warning: root.account.owner" in err
    assert stored(shell, "account") == 15


def test_classes_of_the_prompt_are_asked_about(shell, typed, stored):
    """An object whose class is __main__'s is committed only after a yes."""
    keys = ("class C(__import__('persistent').Persistent): pass", ENTER, ENTER, "root.c = C()", ENTER, ".commit", ENTER)
    _, err, _ = typed(shell, *keys, "n", ENTER, CTRL_D, "a", ENTER)
    assert "__main__.C" in err
    assert stored(shell, "c") is None


def test_end_from_outside_stages(shell, typed, path):
    """When the program is told to end, what is uncommitted is on disk as a stage."""
    from zodbsh.cli.main import Stopped
    from zodbsh.db.spec import parse_spec
    from zodbsh.stage import store

    shell.evaluator.namespace["Stopped"] = Stopped
    with pytest.raises(Stopped):
        typed(shell, "root.account.deposit(5)", ENTER, "raise Stopped(15)", ENTER)
    assert len(store.load(parse_spec(path)).entries) == 1


def test_leaving_the_past_with_changes_asks(shell, typed, path):
    """Ctrl-D in the past shows what is dirty and offers no commit; what is staged is kept."""
    from zodbsh.db.spec import parse_spec
    from zodbsh.stage import store

    at = f".at {shell.session.base_tid:016x}"
    keys = ("root.account.deposit(5)", ENTER, CTRL_D, "c", ENTER, "'stayed'", ENTER, CTRL_D, "s", ENTER)
    out, err, status = typed(shell, at, ENTER, *keys)
    assert (out, status) == ("'stayed'\n", 0)
    assert "1 changed\n  changed  root.account" in err
    assert len(store.load(parse_spec(path)).entries) == 1


def test_leaving_with_an_undo_asks(shell, typed, stored):
    """A prepared undo is an uncommitted change: it can be committed or dropped, not staged."""
    keys = ("root.account.deposit(5)", ENTER, ".commit", ENTER, ".undo", ENTER, CTRL_D, "s", ENTER, "'stayed'", ENTER)
    out, err, status = typed(shell, *keys, CTRL_D, "c", ENTER)
    assert out.count("'stayed'\n") == 1
    assert "  undo     transaction " in err
    assert "  undone   root.account  bank.Account\n" in err
    assert status == 0
    assert stored(shell, "account") == 10
