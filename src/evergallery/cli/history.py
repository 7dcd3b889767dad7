"""Commands that look back: where an upgrade stands, what was done, what two generations differ in."""

from dataclasses import asdict
from typing import Annotated

import typer

from evergallery.cli import completion
from evergallery.cli.common import HERE, JsonOption, WorkspaceOption, open_workspace, say_if
from evergallery.cli.console import print_json, print_table, say
from evergallery.cli.printing import print_log, print_status, short

MOST_FILES = 20_000
"""So many image files are looked for by ``status``, which does not keep anybody waiting; ``doctor`` reads them all."""


def status(workspace: WorkspaceOption = HERE, json: JsonOption = False) -> None:
    """Items by generation and state, image files that are gone or changed, the open refresh, problems, what runs now."""
    from evergallery.upgrade.advice import next_step

    with open_workspace(workspace) as space:
        result = space.status()
        files = None if result.spaces is None else space.image_files(MOST_FILES)
        problems = files.problems(space.gallery) if files is not None else []
        following = next_step(space.holdings, result.promoted) if result.promoted and not json else None
    if json:
        print_json({**result.to_dict(), "files": files and asdict(files)})
    else:
        print_status(result)
        for problem in problems:
            say(problem)
        say_if(following)


def log(
    workspace: WorkspaceOption = HERE,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Only the last ones.")] = 50,
    json: JsonOption = False,
) -> None:
    """Every operation on this workspace: when, who, what, figures."""
    entries = open_workspace(workspace).log()[-limit:]
    if json:
        print_json(entries)
        return
    print_log(entries)
    if not entries:
        say("Nothing has been done here yet.")


def diff(
    first: Annotated[str, typer.Argument(help="A generation.", autocompletion=completion.generations)],
    second: Annotated[str, typer.Argument(help="Another.", autocompletion=completion.generations)],
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Show what two generations differ in."""
    found = open_workspace(workspace).diff(first, second)
    if json:
        print_json({name: {first: values[0], second: values[1]} for name, values in found.items()})
    elif not found:
        say(f"{first} and {second} differ in nothing but their name and time.")
    else:
        rows = [(name, *(short(value) for value in values)) for name, values in found.items()]
        print_table(f"{first} and {second}", ("", first, second), rows, numbers_from=9)
