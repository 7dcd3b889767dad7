"""The commands, one function each; everything heavy is imported when a command runs."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evergallery.cli import upgrade
from evergallery.cli.benchmark import benchmark
from evergallery.cli.common import (
    HERE,
    ClusterOption,
    DataArgument,
    DataDirOption,
    ImagesFromOption,
    JsonOption,
    LargestOption,
    RelabelOption,
    WorkersOption,
    WorkspaceOption,
    allow,
    item_filter,
    open_workspace,
    say_if_password,
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
from evergallery.cli.exchange import export, export_model, import_, register
from evergallery.cli.gallery import gallery_app
from evergallery.cli.learn import learn
from evergallery.cli.report import report
from evergallery.cli.serve import serve, token_app

if TYPE_CHECKING:
    from evergallery.workspace import Workspace

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Visual search whose gallery outlives its model: learn new categories without the old images, keep the stored "
    "vectors, and know before you switch.",
)


def version(value: bool) -> None:
    """Print the version and stop."""
    if value:
        from evergallery._version import __version__

        out.print(__version__)
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Visual search whose gallery outlives its model."""


@app.command()
def init(
    directory: Annotated[Path, typer.Argument(help="A new directory.")],
    backbone: Annotated[str, typer.Option(help="resnet20/32/44/56, any timm model, or torchvision/NAME.")] = "resnet20",
    dim: Annotated[int | None, typer.Option(help="Dimension of the embedding; the backbone's own by default.")] = None,
    neck: Annotated[str | None, typer.Option(help="none, linear, bn or linear-bn.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels.")] = None,
    fit: Annotated[str, typer.Option(help="How an image becomes square: crop, pad or stretch.")] = "crop",
    head: Annotated[str, typer.Option(help="Classifier in training: cosine, unit-rows (as CSD) or linear.")] = "cosine",
    store: Annotated[str, typer.Option(help="A directory inside, postgresql://… or qdrant://…")] = "gallery",
    precision: Annotated[str, typer.Option(help="Of the stored vectors: float32, float16 or int8.")] = "float32",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Begin with the backbone as it was published: it answers at once.")
    ] = False,
    weights: Annotated[
        Path | None, typer.Option(help="Begin with the backbone's weights in this file: safetensors or a state dict.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Create a workspace, empty or with a pretrained network as its first generation."""
    from evergallery.workspace import Workspace

    say_if_password(store)
    workspace = Workspace.create(
        directory, backbone=backbone, dim=dim, neck=neck, size=size, fit=fit, head=head,  # type: ignore[arg-type]
        store=store, precision=precision, pretrained=pretrained, weights=weights,  # type: ignore[arg-type]
    )  # fmt: skip
    if json:
        print_json({"workspace": str(workspace.directory), **workspace.state.model_dump(mode="json")})
    else:
        first = workspace.state.promoted
        begun = f" {first} is {backbone}, {workspace.promoted.card.dimension} dimensions." if first else ""
        verb = "index" if first else "learn"
        out.print(
            f"Created {directory}.{begun} Next:  evergallery {verb} IMAGES -w {directory}", markup=False, soft_wrap=True
        )


app.command()(learn)
app.command()(register)
app.command("import")(import_)
app.command()(export)
app.command("export-model")(export_model)


@app.command()
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


@app.command()
def search(
    image: Annotated[Path | None, typer.Argument(help="The picture to search with.")] = None,
    workspace: WorkspaceOption = HERE,
    item: Annotated[str | None, typer.Option(help="Search with a stored item instead.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 10,
    label: Annotated[list[str] | None, typer.Option(help="Only items with this label; may be repeated.")] = None,
    within: Annotated[list[str] | None, typer.Option(help="Only vectors of this generation; may be repeated.")] = None,
    generation: Annotated[str | None, typer.Option(help="That embeds the query; the promoted one by default.")] = None,
    min_score: Annotated[float | None, typer.Option(help="Smallest cosine.")] = None,
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
    json: JsonOption = False,
) -> None:
    """Find the stored items most like a picture."""
    from evergallery.holdings.comparing import space_of

    with open_workspace(workspace) as space:
        where = item_filter(space, label, within)
        matches = space.search(
            None if image is None else str(image), item=item, generation=generation, k=k, where=where,
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
            f"Most like {image or item}",
            ("#", "score", "match", "label", "vector of", "image"),
            [
                (
                    str(row["rank"]),
                    f"{row['score']:.3f}",
                    "" if row["probability"] is None else f"{100 * row['probability']:.0f} %",
                    str(row["label"] or ""),
                    str(row["generation"]),
                    str(row["uri"]),
                )
                for row in rows
            ],
            numbers_from=9,
        )
    if not rows:
        raise typer.Exit(1)


@app.command()
def generations(
    name: Annotated[str | None, typer.Argument(help="Show the card of this one.")] = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """List the generations, or show one's card."""
    space = open_workspace(workspace)
    if name is not None:
        card = space.generation(name).card.model_dump(mode="json")
        print_json(card if json else {**card, "classes": f"{len(card['classes'])} classes (--json lists them)",
                                      "new_classes": f"{len(card['new_classes'])} classes"})  # fmt: skip
        return
    promoted = space.state.promoted
    cards = [one.card for one in space.generations()]
    if json:
        print_json({"promoted": promoted, "generations": [card.model_dump(mode="json") for card in cards]})
        return
    if not cards:
        out.print(f"No generation yet. Next:  evergallery learn IMAGES -w {workspace}", markup=False, soft_wrap=True)
        return
    print_table(
        "Generations",
        ("", "parent", "method", "classes", "new", "images", "seconds", "validation\nrecall@1", "space"),
        [
            (
                card.name + (" (promoted)" if card.name == promoted else ""),
                card.parent or "",
                card.method.name,
                str(len(card.classes)),
                str(len(card.new_classes)),
                str(card.data.get("training", "")),
                f"{card.training['seconds']:.0f}" if card.training else "",
                f"{100 * card.training['validation']['recall@1']:.1f} %" if card.training.get("validation") else "",
                card.fingerprint[:8],
            )
            for card in cards
        ],
        numbers_from=3,
    )


for command in (upgrade.check, upgrade.adapt, upgrade.promote, upgrade.rollback, upgrade.plan, upgrade.refresh, upgrade.status,
                upgrade.log, upgrade.diff):  # fmt: skip
    app.command()(command)


@app.command()
def doctor(
    workspace: WorkspaceOption = HERE,
    mend: Annotated[
        bool,
        typer.Option("--mend", help="Delete what killed processes have left, and added pictures that no item has."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Verify checksums and counts, and name what is wrong. Exit status 1 if anything is."""
    with open_workspace(workspace) as space:
        mended = [str(path) for path in space.mend()] if mend else []
        problems = space.doctor()
        if json:
            print_json({"problems": problems, "mended": mended})
        else:
            _print_examined(space, problems, mended)
    if problems:
        raise typer.Exit(1)


def _print_examined(space: "Workspace", problems: list[str], mended: list[str]) -> None:
    for path in mended:
        out.print(f"Deleted {path}.", markup=False, soft_wrap=True)
    for problem in problems:
        out.print(problem, markup=False, soft_wrap=True)
    if not problems:
        out.print(f"All is well: {len(space.generations())} generations, {space.gallery.count()} items.")


@app.command()
def demo(
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="Where to build it.")] = Path("evergallery-demo"),
    data: Annotated[str, typer.Option(help="Your own images, in any form that learn reads.")] = "glyphs",
    data_dir: DataDirOption = None,
    limit: Annotated[int, typer.Option(min=200, help="Use at most this many images.")] = 12_000,
    seed: Annotated[int, typer.Option(help="Of everything.")] = 0,
    json: JsonOption = False,
) -> None:
    """The whole story in minutes: learn, index, learn new categories, search the old vectors."""
    from evergallery.demo.story import run_demo

    with watching(json) as watcher:
        result = run_demo(workspace, data, data_dir=data_dir, limit=limit, seed=seed, watcher=watcher)
    if json:
        print_json(result.to_dict())
        return
    print_table(result.title, result.columns, result.rows, numbers_from=1)
    say(result.foot)
    for sentence in result.findings:
        say(f"• {sentence}")
    print_skipped(result.skipped)
    out.print(f"Pictures: {result.page}", markup=False, soft_wrap=True)


app.command()(report)
app.command()(benchmark)
app.command()(serve)
app.add_typer(gallery_app, name="gallery")
app.add_typer(token_app, name="token")
