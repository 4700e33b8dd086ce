"""``zodbsh commit``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zodbsh.cli import options
from zodbsh.ids import oid_text
from zodbsh.render.output import emit, report

if TYPE_CHECKING:
    from zodbsh.cli.context import Database
    from zodbsh.render.output import Output


@options.command(
    examples=(
        'zodbsh commit mydata.fs -m "first account"',
        "zodbsh commit mydata.fs -p src --user carol",
    )
)
@options.database_argument
@click.option("-m", "--note", default="", metavar="TEXT", help="The transaction's description.")
@click.option("--user", default="", metavar="NAME", help="The transaction's user.")
@options.path_option
@click.option("--module", "modules", multiple=True, metavar="MODULE", help="Import MODULE first (repeatable).")
@click.option("--blobs", metavar="DIR", type=options.BLOBS, help="The folder of the database's blobs.")
@options.output_options
def command(
    database: Database,
    note: str,
    user: str,
    import_paths: tuple[str, ...],
    modules: tuple[str, ...],
    blobs: str | None,
    output: Output,
) -> None:
    """Apply what is staged, as one transaction.

    Each object is compared with the revision it was changed from. Where another transaction changed
    it since, its class may resolve the conflict: only then classes are imported, and -p and --module
    matter. Otherwise base, theirs and ours are shown, nothing is written, and the exit status is 5.
    """
    from zodbsh.ops.commit import commit_session, commit_stage
    from zodbsh.render.commit import CommitView

    if database.session is not None:
        result = commit_session(database.session, note=note, user=user)
        report(CommitView(result, _paths(database, result.resolved)), output)
        return
    from zodbsh.db.open import Conflict
    from zodbsh.db.spec import parse_spec

    try:
        result = commit_stage(
            parse_spec(database.text), note=note, user=user, import_paths=import_paths, modules=modules, blobs=blobs,
            progress=output.progress(),
        )  # fmt: skip
    except Conflict as conflict:
        _show_sides(database, conflict, output)
        raise
    report(CommitView(result, _paths(database, result.resolved, blob_dir=blobs)), output)
    if result.resolved:
        output.note("classes of your application were imported and run to resolve conflicts")
    if result.trouble is not None:
        output.warn(result.trouble)


def _show_sides(database: Database, conflict: Exception, output: Output) -> None:
    from zodbsh.stage.replay import StageConflicts

    if not isinstance(conflict, StageConflicts):
        return
    from zodbsh.ops.conflict import conflict_sides
    from zodbsh.render.commit import ConflictView

    with database.source() as source:
        sides = conflict_sides(source, conflict.sides)
    if len(sides.objects) == 1:
        name = oid_text(sides.objects[0].oid)
        if sides.objects[0].path != name:
            conflict.message = conflict.message.replace(f"object {name}", f"{sides.objects[0].path} ({name})", 1)
    emit(ConflictView(sides), output)


def _paths(database: Database, oids: tuple[int, ...], **options: str | None) -> dict[int, str]:
    """Return the paths of objects, where they are known; the commit stands whatever happens here."""
    if not oids:
        return {}
    from zodbsh.analysis.paths import places_of
    from zodbsh.errors import ZodbshError
    from zodbsh.source.snapshot import Snapshot

    try:
        with database.source(**options) as source:
            return {oid: place.path for oid, place in places_of(Snapshot(source), oids).items()}
    except ZodbshError:
        return {}
