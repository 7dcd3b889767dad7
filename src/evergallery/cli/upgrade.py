"""Commands that measure, switch, refresh and look back."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

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
    str | None, typer.Option("--with", help="An adapter that maps the stored vectors; no image is read.")
]


def check(
    data: Annotated[
        str,
        typer.Option(
            help="Held-out images, in any form that learn reads; an .npz of embeddings; @gallery for the stored items that have "
            "a label; or @marks for the queries whose results people have marked on the page."
        ),
    ],
    generation: Annotated[str | None, typer.Argument(help="The generation that would query.")] = None,
    candidates: Annotated[
        str | None,
        typer.Option(help="In place of one generation several, with commas: intervals are corrected for their number."),
    ] = None,
    workspace: WorkspaceOption = HERE,
    against: Annotated[
        str | None,
        typer.Option(
            help="Whose vectors are searched: a generation, an adapter, promoted, or all for the whole "
            "lineage; the promoted one's and all that the gallery holds by default."
        ),
    ] = None,
    best: Annotated[
        str | None, typer.Option(help="A generation trained without constraint, for update gain and price.")
    ] = None,
    old_classes: Annotated[
        str | None,
        typer.Option(
            help="Classes on which forgetting is measured: names with commas, or a file with a name a line; those that the "
            "older generation learned, or else those of its items in the gallery, by default."
        ),
    ] = None,
    answers: Annotated[
        str | None,
        typer.Option(help="In place of labels: a .csv or .parquet table query,item[,grade] of which items are right."),
    ] = None,
    answer: Annotated[
        str | None,
        typer.Option(
            help="The way of answering that is judged, as promote --answer would: direct, adapter, dual or rescore; by default "
            "as this check shows."
        ),
    ] = None,
    rescored: Annotated[
        int | None,
        typer.Option("--answer-candidates", help="For --answer rescore: how many candidates are scored again."),
    ] = None,
    queries: Annotated[str | None, typer.Option(help="Split of the queries.")] = None,
    gallery: Annotated[
        str | None,
        typer.Option(help="Split of the gallery; @gallery for the stored items, with the images as queries."),
    ] = None,
    flips: Annotated[int, typer.Option(min=0, help="How many queries that flipped to name.")] = 0,
    virtual: Annotated[
        bool, typer.Option("--virtual", help="Also how well its memory stands in for earlier generations.")
    ] = False,
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
    way = None if answer is None and rescored is None else Answer.of(answer, rescored)
    options: dict[str, Any] = {
        "against": against, "best": best, "queries": queries, "gallery": gallery, "answers": answers,
        "old_classes": None if old_classes is None else _names(old_classes), "price_per_hour": price_per_hour,
        "data_dir": data_dir, "answer": way,
    }  # fmt: skip
    with open_workspace(workspace) as space, watching(json) as watcher:
        if candidates is not None:
            names = [name.strip() for name in candidates.split(",") if name.strip()]
            found = space.compare(names, data, watcher=watcher, **options)
            if json:
                print_json({"candidates": [one.to_dict() for one in found]})
            else:
                print_compared(found)
            if any(one.pairs for one in found) and not any(one.passed for one in found):
                raise typer.Exit(1)
            return
        assert generation is not None
        remembered = space.virtual_features(generation, data, data_dir=data_dir, watcher=watcher) if virtual else {}
        result = space.check(generation, data, watcher=watcher, **options)
        following = None if json else next_step(space, generation, result, way or CHECKED)
    if json:
        more = {"virtual": {name: one.to_dict() for name, one in remembered.items()}} if virtual else {}
        print_json(result.to_dict() | more)
    else:
        print_check(result, flips)
        if remembered:
            print_virtual(generation, remembered)
        say_if(following)
    if result.pairs and not result.passed:
        raise typer.Exit(1)


def verify(
    generation: Annotated[str, typer.Argument(help="The generation that asks.")],
    data: Annotated[
        str,
        typer.Option(
            help="lfw, ijb-c, roxford5k or rparis6k, or a .csv table first,second,same[,fold] of pairs, paths relative to it."
        ),
    ],
    workspace: WorkspaceOption = HERE,
    against: Annotated[str | None, typer.Option(help="Another generation, whose vectors would be stored.")] = None,
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
        (f"{one} in {other}", *(f"{100 * found[name]:.2f}" if name in found else "–" for name in names))
        for (one, other), found in result.figures.items()
    ]
    print_table(f"{result.set}, {result.images} images, in %", ("queries in vectors", *names), rows)


def adapt(
    new: Annotated[str, typer.Argument(help="The generation that queries.")],
    old: Annotated[str, typer.Argument(help="The generation whose vectors are stored.")],
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
    generation: Annotated[str, typer.Argument(help="Which shall answer queries.")],
    workspace: WorkspaceOption = HERE,
    answer: Annotated[
        str | None,
        typer.Option(
            help="How older vectors are searched: direct, adapter, dual (by the generation that made them, which looks at the "
            "query too) or rescore (candidates found so, scored again by new vectors, which are made on the way); by default as "
            "the last check has shown."
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
        conditions = [{"space": name, **vars(one)} for name, one in done]
        print_json(
            {"promoted": generation, "changed": done.changed, "judged": done.judged, "refused": done.refused,
             "answer": done.answer.model_dump(), "scores": done.scores, "checks": done.checks,
             "conditions": conditions}
        )  # fmt: skip
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
    generation: Annotated[str, typer.Argument(help="The generation that would query.")],
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
            generation, adapter=adapter, images=images, price_per_hour=price_per_hour, data_dir=data_dir, watcher=watcher
        )  # fmt: skip
    if json:
        print_json(result.to_dict())
    else:
        print_plan(result)


def refresh(
    generation: Annotated[str | None, typer.Argument(help="The generation that queries the new vectors.")] = None,
    workspace: WorkspaceOption = HERE,
    adapter: AdapterOption = None,
    order: Annotated[
        Order, typer.Option(help="Which items first; plan tells what each is expected to give.")
    ] = "random",
    fraction: Annotated[float, typer.Option(help="Share of the items, above 0 and up to 1.")] = 1.0,
    budget: Annotated[str | None, typer.Option(help="Time after which to stop: 90s, 10m, 2h; by default none.")] = None,
    until: Annotated[
        str | None, typer.Option(help="recall=0.9: stop where this recall@1 is to be expected; by default nowhere.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Items a second, at most; by default as many as it can.")] = None,
    commit: Annotated[
        bool, typer.Option("--commit", help="Give up the earlier vectors for good; asks first, and has no way back.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Let --commit ask nothing.")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Give up the new vectors.")] = False,
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
    from evergallery.upgrade.advice import next_step

    if yes and not commit:
        raise InputError("--yes answers what --commit asks: give both, or neither.")
    if commit + discard + (generation is not None) != 1:
        raise InputError("Name the generation to refresh for, or give --commit, or --discard: exactly one of them.")
    with open_workspace(workspace) as space, watching(json) as watcher:
        allow(space, images_from)
        if commit and not yes:
            _confirm(space, watcher)
        if commit or discard:
            deleted = space.commit(watcher=watcher) if commit else space.discard(watcher=watcher)
            which = "earlier" if commit else "new"
            say_result({"deleted": deleted}, f"{deleted} {which} vectors deleted.", json)
            return
        assert generation is not None
        done = space.refresh(
            generation, adapter=adapter, order=order, fraction=fraction,
            budget=None if budget is None else _seconds(budget), until=None if until is None else _recall(until),
            rate=rate, images=images, data_dir=data_dir, cluster=cluster, workers=workers, watcher=watcher,
        )  # fmt: skip
        through = f" --with {adapter}" if adapter else ""
        following = (
            next_step(space, generation)
            if done.stopped_by == "done"
            else f"Go on with  evergallery refresh {generation}{through}"
        )
    if json:
        print_json({**vars(done), "problems": [vars(one) for one in done.problems]})
        return
    print_refreshed(done)
    say_if(following)


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
    one: Annotated[str, typer.Argument(help="A generation.")],
    other: Annotated[str, typer.Argument(help="Another.")],
    workspace: WorkspaceOption = HERE,
    json: JsonOption = False,
) -> None:
    """What two generations differ in."""
    found = open_workspace(workspace).diff(one, other)
    if json:
        print_json({name: {one: values[0], other: values[1]} for name, values in found.items()})
    elif not found:
        say(f"{one} and {other} differ in nothing but their name and time.")
    else:
        rows = [(name, *(short(value) for value in values)) for name, values in found.items()]
        print_table(f"{one} and {other}", ("", one, other), rows, numbers_from=9)


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
