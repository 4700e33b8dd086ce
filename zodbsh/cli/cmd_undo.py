"""``zodbsh undo``."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from zodbsh.cli import options
from zodbsh.errors import ExitCode, UsageError
from zodbsh.ids import parse_tid
from zodbsh.render.output import OutputFailed, emit, report
from zodbsh.render.sizes import count_text

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.db.spec import Spec
    from zodbsh.ops.undoing.undo import UndoPlan
    from zodbsh.render.output import Output, View


@options.command(
    examples=(
        "zodbsh undo mydata.fs 03f8a1b2c3d4e5f6",
        "zodbsh undo mydata.fs 03f8a1b2c3d4e5f6 03f8a1b2c3d4e5f0 --dry-run",
        "zodbsh undo mydata.fs --after '2 hours ago'",
        "zodbsh undo mydata.fs --redo",
    )
)
@options.database_argument
@click.argument("tids", nargs=-1, metavar="[TID]...")
@click.option("--after", type=options.TIME, help="Take a file back: all that is later goes, and is kept.")
@click.option(
    "--redo",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Put back what --after took off [default: the last].",
)
@click.option("--keep", is_flag=True, help="With --redo: leave the file with what was put back.")
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@click.option("-m", "--note", default="", metavar="TEXT", help="The description of the undo's transaction.")
@click.option("--user", default="", metavar="NAME", help="The user of the undo's transaction.")
@options.path_option
@click.option("--module", "modules", multiple=True, metavar="MODULE", help="Import MODULE first (repeatable).")
@click.option("--force", is_flag=True, help="Also where references would lead nowhere.")
@click.option("--blobs", metavar="DIR", type=options.BLOBS, help="The folder of the database's blobs.")
@options.yes_option
@options.output_options
def command(
    database: Database,
    tids: tuple[str, ...],
    after: int | None,
    redo: str | None,
    keep: bool,
    dry_run: bool,
    note: str,
    user: str,
    import_paths: tuple[str, ...],
    modules: tuple[str, ...],
    force: bool,
    blobs: str | None,
    yes: bool,
    output: Output,
) -> ExitCode:
    """Undo transactions, after a look at what that changes.

    TID: a new transaction gives each object the state it had before; several are undone in one, newest first. What
    another transaction changed since is in the way, unless the object's class merges it (only then classes are
    imported, and -p and --module matter): then each such object is shown before, after and now, and exit status 5
    comes with the list of transactions that can be undone together.

    --after TIME: a Data.fs becomes what it was at that moment. The transactions that go are kept beside it, with
    their blobs, in a file named `.undone-FIRST-LAST`; --redo puts them back, as long as nothing new was written. Both
    write the whole file anew, so that a crash leaves the old or the new one: they need as much free space as it takes.
    Clients of a ZEO server that have seen what went start anew after it, without their caches.
    """
    from zodbsh.db.spec import parse_spec

    spec = parse_spec(database.text)
    if blobs is not None:
        spec = replace(spec, blob_dir=blobs)
    if bool(tids) + (after is not None) + (redo is not None) != 1:
        hint = (
            "`zodbsh log` lists the transactions; --after TIME takes a file back, --redo puts back what that took off."
        )
        if not tids and after is None and redo is None:
            raise UsageError("name the transactions to undo, or --after TIME, or --redo", hint=hint)
        raise UsageError("TID, --after and --redo exclude each other", hint=hint)
    if (note or user) and not tids:
        raise UsageError("--note and --user belong to the transaction of an undo; --after and --redo write none")
    if keep and redo is None:
        raise UsageError("--keep goes with --redo")
    if redo is not None:
        return _redo(spec, redo or None, output, dry_run=dry_run, yes=yes, keep=keep)
    if after is not None:
        return _take_back(database, spec, after, output, dry_run=dry_run, yes=yes, force=force)
    plan = _shown(database, spec, tids, output, alone=dry_run)
    if dry_run:
        return ExitCode.FINDINGS if plan.clashes or plan.findings else ExitCode.OK
    return _undo(
        spec, plan, output, yes=yes, note=note, user=user, import_paths=import_paths, modules=modules, force=force
    )


def _shown(database: Database, spec: Spec, tids: tuple[str, ...], output: Output, *, alone: bool) -> UndoPlan:
    """Work the undo out and show it; to a program only where nothing else follows."""
    from zodbsh.ops.undoing.undo import plan_undo
    from zodbsh.render.undo import PlanView

    with database.source(blob_dir=spec.blob_dir) as source:
        plan = plan_undo(source, map(parse_tid, tids), spec=spec, progress=output.progress())
    if alone:
        emit(PlanView(plan), output)
    else:
        _preview(PlanView(plan), output)
    return plan


def _preview(view: View, output: Output) -> None:
    """Show people what is about to be done; a program gets the result alone."""
    if output.format != "table":
        return
    # Who closes the pipe has seen enough of the preview, and wants it done.
    with suppress(BrokenPipeError):
        try:
            report(view, output)
        except OutputFailed as exc:
            exc.hint = "Nothing was changed."
            raise


def _undo(spec: Spec, plan: UndoPlan, output: Output, *, yes: bool, force: bool, **options_: Any) -> ExitCode:
    from zodbsh.ops.undoing.undo import UndoConflicts, UndoDangling, require_possible, undo
    from zodbsh.render.undo import UndoConflictView, UndoView

    try:
        if not plan.undoing.restored:
            require_possible(plan, spec, force=force)
            question = f"Undo {count_text(len(plan.transactions), 'transaction')} of {spec.text}?"
            if not options.confirm(question, yes=yes, output=output):
                output.note("nothing was written")
                return ExitCode.OK
        with ExitStack() as hold:
            result = undo(spec, plan, force=force, hold=hold, progress=output.progress(), **options_)
            report(UndoView(result), output)
    except (UndoConflicts, UndoDangling) as conflict:
        if output.format != "table":
            emit(UndoConflictView(conflict.clashes, conflict.together, conflict.findings), output)
        raise
    if result.resolved:
        output.note("classes of your application were imported and run to merge conflicts")
    if plan.staged is not None and result.tid is not None:
        output.note(f"the stage of {spec.text} stays as it is; {count_text(plan.staged, 'object')} of it outdated now")
    return ExitCode.OK


def _take_back(
    database: Database, spec: Spec, tid: int, output: Output, *, dry_run: bool, yes: bool, force: bool
) -> ExitCode:
    from zodbsh.ops.undoing.takeback import plan_take_back, require_file, take_back
    from zodbsh.render.takeback import TakeBackPlanView, TakeBackView
    from zodbsh.source.file import FileSource

    require_file(spec)
    with database.source(blob_dir=spec.blob_dir) as source:
        assert isinstance(source, FileSource)
        plan = plan_take_back(source, tid, spec=spec, progress=output.progress())
    if dry_run:
        emit(TakeBackPlanView(plan), output)
        return ExitCode.FINDINGS if plan.findings else ExitCode.OK
    _preview(TakeBackPlanView(plan), output)
    if plan.blobs_unknown:
        output.warn(f"{count_text(plan.blobs_unknown, 'blob')} of it has no file that is found: --blobs DIR says where")
    if plan.stage_outdated:
        output.warn(f"what is staged for {spec.text} was made on top of what goes: its commit may be refused")
    question = f"Take {spec.text} back, {count_text(plan.transactions, 'transaction')} off its end?"
    if plan.transactions and not options.confirm(question, yes=yes, output=output):
        output.note("nothing was changed")
        return ExitCode.OK
    with ExitStack() as hold:
        result = take_back(spec, plan, force=force, hold=hold, progress=output.progress())
        report(TakeBackView(result), output)
        if result.tail is not None:
            output.note(f"`zodbsh undo {quote(spec.text)} --redo` puts them back, as long as nothing new is written")
        return _told(result.trouble, output)


def _redo(spec: Spec, name: str | None, output: Output, *, dry_run: bool, yes: bool, keep: bool) -> ExitCode:
    from zodbsh.ops.undoing.putback import find_tail, preview_put_back, put_back
    from zodbsh.render.takeback import PutBackView

    tail = find_tail(spec, name)
    if dry_run:
        emit(PutBackView(preview_put_back(spec, tail, progress=output.progress())), output)
        return ExitCode.OK
    count = count_text(tail.header.transactions, "transaction")
    if not options.confirm(f"Put {count} of {tail.path} back into {spec.text}?", yes=yes, output=output):
        output.note("nothing was changed")
        return ExitCode.OK
    with ExitStack() as hold:
        result = put_back(spec, tail, keep=keep, hold=hold, progress=output.progress())
        report(PutBackView(result), output)
        return _told(result.trouble, output)


def _told(trouble: str | None, output: Output) -> ExitCode:
    if trouble is None:
        return ExitCode.OK
    output.warn(trouble)
    return ExitCode.FINDINGS
