"""``evergallery init``, ``generations``, ``doctor`` and ``demo``: a workspace, what it holds, and whether it is whole."""

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from evergallery.cli import completion
from evergallery.cli.choices import Fit, Head, Neck, Precision
from evergallery.cli.common import (
    HERE,
    DataDirOption,
    JsonOption,
    ReduceOption,
    SizeOption,
    WorkspaceOption,
    open_workspace,
    say_if_password,
    size_given,
)
from evergallery.cli.console import out, print_json, print_skipped, print_table, say, watching
from evergallery.errors import DamagedError
from evergallery.gallery.opening import gallery_places

if TYPE_CHECKING:
    from evergallery.workspace import Workspace


def init(
    directory: Annotated[Path, typer.Argument(help="A new directory.")],
    backbone: Annotated[
        str,
        typer.Option(
            help="resnet20/32/44/56, any timm model, or torchvision/NAME.", autocompletion=completion.backbones
        ),
    ] = "resnet20",
    dim: Annotated[
        int | None, typer.Option(min=2, help="Dimension of the embedding; the backbone's own by default.")
    ] = None,
    neck: Annotated[
        Neck | None, typer.Option(help="Layers after the backbone; linear where a dimension is asked for, else none.")
    ] = None,
    size: SizeOption = None,
    fit: Annotated[Fit, typer.Option(help="How an image of another shape is brought to that size.")] = "crop",
    head: Annotated[Head, typer.Option(help="Classifier in training; CSD's is projected-rows.")] = "cosine",
    store: Annotated[
        str, typer.Option(help=f"Where the gallery is, inside or elsewhere: {gallery_places()}")
    ] = "gallery",
    precision: Annotated[Precision, typer.Option(help="Precision of the stored vectors.")] = "float32",
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Begin with the backbone as it was published: it answers at once.")
    ] = False,
    weights: Annotated[
        Path | None, typer.Option(help="Begin with the backbone's weights in this file: safetensors or a state dict.")
    ] = None,
    reduce_jpegs: ReduceOption = False,
    json: JsonOption = False,
) -> None:
    """Create a workspace, empty or with a pretrained network as its first generation."""
    from evergallery.workspace import Workspace

    say_if_password(store)
    with watching(json) as watcher:
        workspace = Workspace.create(
            directory,
            backbone=backbone,
            dim=dim,
            neck=neck,
            size=size_given(size),
            fit=fit,
            head=head,
            store=store,
            precision=precision,
            pretrained=pretrained,
            weights=weights,
            reduce_jpegs=reduce_jpegs,
            watcher=watcher,
        )
    if json:
        print_json({"workspace": str(workspace.directory), **workspace.holdings.state.model_dump(mode="json")})
    else:
        first = workspace.holdings.state.promoted
        begun = f" {first} is {backbone}, {workspace.promoted.card.dimension} dimensions." if first else ""
        where = quote(str(directory))
        after = f"evergallery index IMAGES -w {where}" if first else f"evergallery learn IMAGES -w {where}"
        say(f"Created {directory}.{begun} Next:  {after}")


def generations(
    name: Annotated[
        str | None, typer.Argument(help="Show the card of this one.", autocompletion=completion.generations)
    ] = None,
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """List the generations, or show one's card."""
    space = open_workspace(workspace)
    if name is not None:
        card = space.generation(name).card.model_dump(mode="json")
        print_json(
            card
            if json
            else {
                **card,
                "classes": f"{len(card['classes'])} classes (--json lists them)",
                "new_classes": f"{len(card['new_classes'])} classes",
            }
        )
        return
    promoted = space.holdings.state.promoted
    answers = "promoted against the gate" if space.holdings.state.forced else "promoted"
    cards = [generation.card for generation in space.generations()]
    if json:
        print_json({"promoted": promoted, "generations": [card.model_dump(mode="json") for card in cards]})
        return
    if not cards:
        out.print("No generation yet. Next:  evergallery learn IMAGES", soft_wrap=True)
        return
    print_table(
        "Generations",
        ("", "parent", "method", "classes", "new", "images", "seconds", "validation\nrecall@1", "space"),
        [
            (
                card.name + (f" ({answers})" if card.name == promoted else ""),
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


def doctor(
    workspace: WorkspaceOption = HERE,
    mend: Annotated[
        bool,
        typer.Option(
            "--mend",
            help="Delete what killed processes have left, and added pictures that no item has; set damaged lines aside.",
        ),
    ] = False,
    embed: Annotated[
        int,
        typer.Option(
            min=0, help="How many pictures of each generation to embed again, to see whether it made their vectors."
        ),
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Verify checksums, counts and vectors, and name what is wrong. Exit status 6 if anything is."""
    with open_workspace(workspace) as space, watching(json) as watcher:
        mended = [str(path) for path in space.mend()] if mend else []
        problems = space.doctor(embed=embed, watcher=watcher)
        if json:
            print_json({"problems": problems, "mended": mended})
        else:
            _print_examined(space, problems, mended)
    if problems:
        raise typer.Exit(DamagedError.exit_status)


def _print_examined(space: "Workspace", problems: list[str], mended: list[str]) -> None:
    for path in mended:
        done = f"Damaged lines of {path} are in {path}.damaged now." if Path(path).exists() else f"Deleted {path}."
        out.print(done, soft_wrap=True)
    for problem in problems:
        out.print(problem, soft_wrap=True)
    if not problems:
        from evergallery.report.words import counted

        found = counted(len(space.generations()), "generation"), counted(space.gallery.count(), "item")
        out.print(f"All is well: {', '.join(found)}.")


def demo(
    workspace: Annotated[Path, typer.Option("--workspace", "-w", help="Where to build it.")] = Path("evergallery-demo"),
    data: Annotated[str, typer.Option(help="Your own images, in any form that learn reads.")] = "glyphs",
    data_dir: DataDirOption = None,
    limit: Annotated[int, typer.Option(min=200, help="Use at most this many images.")] = 12_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything that is drawn.")] = 0,
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
    out.print(f"Pictures: {result.page}", soft_wrap=True)
