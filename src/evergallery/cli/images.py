"""``evergallery index`` and ``search``: pictures into the gallery, and out of it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergallery.cli import completion
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
    ServerOption,
    WorkersOption,
    WorkspaceOption,
    allow,
    by_server,
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

if TYPE_CHECKING:
    from evergallery.indexing.pipeline import IndexResult

COUNTED = (
    "generation", "added", "replaced", "unchanged", "copies", "copied", "moved", "changed", "gone", "outdated", "pruned",
    "conflict_count", "seconds",
)  # fmt: skip
"""Figures of ``index`` in its result as JSON."""

GenerationOption = Annotated[
    str | None,
    typer.Option(
        help="Generation that makes the vectors; the promoted one by default.", autocompletion=completion.generations
    ),
]
SplitOption = Annotated[str | None, typer.Option(help="Only the images of this split.")]
MetadataOption = Annotated[str | None, typer.Option(help="Columns of a table to keep with the items: price,shop.")]
SyncOption = Annotated[
    bool,
    typer.Option("--sync", help="Find out which items of this folder were changed or are gone; asks to delete them."),
]
PruneOption = Annotated[bool, typer.Option("--prune", help="Delete what --sync finds without asking.")]


def index(
    data: DataArgument,
    workspace: WorkspaceOption = HERE,
    generation: GenerationOption = None,
    split: SplitOption = None,
    metadata: MetadataOption = None,
    relabel: RelabelOption = False,
    sync: SyncOption = False,
    prune: PruneOption = False,
    data_dir: DataDirOption = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    images_from: ImagesFromOption = None,
    largest_image: LargestOption = None,
    runtime: RuntimeOption = None,
    json: JsonOption = False,
) -> None:
    """Extract images and keep their vectors in the gallery; folders and tables may be URLs such as s3://bucket/photos.

    An item keeps what is known of it: a file without a label or metadata erases none, and another label is reported and counted.
    """
    columns = tuple(name.strip() for name in (metadata or "").split(",") if name.strip())
    with open_workspace(workspace) as space, watching(json) as watcher:
        allow(space, images_from)
        done = space.index(
            data,
            generation=generation,
            split=split,
            metadata=columns,
            relabel=relabel,
            sync=sync,
            prune=prune,
            data_dir=data_dir,
            cluster=cluster,
            workers=workers,
            watcher=watcher,
        )
    if json:
        print_json(_index_result(done))
    else:
        _say_indexed(done)


def _index_result(done: "IndexResult") -> dict[str, Any]:
    """Return what was indexed, as JSON values."""
    counts = {name: getattr(done, name) for name in COUNTED}
    return {
        **counts,
        "conflicts": [asdict(conflict) for conflict in done.conflicts],
        "skipped": [{"uri": skip.uri, "reason": skip.reason} for skip in done.skipped],
        "skipped_count": done.skipped_count,
        "skipped_file": done.skipped_file and str(done.skipped_file),
    }


def _say_indexed(done: "IndexResult") -> None:
    out.print(
        f"{done.added} added, {done.replaced} replaced, {done.unchanged} unchanged, as vectors of {done.generation}, "
        f"in {done.seconds:.1f} s.",
        soft_wrap=True,
    )
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


ImageArgument = Annotated[Path | None, typer.Argument(help="The picture to search with.")]
ItemOption = Annotated[str | None, typer.Option(help="Search with a stored item instead.")]
TextOption = Annotated[
    str | None, typer.Option(help="Search with words instead; needs a registered function with a text tower.")
]
KOption = Annotated[int, typer.Option("-k", min=1, help="How many.")]
LabelOption = Annotated[list[str] | None, typer.Option(help="Only items with this label; may be repeated.")]
WithinOption = Annotated[
    list[str] | None,
    typer.Option(help="Only vectors of this generation; may be repeated.", autocompletion=completion.generations),
]
SearchGenerationOption = Annotated[
    str | None,
    typer.Option(
        help="Generation that embeds the query; the promoted one by default.", autocompletion=completion.generations
    ),
]
MinScoreOption = Annotated[float | None, typer.Option(help="Smallest cosine; by default any.")]
MinScoreOfOption = Annotated[
    str | None,
    typer.Option(
        help="The generation by whose scores --min-score was chosen; it is translated as a check has measured.",
        autocompletion=completion.generations,
    ),
]
MinProbabilityOption = Annotated[
    float | None, typer.Option(help="Smallest calibrated probability of a match; needs a check.")
]
ExactOption = Annotated[
    bool | None,
    typer.Option(
        "--exact/--approximate",
        help="Whether every vector is compared; by default as  evergallery gallery  says of its indexes.",
    ),
]


def search(
    image: ImageArgument = None,
    workspace: WorkspaceOption = HERE,
    item: ItemOption = None,
    text: TextOption = None,
    k: KOption = 10,
    label: LabelOption = None,
    within: WithinOption = None,
    generation: SearchGenerationOption = None,
    min_score: MinScoreOption = None,
    min_score_of: MinScoreOfOption = None,
    min_probability: MinProbabilityOption = None,
    exact: ExactOption = None,
    largest_image: LargestOption = None,
    runtime: RuntimeOption = None,
    server: ServerOption = True,
    json: JsonOption = False,
) -> None:
    """Find the stored items most like a picture; by a server of the workspace, where one runs."""
    question: dict[str, Any] = {
        "item": item,
        "text": text,
        "generation": generation,
        "k": k,
        "minimum_score": min_score,
        "minimum_probability": min_probability,
        "score_of": min_score_of,
        "exact": exact,
    }
    rows = None
    if server:
        rows = by_server(workspace, "search", {**question, "labels": label or [], "within": within or []}, image)
    if rows is None:
        from evergallery.searching.rows import result_rows

        with open_workspace(workspace) as space:
            where = item_filter(space, label, within)
            rows = result_rows(space.holdings, space.search(image, where=where, **question))
    if json:
        print_json(rows)
    elif not rows:
        err.print("Nothing found: the gallery is empty, or nothing passes the filters.")
    else:
        columns = ("#", "score", "match", "label", "vector of", "image or id")
        print_table(f"Most like {image or item or text}", columns, list(map(_cells, rows)), numbers_from=9)
    if not rows:
        raise typer.Exit(NotFoundError.exit_status)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A result as a row of the table."""
    return (
        str(row["rank"]),
        f"{row['score']:.3f}",
        "" if row["probability"] is None else f"{100 * row['probability']:.0f} %",
        str(row["label"] or ""),
        str(row["generation"]),
        str(row["uri"] or row["id"]),
    )
