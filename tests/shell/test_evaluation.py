"""Cells: values, completeness, top-level await, tracebacks of the user's frames."""

from __future__ import annotations

import inspect
import sys

import pytest

from zodbsh.shell.evaluation import Evaluator, traceback_text


@pytest.fixture
def evaluator():
    with Evaluator({}) as evaluator:
        yield evaluator


def test_value_of_the_last_expression(evaluator):
    """A cell's value is that of its last expression; ``_`` keeps it."""
    assert evaluator.run("a = 20\na + 1") == (21, True, None)
    assert evaluator.run("_ * 2") == (42, True, None)
    assert evaluator.run("None") == (None, False, None)
    assert evaluator.run("_").value == 42
    assert evaluator.run("a = 1") == (None, False, None)


def test_await_at_the_top_level(evaluator):
    """Await works outside functions, and one loop serves the whole session."""
    evaluator.run("import asyncio\nloop = None\nasync def f(): return asyncio.get_running_loop()")
    evaluator.run("first = await f()")
    assert evaluator.run("await f() is first").value is True
    assert evaluator.run("[await asyncio.sleep(0, n) for n in range(3)]").value == [0, 1, 2]


def test_future_statements_last(evaluator):
    """What one cell imports from __future__ holds for the next."""
    evaluator.run("from __future__ import annotations")
    assert evaluator.run("def f(a: Nowhere): pass").error is None


def test_traceback_has_the_users_frames_and_source(evaluator):
    """A traceback begins at the cell and shows its lines; no frame is zodbsh's."""
    evaluator.run("def f(x):\n    return 1 / x")
    error = evaluator.run("f(0)").error
    text = traceback_text(error)
    assert text.startswith('Traceback (most recent call last):\n  File "<cell 2>", line 1, in <module>\n    f(0)\n')
    assert '  File "<cell 1>", line 2, in f\n    return 1 / x\n' in text
    assert text.endswith("ZeroDivisionError: division by zero")
    assert "zodbsh" not in text


def test_traceback_of_a_chain(evaluator):
    """Causes lose the frames that are not the user's, too."""
    text = traceback_text(evaluator.run("try:\n    1/0\nexcept Exception as e:\n    raise KeyError('k') from e").error)
    assert text.count('File "<cell 1>"') == 2
    assert "zodbsh" not in text


def test_traceback_of_awaited_code(evaluator):
    """Frames of asyncio are left out."""
    text = traceback_text(evaluator.run("async def g(): 1/0\nawait g()").error)
    assert text.count("File ") == 2
    assert "asyncio" not in text


def test_traceback_escapes_what_an_exception_says(evaluator):
    """A message cannot move the cursor or be a dot command."""
    text = traceback_text(evaluator.run("raise ValueError('\\x1b[2J\\n.quit')").error)
    assert "\x1b" not in text
    assert "\n.quit" not in text


def test_syntax_error_has_no_frames(evaluator):
    """A line that is no Python shows where, and nothing else."""
    text = traceback_text(evaluator.run("1 +").error)
    assert text.split("\n")[0] == '  File "<cell 1>", line 1'
    assert text.endswith("SyntaxError: invalid syntax")


def test_source_of_a_function_can_be_read(evaluator):
    """inspect finds what was typed."""
    evaluator.run("def f():\n    return 'here'")
    assert inspect.getsource(evaluator.namespace["f"]) == "def f():\n    return 'here'\n"


def test_classes_are_found_where_pickle_looks(evaluator):
    """A class defined at the prompt is __main__'s, until the shell ends."""
    evaluator.run("class C: pass")
    assert sys.modules["__main__"].C is evaluator.namespace["C"]
    evaluator.__exit__()
    assert not hasattr(sys.modules["__main__"], "C")


def test_exceptions_of_every_kind_come_back(evaluator):
    """SystemExit, KeyboardInterrupt and the user's own BaseException end the cell, not the shell."""
    assert isinstance(evaluator.run("raise SystemExit(3)").error, SystemExit)
    assert isinstance(evaluator.run("raise KeyboardInterrupt").error, KeyboardInterrupt)
    assert isinstance(evaluator.run("class B(BaseException): pass\nraise B").error, BaseException)


@pytest.mark.parametrize(
    ("source", "finished"),
    [
        ("1 + 1", True),
        ("x = [1,", False),
        ("def f():", False),
        ("def f():\n    return 1", False),
        ("def f():\n    return 1\n", True),
        ("def f():\n    return 1\n    ", True),
        ("if 1: 2", False),
        ("a = 1\nb = 2", True),
        ("'''open", False),
        ("1 +", True),
        ("await f()", True),
        ("@decorator", False),
        ("# only a comment", True),
        ("  indented = 1", True),
        ("\0", True),
    ],
)
def test_enter_runs_what_is_whole(evaluator, source, finished):
    """A statement runs when it is whole, a block after an empty line, an error at once."""
    assert evaluator.is_finished(source) is finished
