"""``evergallery index`` and ``search``: pictures into the gallery, and out of it."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from evergallery.cli.common import (
    HERE,
    ClusterOption,
    DataArgument,
    DataDirOption,
    ImagesFromOption,
    JsonOption,
    LargestOption,
    RelabelOption,
    RuntimeOption,
    WorkersOption,
    WorkspaceOption,
    allow,
    item_filter,
    open_workspace,
)
from evergallery.cli.console import (
    err,
    out,
    print_conflicts,
    print_json,
    print_outdated,
    print_skipped,
    print_table,
    say,
    watching,
)
from evergallery.errors import NotFoundError


def index(
    data: DataArgument,
    workspace: WorkspaceOption = HERE,
    generation: Annotated[str | None, typer.Option(help="That makes the vectors; the promoted one by default.")] = None,
    split: Annotated[str | None, typer.Option(help="Only the images of this split.")] = None,
    metadata: Annotated[str | None, typer.Option(help="Columns of a table to keep with the items: price,shop.")] = None,
    relabel: RelabelOption = False,
    sync: Annotated[
        bool,
        typer.Option(
            "--sync", help="Find out which items of this folder were changed or are gone; asks to delete them."
        ),
    ] = False,
    prune: Annotated[bool, typer.Option("--prune", help="With --sync: delete them unasked.")] = False,
    data_dir: DataDirOption = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    images_from: ImagesFromOption = None,
    largest_image: LargestOption = None,
    runtime: RuntimeOption = None,
    json: JsonOption = False,
) -> None:
    """Extract images and keep their vectors in the gallery; folders and tables may be URLs such as s3://bucket/photos.

    What is known of a stored picture stays: a file that says nothing erases nothing, and another label is told and counted.
    """
    columns = tuple(name.strip() for name in (metadata or "").split(",") if name.strip())
    with open_workspace(workspace) as space, watching(json) as watcher:
        allow(space, images_from)
        done = space.index(
            data, generation=generation, split=split, metadata=columns, relabel=relabel, sync=sync, prune=prune,
            data_dir=data_dir, cluster=cluster,
            workers=workers, watcher=watcher,
        )  # fmt: skip
    if json:
        skipped = [{"uri": one.uri, "reason": one.reason} for one in done.skipped]
        names = (
            "generation",
            "added",
            "replaced",
            "unchanged",
            "copies",
            "copied",
            "moved",
            "changed",
            "gone",
            "outdated",
            "pruned",
            "conflict_count",
            "seconds",
        )
        counts = {name: getattr(done, name) for name in names} | {"conflicts": [asdict(one) for one in done.conflicts]}
        more = {"skipped_count": done.skipped_count, "skipped_file": done.skipped_file and str(done.skipped_file)}
        print_json({**counts, "skipped": skipped, **more})
        return
    out.print(
        f"{done.added} added, {done.replaced} replaced, {done.unchanged} unchanged, as vectors of {done.generation}, "
        f"in {done.seconds:.1f} s.", markup=False, soft_wrap=True,
    )  # fmt: skip
    if done.copies:
        files = "1 file holds the same picture" if done.copies == 1 else f"{done.copies} files hold the same pictures"
        say(f"{files} as others, whose items stay: {', '.join(done.copied[:3])}{' …' if done.copies > 3 else ''}")
    print_outdated(done)
    print_conflicts(done.conflicts, done.conflict_count)
    print_skipped(done.skipped, count=done.skipped_count)
    if done.skipped_file:
        say(f"All of them are named in {done.skipped_file}.")
    if done.added and not done.unchanged and not done.replaced:
        say("Next:  evergallery search PICTURE  or  evergallery serve")


def search(
    image: Annotated[Path | None, typer.Argument(help="The picture to search with.")] = None,
    workspace: WorkspaceOption = HERE,
    item: Annotated[str | None, typer.Option(help="Search with a stored item instead.")] = None,
    text: Annotated[
        str | None, typer.Option(help="Search with words instead; needs a registered function with a text tower.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 10,
    label: Annotated[list[str] | None, typer.Option(help="Only items with this label; may be repeated.")] = None,
    within: Annotated[list[str] | None, typer.Option(help="Only vectors of this generation; may be repeated.")] = None,
    generation: Annotated[str | None, typer.Option(help="That embeds the query; the promoted one by default.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Smallest cosine; by default any.")] = None,
    min_score_of: Annotated[
        str | None,
        typer.Option(
            help="The generation on whose scores --min-score was settled; it is translated, as a check has measured."
        ),
    ] = None,
    min_probability: Annotated[
        float | None, typer.Option(help="Smallest calibrated probability of a match; needs a check.")
    ] = None,
    exact: Annotated[
        bool | None,
        typer.Option("--exact/--approximate", help="By default as  evergallery gallery  says of its indexes."),
    ] = None,
    largest_image: LargestOption = None,
    runtime: RuntimeOption = None,
    json: JsonOption = False,
) -> None:
    """Find the stored items most like a picture."""
    from evergallery.holdings.comparing import space_of

    with open_workspace(workspace) as space:
        where = item_filter(space, label, within)
        matches = space.search(
            None if image is None else str(image), item=item, text=text, generation=generation, k=k, where=where,
            minimum_score=min_score, minimum_probability=min_probability, score_of=min_score_of, exact=exact,
        )  # fmt: skip
        names = {one: space_of(space, one).name for one in {match.item.generation for match in matches}}
    rows = [
        {
            "rank": rank,
            "score": round(match.score, 4),
            "probability": None if match.probability is None else round(match.probability, 4),
            "label": match.item.label,
            "id": match.item.id,
            "uri": match.item.uri,
            "generation": names.get(match.item.generation),
        }
        for rank, match in enumerate(matches, 1)
    ]
    if json:
        print_json(rows)
    elif not rows:
        err.print("Nothing found: the gallery is empty, or nothing passes the filters.")
    else:
        print_table(
            f"Most like {image or item or text}",
            ("#", "score", "match", "label", "vector of", "image or id"),
            [
                (
                    str(row["rank"]),
                    f"{row['score']:.3f}",
                    "" if row["probability"] is None else f"{100 * row['probability']:.0f} %",
                    str(row["label"] or ""),
                    str(row["generation"]),
                    str(row["uri"] or row["id"]),
                )
                for row in rows
            ],
            numbers_from=9,
        )
    if not rows:
        raise typer.Exit(NotFoundError.exit_status)
