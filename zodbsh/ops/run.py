"""``run``: execute a script in one transaction, and keep what it leaves uncommitted as a stage."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from zodbsh.db.changes import Dirty, MissingClass
from zodbsh.db.imports import UserCodeFailed, describe, user_traceback
from zodbsh.db.spec import Spec
from zodbsh.errors import UsageError
from zodbsh.ops.diff import DiffResult, diff_session
from zodbsh.ops.dirty import warnings
from zodbsh.ops.places import keep_with_places
from zodbsh.publish import OutcomeUnknown
from zodbsh.stage.live import Kept, continue_stage

if TYPE_CHECKING:
    from zodbsh.db.session import Committed


class ScriptFailed(UserCodeFailed):
    """The script raised; nothing was staged, and what it had not committed is dropped."""

    code = "script-failed"


class Script(NamedTuple):
    """What to run: its text, the name its tracebacks give it, and sys.argv."""

    text: str
    name: str
    argv: tuple[str, ...]


class RunResult(NamedTuple):
    """How a script ended.

    ``exit_code`` is what the script asked for with SystemExit, 0 otherwise;
    ``message`` is the text it gave with it. One of the following is set at most:
    ``kept`` (staged), ``committed`` (--commit), ``diff`` (--dry-run). ``lost``
    counts objects that a database in memory takes with it, ``dropped`` the
    uncommitted ones that the script dropped by closing the database.
    ``continued`` is what was staged before, and is a part of the script's transaction.
    """

    exit_code: int = 0
    message: str = ""
    kept: Kept | None = None
    committed: Committed | None = None
    diff: DiffResult | None = None
    lost: int = 0
    dropped: int = 0
    continued: Kept | None = None
    read_only: str = ""
    dirty: Dirty = Dirty()
    missing: tuple[MissingClass, ...] = ()


def run(
    spec: Spec,
    script: Script,
    *,
    import_paths: Iterable[str] = (),
    modules: Iterable[str] = (),
    blobs: str | None = None,
    commit: bool = False,
    dry_run: bool = False,
    note: str = "",
    user: str = "",
) -> RunResult:
    """Run a script on a database; a stage that is there is continued.

    Raises ScriptFailed (the script's exception), ModuleFailed, CannotSave,
    StageConflict, and what opening and committing raise.
    """
    from zodbsh.db.session import Session

    if blobs is not None:
        spec = replace(spec, blob_dir=blobs)
    with Session.open(spec, import_paths=import_paths, modules=modules) as session:
        if commit and session.mode_error is not None:
            raise session.mode_error
        stage = continue_stage(session)
        continued = None if stage is None else Kept(stage, saved=False)
        with as_main(script, session.namespace()) as module:
            ended = execute(script, module)._replace(read_only=session.mode_reason, continued=continued)
            if ended.exit_code:
                return ended
            ended = ended._replace(dirty=warnings(session), missing=session.missing_loaded)
            if session.db.closed:
                ended = ended._replace(dropped=session.db.dropped)
            elif dry_run:
                return ended._replace(diff=diff_session(session))
            if commit:
                pending = session.pending().entries
                return ended._replace(committed=session.commit(note=note, user=user) if pending else None)
            if spec.kind == "memory":
                return ended._replace(lost=len(session.pending().entries))
            return ended._replace(kept=keep_with_places(session, note=note, user=user))


@contextmanager
def as_main(script: Script, names: dict[str, Any]) -> Iterator[ModuleType]:
    """Give the script's module, which is ``__main__`` for the block: pickling looks up its classes there."""
    module = ModuleType("__main__")
    module.__dict__.update(names, __file__=script.name, __builtins__=__builtins__)
    before = sys.modules["__main__"], sys.argv
    sys.modules["__main__"], sys.argv = module, list(script.argv)
    # Tracebacks show the source of what is no file, too.
    linecache.cache[script.name] = (len(script.text), None, script.text.splitlines(keepends=True), script.name)
    try:
        yield module
    finally:
        sys.modules["__main__"], sys.argv = before


def execute(script: Script, module: ModuleType) -> RunResult:
    """Run a script in its module; return its exit code.

    Raises ScriptFailed, OutcomeUnknown, and what is no Exception.
    """
    try:
        exec(compile(script.text, script.name, "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except SystemExit as exc:
        return _exit(exc)
    except OutcomeUnknown:
        raise
    except Exception as exc:
        raise ScriptFailed(describe(exc), traceback=user_traceback(exc), hint="Nothing was staged.") from exc
    return RunResult()


def read_script(path: str) -> str:
    """Return a script's text, decoded as Python does. Raises UsageError where it is no Python source."""
    import tokenize

    try:
        with tokenize.open(path) as file:
            return file.read()
    except FileNotFoundError:
        raise UsageError(f"{path}: no such script") from None
    except (SyntaxError, UnicodeDecodeError) as exc:
        raise UsageError(f"{path}: no Python source ({exc})") from exc


def _exit(exc: SystemExit) -> RunResult:
    if exc.code is None or isinstance(exc.code, int):
        return RunResult((exc.code or 0) & 0xFF)
    return RunResult(1, str(exc.code))
