"""Commands that measure, switch, refresh and look back."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergallery.cli import completion
from evergallery.cli.choices import AdapterKind, Direction, Order
from evergallery.cli.common import (
    HERE,
    ClusterOption,
    DataDirOption,
    ImagesFromOption,
    JsonOption,
    LargestOption,
    RuntimeOption,
    WorkersOption,
    WorkspaceOption,
    allow,
    open_workspace,
    say_if,
    say_result,
)
from evergallery.cli.console import print_json, print_table, say, watching
from evergallery.cli.printing import (
    print_adapted,
    print_check,
    print_compared,
    print_log,
    print_plan,
    print_refreshed,
    print_status,
    print_virtual,
    short,
)

if TYPE_CHECKING:
    from evergallery.memory import Fidelity
    from evergallery.upgrade.check import Check
    from evergallery.upgrade.refreshing import RefreshResult
    from evergallery.watching import Watcher
    from evergallery.workspace import Workspace

MOST_FILES = 20_000
"""So many image files are looked for by ``status``, which does not keep anybody waiting; ``doctor`` reads them all."""
ImagesOption = Annotated[
    str | None,
    typer.Option(help="Where to look for the stored items' images first; where they were indexed from otherwise."),
]
PriceOption = Annotated[
    float | None,
    typer.Option(min=0, help="What an hour of this machine costs, in whatever currency; by default nothing is priced."),
]
AdapterOption = Annotated[
    str | None,
    typer.Option(
        "--with", help="An adapter that maps the stored vectors; no image is read.", autocompletion=completion.adapters
    ),
]

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
    typer.Option(help="In place of one generation several, with commas: intervals are corrected for their number."),
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
    typer.Option(help="In place of labels: a .csv or .parquet table query,item[,grade] of which items are right."),
]
AnswerOption = Annotated[
    str | None,
    typer.Option(
        help="The way of answering that is judged, as promote --answer would: direct, adapter, dual or rescore; by default "
        "as this check shows.",
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
FlipsOption = Annotated[int, typer.Option(min=0, help="How many queries that flipped to name.")]
VirtualOption = Annotated[
    bool, typer.Option("--virtual", help="Also how well its memory stands in for earlier generations.")
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
    flips: FlipsOption = 0,
    virtual: VirtualOption = False,
    price_per_hour: PriceOption = None,
    data_dir: DataDirOption = None,
    largest_image: LargestOption = None,
    runtime: RuntimeOption = None,
    json: JsonOption = False,
) -> None:
    """Measure a generation beside others: the matrix, the gate's conditions, the verdict. Exit status 1 if it is not passed."""
    from evergallery.errors import InputError
    from evergallery.holdings.answer import CHECKED, Answer
    from evergallery.upgrade.advice import next_step

    if (generation is None) == (candidates is None):
        raise InputError("Name the generation to check, or several with --candidates v2,v3: exactly one of both.")
    names = [] if candidates is None else [name.strip() for name in candidates.split(",") if name.strip()]
    way = None if answer is None and rescored is None else Answer.of(answer, rescored)
    options: dict[str, Any] = {
        "against": against,
        "best": best,
        "queries": queries,
        "gallery": gallery,
        "answers": answers,
        "old_classes": None if old_classes is None else _names(old_classes),
        "price_per_hour": price_per_hour,
        "data_dir": data_dir,
        "answer": way,
    }
    with open_workspace(workspace) as space, watching(json) as watcher:
        following, remembered = None, None
        if generation is None:
            results = space.compare(names, data, watcher=watcher, **options)
        else:
            if virtual:
                remembered = space.virtual_features(generation, data, data_dir=data_dir, watcher=watcher)
            results = [space.check(generation, data, watcher=watcher, **options)]
            following = None if json else next_step(space, generation, results[0], way or CHECKED)
    if generation is None:
        _show_candidates(results, json)
    else:
        _show_check(results[0], remembered, flips, json)
        say_if(following)
    if any(result.pairs for result in results) and not any(result.passed for result in results):
        raise typer.Exit(1)


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
    generation: Annotated[str, typer.Argument(help="The generation that asks.", autocompletion=completion.generations)],
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
    """Verification of pairs and templates, search 1:N and landmarks with junk: by one generation, and across two."""
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


def adapt(
    new: Annotated[str, typer.Argument(help="The generation that queries.", autocompletion=completion.generations)],
    old: Annotated[
        str, typer.Argument(help="The generation whose vectors are stored.", autocompletion=completion.generations)
    ],
    pairs: Annotated[str, typer.Option(help="Images that both look at, labels optional; or an .npz of embeddings.")],
    workspace: WorkspaceOption = HERE,
    direction: Annotated[
        Direction, typer.Option(help="query: new queries into the old space. gallery: stored vectors into the new one.")
    ] = "query",
    kind: Annotated[AdapterKind | None, typer.Option(help="Only this kind; all that fit are tried by default.")] = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Make a map between two models that nobody can retrain; the best kind on pairs that it has not seen."""
    with open_workspace(workspace) as space, watching(json) as watcher:
        made = space.adapt(new, old, pairs, direction=direction, kind=kind, data_dir=data_dir, watcher=watcher)
    if json:
        print_json({**made.adapter.card.model_dump(mode="json"), "warning": made.selection.warning})
    else:
        print_adapted(made)


def promote(
    generation: Annotated[
        str, typer.Argument(help="Which shall answer queries.", autocompletion=completion.generations)
    ],
    workspace: WorkspaceOption = HERE,
    answer: Annotated[
        str | None,
        typer.Option(
            help="How older vectors are searched: direct, adapter, dual (by the generation that made them, which looks at the "
            "query too) or rescore (candidates found so, scored again by new vectors, which are made on the way); by default as "
            "the last check has shown.",
            autocompletion=completion.ways,
        ),
    ] = None,
    candidates: Annotated[int | None, typer.Option(help="For rescore: how many are scored again.")] = None,
    seconds: Annotated[float | None, typer.Option(help="For rescore: that a search may spend on images.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Although the gate refuses it.")] = False,
    why: Annotated[str | None, typer.Option(help="The reason, kept for ever.")] = None,
    json: JsonOption = False,
) -> None:
    """Let a generation answer queries from now on; refused where the gate is not passed. See docs/upgrades.md."""
    from evergallery.holdings.answer import Answer

    given = answer is not None or candidates is not None or seconds is not None
    chosen = Answer.of(answer, candidates, seconds) if given else None
    with open_workspace(workspace) as space:
        done = space.promote(generation, answer=chosen, force=force, why=why)
    if json:
        conditions = [{"space": name, **vars(condition)} for name, condition in done]
        print_json(
            {
                "promoted": generation,
                "changed": done.changed,
                "judged": done.judged,
                "refused": done.refused,
                "answer": done.answer.model_dump(),
                "scores": done.scores,
                "checks": done.checks,
                "conditions": conditions,
            }
        )
        return
    for name, condition in done:
        say(f"{name}: {condition}")
    say(str(done))


def rollback(workspace: WorkspaceOption = HERE, json: JsonOption = False) -> None:
    """Go back to the generation that was promoted before, and to the vectors that it searched."""
    with open_workspace(workspace) as space:
        name = space.rollback()
    say_result({"promoted": name}, f"{name} answers queries again.", json)


def plan(
    generation: Annotated[
        str, typer.Argument(help="The generation that would query.", autocompletion=completion.generations)
    ],
    workspace: WorkspaceOption = HERE,
    adapter: AdapterOption = None,
    images: ImagesOption = None,
    price_per_hour: PriceOption = None,
    data_dir: DataDirOption = None,
    images_from: ImagesFromOption = None,
    json: JsonOption = False,
) -> None:
    """What a refresh would cost and give, measured on a sample; nothing is changed."""
    with open_workspace(workspace) as space, watching(json) as watcher:
        allow(space, images_from)
        result = space.plan(
            generation,
            adapter=adapter,
            images=images,
            price_per_hour=price_per_hour,
            data_dir=data_dir,
            watcher=watcher,
        )
    if json:
        print_json(result.to_dict())
    else:
        print_plan(result)


RefreshGenerationArgument = Annotated[
    str | None,
    typer.Argument(help="The generation that queries the new vectors.", autocompletion=completion.generations),
]
OrderOption = Annotated[Order, typer.Option(help="Which items first; plan tells what each is expected to give.")]
FractionOption = Annotated[float, typer.Option(help="Share of the items, above 0 and up to 1.")]
BudgetOption = Annotated[str | None, typer.Option(help="Time after which to stop: 90s, 10m, 2h; by default none.")]
UntilOption = Annotated[
    str | None, typer.Option(help="recall=0.9: stop where this recall@1 is to be expected; by default nowhere.")
]
RateOption = Annotated[float | None, typer.Option(help="Items a second, at most; by default as many as it can.")]
CommitOption = Annotated[
    bool, typer.Option("--commit", help="Give up the earlier vectors for good; asks first, and has no way back.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Let --commit ask nothing.")]
DiscardOption = Annotated[bool, typer.Option("--discard", help="Give up the new vectors.")]


def refresh(
    generation: RefreshGenerationArgument = None,
    workspace: WorkspaceOption = HERE,
    adapter: AdapterOption = None,
    order: OrderOption = "random",
    fraction: FractionOption = 1.0,
    budget: BudgetOption = None,
    until: UntilOption = None,
    rate: RateOption = None,
    commit: CommitOption = False,
    yes: YesOption = False,
    discard: DiscardOption = False,
    images: ImagesOption = None,
    data_dir: DataDirOption = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    images_from: ImagesFromOption = None,
    largest_image: LargestOption = None,
    runtime: RuntimeOption = None,
    json: JsonOption = False,
) -> None:
    """Give stored items vectors of a newer generation; an interrupted refresh goes on. Old vectors stay until --commit."""
    from evergallery.errors import InputError

    if yes and not commit:
        raise InputError("--yes answers what --commit asks: give both, or neither.")
    if commit + discard + (generation is not None) != 1:
        raise InputError("Name the generation to refresh for, or give --commit, or --discard: exactly one of them.")
    with open_workspace(workspace) as space, watching(json) as watcher:
        allow(space, images_from)
        if commit and not yes:
            _confirm(space, watcher)
        if generation is None:
            deleted = space.commit(watcher=watcher) if commit else space.discard(watcher=watcher)
            which = "earlier" if commit else "new"
            say_result({"deleted": deleted}, f"{deleted} {which} vectors deleted.", json)
            return
        done = space.refresh(
            generation,
            adapter=adapter,
            order=order,
            fraction=fraction,
            budget=None if budget is None else _seconds(budget),
            until=None if until is None else _recall(until),
            rate=rate,
            images=images,
            data_dir=data_dir,
            cluster=cluster,
            workers=workers,
            watcher=watcher,
        )
        following = _after_refresh(space, done, adapter)
    if json:
        print_json({**vars(done), "problems": [vars(problem) for problem in done.problems]})
    else:
        print_refreshed(done)
        say_if(following)


def _after_refresh(space: "Workspace", done: "RefreshResult", adapter: str | None) -> str | None:
    """What to do after a call of ``refresh``: go on with it, or whatever comes next."""
    from evergallery.upgrade.advice import next_step

    if done.stopped_by == "done":
        return next_step(space, done.generation)
    return f"Go on with  evergallery refresh {done.generation}{f' --with {adapter}' if adapter else ''}"


def _confirm(space: "Workspace", watcher: "Watcher") -> None:
    from evergallery.errors import InputError
    from evergallery.upgrade.settling import superseded

    count = superseded(space)
    question = f"Delete {count} earlier vectors for good? After that neither rollback nor --discard brings them back."
    if not watcher.confirms(question):
        raise InputError(
            f"{question} Nobody said yes: nothing was deleted. To delete them unasked:  evergallery refresh --commit --yes"
        )


def status(workspace: WorkspaceOption = HERE, json: JsonOption = False) -> None:
    """Items by generation and state, image files that are gone or changed, the open refresh, problems, what runs now."""
    from evergallery.upgrade.advice import next_step

    with open_workspace(workspace) as space:
        result = space.status()
        files = None if result.spaces is None else space.image_files(MOST_FILES)
        problems = files.problems(space.gallery) if files is not None else []
        following = next_step(space, result.promoted) if result.promoted and not json else None
    if json:
        print_json({**result.to_dict(), "files": files and asdict(files)})
    else:
        print_status(result)
        for problem in problems:
            say(problem)
        say_if(following)


def log(
    workspace: WorkspaceOption = HERE,
    limit: Annotated[int, typer.Option(min=1, help="Only the last ones.")] = 50,
    json: JsonOption = False,
) -> None:
    """Every operation on this workspace: when, who, what, figures."""
    entries = open_workspace(workspace).log()[-limit:]
    if json:
        print_json(entries)
        return
    print_log(entries)
    if not entries:
        say("Nothing has been done here yet.")


def diff(
    first: Annotated[str, typer.Argument(help="A generation.", autocompletion=completion.generations)],
    second: Annotated[str, typer.Argument(help="Another.", autocompletion=completion.generations)],
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """What two generations differ in."""
    found = open_workspace(workspace).diff(first, second)
    if json:
        print_json({name: {first: values[0], second: values[1]} for name, values in found.items()})
    elif not found:
        say(f"{first} and {second} differ in nothing but their name and time.")
    else:
        rows = [(name, *(short(value) for value in values)) for name, values in found.items()]
        print_table(f"{first} and {second}", ("", first, second), rows, numbers_from=9)


def _seconds(text: str) -> float:
    from evergallery.errors import InputError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not found:
        raise InputError(f"--budget {text!r} is not a time: give seconds, minutes or hours, such as 90s, 10m or 2h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _names(text: str) -> list[str]:
    """Names with commas, or a file with a name a line."""
    from evergallery.errors import InputError

    path = Path(text).expanduser()
    try:
        parts = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(",")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--old-classes {text} cannot be read as UTF-8 text ({error}).") from error
    names = [part.strip() for part in parts if part.strip()]
    if not names:
        raise InputError(
            f"--old-classes {text!r} names no class: give names with commas, or a file with a name a line."
        )
    return list(dict.fromkeys(names))


def _recall(text: str) -> float:
    from evergallery.errors import InputError

    found = re.fullmatch(r"(?:recall=)?(0?\.\d+|0|1(?:\.0*)?)", text.strip())
    if not found:
        raise InputError(f"--until {text!r} is not a recall: give recall=0.9, a share between 0 and 1.")
    return float(found[1])
