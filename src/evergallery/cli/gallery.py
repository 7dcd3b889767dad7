"""``evergallery gallery``: look at and change the stored items."""

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from evergallery.cli.common import (
    HERE,
    JsonOption,
    WorkspaceOption,
    item_filter,
    open_workspace,
    say_if_password,
    say_result,
    space_names,
)
from evergallery.cli.console import out, print_json, print_table, watching

if TYPE_CHECKING:
    from evergallery.gallery.items import Item
    from evergallery.workspace import Workspace

gallery_app = typer.Typer(no_args_is_help=False, help="Look at and change the stored items.")


@gallery_app.callback(invoke_without_command=True)
def gallery_summary(context: typer.Context, workspace: WorkspaceOption = HERE, json: JsonOption = False) -> None:
    """Count the stored items by generation."""
    if context.invoked_subcommand:
        return
    with open_workspace(workspace) as space:
        counts = space.gallery.count_by_generation()
        names = space_names(space)
    by_name = {names.get(fingerprint, fingerprint[:12]): count for fingerprint, count in counts.items()}
    if json:
        print_json({"items": sum(counts.values()), "by_generation": by_name})
    elif not by_name:
        out.print(f"The gallery is empty. Next:  evergallery index IMAGES -w {workspace}", markup=False, soft_wrap=True)
    else:
        print_table("Gallery", ("vectors of", "items"), [(name, str(count)) for name, count in by_name.items()])


@gallery_app.command("list")
def gallery_list(
    workspace: WorkspaceOption = HERE,
    label: Annotated[list[str] | None, typer.Option(help="Only items with this label.")] = None,
    within: Annotated[list[str] | None, typer.Option(help="Only vectors of this generation.")] = None,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    json: JsonOption = False,
) -> None:
    """List stored items."""
    with open_workspace(workspace) as space:
        items: list[dict[str, Any]] = []
        for batch in space.gallery.iterate(item_filter(space, label, within)):
            items += [_describe_item(space, item) for item in batch]
            if len(items) >= limit:
                break
    items = items[:limit]
    if json:
        print_json(items)
    else:
        rows = [tuple(str(item[name] or "") for name in ("id", "label", "generation", "uri")) for item in items]
        print_table("Items", ("id", "label", "vector of", "image"), rows, numbers_from=9)


@gallery_app.command("show")
def gallery_show(
    item: Annotated[str, typer.Argument(help="Its id.")], workspace: WorkspaceOption = HERE, json: JsonOption = False
) -> None:
    """Show one stored item."""
    from evergallery.errors import NotFoundError

    with open_workspace(workspace) as space:
        found = space.gallery.get(item)
        if found is None:
            raise NotFoundError(f"The gallery has no item {item!r}: list them with  evergallery gallery list")
        described = _describe_item(space, found)
    print_json({**described, "embedding": found.embedding.tolist()} if json else described)


@gallery_app.command("delete")
def gallery_delete(
    items: Annotated[list[str], typer.Argument(help="Their ids.")],
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Delete stored items. Exit status 1 if none of them was there."""
    with open_workspace(workspace) as space:
        deleted = space.gallery.delete(items)
    say_result({"deleted": deleted}, f"{deleted} deleted.", json)
    if not deleted:
        raise typer.Exit(1)


@gallery_app.command("copy")
def gallery_copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A gallery's directory, or its URL.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="An empty gallery, or what an earlier copy has left.")],
    precision: Annotated[
        Literal["float32", "float16", "int8"] | None, typer.Option(help="Of the vectors of a new gallery.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Copy a gallery into another engine, every version of every item, and compare both.

    FROM is left as it is. After an interruption the same command goes on.
    """
    from dataclasses import asdict

    from evergallery.gallery.copying import copy_gallery
    from evergallery.gallery.opening import open_store
    from evergallery.gallery.places import without_password

    for place in (source, target):
        say_if_password(place)
    with ExitStack() as opened, watching(json) as watcher:
        one = opened.enter_context(closing(open_store(source, create=False)))
        other = opened.enter_context(closing(open_store(target, precision=precision)))
        done = copy_gallery(one, other, watcher)
    sentence = (
        f"{done.items} items with {done.versions} vectors are in both galleries, {done.copied} of them copied now, in "
        f"{done.seconds:.1f} s. Next:  evergallery gallery use {without_password(target)} -w WORKSPACE"
    )
    say_result(asdict(done), sentence, json)


@gallery_app.command("use")
def gallery_use(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="A gallery's directory, or its URL.")],
    workspace: WorkspaceOption = HERE,
    force: Annotated[bool, typer.Option("--force", help="Do not compare it with the one in use.")] = False,
    json: JsonOption = False,
) -> None:
    """Let the workspace use another gallery, once it has been found to hold the same; at once, or not at all."""
    say_if_password(place)
    with open_workspace(workspace) as space, watching(json) as watcher:
        space.use_gallery(place, force=force, watcher=watcher)
        written = space.state.store
    say_result({"store": written}, f"{workspace} uses the gallery {written} from now on; the other is as it was.", json)


def _describe_item(space: "Workspace", item: "Item") -> dict[str, Any]:
    names = space_names(space)
    return {
        "id": item.id,
        "label": item.label,
        "generation": names.get(item.generation, item.generation),
        "uri": item.uri,
        "content_hash": item.content_hash,
        "added": item.added,
        "metadata": item.metadata,
    }
