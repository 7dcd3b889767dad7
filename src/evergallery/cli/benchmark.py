"""``evergallery benchmark``: the protocols of the papers, and two result sets side by side."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from evergallery.cli.choices import Budget, Fit, Head, Neck, TrainingPrecision
from evergallery.cli.common import DataDirOption, JsonOption, SizeOption, ranks_given, size_given
from evergallery.cli.console import out, print_json, print_table, say, watching

ProtocolArgument = Annotated[str, typer.Argument(help="A protocol (--list shows them), or compare.")]
SetsArgument = Annotated[list[Path] | None, typer.Argument(help="For compare: two directories of results.")]
MethodsOption = Annotated[
    str | None,
    typer.Option(
        help="A,B,C; METHOD@NAME=VALUE sets a hyper-parameter, METHOD+ADAPTER adds an adapter after training. By default "
        "initial, the main methods and joint, as far as the protocol admits them."
    ),
]
SeedsOption = Annotated[int, typer.Option(min=1, help="How many: 0, 1, …")]
DataOption = Annotated[
    str | None,
    typer.Option(help="Images, a named set such as cub200, or the directory where the protocol's own set lies."),
]
BudgetOption = Annotated[Budget, typer.Option(help="How long to train.")]
BackboneOption = Annotated[str | None, typer.Option(help="Backbone of all generations, in place of the protocol's.")]
UpdateBackboneOption = Annotated[
    str | None, typer.Option(help="Backbone of the generations after the first, where it is another.")
]
DimOption = Annotated[int | None, typer.Option(min=2, help="Dimension of the embedding.")]
NeckOption = Annotated[Neck | None, typer.Option(help="Layers after the backbone.")]
HeadOption = Annotated[Head | None, typer.Option(help="Classifier in training.")]
PretrainedOption = Annotated[
    bool | None,
    typer.Option("--pretrained/--from-scratch", help="Whether networks begin with their published weights."),
]
WeightsOption = Annotated[Path | None, typer.Option(help="Networks begin with the backbone's weights in this file.")]
UpdateWeightsOption = Annotated[
    Path | None, typer.Option(help="Weights of the generations after the first, where they have another backbone.")
]
EpochsOption = Annotated[int | None, typer.Option(min=1, help="Passes over the training images, of every generation.")]
PrecisionOption = Annotated[
    TrainingPrecision | None, typer.Option(help="bf16 where the hardware has it, by default, or float32.")
]
FitOption = Annotated[Fit | None, typer.Option(help="How images of another shape are brought to that size.")]
KsOption = Annotated[str | None, typer.Option("--ks", help="K,K,…: recall at these ranks too.")]
EvaluateOption = Annotated[
    str | None,
    typer.Option(
        help="A,B,…: measure on lfw, ijb-c, ijb-c-weighted, roxford5k, rparis6k or gldv2-retrieval in --data-dir "
        "too, or on a .csv table of pairs."
    ),
]
ProcessesOption = Annotated[
    int, typer.Option(min=1, help="Runs at a time, each with its share of the cores; by default one after another.")
]
OutDirectoryOption = Annotated[Path, typer.Option("--out", help="Where results go.")]
ListProtocolsOption = Annotated[bool, typer.Option("--list", help="Show the protocols.")]


def benchmark(
    protocol: ProtocolArgument = "",
    sets: SetsArgument = None,
    methods: MethodsOption = None,
    seeds: SeedsOption = 3,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    budget: BudgetOption = "standard",
    backbone: BackboneOption = None,
    update_backbone: UpdateBackboneOption = None,
    dim: DimOption = None,
    neck: NeckOption = None,
    head: HeadOption = None,
    pretrained: PretrainedOption = None,
    weights: WeightsOption = None,
    update_weights: UpdateWeightsOption = None,
    epochs: EpochsOption = None,
    precision: PrecisionOption = None,
    size: SizeOption = None,
    fit: FitOption = None,
    ks: KsOption = None,
    evaluate: EvaluateOption = None,
    processes: ProcessesOption = 1,
    out_directory: OutDirectoryOption = Path("results"),
    list_protocols: ListProtocolsOption = False,
    json: JsonOption = False,
) -> None:
    """Run a protocol for several methods and seeds; finished runs are kept, an interrupted one goes on."""
    if list_protocols or not protocol:
        _print_protocols(json)
    elif protocol == "compare":
        _compare(sets or [], json)
    else:
        from evergallery.benchmark.job import Experiment
        from evergallery.benchmark.protocol import ProtocolChanges
        from evergallery.benchmark.runner import run_benchmark

        changes = ProtocolChanges(
            backbone=backbone,
            update_backbone=update_backbone,
            dim=dim,
            neck=neck,
            head=head,
            pretrained=pretrained,
            weights=weights,
            update_weights=update_weights,
            epochs=epochs,
            precision=precision,
            size=size_given(size),
            fit=fit,
            ks=ranks_given(ks),
            evaluate=_names(evaluate),
        )
        experiment = Experiment(protocol, budget, data, data_dir, changes)
        run = partial(
            run_benchmark, experiment, _names(methods), seeds=range(seeds), out=out_directory, processes=processes
        )
        _show(_watched(run, json), f"{protocol}, budget {budget}", json)


def _watched(run: Callable[..., Path], json: bool) -> Path:
    """Run what is not finished, with its progress shown, and return the directory of the results."""
    from evergallery.report.page import require_plots

    require_plots("A benchmark")
    with watching(json) as watcher:
        return run(watcher=watcher)


def _names(text: str | None) -> tuple[str, ...] | None:
    """Names with commas."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _show(results: Path, title: str, json: bool) -> None:
    """The main table of a directory of results, and where its page is."""
    from evergallery.benchmark.report import write_report
    from evergallery.benchmark.tables import COLUMNS, by_method, read_runs, row_name, summary

    page = write_report(results)
    runs = read_runs(results)
    if json:
        print_json({"directory": str(results), "runs": runs})
        return
    shown = [
        column for column in COLUMNS if column.title.endswith(("self", "cross")) or column.title in ("forgetting", "AM")
    ]
    rows = [
        (
            row_name(name, found),
            *("" if (cell := summary(found, column)) is None else f"{cell[0]:.1f}" for column in shown),
        )
        for name, found in by_method(runs).items()
    ]
    # A set whose tests are of classes that no task has knows no old and new ones.
    full = [index for index in range(len(shown)) if any(row[index + 1] for row in rows)]
    shown, rows = [shown[index] for index in full], [(row[0], *(row[index + 1] for index in full)) for row in rows]
    columns = ("method", *(column.title.replace(" ", "\n") for column in shown))
    print_table(f"{title}: recall@1 in %, mean over the seeds", columns, rows)
    out.print(f"Tables and plots: {page}", soft_wrap=True)


def _compare(sets: list[Path], json: bool) -> None:
    from evergallery.benchmark.tables import COLUMNS, compare, read_runs, set_apart
    from evergallery.errors import InputError

    if len(sets) != 2:
        raise InputError("Name two directories of results: evergallery benchmark compare A B")
    first, second = map(read_runs, sets)
    rows = compare(first, second)
    if json:
        keys = ("method", "column", "first", "second", "half_interval_of_difference")
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    digits = {column.title: column.digits for column in COLUMNS}
    print_table(
        f"{sets[0]} beside {sets[1]}",
        ("method", "", "first", "second", "second - first (95 %)"),
        [
            (
                method,
                column,
                f"{a:.{digits[column]}f}",
                f"{b:.{digits[column]}f}",
                f"{b - a:+.{digits[column]}f}" + (" (one seed)" if half is None else f" ± {half:.{digits[column]}f}"),
            )
            for method, column, a, b, half in rows
        ],
        numbers_from=2,
    )
    if differing := set_apart(first, second):
        say(f"The two differ in {', '.join(differing)}.")
    say("Paired on the seed; intervals by Student's t over the seeds.")


def _print_protocols(json: bool) -> None:
    from evergallery.benchmark.protocols import PROTOCOLS

    if json:
        print_json([{"name": known.name, "shows": known.shows, "data": known.data} for known in PROTOCOLS.values()])
        return
    rows = [(known.name, known.data or "--data", known.shows) for known in PROTOCOLS.values()]
    print_table("Protocols", ("name", "images", "what it shows"), rows, numbers_from=9)
