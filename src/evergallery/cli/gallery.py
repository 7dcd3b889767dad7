"""``evergallery gallery``: look at and change the stored items."""

from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergallery.cli import completion
from evergallery.cli.choices import Precision
from evergallery.cli.common import (
    HERE,
    JsonOption,
    ServerOption,
    WorkspaceOption,
    by_server,
    item_filter,
    open_workspace,
    say_if_password,
    say_result,
    with_quiet,
)
from evergallery.cli.console import out, print_csv, print_json, print_table, say, warn, watching
from evergallery.errors import InputError, NotFoundError

if TYPE_CHECKING:
    from evergallery.gallery.snapshot import Snapshot

gallery_app = typer.Typer(no_args_is_help=False, help="Look at and change the stored items.")


@gallery_app.callback(invoke_without_command=True)
def gallery_summary(context: typer.Context, workspace: WorkspaceOption = HERE, json: JsonOption = False) -> None:
    """Count the stored items by generation, and say how each is searched."""
    from evergallery.holdings.comparing import space_names

    if context.invoked_subcommand:
        return
    with open_workspace(workspace) as space:
        counts = space.gallery.count_by_generation()
        found = space.gallery.indexes()
        names = space_names(space.holdings)
    by_name = {names.get(fingerprint, fingerprint[:12]): count for fingerprint, count in counts.items()}
    indexes = {names.get(fingerprint, fingerprint[:12]): index for fingerprint, index in found.items()}
    if json:
        described = {name: {**asdict(index), "serves": index.serves} for name, index in indexes.items()}
        print_json({"items": sum(counts.values()), "by_generation": by_name, "indexes": described})
    elif not by_name:
        out.print("The gallery is empty. Next:  evergallery index IMAGES", soft_wrap=True)
    else:
        rows = [(name, str(indexes.get(name, "exact")), str(count)) for name, count in by_name.items()]
        print_table("Gallery", ("vectors of", "search", "items"), rows, numbers_from=2)


@gallery_app.command("compact", epilog="Example:  evergallery gallery compact")
@with_quiet
def gallery_compact(workspace: WorkspaceOption = HERE, json: JsonOption = False) -> None:
    """Free the space of what was deleted, index what is large, and measure what the indexes find; may take minutes."""
    with open_workspace(workspace) as space:
        indexes = space.compact()
    if json:
        print_json({name: {**asdict(index), "serves": index.serves} for name, index in indexes.items()})
    elif not indexes:
        say("Compacted. No generation has so many vectors that an index would pay: every search is exact.")
    else:
        rows = [(name, str(index)) for name, index in indexes.items()]
        print_table("Indexes", ("vectors of", "search"), rows, numbers_from=2)


@gallery_app.command("list", epilog="Example:  evergallery gallery list --label tulip --limit 20")
@with_quiet
def gallery_list(
    workspace: WorkspaceOption = HERE,
    label: Annotated[list[str] | None, typer.Option(help="Only items with this label.")] = None,
    within: Annotated[
        list[str] | None, typer.Option(help="Only vectors of this generation.", autocompletion=completion.generations)
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    server: ServerOption = True,
    json: JsonOption = False,
) -> None:
    """List stored items; by a server of the workspace, where one runs."""
    question = {"labels": label or [], "within": within or [], "limit": limit}
    items: list[dict[str, Any]] | None = by_server(workspace, "items", question) if server else None
    if items is None:
        from evergallery.searching.rows import listed

        with open_workspace(workspace) as space:
            items = listed(space.holdings, item_filter(space, label, within), limit)
    if json:
        print_json(items)
    else:
        rows = [tuple(str(item[name] or "") for name in ("id", "label", "generation", "uri")) for item in items]
        print_table("Items", ("id", "label", "vector of", "image"), rows, numbers_from=9)


@gallery_app.command("show", epilog="Example:  evergallery gallery show ITEM")
@with_quiet
def gallery_show(
    item: Annotated[str, typer.Argument(help="Id of the item.")],
    workspace: WorkspaceOption = HERE,
    server: ServerOption = True,
    json: JsonOption = False,
) -> None:
    """Show one stored item; by a server of the workspace, where one runs."""
    row: dict[str, Any] | None = by_server(workspace, "item", {"item": item}) if server else None
    if row is None:
        from evergallery.searching.rows import shown

        with open_workspace(workspace) as space:
            row = shown(space.holdings, item)
    print_json(row if json else {name: value for name, value in row.items() if name != "embedding"})


@gallery_app.command("duplicates", epilog="Example:  evergallery gallery duplicates --at-least 0.99")
@with_quiet
def gallery_duplicates(
    workspace: WorkspaceOption = HERE,
    at_least: Annotated[
        float, typer.Option(help="Cosine that links two items; higher finds fewer, and more alike.")
    ] = 0.98,
    most: Annotated[int, typer.Option(min=1, help="The most items to look at.")] = 50_000,
    csv: Annotated[bool, typer.Option("--csv", help="Print the result as CSV, a row for each item.")] = False,
    json: JsonOption = False,
) -> None:
    """Find groups of stored items that show nearly the same, by their stored vectors."""
    from evergallery.holdings.comparing import space_names
    from evergallery.report.words import counted
    from evergallery.searching.rows import item_row

    if csv and json:
        raise InputError("--csv and --json print the same result: give one of them.")
    with open_workspace(workspace) as space, watching(json or csv) as watcher:
        found = space.near_duplicates(at_least=at_least, most=most, watcher=watcher)
        names = space_names(space.holdings)
        items = space.gallery.get_many([item for group in found.groups for item in group.items], with_embeddings=False)
        rows = [
            {"group": number, "cosine": round(group.least, 4), **item_row(names, items[item])}
            for number, group in enumerate(found.groups, 1)
            for item in group.items
            if item in items
        ]
    columns = ("group", "cosine", "label", "generation", "uri", "id")
    if json:
        print_json({"groups": len(found.groups), "looked": found.looked, "left": found.left, "items": rows})
    elif csv:
        print_csv(columns, rows)
    elif not rows:
        say(f"No two of {counted(found.looked, 'item')} have a cosine of {at_least:g} or more.")
    else:
        title = f"{counted(len(found.groups), 'group')} among {counted(found.looked, 'item')}"
        cells = [
            (
                str(row["group"]),
                f"{row['cosine']:.3f}",
                str(row["label"] or ""),
                str(row["generation"]),
                str(row["uri"] or row["id"]),
            )
            for row in rows
        ]
        print_table(title, ("group", "cosine", "label", "vector of", "image or id"), cells, numbers_from=9)
        say("With --csv or --json their ids stand there too. To delete one:  evergallery gallery delete ID")
    if found.left:
        warn(f"{counted(found.left, 'item')} were not looked at: give a larger --most.")


@gallery_app.command("problems", epilog="Example:  evergallery gallery problems")
@with_quiet
def gallery_problems(
    workspace: WorkspaceOption = HERE,
    csv: Annotated[bool, typer.Option("--csv", help="Print the result as CSV, a row for each item.")] = False,
    json: JsonOption = False,
) -> None:
    """List the items that could not be refreshed and keep the vector that they have, and why."""
    from evergallery.report.words import counted

    if csv and json:
        raise InputError("--csv and --json print the same result: give one of them.")
    rows = [vars(problem) for problem in open_workspace(workspace).holdings.notes.problems()]
    columns = ("item", "kind", "reason")
    if json:
        print_json(rows)
    elif csv:
        print_csv(columns, rows)
    elif not rows:
        say("No item has a problem.")
    else:
        cells = [tuple(row[name] for name in columns) for row in rows]
        print_table(counted(len(rows), "problem"), ("item", "state", "reason"), cells, numbers_from=9)


@gallery_app.command("images-from", epilog="Example:  evergallery gallery images-from photos/catalogue")
@with_quiet
def gallery_images_from(
    roots: Annotated[list[str] | None, typer.Argument(help="Folders or URLs to allow.")] = None,
    workspace: WorkspaceOption = HERE,
    forget: Annotated[list[str] | None, typer.Option(help="A root that is no longer allowed; may be repeated.")] = None,
    json: JsonOption = False,
) -> None:
    """List below which folders and URLs images of stored items may be opened, or allow more of them.

    What is indexed is allowed with it.
    """
    space = open_workspace(workspace)
    if roots:
        space.allow_images(*roots)
    if forget:
        space.forbid_images(*forget)
    allowed = space.holdings.state.image_roots
    if json:
        print_json({"images_from": allowed})
    elif not allowed:
        say("No image of a stored item may be opened, but those that clients of the server add.")
    for root in [] if json else allowed:
        out.print(root, soft_wrap=True)


@gallery_app.command("delete", epilog="Example:  evergallery gallery delete ITEM")
@with_quiet
def gallery_delete(
    items: Annotated[list[str], typer.Argument(help="Ids of the items.")],
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Delete stored items. Exit status 3 if none of them was there."""
    with open_workspace(workspace) as space:
        deleted = space.gallery.delete(items)
    say_result({"deleted": deleted}, f"{deleted} deleted.", json)
    if not deleted:
        raise typer.Exit(NotFoundError.exit_status)


@gallery_app.command("copy", epilog="Example:  evergallery gallery copy shop/gallery postgresql://localhost/shop")
@with_quiet
def gallery_copy(
    source: Annotated[str, typer.Argument(metavar="FROM", help="A gallery's directory, or its URL.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="An empty gallery, or what an earlier copy has left.")],
    precision: Annotated[Precision | None, typer.Option(help="Precision of the vectors of a new gallery.")] = None,
    json: JsonOption = False,
) -> None:
    """Copy a gallery into another engine, every version of every item, and compare both.

    FROM is left as it is. After an interruption the same command goes on.
    """
    from evergallery.gallery.copying import copy_gallery
    from evergallery.gallery.opening import open_store, require_target
    from evergallery.gallery.places import without_password

    for place in (source, target):
        say_if_password(place)
    require_target(source, target)
    with ExitStack() as opened, watching(json) as watcher:
        first = opened.enter_context(closing(open_store(source, create=False)))
        second = opened.enter_context(closing(open_store(target, precision=precision)))
        done = copy_gallery(first, second, watcher)
    sentence = (
        f"{done.items} items with {done.versions} vectors are in both galleries, {done.copied} of them copied now, in "
        f"{done.seconds:.1f} s. Next:  evergallery gallery use {without_password(target)}"
    )
    say_result(asdict(done), sentence, json)


@gallery_app.command("use", epilog="Example:  evergallery gallery use postgresql://localhost/shop")
@with_quiet
def gallery_use(
    place: Annotated[str, typer.Argument(metavar="PLACE", help="A gallery's directory, or its URL.")],
    workspace: WorkspaceOption = HERE,
    force: Annotated[bool, typer.Option("--force", help="Do not compare it with the one in use.")] = False,
    json: JsonOption = False,
) -> None:
    """Switch to another gallery in one step, once a comparison has shown that it holds the same."""
    say_if_password(place)
    with open_workspace(workspace) as space, watching(json) as watcher:
        space.use_gallery(place, force=force, watcher=watcher)
        written = space.holdings.state.store
    say_result({"store": written}, f"{workspace} uses the gallery {written} from now on; the other is as it was.", json)


@gallery_app.command("snapshot", epilog="Example:  evergallery gallery snapshot backups/monday")
@with_quiet
def gallery_snapshot(
    path: Annotated[Path, typer.Argument(help="A new directory.")],
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """Copy the gallery and its state to a new directory, with checksums."""
    with open_workspace(workspace) as space, watching(json) as watcher:
        taken = space.snapshot(path, watcher=watcher)
    say_result(_describe_snapshot(taken), f"{taken.vectors} vectors copied to {path}.", json)


@gallery_app.command("verify", epilog="Example:  evergallery gallery verify backups/monday")
@with_quiet
def gallery_verify(
    path: Annotated[Path, typer.Argument(help="Directory of the snapshot.")], json: JsonOption = False
) -> None:
    """Compare every file of a snapshot with its checksum. Exit status 6 if one is not what was written."""
    from evergallery.gallery.snapshot import verify

    found = verify(path)
    say_result(
        _describe_snapshot(found),
        f"The snapshot of {found.made} is whole: {found.vectors} vectors, {found.engine}.",
        json,
    )


@gallery_app.command("restore", epilog="Example:  evergallery gallery restore backups/monday")
@with_quiet
def gallery_restore(
    path: Annotated[Path, typer.Argument(help="Directory of the snapshot.")],
    workspace: WorkspaceOption = HERE,
    force: Annotated[
        bool, typer.Option(help="Restore even where the gallery holds vectors; they stay on disk.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Search the gallery of a snapshot from now on; it is verified before anything changes."""
    with open_workspace(workspace) as space, watching(json) as watcher:
        before = space.directory / space.holdings.state.store
        restored = space.restore(path, force=force, watcher=watcher)
    kept = f" The earlier gallery is still in {before}: delete it when nobody needs it." if before.exists() else ""
    say_result(
        {**_describe_snapshot(restored), "earlier": str(before) if kept else None},
        f"{restored.vectors} vectors of {restored.made} restored.{kept}",
        json,
    )


def _describe_snapshot(snapshot: "Snapshot") -> dict[str, Any]:
    return {
        "made": snapshot.made,
        "engine": snapshot.engine,
        "vectors": snapshot.vectors,
        "generations": snapshot.generations,
        "bytes": sum(entry.bytes for entry in snapshot.files.values()),
    }
