"""Commands that switch and refresh."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from evergallery.cli import completion
from evergallery.cli.choices import AdapterKind, Direction, Order, Way
from evergallery.cli.common import (
    HERE,
    ClusterOption,
    DataDirOption,
    ImagesFromOption,
    JsonOption,
    LargestOption,
    PriceOption,
    RuntimeOption,
    WorkersOption,
    WorkspaceOption,
    allow,
    open_workspace,
    say_if,
    say_result,
)
from evergallery.cli.console import print_json, say, watching
from evergallery.cli.printing import (
    STOPPED,
    print_adapted,
    print_condition,
    print_plan,
    print_refreshed,
)

if TYPE_CHECKING:
    from evergallery.upgrade.refreshing import RefreshResult
    from evergallery.watching import Watcher
    from evergallery.workspace import Workspace

ImagesOption = Annotated[
    str | None,
    typer.Option(help="Where to look for the stored items' images first; where they were indexed from otherwise."),
]
AdapterOption = Annotated[
    str | None,
    typer.Option(
        "--with", help="An adapter that maps the stored vectors; no image is read.", autocompletion=completion.adapters
    ),
]


def adapt(
    new: Annotated[str, typer.Argument(help="The generation that queries.", autocompletion=completion.generations)],
    old: Annotated[
        str, typer.Argument(help="The generation whose vectors are stored.", autocompletion=completion.generations)
    ],
    pairs: Annotated[
        str, typer.Option(help="Images that both embed, with or without labels; or an .npz of embeddings.")
    ],
    workspace: WorkspaceOption = HERE,
    direction: Annotated[
        Direction, typer.Option(help="query: new queries into the old space. gallery: stored vectors into the new one.")
    ] = "query",
    kind: Annotated[AdapterKind | None, typer.Option(help="Only this kind; all that fit are tried by default.")] = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Fit a map between two models that nobody can retrain, of the kind that is best on held-out pairs."""
    with open_workspace(workspace) as space, watching(json) as watcher:
        made = space.adapt(new, old, pairs, direction=direction, kind=kind, data_dir=data_dir, watcher=watcher)
    if json:
        print_json({**made.adapter.card.model_dump(mode="json"), "warning": made.selection.warning})
    else:
        print_adapted(made)


def promote(
    generation: Annotated[
        str, typer.Argument(help="The generation that shall answer queries.", autocompletion=completion.generations)
    ],
    workspace: WorkspaceOption = HERE,
    answer: Annotated[
        Way | None,
        typer.Option(
            help="How older vectors are searched: direct, adapter, dual (by the generation that made them, which looks at the "
            "query too) or rescore (candidates found so, scored again by new vectors, which are made on the way); by default as "
            "the last check has shown.",
            autocompletion=completion.ways,
        ),
    ] = None,
    candidates: Annotated[int | None, typer.Option(help="For rescore: how many are scored again.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="For rescore: the most seconds that a search may spend on images.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote it although the gate refuses it.")] = False,
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
        print_condition(condition, name)
    for line in done.lines:
        say(line)


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
    """Show what a refresh would cost and give, measured on a sample; nothing is changed."""
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
    bool,
    typer.Option("--commit", help="Delete the earlier vectors for good; asks first, because there is no way back."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Commit without being asked.")]
DiscardOption = Annotated[bool, typer.Option("--discard", help="Delete the new vectors.")]


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
    """Return what to do after a call of ``refresh``: go on with it, or whatever comes next."""
    from evergallery.upgrade.advice import next_step

    if done.stopped_by in STOPPED:
        return next_step(space.holdings, done.generation)
    return f"Go on with  evergallery refresh {done.generation}{f' --with {adapter}' if adapter else ''}"


def _confirm(space: "Workspace", watcher: "Watcher") -> None:
    from evergallery.errors import InputError
    from evergallery.upgrade.settling import superseded

    count = superseded(space.holdings)
    question = f"Delete {count} earlier vectors for good? After that neither rollback nor --discard brings them back."
    if not watcher.confirms(question):
        raise InputError(
            f"{question} Nobody said yes: nothing was deleted. To delete them unasked:  evergallery refresh --commit --yes"
        )


def _seconds(text: str) -> float:
    from evergallery.errors import InputError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not found:
        raise InputError(f"--budget {text!r} is not a time: give seconds, minutes or hours, such as 90s, 10m or 2h.")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _recall(text: str) -> float:
    from evergallery.errors import InputError

    found = re.fullmatch(r"(?:recall=)?(0?\.\d+|0|1(?:\.0*)?)", text.strip())
    if not found:
        raise InputError(f"--until {text!r} is not a recall: give recall=0.9, a share between 0 and 1.")
    return float(found[1])
