"""Commands that measure: a generation beside others on held-out images, and on sets that are only tested on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergallery.cli import completion
from evergallery.cli.choices import Way
from evergallery.cli.common import (
    HERE,
    DataDirOption,
    JsonOption,
    LargestOption,
    PriceOption,
    RuntimeOption,
    WorkspaceOption,
    class_names,
    open_workspace,
    ranks_given,
    say_if,
)
from evergallery.cli.console import print_json, print_table, watching
from evergallery.cli.printing import print_check, print_compared, print_virtual

if TYPE_CHECKING:
    from evergallery.memory import Fidelity
    from evergallery.upgrade.check import Check

DataOption = Annotated[
    str,
    typer.Option(
        help="Held-out images, in any form that learn reads; an .npz of embeddings; @gallery for the stored items that have "
        "a label; or @marks for the queries whose results people have marked on the page."
    ),
]
GenerationArgument = Annotated[
    str | None, typer.Argument(help="The generation that would query.", autocompletion=completion.generations)
]
CandidatesOption = Annotated[
    str | None,
    typer.Option(help="Several generations in place of one, with commas: intervals are corrected for their number."),
]
AgainstOption = Annotated[
    str | None,
    typer.Option(
        help="Whose vectors are searched: a generation, an adapter, promoted, or all for the whole "
        "lineage; the promoted one's and all that the gallery holds by default.",
        autocompletion=completion.spaces,
    ),
]
BestOption = Annotated[
    str | None,
    typer.Option(
        help="A generation trained without constraint, for update gain and price.",
        autocompletion=completion.generations,
    ),
]
OldClassesOption = Annotated[
    str | None,
    typer.Option(
        help="Classes on which forgetting is measured: names with commas, or a file with a name a line; those that the "
        "older generation learned, or else those of its items in the gallery, by default."
    ),
]
AnswersOption = Annotated[
    str | None,
    typer.Option(help="Right answers in place of labels: a .csv or .parquet table query,item[,grade]."),
]
AnswerOption = Annotated[
    Way | None,
    typer.Option(
        help="The way of answering that is judged, as promote --answer would; by default as this check shows.",
        autocompletion=completion.ways,
    ),
]
RescoredOption = Annotated[
    int | None,
    typer.Option("--answer-candidates", help="For --answer rescore: how many candidates are scored again."),
]
QueriesOption = Annotated[str | None, typer.Option(help="Split of the queries.")]
GalleryOption = Annotated[
    str | None,
    typer.Option(help="Split of the gallery; @gallery for the stored items, with the images as queries."),
]
RanksOption = Annotated[str | None, typer.Option("--ks", help="Ranks of recall@k beside 1, 5 and 10, with commas.")]
FullRankingOption = Annotated[
    bool,
    typer.Option("--full-ranking", help="Measure mAP and mINP, too, which sort the whole gallery for every query."),
]
FlipsOption = Annotated[int, typer.Option(min=0, help="How many queries that flipped to name.")]
VirtualOption = Annotated[
    bool, typer.Option("--virtual", help="Measure, too, how well its memory stands in for earlier generations.")
]


def check(
    data: DataOption,
    generation: GenerationArgument = None,
    candidates: CandidatesOption = None,
    workspace: WorkspaceOption = HERE,
    against: AgainstOption = None,
    best: BestOption = None,
    old_classes: OldClassesOption = None,
    answers: AnswersOption = None,
    answer: AnswerOption = None,
    rescored: RescoredOption = None,
    queries: QueriesOption = None,
    gallery: GalleryOption = None,
    ks: RanksOption = None,
    full_ranking: FullRankingOption = False,
    flips: FlipsOption = 0,
    virtual: VirtualOption = False,
    price_per_hour: PriceOption = None,
    data_dir: DataDirOption = None,
    largest_image: LargestOption = None,
    runtime: RuntimeOption = None,
    json: JsonOption = False,
) -> None:
    """Measure a generation beside others: the matrix, the gate's conditions, the verdict. Exit status 1 if it is not passed."""
    from evergallery.holdings.answer import CHECKED, Answer
    from evergallery.upgrade.advice import next_step

    names = _candidates(generation, candidates)
    way = None if answer is None and rescored is None else Answer.of(answer, rescored)
    options: dict[str, Any] = {
        "against": against,
        "best": best,
        "queries": queries,
        "gallery": gallery,
        "answers": answers,
        "old_classes": None if old_classes is None else _old_classes(old_classes),
        "price_per_hour": price_per_hour,
        "data_dir": data_dir,
        "answer": way,
        "ks": ranks_given(ks) or (),
        "full_ranking": full_ranking,
    }
    with open_workspace(workspace) as space, watching(json) as watcher:
        following, remembered = None, None
        if generation is None:
            results = space.compare(names, data, watcher=watcher, **options)
        else:
            if virtual:
                remembered = space.virtual_features(generation, data, data_dir=data_dir, watcher=watcher)
            results = [space.check(generation, data, watcher=watcher, **options)]
            following = None if json else next_step(space.holdings, generation, results[0], way or CHECKED)
    if generation is None:
        _show_candidates(results, json)
    else:
        _show_check(results[0], remembered, flips, json)
        say_if(following)
    if any(result.pairs for result in results) and not any(result.passed for result in results):
        raise typer.Exit(1)


def _candidates(generation: str | None, candidates: str | None) -> list[str]:
    """The names with commas; none where one generation is named in their place."""
    from evergallery.errors import InputError

    if (generation is None) == (candidates is None):
        raise InputError("Name the generation to check, or several with --candidates v2,v3: exactly one of both.")
    return [] if candidates is None else [name.strip() for name in candidates.split(",") if name.strip()]


def _show_candidates(results: "list[Check]", json: bool) -> None:
    if json:
        print_json({"candidates": [result.to_dict() for result in results]})
    else:
        print_compared(results)


def _show_check(result: "Check", remembered: "dict[str, Fidelity] | None", flips: int, json: bool) -> None:
    """A check, and how well its memory stands in for earlier generations, where that was asked for."""
    if json:
        fidelities = {name: fidelity.to_dict() for name, fidelity in (remembered or {}).items()}
        print_json(result.to_dict() | ({} if remembered is None else {"virtual": fidelities}))
        return
    print_check(result, flips)
    if remembered:
        print_virtual(result.candidate, remembered)


def verify(
    generation: Annotated[
        str, typer.Argument(help="The generation that embeds the queries.", autocompletion=completion.generations)
    ],
    data: Annotated[
        str,
        typer.Option(
            help="lfw, ijb-c, ijb-c-weighted, roxford5k, rparis6k or gldv2-retrieval, or a .csv table first,second,same[,fold] "
            "of pairs, paths relative to it."
        ),
    ],
    workspace: WorkspaceOption = HERE,
    against: Annotated[
        str | None,
        typer.Option(help="Another generation, whose vectors would be stored.", autocompletion=completion.generations),
    ] = None,
    data_dir: DataDirOption = None,
    largest_image: LargestOption = None,
    json: JsonOption = False,
) -> None:
    """Measure verification of pairs and templates, 1:N search, and landmarks with junk: within one generation, and across two."""
    with open_workspace(workspace) as space, watching(json) as watcher:
        result = space.verify(generation, data, against=against, data_dir=data_dir, watcher=watcher)
    if json:
        print_json(result.to_dict())
        return
    names = list(dict.fromkeys(name for found in result.figures.values() for name in found))
    rows = [
        (f"{asking} in {searched}", *(f"{100 * found[name]:.2f}" if name in found else "–" for name in names))
        for (asking, searched), found in result.figures.items()
    ]
    print_table(f"{result.set}, {result.images} images, in %", ("queries in vectors", *names), rows)


def _old_classes(text: str) -> tuple[str, ...]:
    """Names with commas, or a file with a name a line."""
    file = Path(text).expanduser()
    return class_names("--old-classes", text, file if file.is_file() else None)
