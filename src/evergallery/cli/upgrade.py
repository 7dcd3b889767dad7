"""Commands that measure, switch, refresh and look back."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evergallery.cli.common import (
    HERE,
    ClusterOption,
    DataDirOption,
    ImagesFromOption,
    JsonOption,
    LargestOption,
    WorkersOption,
    WorkspaceOption,
    allow,
    open_workspace,
    say_result,
)
from evergallery.cli.console import err, out, print_json, print_table, say, watching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evergallery.memory import Fidelity
    from evergallery.upgrade.adapting import Adapted
    from evergallery.upgrade.check import Check, PairCheck
    from evergallery.upgrade.options import Option
    from evergallery.upgrade.overview import Status
    from evergallery.upgrade.plan import Plan

SHOWN = 10
MOST_FILES = 20_000
"""So many image files are looked for by ``status``, which does not keep anybody waiting; ``doctor`` reads them all."""
ImagesOption = Annotated[
    str | None,
    typer.Option(help="Where to look for the stored items' images first; where they were indexed from otherwise."),
]
PriceOption = Annotated[
    float | None, typer.Option(min=0, help="What an hour of this machine costs, in whatever currency.")
]
AdapterOption = Annotated[
    str | None, typer.Option("--with", help="An adapter that maps the stored vectors; no image is read.")
]


def check(
    data: Annotated[str, typer.Option(help="Held-out images, in any form that learn reads; or an .npz of embeddings.")],
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
    json: JsonOption = False,
) -> None:
    """Measure a generation beside others: the matrix, the gate's conditions, the verdict. Exit status 1 if it fails."""
    from evergallery.errors import InputError

    if (generation is None) == (candidates is None):
        raise InputError("Name the generation to check, or several with --candidates v2,v3: exactly one of both.")
    options: dict[str, Any] = {
        "against": against, "best": best, "queries": queries, "gallery": gallery, "answers": answers,
        "old_classes": None if old_classes is None else _names(old_classes), "price_per_hour": price_per_hour,
        "data_dir": data_dir,
    }  # fmt: skip
    with open_workspace(workspace) as space, watching(json) as watcher:
        if candidates is not None:
            names = [name.strip() for name in candidates.split(",") if name.strip()]
            _say_compared(space.compare(names, data, watcher=watcher, **options), json)
            return
        assert generation is not None
        remembered = space.virtual_features(generation, data, data_dir=data_dir, watcher=watcher) if virtual else {}
        result = space.check(generation, data, watcher=watcher, **options)
    if json:
        more = {"virtual": {name: one.to_dict() for name, one in remembered.items()}} if virtual else {}
        print_json(result.to_dict() | more)
    else:
        _print_check(result, flips)
        if remembered:
            _print_virtual(generation, remembered)
    if result.pairs and not result.passed:
        raise typer.Exit(1)


def adapt(
    new: Annotated[str, typer.Argument(help="The generation that queries.")],
    old: Annotated[str, typer.Argument(help="The generation whose vectors are stored.")],
    pairs: Annotated[str, typer.Option(help="Images that both look at, labels optional; or an .npz of embeddings.")],
    workspace: WorkspaceOption = HERE,
    direction: Annotated[
        str, typer.Option(help="query: new queries into the old space. gallery: stored vectors into the new one.")
    ] = "query",
    kind: Annotated[str | None, typer.Option(help="Only this kind; all that fit are tried by default.")] = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Make a map between two models that nobody can retrain; the best kind on pairs that it has not seen."""
    from evergallery.errors import InputError

    if direction not in ("query", "gallery"):
        raise InputError(f"--direction {direction!r} is neither query nor gallery.")
    with open_workspace(workspace) as space, watching(json) as watcher:
        made = space.adapt(
            new, old, pairs, direction=direction, kind=kind, data_dir=data_dir, watcher=watcher  # type: ignore[arg-type]
        )  # fmt: skip
    if json:
        print_json({**made.adapter.card.model_dump(mode="json"), "warning": made.selection.warning})
    else:
        _print_adapted(made)


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
             "answer": done.answer.model_dump(), "scores": done.scores, "conditions": conditions}
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
        _print_plan(result)


def refresh(
    generation: Annotated[str | None, typer.Argument(help="The generation that queries the new vectors.")] = None,
    workspace: WorkspaceOption = HERE,
    adapter: AdapterOption = None,
    order: Annotated[
        str, typer.Option(help="Which items first: random, uncertain, typical, oldest or popular.")
    ] = "random",
    fraction: Annotated[float, typer.Option(help="Share of the items.")] = 1.0,
    budget: Annotated[str | None, typer.Option(help="Time after which to stop: 90s, 10m, 2h.")] = None,
    until: Annotated[str | None, typer.Option(help="recall=0.9: stop where this recall@1 is to be expected.")] = None,
    rate: Annotated[float | None, typer.Option(help="Items a second, at most.")] = None,
    commit: Annotated[bool, typer.Option("--commit", help="Give up the earlier vectors for good.")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Give up the new vectors.")] = False,
    images: ImagesOption = None,
    data_dir: DataDirOption = None,
    cluster: ClusterOption = None,
    workers: WorkersOption = None,
    images_from: ImagesFromOption = None,
    largest_image: LargestOption = None,
    json: JsonOption = False,
) -> None:
    """Give stored items vectors of a newer generation; an interrupted refresh goes on. Old vectors stay until --commit."""
    from evergallery.errors import InputError

    if commit + discard + (generation is not None) != 1:
        raise InputError("Name the generation to refresh for, or give --commit, or --discard: exactly one of them.")
    with open_workspace(workspace) as space, watching(json) as watcher:
        allow(space, images_from)
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
    if json:
        print_json({**vars(done), "problems": [vars(one) for one in done.problems]})
        return
    say(
        f"{done.refresh}: {done.refreshed} refreshed in {done.seconds:.0f} s, {done.remaining} keep their vector "
        f"({'all that could be' if done.stopped_by == 'done' else 'stopped by the ' + done.stopped_by})."
    )
    for problem in done.problems[:SHOWN]:
        err.print(f"  {problem.item[:16]}: {problem.reason}", markup=False, soft_wrap=True)
    if len(done.problems) > SHOWN:
        err.print(f"  and {len(done.problems) - SHOWN} more; all of them:  evergallery status --json")
    if done.shown:
        say("Searches use the new vectors. The earlier ones stay until  evergallery refresh --commit")
    else:
        say(f"The new vectors wait in the shadow until  evergallery promote {generation}")


def status(workspace: WorkspaceOption = HERE, json: JsonOption = False) -> None:
    """Items by generation and state, image files that are gone or changed, the open refresh, problems, what runs now."""
    with open_workspace(workspace) as space:
        result = space.status()
        files = None if result.spaces is None else space.image_files(MOST_FILES)
    if json:
        print_json({**result.to_dict(), "files": files and asdict(files)})
    else:
        _print_status(result)
        for problem in files.problems() if files is not None else ():
            say(problem)


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
    for entry in entries:
        told = {
            key: value
            for key, value in entry.items()
            if key not in ("time", "who", "operation") and value not in (None, [])
        }
        words = ", ".join(
            f"{key} {'; '.join(value) if isinstance(value, list) else value}" for key, value in told.items()
        )
        out.print(f"{entry['time']}  {entry['who']}  {entry['operation']}  {words}", markup=False, soft_wrap=True)
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
        rows = [(name, *(_short(value) for value in values)) for name, values in found.items()]
        print_table(f"{one} and {other}", ("", one, other), rows, numbers_from=9)


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value[:6])) + (f" and {len(value) - 6} more" if len(value) > 6 else "")
    return "" if value is None else str(value)


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


def _print_check(result: "Check", flips: int) -> None:
    for one in result.agreements:
        say(
            f"{one.new} and {one.old} show {100 * one.overlap:.1f} % of the same {one.k} items among the vectors of {one.old}, "
            f"and the same first one for {100 * one.same_first:.1f} % of {one.queries} queries."
        )
    if result.matrix:
        _print_matrix(result)
    for pair in result.pairs:
        _print_pair(pair)
        for title, changed in (("Lost", pair.negative), ("Won", pair.positive)):
            images = result.images.images
            for flip in changed[:flips]:
                say(f"  {title}: {images.uris[flip.query]}: {images.uris[flip.before]} → {images.uris[flip.after]}")
    say(result.conclusion)
    within = "" if not result.matrix or result.images.judgements else " Old and new classes within their own galleries."
    foot = f"Held-out images: {result.protocol}.{within}"
    say(foot + (f" {result.excluded} images left out: a generation had learned from them." if result.excluded else ""))


def _say_compared(results: "Sequence[Check]", json: bool) -> None:
    """Several candidates beside each other. Exit status 1 where the gate would let none of them answer."""
    if json:
        print_json({"candidates": [one.to_dict() for one in results]})
    else:
        rows = []
        for result in results:
            for pair in result.pairs:
                evidence = pair.evidence
                own, change = evidence.score("new self"), evidence.self_change
                moved = f"{100 * change.mean:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
                rows.append(
                    (result.candidate, evidence.old, f"{100 * own:.1f}", moved, f"{100 * evidence.score('cross'):.1f}",
                     pair.verdict, "✓" if pair.passed else "✗")
                )  # fmt: skip
        columns = (
            "candidate",
            "against",
            "alone\n%",
            "points beside\nold alone",
            "in old\nvectors %",
            "verdict",
            "gate",
        )
        print_table(f"{len(results)} candidates, the best alone first", columns, rows, numbers_from=2)
        say(f"Intervals are corrected for {len(results)} candidates, and all of them hold at once.")
        say(results[0].conclusion)
    if any(one.pairs for one in results) and not any(one.passed for one in results):
        raise typer.Exit(1)


def _print_matrix(result: "Check") -> None:
    values = result.values()
    rows = [
        (query, *("" if g > q else f"{100 * values[q, g]:.1f}" for g in range(len(result.generations))))
        for q, query in enumerate(result.generations)
    ]
    print_table("recall@1 in %, all classes: queries of a row's generation in the vectors of a column's",
                ("", *result.generations), rows)  # fmt: skip
    if len(result.generations) > 2:
        named = {name: value for name, value in result.lineage().items() if value is not None}
        say("  ".join(f"{name} {100 * value:.1f}" for name, value in named.items()) + " (%)")


def _print_pair(pair: "PairCheck") -> None:
    evidence = pair.evidence
    rows = []
    titles = {
        "old self": f"{evidence.old} in its own vectors",
        "new self": f"{evidence.new} in its own vectors (self-test)",
        "cross": f"{evidence.new} in the vectors of {evidence.old} (cross-test)",
    }
    shown = [(titles[test], groups) for test, groups in evidence.figures.items()]
    shown += [(f"the same {route.path()}", route.figures["cross"]) for route in pair.routes]
    for title, groups in shown:
        for group, figures in groups.items():
            recalls = tuple(f"{100 * value:.1f}" for value in figures.recall.values())
            graded = tuple(f"{100 * value:.1f}" for value in (figures.ndcg or {}).values())
            rows.append((title, group, *recalls, f"{100 * figures.map_at_r:.1f}", *graded, str(figures.queries)))
    figures = evidence.figures["cross"]["all"]
    graded = tuple(f"nDCG@{k}" for k in figures.ndcg or ())
    columns = ("queries of", "classes", *(f"recall@{k}" for k in figures.recall), "mAP@R", *graded, "queries")
    print_table(f"{evidence.new} against {evidence.old}, in %", columns, rows, numbers_from=2)
    say(
        f"Flips against {evidence.old} alone: {100 * evidence.negative_flips:.1f} % lost, "
        f"{100 * evidence.positive_flips:.1f} % won."
    )
    if evidence.best is not None:
        gain = "undefined" if evidence.update_gain is None else f"{evidence.update_gain:.2f}"
        say(f"Update gain {gain}, price {100 * (evidence.price or 0):.1f} points, against {evidence.best}.")
    for condition in pair.conditions:
        mark = "–" if condition.met is None else "✓" if condition.met else "✗"
        found = f"not measured, because {condition.measured}" if condition.met is None else condition.measured
        say(f"{mark} {condition.name}: {found}; required: {condition.required}")
    say(f"{pair.verdict.capitalize()}: {pair.reason}")
    _print_options(pair.options, evidence.metric)
    say(pair.advice.text)


def _print_options(options: "Sequence[Option]", metric: str) -> None:
    """Every way of answering beside what it gives and costs."""
    from evergallery.report.words import duration, size

    priced = any(one.money is not None for one in options)
    rows = []
    for one in options:
        change = one.outcome.change
        moved = f"{100 * change.mean:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
        images = f"{one.images:.0f}, kept {one.images_kept:.1f}" if one.images else "0"
        rows.append(
            (
                one.name, f"{100 * one.outcome.score:.1f}", "" if one.outcome.way == "wait" else moved,
                "✓" if one.passes else "✗",
                "?" if one.milliseconds is None else f"{one.milliseconds:.0f}", images,
                "?" if one.seconds is None else duration(one.seconds) if one.seconds else "0",
                "?" if one.bytes is None else size(one.bytes) if one.bytes else "0",
                *([] if not priced else ["?" if one.money is None else f"{one.money:.2f}"]),
            )
        )  # fmt: skip
    columns = (
        "way of answering", f"{metric}\n%", "points beside\nold alone", "gate", "ms a\nquery", "images\na query",
        "before it,\nin all", "bytes", *(["money"] if priced else []),
    )  # fmt: skip
    print_table("Ways of answering", columns, rows)
    say(
        "ms: the models alone, for one query on this machine while nothing is kept. Images: embedded for a query at first, and "
        "on average over these queries in a row. In a larger gallery so many candidates reach less."
    )


def _print_adapted(made: "Adapted") -> None:
    card, selection = made.adapter.card, made.selection
    rows = []
    for trial in selection.trials:
        unseen = f"{100 * trial.unseen_classes.recall:.1f}" if trial.unseen_classes else ""
        rows.append(
            (
                trial.name + (" (chosen)" if trial.name == selection.name else ""),
                f"{100 * trial.in_sample.recall:.1f}", f"{100 * trial.out_of_sample.recall:.1f}", unseen,
                f"{trial.worse.reciprocal_rank:.3f}", f"{trial.seconds:.1f}", f"{trial.microseconds:.0f}",
            )
        )  # fmt: skip
    columns = (
        "",
        "fitted\nimages",
        "other\nimages",
        "other\nclasses",
        "partner's\nrank",
        "seconds\nto fit",
        "µs a\nquery",
    )
    print_table(f"{card.name}: {card.source.name} to {card.target.name}, {selection.measure} in %", columns, rows)
    say(
        f"Vectors of {card.target.name} themselves: {100 * selection.target_recall:.1f} %. {selection.pairs} pairs; the chosen "
        f"kind was then fitted to all of them."
    )
    if selection.warning:
        err.print(f"[yellow]{selection.warning}[/yellow]", soft_wrap=True)
    new, old = (card.source, card.target) if card.direction == "query" else (card.target, card.source)
    against = old.name if card.direction == "query" else card.name
    say(f"Next:  evergallery check {new.name} --against {against} --data HELD_OUT")


def _print_virtual(generation: str, remembered: "dict[str, Fidelity]") -> None:
    print_table(
        f"Earlier generations as {generation} remembers them: its virtual features, and its own embeddings untouched",
        ("", "cosine", "untouched", "recall@1 real", "virtual", "untouched"),
        [
            (
                name, f"{one.cosine:.3f}", f"{one.cosine_untouched:.3f}",
                *(f"{100 * value:.1f} %" for value in (one.recall_real, one.recall_virtual, one.recall_untouched)),
            )
            for name, one in remembered.items()
        ],
    )  # fmt: skip
    say("Queries are the earlier generation's; cosines are with its real embeddings.")


def _print_plan(result: "Plan") -> None:
    from evergallery.report.words import duration, size

    total = sum(result.items.values())
    of = ", ".join(f"{count} vectors of {name}" for name, count in result.items.items())
    made = f"mapped by {result.adapter}" if result.adapter else "computed from the stored vectors"
    way = f"about {duration(result.seconds)}" if result.images else f"{made}, no image is read"
    say(f"{total} items to refresh ({of}): {way}, {size(result.bytes)} for the new vectors.")
    if result.missing:
        say(f"The images of {100 * result.missing:.0f} % of the sample were not found: such items keep their vector.")
    if not result.recall:
        say("What recall to expect cannot be told: too few stored items have a label and an image that is found.")
        return
    print_table(
        f"Expected recall@1 in % of {result.generation} by share refreshed, on a sample of {result.sample} items",
        ("order", *(f"{100 * share:.0f} %" for share in result.shares)),
        [(order, *(f"{100 * value:.1f}" for value in values)) for order, values in result.recall.items()],
    )
    say(
        f"Best on the sample: {result.best_order()}. {result.queries} queries, each of the sample's images among the others."
    )
    if result.advice is not None:
        _print_options(result.options, "recall@1")
        say(result.advice.text)


def _print_status(result: "Status") -> None:
    from evergallery.report.words import duration

    say(f"{result.promoted or 'No generation'} answers queries; {result.generations} generations.")
    if result.answer is not None:
        say(f"Way of answering: {result.answer}.")
    if result.forced:
        say(f"It was promoted against the gate: {result.forced}")
    if result.spaces is None:
        say("The gallery is in use by another process; its items are not counted now.")
    elif not result.spaces:
        say("The gallery is empty.")
    else:
        print_table("Items", ("vectors of", "state", "items"),
                    [(one.name, one.state, str(one.items)) for one in result.spaces], numbers_from=2)  # fmt: skip
    if result.refresh is None and any(one.state != "current" for one in result.spaces or ()):
        say(f"What refreshing the others would cost and give:  evergallery plan {result.promoted}")
    if result.refresh is not None:
        one = result.refresh
        left = "" if one.seconds_left is None else f", about {duration(one.seconds_left)} for the rest"
        seen = "searches use them" if one.shown else f"they wait for the promotion of {one.generation}"
        say(f"{one.id}, a refresh for {one.generation}: {one.refreshed} done, {one.remaining} to go{left}; {seen}.")
    for kind, count in result.problems.items():
        say(f"{count} items could not be refreshed: {kind}.")
    for item, reason in list(result.reasons.items())[:SHOWN]:
        say(f"  {item[:16]}: {reason}")
    for who in result.running:
        say(f"Running: {who}")
