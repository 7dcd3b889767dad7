"""``evergallery register``, ``adopt``, ``import`` and ``export``: models and vectors of other systems."""

from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergallery.cli import completion
from evergallery.cli.choices import Fit, Interpolation
from evergallery.cli.common import (
    HERE,
    DataDirOption,
    ImagesFromOption,
    JsonOption,
    ReduceOption,
    RelabelOption,
    SizeOption,
    WorkspaceOption,
    allow,
    open_workspace,
    say_if_password,
    say_result,
    size_given,
)
from evergallery.cli.console import print_conflicts, print_json, print_skipped, say, warn, watching
from evergallery.cli.owners import is_address
from evergallery.gallery.opening import collection_places

if TYPE_CHECKING:
    from evergallery.generations.generation import Generation
    from evergallery.network.endpoint import Endpoint

ModelArgument = Annotated[
    str,
    typer.Argument(
        help="A timm model, torchvision/NAME, an .onnx file, a function package.module:function, or the address of an "
        "endpoint that embeds pictures."
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(help="A file of weights for a timm or torchvision model: safetensors or a state dict."),
]
PretrainedOption = Annotated[bool, typer.Option(help="Load the published weights where no file is given.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of initial weights, with --no-pretrained.")]
FitOption = Annotated[
    Fit | None, typer.Option(help="How an image of another shape is brought to that size; crop where nobody knows.")
]
InterpolationOption = Annotated[
    Interpolation | None, typer.Option(help="How an image is resampled; the model's own by default.")
]
MeanOption = Annotated[
    str | None, typer.Option(help="Mean of each channel, as 0.5,0.5,0.5; the model's own by default.")
]
StdOption = Annotated[
    str | None, typer.Option(help="What each channel is divided by, as 0.5,0.5,0.5; the model's own by default.")
]
ModelNameOption = Annotated[str | None, typer.Option("--model", help="Endpoint: the model's name there.")]
BodyOption = Annotated[
    str | None,
    typer.Option(help="Endpoint: what to add to the body of every request, as JSON, such as '{\"dimensions\": 512}'."),
]
KeyEnvOption = Annotated[
    str | None, typer.Option(help="Endpoint: the environment variable that holds the key, which is never kept.")
]
BatchOption = Annotated[int | None, typer.Option(help="Endpoint: pictures in a request; 16 by default.")]
TimeoutOption = Annotated[float | None, typer.Option(help="Endpoint: seconds for a request; 30 by default.")]
TriesOption = Annotated[int | None, typer.Option(help="Endpoint: how often a request is tried in all; 5 by default.")]
RateOption = Annotated[float | None, typer.Option(help="Endpoint: the most requests a second; no limit by default.")]
PricePer1000Option = Annotated[
    float | None, typer.Option("--price-per-1000", help="Endpoint: price of 1000 pictures, in any currency.")
]
MaxCostOption = Annotated[
    float | None, typer.Option(help="Endpoint: the most that may be spent in all; no limit by default.")
]
MaxPicturesOption = Annotated[
    int | None, typer.Option(help="Endpoint: the most pictures that may be sent in all; no limit by default.")
]


def register(
    model: ModelArgument,
    workspace: WorkspaceOption = HERE,
    weights: WeightsOption = None,
    pretrained: PretrainedOption = True,
    seed: SeedOption = 0,
    size: SizeOption = None,
    fit: FitOption = None,
    interpolation: InterpolationOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    reduce_jpegs: ReduceOption = False,
    model_name: ModelNameOption = None,
    body: BodyOption = None,
    key_env: KeyEnvOption = None,
    batch: BatchOption = None,
    timeout: TimeoutOption = None,
    tries: TriesOption = None,
    rate: RateOption = None,
    price_per_1000: PricePer1000Option = None,
    max_cost: MaxCostOption = None,
    max_pictures: MaxPicturesOption = None,
    json: JsonOption = False,
) -> None:
    """Make a generation of a model that you have trained elsewhere, or that answers at an address."""
    from evergallery.holdings.embedding import reads_words

    asked = {
        "model": model_name,
        "body": None if body is None else _object("--body", body),
        "key_env": key_env,
        "batch": batch,
        "timeout": timeout,
        "tries": tries,
        "rate": rate,
        "price_per_1000": price_per_1000,
        "max_cost": max_cost,
        "max_pictures": max_pictures,
    }
    what = _model(model, {name: value for name, value in asked.items() if value is not None})
    with open_workspace(workspace) as space, watching(json) as watcher:
        generation = space.register(
            what,
            weights=weights,
            pretrained=pretrained,
            seed=seed,
            size=size_given(size),
            fit=fit,
            interpolation=interpolation,
            mean=_numbers("--mean", mean),
            std=_numbers("--std", std),
            reduce_jpegs=reduce_jpegs,
            watcher=watcher,
        )
        promoted, reads = space.holdings.state.promoted, reads_words(space.holdings, generation)
    if json:
        print_json(generation.card.model_dump(mode="json"))
    else:
        _say_registered(generation, str(what), promoted, reads)


def _say_registered(generation: "Generation", model: str, promoted: str | None, reads: bool) -> None:
    from evergallery.data.images.sizes import size_text

    card, pixels = generation.card, size_text(generation.preprocessing.size)
    queries = "it answers queries now" if promoted == card.name else f"queries are answered by {promoted}"
    say(f"{card.name}: {model}, {card.dimension} dimensions, images of {pixels} pixels; {queries}.")
    if reads:
        say("It has a text tower, so that words find pictures:  evergallery search --text WORDS")


IntoOption = Annotated[
    str | None,
    typer.Option(
        help="The generation that made the vectors; by default a generation without a model is made.",
        autocompletion=completion.generations,
    ),
]
IdsOption = Annotated[Path | None, typer.Option(help="A text file with an id on each line, for .npy and .faiss.")]


def import_(
    file: Annotated[Path, typer.Argument(help="A table of vectors: .npz, .npy, .parquet, .faiss or .lance.")],
    workspace: WorkspaceOption = HERE,
    into: IntoOption = None,
    ids: IdsOption = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out bad rows, and name them.")] = False,
    refresh: Annotated[
        bool,
        typer.Option("--refresh", help="New vectors of stored items: they wait until their generation is promoted."),
    ] = False,
    relabel: RelabelOption = False,
    images_from: ImagesFromOption = None,
    json: JsonOption = False,
) -> None:
    """Keep vectors that were made elsewhere in the gallery; an interrupted import goes on.

    An item keeps what is known of it: an empty cell erases nothing, and another label is reported and counted.
    """
    with open_workspace(workspace) as space, watching(json) as watcher:
        allow(space, images_from)
        done = space.import_vectors(
            file, into=into, ids=ids, skip_bad=skip_bad, refresh=refresh, relabel=relabel, watcher=watcher
        )
    if json:
        print_json(asdict(done))
        return
    maker = f"{done.generation}, a new generation without a model" if done.is_new else done.generation
    say(
        f"{done.added} added, {done.replaced} replaced, {done.unchanged} unchanged, as vectors of {maker}, "
        f"in {done.seconds:.1f} s. {file} is as it was; its vectors are {done.bytes / 1e6:,.1f} MB."
    )
    if done.normalised:
        say(f"{done.normalised} vectors were not of unit length and are now: similarity is the cosine.")
    print_conflicts(done.conflicts, done.conflict_count)
    print_skipped(done.skipped, "row")


def adopt(
    collection: Annotated[
        str | None,
        typer.Argument(
            help=f"A file of vectors, {collection_places()}; the adopted one by default.",
        ),
    ] = None,
    workspace: WorkspaceOption = HERE,
    into: IntoOption = None,
    ids: IdsOption = None,
    images_from: ImagesFromOption = None,
    json: JsonOption = False,
) -> None:
    """Search and upgrade a collection that you keep elsewhere, where it is; it is only read.

    What is added lies beside it, until  evergallery release  removes it. Give the command again to take up rows that have come,
    gone or changed, or to go on after an interruption.
    """
    if collection is not None:
        say_if_password(collection)
    with open_workspace(workspace) as space, watching(json) as watcher:
        allow(space, images_from)
        done = space.adopt(collection, into=into, ids=ids, watcher=watcher)
    if json:
        print_json(asdict(done))
        return
    maker = f"{done.generation}, a new generation without a model" if done.is_new else done.generation
    say(
        f"{done.rows} rows of {done.collection} are in the gallery, with vectors of {maker}: {done.added.count} new, "
        f"{done.changed.count} changed, {done.gone.count} gone. The collection is as it was."
    )
    if done.copied:
        say(f"Its vectors are copied into the gallery to be searched: {done.copied / 1e6:,.1f} MB.")
    for reason, rows in done.unusable.items():
        warn(f"Rows left out, which have {reason}: {rows}.")
    if done.dropped:
        say(f"{done.dropped} newer vectors were given up, since their rows are gone or have another picture.")
    if done.caught_up:
        say(f"{done.caught_up} new rows have a vector by the generation that answers.")
    if done.waiting:
        first = done.problems[0]
        warn(
            f"{done.waiting} rows are found by no search until they have one; the first, {first.item!r}: {first.reason}."
        )


def release(
    workspace: WorkspaceOption = HERE,
    force: Annotated[
        bool, typer.Option("--force", help="Release it even where vectors of newer generations are given up with it.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Let go of the adopted collection: delete all that was added beside it, and leave it as it is."""
    with open_workspace(workspace) as space:
        done = space.release(force=force)
    what = f"{done.collection} is as it was" if done.collection else "What was adopted had been released already"
    lost = f" {done.vectors} vectors of newer generations are given up." if done.vectors else ""
    say_result(asdict(done), f"{what}; the gallery of {workspace} is empty.{lost}", json)


def export(
    file: Annotated[Path, typer.Argument(help="The file to write: .npz, .npy or .parquet.")],
    workspace: WorkspaceOption = HERE,
    generation: Annotated[
        str | None,
        typer.Option(help="Whose vectors; needed where there are several.", autocompletion=completion.generations),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write the stored vectors to a table."""
    with open_workspace(workspace) as space, watching(json) as watcher:
        done = space.export_vectors(file, generation=generation, watcher=watcher)
    files = [str(path) for path in done.files]
    result = {"generation": done.generation, "items": done.items, "files": files}
    beside = "; labels, addresses and metadata are left out" if file.suffix.lower() == ".npy" else ""
    say_result(result, f"{done.items} vectors of {done.generation} written to {' and '.join(files)}{beside}.", json)


def export_model(
    generation: Annotated[str, typer.Argument(help="Whose embedder.", autocompletion=completion.generations)],
    file: Annotated[Path, typer.Argument(help="The file to write: .onnx.")],
    workspace: WorkspaceOption = HERE,
    int8: Annotated[
        bool, typer.Option("--int8", help="Weights and activations of 8 bits; needs --calibrate. Another space.")
    ] = False,
    bf16: Annotated[
        bool,
        typer.Option("--bf16", help="Computed in bfloat16, by OpenVINO: several times as fast. Another space."),
    ] = False,
    calibrate: Annotated[
        str | None, typer.Option(help="Images like those to come, in any form that index reads; for --int8.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Held-out images, to measure the file's recall@1 on.")] = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Write a generation's embedder to an ONNX file, and compare the two."""
    with open_workspace(workspace) as space, watching(json) as watcher:
        done = space.export_model(
            file,
            generation=generation,
            int8=int8,
            bf16=bf16,
            calibrate=calibrate,
            data=data,
            data_dir=data_dir,
            watcher=watcher,
        )
    if json:
        print_json(asdict(done) | {"file": str(done.file)})
        return
    say(
        f"{done.file}: the embedder of {done.generation} in {done.numbers}, {done.bytes / 1e6:.1f} MB; fixed pictures come out "
        f"at a cosine of at least {done.cosine:.5f}."
    )
    if done.recall is not None:
        found = done.recall
        say(
            f"recall@1 of {found.queries} queries ({found.protocol}): {100 * found.generation:.1f} % by {done.generation}, "
            f"{100 * found.file:.1f} % by the file, {100 * found.cross:.1f} % by the file in vectors of {done.generation}; "
            f"smallest cosine of an image's two vectors {found.smallest_cosine:.4f}."
        )
    say(f"Next:  evergallery register {quote(str(done.file))}")


def _model(model: str, asked: dict[str, Any]) -> "str | Endpoint":
    """Return what was named: an endpoint where it is an address."""
    if not is_address(model):
        return model
    from evergallery.network.endpoint import Endpoint

    return Endpoint.of(model, **asked)


def _object(option: str, text: str) -> dict[str, Any]:
    from json import loads

    from evergallery.errors import InputError

    try:
        found = loads(text)
    except ValueError as error:
        raise InputError(
            f"{option} {text!r} is not JSON ({error}): write an object, such as '{{\"dimensions\": 512}}'."
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"{option} {text!r} is no JSON object: write one, such as '{{\"dimensions\": 512}}'.")
    return found


def _numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    from evergallery.errors import InputError

    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text!r} is not three numbers, such as 0.485,0.456,0.406.") from error
