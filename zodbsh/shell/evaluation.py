"""Running what is typed: cells of Python, each with its source kept for tracebacks.

A cell is compiled like a module; its last expression is its value. ``await`` is
allowed at the top level. A traceback shows the user's frames only.
"""

from __future__ import annotations
import __future__

import ast
import codeop
import inspect
import linecache
import os
import sys
import textwrap
import traceback
import types
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from zodbsh.render.gate import escape_lines

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Iterator

Completeness = Literal["complete", "incomplete", "invalid"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_MACHINERY = (f"{os.sep}asyncio{os.sep}", f"{os.sep}prompt_toolkit{os.sep}", f"{os.sep}click{os.sep}")
_COMPOUND = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.If, ast.For, ast.AsyncFor, ast.While, ast.With,
    ast.AsyncWith, ast.Try, ast.TryStar, ast.Match,
)  # fmt: skip
_CONTINUES = ("else", "elif", "except", "finally")


class Outcome(NamedTuple):
    """What running a cell came to: its value (``has_value``), or the exception that ended it."""

    value: Any = None
    has_value: bool = False
    error: BaseException | None = None


class Evaluator:
    """Compiles and runs cells in one namespace, that of a module called ``__main__``."""

    def __init__(self, names: dict[str, Any]) -> None:
        self.module = types.ModuleType("__main__")
        self.namespace: dict[str, Any] = vars(self.module)
        self.namespace.update(names)
        self._command = codeop.CommandCompiler()
        self._command.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._cells = 0
        self._runner: asyncio.Runner | None = None
        self._main = sys.modules.get("__main__")

    def __enter__(self) -> Self:
        # A class defined at the prompt is pickled as __main__.Name, and looked up there.
        sys.modules["__main__"] = self.module
        return self

    def __exit__(self, *_: object) -> None:
        if self._main is not None and sys.modules.get("__main__") is self.module:
            sys.modules["__main__"] = self._main
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def completeness(self, source: str) -> Completeness:
        """Tell whether the source can run, needs more lines, or never will be Python."""
        try:
            code = self._command(dedented(source), "<input>", "exec")
        except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
            return "invalid"
        return "incomplete" if code is None else "complete"

    def is_finished(self, source: str) -> bool:
        """Tell whether Enter at the end of the source runs it.

        As at Python's own prompt, a block of several lines ends with an empty one.
        """
        state = self.completeness(source)
        if state != "complete":
            return state == "invalid"
        last_line = source.rpartition("\n")[2]
        return ("\n" in source and not last_line.strip()) or not is_block(source)

    def run(self, source: str) -> Outcome:
        """Run one cell; whatever ends it is in the outcome. ``_`` becomes its value."""
        self._cells += 1
        source = dedented(source)
        filename = f"<cell {self._cells}>"
        # A traceback's markers are counted on lines that end with a line feed.
        remember_source(filename, f"{source}\n".splitlines(keepends=True))
        try:
            tree = self._parse(source, filename)
        except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError) as exc:
            return Outcome(error=exc)
        return self.run_tree(tree, filename)

    def statements(self, source: str, filename: str, *, first_line: int = 1) -> Iterator[ast.Module]:
        """Parse the source and yield each of its statements as a tree of its own. Raises SyntaxError."""
        try:
            tree = self._parse(source, filename)
        except SyntaxError as exc:
            exc.lineno = exc.lineno and exc.lineno + first_line - 1
            exc.end_lineno = exc.end_lineno and exc.end_lineno + first_line - 1
            raise
        for statement in tree.body:
            yield ast.Module([ast.increment_lineno(statement, first_line - 1)], [])

    def run_tree(self, tree: ast.Module, filename: str) -> Outcome:
        """Run parsed statements; the value is that of the last one, where it is an expression."""
        body = tree.body
        last = body[-1] if body else None
        expression = last.value if isinstance(last, ast.Expr) else None
        try:
            before = body[:-1] if expression is not None else body
            if before:
                self._execute(compile(ast.Module(before, []), filename, "exec", self._flags, True))
            if expression is None:
                return Outcome()
            value = self._execute(compile(ast.Expression(expression), filename, "eval", self._flags, True))
        except BaseException as exc:  # noqa: BLE001
            # Ctrl-C, SystemExit and the user's own errors: the loop decides what each means.
            return Outcome(error=exc)
        if value is not None:
            self.namespace["_"] = value
        return Outcome(value, value is not None)

    def _parse(self, source: str, filename: str) -> ast.Module:
        tree = compile(source, filename, "exec", self._flags | ast.PyCF_ONLY_AST, True)
        assert isinstance(tree, ast.Module)
        for statement in tree.body:
            if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
                for alias in statement.names:
                    if alias.name in __future__.all_feature_names:
                        self._flags |= getattr(__future__, alias.name).compiler_flag
        return tree

    def _execute(self, code: types.CodeType) -> Any:
        if not code.co_flags & inspect.CO_COROUTINE:
            return eval(code, self.namespace)  # noqa: S307  the user's own code is what a shell runs
        import asyncio

        if self._runner is None:
            # One loop for the whole session: what one cell opened, the next may await.
            self._runner = asyncio.Runner()
        return self._runner.run(eval(code, self.namespace))  # noqa: S307


def dedented(source: str) -> str:
    """Return the source without the indentation that all of its lines share."""
    return textwrap.dedent(source) if source[:1] in (" ", "\t", "\n") else source


def is_block(source: str) -> bool:
    """Tell whether the last statement of (valid) source is a compound one, that further lines may belong to."""
    try:
        body = compile(dedented(source), "<input>", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, True)
    except (SyntaxError, ValueError, OverflowError, MemoryError, RecursionError):
        return False
    assert isinstance(body, ast.Module)
    return bool(body.body) and isinstance(body.body[-1], _COMPOUND)


def continues_block(line: str) -> bool:
    """Tell whether a line that is not indented still belongs to the block before it."""
    word = line.split(":", maxsplit=1)[0].split("(", maxsplit=1)[0].split()
    return bool(word) and word[0] in _CONTINUES


def remember_source(filename: str, lines: list[str]) -> None:
    """Keep a cell's lines where tracebacks, inspect and pdb look for them; the list may grow later."""
    # Without a modification time linecache never drops it.
    linecache.cache[filename] = (0, None, lines, filename)


def traceback_text(error: BaseException) -> str:
    """Return the error as Python prints it, with the user's frames only, escaped."""
    told = traceback.TracebackException.from_exception(error, compact=True)
    seen: set[int] = set()
    _keep_user_frames(told, seen)
    if isinstance(error, SyntaxError) and not told.stack:
        text = "".join(told.format_exception_only())
    else:
        text = "".join(told.format())
    return escape_lines(text.rstrip("\n"))


def _keep_user_frames(told: traceback.TracebackException, seen: set[int]) -> None:
    if id(told) in seen:
        return
    seen.add(id(told))
    told.stack = traceback.StackSummary.from_list(_user_frames(told.stack))
    inner: Iterable[traceback.TracebackException | None] = (told.__cause__, told.__context__, *(told.exceptions or ()))
    for other in inner:
        if other is not None:
            _keep_user_frames(other, seen)


def _user_frames(frames: Iterable[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    return [
        frame
        for frame in frames
        if not frame.filename.startswith(_PACKAGE) and not any(part in frame.filename for part in _MACHINERY)
    ]
