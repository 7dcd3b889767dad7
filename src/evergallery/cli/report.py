"""``evergallery report``: everything about a workspace on one page."""

from pathlib import Path
from typing import Annotated

import typer

from evergallery.cli import completion
from evergallery.cli.common import HERE, DataDirOption, JsonOption, WorkspaceOption, open_workspace
from evergallery.cli.console import print_json, say, watching


def report(
    about: Annotated[
        str | None,
        typer.Argument(
            metavar="GENERATION",
            help="The generation to report on; another way to write --generation.",
            show_default=False,
            autocompletion=completion.generations,
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Held-out images, in any form that learn reads; or an .npz of embeddings.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--out", "-o", help="The page to write; report.html in the workspace by default.")
    ] = None,
    workspace: WorkspaceOption = HERE,
    generation: Annotated[
        str | None,
        typer.Option(
            help="The generation in question; the newest by default, or without --data the newest that has been checked.",
            autocompletion=completion.generations,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Whose vectors it would search; the promoted one's by default, or its parent's.",
            autocompletion=completion.generations,
        ),
    ] = None,
    queries: Annotated[str | None, typer.Option(help="Split of the queries.")] = None,
    gallery: Annotated[str | None, typer.Option(help="Split of the gallery.")] = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Write a report of one page that needs no network: lineage, matrix, old and new classes, refresh, flips, prototypes."""
    from evergallery.errors import InputError

    if about is not None and generation not in (None, about):
        raise InputError(f"{about} and --generation {generation} are two generations: name one of them.")
    with open_workspace(workspace) as space, watching(json) as watcher:
        done = space.report(
            data,
            path=to,
            generation=generation or about,
            against=against,
            queries=queries,
            gallery=gallery,
            data_dir=data_dir,
            watcher=watcher,
        )
    if json:
        print_json({"report": str(done.path), "findings": list(done.findings)})
        return
    for sentence in done.findings:
        say(f"• {sentence}")
    say(f"Report: {done.path}")
