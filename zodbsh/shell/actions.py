"""The dot commands that only a shell has, as click commands like the others."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import click
from ZODB.Connection import resetCaches

from zodbsh.db.imports import ModuleFailed, describe, user_traceback
from zodbsh.db.undo import prepare_undo
from zodbsh.errors import ExitCode, Unsupported, UsageError, ZodbshError
from zodbsh.ids import parse_tid, tid_text
from zodbsh.render.sizes import count_text
from zodbsh.shell.help import command_help, overview
from zodbsh.shell.missing import missing_lines
from zodbsh.shell.stage import is_staged
from zodbsh.times import parse_time, time_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from zodbsh.shell.interpreter import Shell

HEADING = "shell"

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class UncommittedChanges(ZodbshError):
    """What was asked for would drop uncommitted changes."""

    code, exit_code = "uncommitted-changes", ExitCode.FINDINGS
    hint = "First `.commit`, `.stage` or `.abort` them."


def table(shell: Shell) -> dict[str, click.Command]:
    """Return the shell's own commands by name."""
    if shell.own_commands is None:
        shell.own_commands = {command.name or "": command for command in _make(shell)}
    return shell.own_commands


def _make(shell: Shell) -> list[click.Command]:
    def command(function: Callable[..., int | None]) -> click.Command:
        name = function.__name__.rstrip("_")
        return click.command(name, context_settings=_SETTINGS)(function)

    @command
    @click.argument("name", required=False, metavar="[COMMAND]")
    def help_(name: str | None) -> int:
        """Show the dot commands, or one command's help."""
        text = overview(shell) if name is None else command_help(shell, name.removeprefix("."))
        print(text, file=shell.output.out, flush=True)
        return ExitCode.OK

    @command
    def stage() -> int:
        """Keep the changes beside the database, to be committed later."""
        return shell.stage()

    @command
    @click.argument("time", nargs=-1, required=True, metavar="TIME")
    def at(time: tuple[str, ...]) -> int:
        """Look at the past as of TIME, read-only; `.at now` comes back."""
        return look_at(shell, " ".join(time))

    @command
    @click.argument("tid", required=False, metavar="[TID]")
    def undo(tid: str | None) -> int:
        """Have .commit undo a transaction: the last one, or TID."""
        return undo_transaction(shell, shell.session.base_tid if tid is None else parse_tid(tid))

    @command
    @click.argument("module", metavar="MODULE")
    def load(module: str) -> int:
        """Import MODULE and make its name known at the prompt."""
        loaded = shell.session.load_module(module)
        shell.evaluator.namespace.update(shell.session.modules)
        shell.say(f"loaded {module} from {getattr(loaded, '__file__', None) or 'memory'}")
        return ExitCode.OK

    @command
    @click.argument("modules", nargs=-1, metavar="[MODULE]...")
    def reload(modules: tuple[str, ...]) -> int:
        """Load modules again (MODULE, or all), and the objects with them."""
        return reload_modules(shell, modules)

    @command
    def missing() -> int:
        """List the classes that are missing, and what would help."""
        for line in missing_lines(list(shell.session.missing), shell.session):
            shell.say(line)
        if not shell.session.missing:
            shell.say("no class is missing so far")
        return ExitCode.OK

    @command
    @click.argument("switch", required=False, type=click.Choice(["on", "off"]), metavar="[on|off]")
    def pager(switch: str | None) -> int:
        """Show long output page by page, or no longer."""
        shell.pager = not shell.pager if switch is None else switch == "on"
        shell.say(f"pager {'on' if shell.pager else 'off'}")
        return ExitCode.OK

    @command
    def quit_() -> int:
        """Leave; uncommitted changes are asked about."""
        from zodbsh.shell.interpreter import Leave

        raise Leave

    return [help_, stage, at, undo, load, reload, missing, pager, quit_]


def undo_transaction(shell: Shell, tid: int) -> int:
    """Show a transaction and have the next commit undo it.

    Raises NothingToUndo, Unsupported, UncommittedChanges, Conflict.
    """
    from zodbsh.ops.undoing.conflict import require_blobs_kept

    require_clean(shell)
    require_blobs_kept(shell.session, tid)
    prepare_undo(shell.session, tid)
    shell.commands.dispatch(["show", tid_text(tid)], shell.app)
    shell.say(f"{tid_text(tid)} ({time_text(tid)}) will be undone by .commit; .abort forgets it")
    return ExitCode.OK


def look_at(shell: Shell, text: str) -> int:
    """Show the past, or the present again. Raises UncommittedChanges."""
    from zodbsh.db.session import Session

    if text.strip().lower() == "now":
        if shell.session is not shell.home:
            require_kept(shell)
        shell.return_home()
        shell.say("back in the present" if shell.home.at is None else f"back {shell.home.mode_reason}")
        return ExitCode.OK
    tid = parse_time(text)
    if shell.home.spec.kind == "memory":
        raise Unsupported("the past of a database in memory cannot be opened")
    require_kept(shell)
    home = shell.home
    past = Session.open(home.spec, at=tid, import_paths=shell.import_paths, modules=(), no_import=shell.no_import)
    past.modules.update(home.modules)
    before = shell.session
    shell.look_at(past)
    if before is not home:
        before.close()
    elif before.dirty_count():
        # It is all on disk, and comes back from there: one transaction cannot hold two views.
        before.transaction.abort()
    shell.say(f"read-only, {past.mode_reason}; `.at now` comes back")
    return ExitCode.OK


def reload_modules(shell: Shell, names: tuple[str, ...]) -> int:
    """Load modules again and let every object be loaded anew. Raises UncommittedChanges."""
    require_clean(shell)
    _require_no_undo(shell)
    importlib.invalidate_caches()
    chosen = names or tuple(shell.session.modules)
    for name in chosen:
        if name not in sys.modules:
            raise UsageError(f"no module {name!r} is loaded", hint=f"`.load {name}` imports it.")
    for name in chosen:
        _reload(name)
    _load_anew(shell)
    shell.say(f"reloaded {', '.join(chosen) or 'no module'}; objects are loaded anew, names you gave hold the old ones")
    return ExitCode.OK


def _reload(name: str) -> None:
    try:
        importlib.reload(sys.modules[name])
    except Exception as exc:
        raise ModuleFailed(f"cannot reload {name!r}: {describe(exc)}", traceback=user_traceback(exc)) from exc


def _load_anew(shell: Shell) -> None:
    """Empty the connection's cache to the last ghost: ghosts too have the classes they were made with."""
    session = shell.session
    session.transaction.abort()
    session.connection.close()
    resetCaches()
    session.connection = session.db.open()
    shell.look_at(session)


def require_clean(shell: Shell) -> None:
    """Raise UncommittedChanges where there are any."""
    count = shell.session.dirty_count()
    if count:
        raise UncommittedChanges(f"{count_text(count, 'uncommitted change')} would be lost")


def require_kept(shell: Shell) -> None:
    """Raise UncommittedChanges where there are any that are not on disk as a stage.

    Of a view of the past also those that ZODB was not told of: they go with it.
    """
    session = shell.session
    _require_no_undo(shell)
    silent = len(shell.dirty().silent) if session is not shell.home else 0
    count = session.dirty_count() + silent
    if count and (silent or not is_staged(session)):
        hint = UncommittedChanges.hint if session.at is None else "First `.stage` or `.abort` them."
        raise UncommittedChanges(f"{count_text(count, 'uncommitted change')} would be lost", hint=hint)


def _require_no_undo(shell: Shell) -> None:
    if shell.session.undoing:
        raise UncommittedChanges("the undo would be forgotten", hint="First `.commit` or `.abort` it.")
