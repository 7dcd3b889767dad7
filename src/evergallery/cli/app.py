"""The commands, one function each; everything heavy is imported when a command runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergallery.cli.console import err, out, print_json, print_skipped, print_table, say, watching

if TYPE_CHECKING:
    from evergallery.evaluation import Comparison
    from evergallery.gallery.items import Filter
    from evergallery.generation import Generation
    from evergallery.workspace import Workspace

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Visual search whose gallery outlives its model: learn new categories without the old images, keep the stored "
    "vectors, and know before you switch.",
)
gallery_app = typer.Typer(no_args_is_help=False, help="Look at and change the stored items.")
app.add_typer(gallery_app, name="gallery")

WorkspaceOption = Annotated[
    Path, typer.Option("--workspace", "-w", envvar="EVERGALLERY_WORKSPACE", help="The workspace's directory.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DataArgument = Annotated[
    str, typer.Argument(help="A folder with a folder per class, a .csv/.parquet table, an .npz file, or a named set.")
]
DataDirOption = Annotated[Path | None, typer.Option(help="Where named sets such as cifar100 lie.")]
HERE = Path()


def version(value: bool) -> None:
    """Print the version and stop."""
    if value:
        from evergallery import __version__

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
    backbone: Annotated[str, typer.Option(help="resnet20/32/44/56, or any timm model.")] = "resnet20",
    dim: Annotated[int | None, typer.Option(help="Dimension of the embedding; the backbone's own by default.")] = None,
    neck: Annotated[str | None, typer.Option(help="none, linear, bn or linear-bn.")] = None,
    size: Annotated[int | None, typer.Option(help="Side of the input in pixels.")] = None,
    fit: Annotated[str, typer.Option(help="How an image becomes square: crop, pad or stretch.")] = "crop",
    head: Annotated[str, typer.Option(help="Classifier in training: cosine, unit-rows (as CSD) or linear.")] = "cosine",
    json: JsonOption = False,
) -> None:
    """Create an empty workspace."""
    from evergallery.workspace import Workspace

    workspace = Workspace.create(
        directory, backbone=backbone, dim=dim, neck=neck, size=size, fit=fit, head=head  # type: ignore[arg-type]
    )  # fmt: skip
    if json:
        print_json({"workspace": str(workspace.directory), **workspace.state.model_dump(mode="json")})
    else:
        out.print(f"Created {directory}. Next:  evergallery learn IMAGES -w {directory}", markup=False, soft_wrap=True)


@app.command()
def learn(
    data: DataArgument,
    workspace: WorkspaceOption = HERE,
    method: Annotated[str | None, typer.Option(help="finetune, csd or joint; csd once there is a parent.")] = None,
    parent: Annotated[str | None, typer.Option(help="Learn from this generation; the promoted one by default.")] = None,
    old_data: Annotated[
        str | None, typer.Option(help="Images of the old categories, for methods that need them.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Only these classes: A,B,C, or @FILE with one on each line.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="Only a group of the classes: 1/2 is the first half.")] = None,
    class_order_seed: Annotated[int | None, typer.Option(help="Of the groups; natural order by default.")] = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    images_per_class: Annotated[int | None, typer.Option(help="K of P×K balanced batches.")] = None,
    learning_rate: float | None = None,
    schedule: Annotated[str | None, typer.Option(help="one-cycle, cosine, multi-step or constant.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adam or sgd.")] = None,
    weight_decay: float | None = None,
    precision: Annotated[str | None, typer.Option(help="auto, bf16 or float32.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    padding: Annotated[int | None, typer.Option(help="Pixels of random shift.")] = None,
    flip: Annotated[bool | None, typer.Option(help="Mirror half of the images; wrong for characters.")] = None,
    erase: Annotated[float | None, typer.Option(help="Probability of random erasing.")] = None,
    start_size: Annotated[int | None, typer.Option(help="First size of progressive resizing.")] = None,
    validation_fraction: float | None = None,
    select: Annotated[str | None, typer.Option(help="Keep the best epoch on the validation part, or the last.")] = None,
    init_seed: int | None = None,
    data_seed: int | None = None,
    validation_seed: int | None = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Begin with the backbone's published weights.")
    ] = False,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Learn a generation from images of new categories; an interrupted run goes on."""
    from evergallery.cli.arguments import choose_classes, choose_method, choose_settings

    space = _open(workspace)
    given = {
        "epochs": epochs,
        "batch_size": batch_size,
        "images_per_class": images_per_class,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "optimizer": optimizer,
        "weight_decay": weight_decay,
        "precision": precision,
        "device": device,
        "padding": padding,
        "flip": flip,
        "erase": erase,
        "start_size": start_size,
        "validation_fraction": validation_fraction,
        "select": select,
        "init_seed": init_seed,
        "data_seed": data_seed,
        "validation_seed": validation_seed,
    }
    chosen = choose_method(method)
    has_parent = space.state.promoted is not None and (chosen is None or chosen.starts_from_parent)
    with watching(json) as watcher:
        generation = space.learn(
            data,
            method=chosen,
            parent=parent,
            old_data=old_data,
            classes=choose_classes(space, data, data_dir, classes, task, class_order_seed, watcher),
            settings=choose_settings(has_parent, given),
            pretrained=pretrained,
            data_dir=data_dir,
            watcher=watcher,
        )
    card = generation.card
    if json:
        print_json(card.model_dump(mode="json"))
        return
    recall = card.training["validation"].get("recall@1")
    validated = f", recall@1 {100 * recall:.1f} % on its validation part" if recall is not None else ""
    out.print(
        f"{card.name}: {len(card.new_classes)} new classes by {card.method.name}, {card.data['training']} images, "
        f"{card.training['seconds']:.0f} s{validated}.", markup=False, soft_wrap=True,
    )  # fmt: skip
    _print_skipped_of(generation)
    if space.state.promoted != card.name:
        out.print(f"Next:  evergallery check {card.name} --data HELD_OUT -w {workspace}", markup=False, soft_wrap=True)


@app.command()
def index(
    data: DataArgument,
    workspace: WorkspaceOption = HERE,
    generation: Annotated[str | None, typer.Option(help="That makes the vectors; the promoted one by default.")] = None,
    split: Annotated[str | None, typer.Option(help="Only the images of this split.")] = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Extract images and keep their vectors in the gallery."""
    with _open(workspace) as space, watching(json) as watcher:
        done = space.index(data, generation=generation, split=split, data_dir=data_dir, watcher=watcher)
    if json:
        skipped = [{"uri": one.uri, "reason": one.reason} for one in done.skipped]
        counts = {name: getattr(done, name) for name in ("generation", "added", "replaced", "unchanged", "seconds")}
        print_json({**counts, "skipped": skipped})
        return
    out.print(
        f"{done.added} added, {done.replaced} replaced, {done.unchanged} unchanged, as vectors of {done.generation}, "
        f"in {done.seconds:.1f} s.", markup=False, soft_wrap=True,
    )  # fmt: skip
    print_skipped(done.skipped)


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
    json: JsonOption = False,
) -> None:
    """Find the stored items most like a picture."""
    with _open(workspace) as space:
        where = _filter(space, label, within)
        matches = space.search(
            None if image is None else str(image), item=item, generation=generation, k=k, where=where,
            minimum_score=min_score,
        )  # fmt: skip
        names = {one.fingerprint: one.name for one in space.generations()}
    rows = [
        {
            "rank": rank,
            "score": round(match.score, 4),
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
            ("#", "score", "label", "vector of", "image"),
            [
                (
                    str(row["rank"]),
                    f"{row['score']:.3f}",
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
    space = _open(workspace)
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
        ("", "parent", "method", "classes", "new", "images", "seconds", "recall@1 (validation)", "space"),
        [
            (
                card.name + (" (promoted)" if card.name == promoted else ""),
                card.parent or "",
                card.method.name,
                str(len(card.classes)),
                str(len(card.new_classes)),
                str(card.data["training"]),
                f"{card.training['seconds']:.0f}",
                f"{100 * card.training['validation']['recall@1']:.1f} %" if card.training["validation"] else "",
                card.fingerprint[:8],
            )
            for card in cards
        ],
        numbers_from=3,
    )


@app.command()
def check(
    generation: Annotated[str, typer.Argument(help="The newer generation.")],
    data: Annotated[str, typer.Option(help="Held-out labelled images, in any form that learn reads.")],
    workspace: WorkspaceOption = HERE,
    against: Annotated[
        str | None, typer.Option(help="Whose vectors are searched; the promoted one's by default.")
    ] = None,
    queries: Annotated[str | None, typer.Option(help="Split of the queries.")] = None,
    gallery: Annotated[str | None, typer.Option(help="Split of the gallery.")] = None,
    tolerance: Annotated[float, typer.Option(help="Points of recall@1 that the cross-test may lie lower.")] = 1.0,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Measure a generation beside another: self-test, cross-test, verdict. Exit status 1 if not compatible."""
    space = _open(workspace)
    with watching(json) as watcher:
        result = space.check(
            generation, data, against=against, queries=queries, gallery=gallery, tolerance=tolerance / 100,
            data_dir=data_dir, watcher=watcher,
        )  # fmt: skip
    if json:
        print_json(result.to_dict())
    else:
        _print_comparison(result)
    if not result.compatible:
        raise typer.Exit(1)


@app.command()
def promote(
    generation: Annotated[str, typer.Argument(help="Which shall answer queries.")],
    workspace: WorkspaceOption = HERE,
    force: Annotated[bool, typer.Option("--force", help="Although it was not shown to be compatible.")] = False,
    why: Annotated[str | None, typer.Option(help="The reason, kept for ever.")] = None,
    json: JsonOption = False,
) -> None:
    """Let a generation answer queries from now on."""
    with _open(workspace) as space:
        space.promote(generation, force=force, why=why)
    _say({"promoted": generation}, f"{generation} answers queries now.", json)


@app.command()
def rollback(workspace: WorkspaceOption = HERE, json: JsonOption = False) -> None:
    """Go back to the generation that was promoted before."""
    name = _open(workspace).rollback()
    _say({"promoted": name}, f"{name} answers queries again.", json)


@app.command()
def doctor(workspace: WorkspaceOption = HERE, json: JsonOption = False) -> None:
    """Verify checksums and counts, and name what is wrong. Exit status 1 if anything is."""
    with _open(workspace) as space:
        problems = space.doctor()
        if json:
            print_json({"problems": problems})
        elif problems:
            for problem in problems:
                out.print(problem, markup=False, soft_wrap=True)
        else:
            count = space.gallery.count()
            out.print(f"All is well: {len(space.generations())} generations, {count} items.")
    if problems:
        raise typer.Exit(1)


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
    from evergallery.demo import run_demo

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


@gallery_app.callback(invoke_without_command=True)
def gallery_summary(context: typer.Context, workspace: WorkspaceOption = HERE, json: JsonOption = False) -> None:
    """Count the stored items by generation."""
    if context.invoked_subcommand:
        return
    with _open(workspace) as space:
        counts = space.gallery.count_by_generation()
        names = {one.fingerprint: one.name for one in space.generations()}
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
    with _open(workspace) as space:
        items: list[dict[str, Any]] = []
        for batch in space.gallery.iterate(_filter(space, label, within)):
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

    with _open(workspace) as space:
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
    with _open(workspace) as space:
        deleted = space.gallery.delete(items)
    _say({"deleted": deleted}, f"{deleted} deleted.", json)
    if not deleted:
        raise typer.Exit(1)


def _open(directory: Path) -> "Workspace":
    from evergallery.workspace import Workspace

    return Workspace(directory)


def _filter(space: "Workspace", labels: list[str] | None, within: list[str] | None) -> "Filter":
    from evergallery.gallery.items import Filter

    generations = tuple(space.generation(name).fingerprint for name in within or ())
    return Filter(labels=tuple(labels) if labels else None, generations=generations or None)


def _describe_item(space: "Workspace", item: Any) -> dict[str, Any]:
    names = {one.fingerprint: one.name for one in space.generations()}
    return {
        "id": item.id,
        "label": item.label,
        "generation": names.get(item.generation, item.generation),
        "uri": item.uri,
        "content_hash": item.content_hash,
        "added": item.added,
        "metadata": item.metadata,
    }


def _say(result: dict[str, Any], sentence: str, json: bool) -> None:
    if json:
        print_json(result)
    else:
        say(sentence)


def _print_comparison(result: "Comparison") -> None:
    rows = []
    for title, measured in (
        (f"{result.old} in its own vectors", result.old_self),
        (f"{result.new} in its own vectors (self-test)", result.new_self),
        (f"{result.new} in the vectors of {result.old} (cross-test)", result.cross),
    ):
        for group, metrics in measured.items():
            recalls = tuple(f"{100 * value:.1f}" for value in metrics.recall.values())
            rows.append((title, group, *recalls, f"{100 * metrics.map_at_r:.1f}", str(metrics.queries)))
    columns = ("queries of", "classes", *(f"recall@{k}" for k in result.cross["all"].recall), "mAP@R", "queries")
    print_table(f"{result.new} beside {result.old}, in %", columns, rows, numbers_from=2)
    say(f"Held-out images: {result.protocol}. Old and new classes within their own galleries.")
    say(result.verdict)


def _print_skipped_of(generation: "Generation") -> None:
    skipped = generation.card.data["skipped"]
    if skipped:
        err.print(f"[yellow]{len(skipped)} image{'s' * (len(skipped) > 1)} skipped:[/yellow]")
        for one in skipped[:10]:
            err.print(f"  {one}", markup=False)
