"""``zodbsh init``."""

from __future__ import annotations

import click

from zodbsh.cli import options
from zodbsh.render.output import Output, report


@options.command(
    examples=(
        "zodbsh init mydata.fs",
        "zodbsh init mydata.fs --root accounts=BTrees.OOBTree.OOBTree",
        "zodbsh init mydata.fs -p src --root app=myapp.models.Application --blobs blobs",
    )
)
@click.argument("path", metavar="PATH", type=click.Path())
@click.option("--root", "roots", multiple=True, metavar="NAME=module.Class", help="Put module.Class() into the root.")
@options.path_option
@click.option("--blobs", metavar="DIR", type=click.Path(), help="Keep blobs in this new folder.")
@options.output_options
def command(
    path: str, roots: tuple[str, ...], import_paths: tuple[str, ...], blobs: str | None, output: Output
) -> None:
    """Create a database.

    Nothing that exists is overwritten, and PATH appears only when the file is
    complete. Classes named by --root are imported from the current folder, the
    folders of -p, and the installed packages.
    """
    from zodbsh.ops.init import init, parse_roots
    from zodbsh.render.init import InitView

    result = init(path, roots=parse_roots(roots), import_paths=import_paths, blobs=blobs)
    report(InitView(result), output)
