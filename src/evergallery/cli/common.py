"""Options and steps that several commands share."""

import inspect
import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergallery.cli.choices import Runtime
from evergallery.cli.console import Terminal, err, print_json, say
from evergallery.cli.owners import require_owners
from evergallery.strings.environment import LARGEST_IMAGE, RUNTIME, SERVER

if TYPE_CHECKING:
    from evergallery.data.images.sizes import Size
    from evergallery.gallery.items import Filter
    from evergallery.workspace import Workspace


def _set_largest(pixels: int | None) -> int | None:
    """Set the largest image in the environment, which decoding asks in this process and in those that it starts."""
    if pixels is not None:
        os.environ[LARGEST_IMAGE] = str(pixels)
    return pixels


def _set_runtime(runtime: Runtime | None) -> Runtime | None:
    """Set the runtime in the environment, which embedding asks in this process and in those that it starts."""
    if runtime is not None:
        os.environ[RUNTIME] = runtime
        from evergallery.network.runtimes import asked_for

        asked_for()
    return runtime


def _chosen(context: typer.Context, given: Path) -> Path:
    """The workspace: named after the verb, or else before it, or else by the environment, or else here."""
    source = context.get_parameter_source("workspace")
    before = context.find_root().params.get("place")
    if source is not None and source.name != "COMMANDLINE" and before is not None:
        given = before
    elif source is None or source.name != "COMMANDLINE":
        return given
    Terminal.workspace = given
    return given


WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace",
        "-w",
        envvar="EVERGALLERY_WORKSPACE",
        callback=_chosen,
        show_default="this directory",
        help="The workspace's directory; it may also stand before the verb.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
DataArgument = Annotated[
    str, typer.Argument(help="A folder with a folder per class, a .csv/.parquet table, an .npz file, or a named set.")
]
DataDirOption = Annotated[Path | None, typer.Option(help="Where named sets such as cifar100 lie; needed for them.")]
PriceOption = Annotated[
    float | None,
    typer.Option(
        min=0, max=1e9, help="What an hour of this machine costs, in whatever currency; by default nothing is priced."
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="A Ray cluster that reads and extracts: HOST:PORT, auto, or local for one on this machine.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, help="Workers of the cluster; one for each of its GPUs by default, or else of its CPUs."),
]
RelabelOption = Annotated[
    bool,
    typer.Option("--relabel", help="Let a label, or an address, take the place of another one that is stored."),
]
ImagesFromOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="ROOT",
        help="A folder or URL below which images of stored items may be opened, from now on; may be repeated.",
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIDE|HEIGHTxWIDTH", help="Size of the input in pixels: 224, or 256x128; the network's own by default."
    ),
]
ReduceOption = Annotated[
    bool,
    typer.Option(
        "--reduce-jpegs",
        help="Decode a JPEG at an eighth, a quarter or half of its size where that is still not smaller than the input.",
    ),
]
LargestOption = Annotated[
    int | None,
    typer.Option(
        "--largest-image",
        min=1,
        metavar="PIXELS",
        envvar=LARGEST_IMAGE,
        callback=_set_largest,
        help="Images of more pixels are skipped; 64000000 by default.",
    ),
]
RuntimeOption = Annotated[
    Runtime | None,
    typer.Option(
        "--runtime",
        envvar=RUNTIME,
        callback=_set_runtime,
        help="What runs the network; by default, and with auto, the fastest here, once it has been found.",
    ),
]
ServerOption = Annotated[
    bool,
    typer.Option(
        "--server/--no-server",
        envvar=SERVER,
        help="Whether a running  evergallery serve  of this workspace may answer, if its answer would be the same.",
    ),
]
HERE = Path()


def size_given(text: str | None) -> "Size | None":
    """Return what ``--size`` asks for: ``224``, or ``256x128`` for height and width."""
    from evergallery.data.images.sizes import read_size
    from evergallery.errors import InputError

    try:
        return None if text is None else read_size(text)
    except InputError as error:
        raise InputError(f"--size {text}: {error}") from error


def class_names(option: str, text: str, file: Path | None) -> tuple[str, ...]:
    """The classes that an option names, each once: with commas, or in a file with a name on each line.

    Raises:
        InputError: it names none, or the file is no text.
    """
    from evergallery.errors import InputError

    try:
        parts = text.split(",") if file is None else file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{option} {file} cannot be read as UTF-8 text ({error}).") from error
    names = dict.fromkeys(part.strip() for part in parts if part.strip())
    if not names:
        raise InputError(f"{option} {text!r} names no class: give names with commas, or a file with one on each line.")
    return tuple(names)


def open_workspace(directory: Path) -> "Workspace":
    """The workspace of ``--workspace``."""
    from evergallery.workspace import Workspace

    return Workspace(directory)


def by_server(directory: Path, verb: str, question: dict[str, Any], picture: Path | None = None) -> Any:
    """Return a running server's answer; ``None`` where this process has to do the work, see ``serving.asking``."""
    from evergallery.serving.asking import asked

    return asked(directory, verb, question, picture)


def allow(space: "Workspace", images_from: list[str] | None) -> None:
    """Allow what ``--images-from`` asks for."""
    if images_from:
        space.allow_images(*images_from)


def item_filter(space: "Workspace", labels: list[str] | None, within: list[str] | None) -> "Filter":
    """Return what ``--label`` and ``--within`` admit."""
    from evergallery.gallery.items import Filter

    generations = tuple(space.holdings.space(name).fingerprint for name in within or ())
    return Filter(labels=tuple(labels) if labels else None, generations=generations or None)


def say_if_password(place: str) -> None:
    """Tell where the password of a gallery, or whatever else is secret, belongs, where it stands in the URL."""
    from evergallery.gallery.places import without_password

    if without_password(place) != place:
        err.print(
            "The password in the URL is left out, or whatever else in it is secret (a key, a token, options), and never written "
            "down: the engine takes it from the environment; see "
            "docs/engines.md.",
            soft_wrap=True,
        )


def say_if(sentence: str | None) -> None:
    """Say a sentence, where there is one to say."""
    if sentence:
        say(sentence)


def say_result(result: dict[str, Any], sentence: str, json: bool) -> None:
    """A result that is one sentence, or JSON."""
    if json:
        print_json(result)
    else:
        say(sentence)


def _require_countable(context: typer.Context, values: Mapping[str, Any]) -> None:
    """Refuse whole numbers that no count and no seed of a computer can be.

    Raises:
        InputError: there is one.
    """
    from evergallery.errors import InputError

    for parameter in context.command.params:
        value = values.get(str(parameter.name))
        if isinstance(value, int) and abs(value) >= 2**63:
            raise InputError(f"{max(parameter.opts, key=len)} {value} is not usable: it has to be at most {2**63 - 1}.")


QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show no progress: only results, warnings and errors.")
]


def with_quiet(verb: Callable[..., None]) -> Callable[..., None]:
    """A verb that also takes ``--quiet``, as each does, and refuses options without what they belong to."""

    @wraps(verb)
    def run(*arguments: Any, quiet: bool, context: typer.Context, **options: Any) -> None:
        Terminal.hides_progress = Terminal.hides_progress or quiet
        require_owners(verb.__name__, context, options)
        _require_countable(context, options)
        verb(*arguments, **options)

    further = {"quiet": (QuietOption, False), "context": (typer.Context, inspect.Parameter.empty)}
    last = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in further.items()
    ]
    signature = inspect.signature(verb)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *last])  # type: ignore[attr-defined]
    run.__annotations__ = {**verb.__annotations__, **{name: kind for name, (kind, _) in further.items()}}
    return run


def ranks_given(text: str | None) -> tuple[int, ...] | None:
    """Ranks with commas, each at least 1."""
    from evergallery.errors import InputError

    if text is None:
        return None
    if not all(part.isdecimal() and int(part) for part in text.split(",")):
        raise InputError(f"--ks {text!r} is not usable: name ranks such as 1,10,100,1000.")
    return tuple(map(int, text.split(",")))
