"""Results of the verbs of an upgrade, as a terminal shows them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from evergallery.cli.console import err, out, print_table, say, warn

if TYPE_CHECKING:
    from evergallery.memory import Fidelity
    from evergallery.upgrade.adapting import Adaptation
    from evergallery.upgrade.check import Check, PairCheck
    from evergallery.upgrade.gate import Condition
    from evergallery.upgrade.options import Option
    from evergallery.upgrade.overview import Status
    from evergallery.upgrade.plan import Plan
    from evergallery.upgrade.refreshing import RefreshResult

SHOWN = 10
SHORT = 60
"""Characters of a value that stands beside others on a line."""


def print_check(result: "Check", flips: int) -> None:
    """The matrix, each pair with its conditions and verdict, and so many of the queries that flipped."""
    for agreed in result.agreements:
        say(
            f"{agreed.new} and {agreed.old} show {100 * agreed.overlap:.1f} % of the same {agreed.k} items among the vectors "
            f"of {agreed.old}, and the same first one for {100 * agreed.same_first:.1f} % of {agreed.queries} queries."
        )
    if result.matrix:
        _print_matrix(result)
    for pair in result.pairs:
        _print_pair(pair)
        for title, changed in (("Lost", pair.negative), ("Won", pair.positive)):
            images = result.images.images
            for flip in changed[:flips]:
                say(f"  {title}: {images.uris[flip.query]}: {images.uris[flip.before]} → {images.uris[flip.after]}")
    for advice in result.advice:
        say(advice.text)
    say(result.conclusion)
    within = "" if not result.matrix or result.images.judgements else " Old and new classes within their own galleries."
    foot = f"Held-out images: {result.protocol}.{within}"
    say(foot + (f" {result.excluded} images left out: a generation had learned from them." if result.excluded else ""))


def _print_matrix(result: "Check") -> None:
    values = result.values()
    rows = [
        (query, *("" if g > q else f"{100 * values[q, g]:.1f}" for g in range(len(result.generations))))
        for q, query in enumerate(result.generations)
    ]
    print_table(
        "recall@1 in %, all classes: queries of a row's generation in the vectors of a column's",
        ("", *result.generations),
        rows,
    )
    if len(result.generations) > 2:
        named = {name: value for name, value in result.lineage().items() if value is not None}
        say("  ".join(f"{name} {100 * value:.1f}" for name, value in named.items()) + " (%)")


def _print_pair(pair: "PairCheck") -> None:
    from evergallery.retrieval.metrics import metric_named

    evidence = pair.evidence
    rows = []
    titles = {
        "old self": f"{evidence.old} in its own vectors",
        "new self": f"{evidence.new} in its own vectors (self-test)",
        "cross": f"{evidence.new} in the vectors of {evidence.old} (cross-test)",
    }
    shown = [(titles[test], groups) for test, groups in evidence.figures.items()]
    shown += [(f"the same {route.path()}", route.figures["cross"]) for route in pair.routes]
    every = evidence.figures["cross"]["all"].by_name()
    names = [name for name in every if (metric := metric_named(name)) is None or metric.shown]
    for title, groups in shown:
        for group, figures in groups.items():
            values = figures.by_name()
            rows.append((title, group, *(f"{100 * values[name]:.1f}" for name in names), str(figures.queries)))
    columns = ("queries of", "classes", *names, "queries")
    print_table(f"{evidence.new} against {evidence.old}, in %", columns, rows, numbers_from=2)
    say(
        f"Flips against {evidence.old} alone: {100 * evidence.negative_flips:.1f} % lost, "
        f"{100 * evidence.positive_flips:.1f} % won."
    )
    if evidence.best is not None:
        gain = "undefined" if evidence.update_gain is None else f"{evidence.update_gain:.2f}"
        say(f"Update gain {gain}, price {100 * (evidence.price or 0):.1f} points, against {evidence.best}.")
    if pair.answer is not None:
        say(f"Judged is the way {pair.answer.way}: {pair.answer}.")
    for condition in pair.conditions:
        print_condition(condition)
    say(f"{pair.verdict.capitalize()}: {pair.reason}")
    print_options(pair.options, evidence.metric)


def print_condition(condition: "Condition", against: str | None = None) -> None:
    """A condition of the gate with its tick, and the space that was compared with where several may have been."""
    mark = "–" if condition.met is None else "✓" if condition.met else "✗"
    found = f"not measured, because {condition.measured}" if condition.met is None else condition.measured
    of = f" against {against}" if against else ""
    say(f"{mark} {condition.name}{of}: {found}; required: {condition.required}")


def print_options(options: "Sequence[Option]", metric: str) -> None:
    """Every way of answering beside what it gives and costs."""
    from evergallery.report.words import duration, size

    priced = any(option.money is not None for option in options)
    rows = []
    for option in options:
        change = option.outcome.change
        moved = f"{100 * change.mean:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
        images = f"{option.images:.0f}, kept {option.images_kept:.1f}" if option.images else "0"
        rows.append(
            (
                option.name,
                f"{100 * option.outcome.score:.1f}",
                "" if option.outcome.way == "wait" else moved,
                "✓" if option.passes else "✗",
                "?" if option.milliseconds is None else f"{option.milliseconds:.0f}",
                images,
                "?" if option.seconds is None else duration(option.seconds) if option.seconds else "0",
                "?" if option.bytes is None else size(option.bytes) if option.bytes else "0",
                *([] if not priced else ["?" if option.money is None else f"{option.money:.2f}"]),
            )
        )
    columns = (
        "way of answering",
        f"{metric}\n%",
        "points beside\nold alone",
        "gate",
        "ms a\nquery",
        "images\na query",
        "before it,\nin all",
        "bytes",
        *(["money"] if priced else []),
    )
    print_table("Ways of answering", columns, rows)
    say(
        "ms: time of the models alone for one query on this machine, with nothing kept. Images: embedded for a query at first, "
        "and on average over these queries in a row. In a larger gallery the same number of candidates finds less."
    )


def print_compared(results: "Sequence[Check]") -> None:
    """Several candidates beside each other."""
    rows = []
    for result in results:
        for pair in result.pairs:
            evidence = pair.evidence
            own, change = evidence.score("new self"), evidence.self_change
            moved = f"{100 * change.mean:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
            rows.append(
                (
                    result.candidate,
                    evidence.old,
                    f"{100 * own:.1f}",
                    moved,
                    f"{100 * evidence.score('cross'):.1f}",
                    pair.verdict,
                    "✓" if pair.passed else "✗",
                )
            )
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


def print_adapted(made: "Adaptation") -> None:
    """Every kind that was tried, and the one that was chosen."""
    card, selection = made.adapter.card, made.selection
    rows = []
    for trial in selection.trials:
        unseen = f"{100 * trial.unseen_classes.recall:.1f}" if trial.unseen_classes else ""
        rows.append(
            (
                trial.name + (" (chosen)" if trial.name == selection.name else ""),
                f"{100 * trial.in_sample.recall:.1f}",
                f"{100 * trial.out_of_sample.recall:.1f}",
                unseen,
                f"{trial.worse.reciprocal_rank:.3f}",
                f"{trial.seconds:.1f}",
                f"{trial.microseconds:.0f}",
            )
        )
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
        warn(selection.warning)
    new, old = (card.source, card.target) if card.direction == "query" else (card.target, card.source)
    against = old.name if card.direction == "query" else card.name
    say(f"Next:  evergallery check {new.name} --against {against} --data HELD_OUT")


def print_virtual(generation: str, remembered: "dict[str, Fidelity]") -> None:
    """Print how well virtual features stand in for earlier generations."""
    print_table(
        f"Earlier generations as {generation} remembers them: its virtual features, and its own embeddings untouched",
        ("", "cosine", "untouched", "recall@1 real", "virtual", "untouched"),
        [
            (
                name,
                f"{fidelity.cosine:.3f}",
                f"{fidelity.cosine_untouched:.3f}",
                *(
                    f"{100 * value:.1f} %"
                    for value in (fidelity.recall_real, fidelity.recall_virtual, fidelity.recall_untouched)
                ),
            )
            for name, fidelity in remembered.items()
        ],
    )
    say("Queries are the earlier generation's; cosines are with its real embeddings.")


def print_plan(result: "Plan") -> None:
    """Print what a refresh costs, and gives by share and order."""
    from evergallery.report.words import duration, size

    total = sum(result.items.values())
    of = ", ".join(f"{count} vectors of {name}" for name, count in result.items.items())
    made = f"mapped by {result.adapter}" if result.adapter else "computed from the stored vectors"
    way = f"about {duration(result.seconds)}" if result.images else f"{made}, no image is read"
    say(f"{total} items to refresh ({of}): {way}, {size(result.bytes)} for the new vectors.")
    if result.missing:
        say(
            f"The images of {100 * result.missing:.0f} % of the sample were not found: such items keep their vector. If the "
            f"files have moved, name their folder with  --images FOLDER"
        )
    if not result.recall:
        say("What recall to expect cannot be told: too few stored items have a label and an image that is found.")
        return
    print_table(
        f"Expected recall@1 in % of {result.generation} by share refreshed, on a sample of {result.sample} items",
        ("order", *(f"{100 * share:.0f} %" for share in result.shares)),
        [(order, *(f"{100 * value:.1f}" for value in values)) for order, values in result.recall.items()],
    )
    best = result.best_order()
    found = f"Best on the sample: {best}." if best else "No order is better than random beyond chance."
    say(f"{found} {result.queries} queries, each of the sample's images among the others.")
    if result.advice is not None:
        print_options(result.options, "recall@1")
        say(result.advice.text)
    order = f" --order {best}" if best and best != "random" else ""
    refresh = f"evergallery refresh {result.generation}{f' --with {result.adapter}' if result.adapter else ''}{order}"
    needless = result.advice is not None and result.advice.answer is None
    say(f"To refresh all the same:  {refresh}" if needless else f"Next:  {refresh}")


def print_status(result: "Status") -> None:
    """Print who answers, the items by space and state, the open refresh, problems."""
    from evergallery.report.words import counted, duration

    say(f"{result.promoted or 'No generation'} answers queries; {counted(result.generations, 'generation')}.")
    if result.answer is not None:
        say(f"Way of answering: {result.answer}.")
    if result.forced:
        say(f"It was promoted against the gate: {result.forced}")
    if result.spaces is None:
        say("The gallery is in use by another process; its items are not counted now.")
    elif not result.spaces:
        say("The gallery is empty.")
    else:
        print_table(
            "Items",
            ("vectors of", "state", "items"),
            [(space.name, space.state, str(space.items)) for space in result.spaces],
            numbers_from=2,
        )
    if result.refresh is not None:
        opened = result.refresh
        left = (
            ""
            if opened.seconds_left is None or not opened.remaining
            else f", about {duration(opened.seconds_left)} for the rest"
        )
        seen = "searches use them" if opened.shown else f"they wait for {opened.waiting}"
        say(
            f"{opened.id}, a refresh for {opened.generation}: {opened.refreshed} done, {opened.remaining} to go{left}; {seen}."
        )
    for kind, count in result.problems.items():
        say(f"{count} items could not be refreshed: {kind}.")
    for item, reason in list(result.reasons.items())[:SHOWN]:
        say(f"  {item[:16]}: {reason}")
    for who in result.running:
        say(f"Running: {who}")


def short(value: Any) -> str:
    """A value in a cell: the first few of a list."""
    if isinstance(value, list):
        return ", ".join(map(str, value[:6])) + (f" and {len(value) - 6} more" if len(value) > 6 else "")
    return "" if value is None else str(value)


STOPPED = {"done": "all that could be", "until": "enough for the recall that was asked for"}
"""A refresh that went as far as it should, in words."""


def print_refreshed(done: "RefreshResult") -> None:
    """Print what a call of ``refresh`` did."""
    say(
        f"{done.refresh}: {done.refreshed} refreshed in {done.seconds:.0f} s, {done.remaining} keep their vector "
        f"({STOPPED.get(done.stopped_by) or f'stopped by the {done.stopped_by}'})."
    )
    for problem in done.problems[:SHOWN]:
        err.print(f"  {problem.item[:16]}: {problem.reason}", soft_wrap=True)
    if len(done.problems) > SHOWN:
        err.print(
            f"  and {len(done.problems) - SHOWN} more; all of them:  evergallery gallery problems",
            soft_wrap=True,
        )
    if not done.shown:
        say(f"The new vectors wait in the shadow until {done.generation} is promoted.")


def print_log(entries: "Sequence[Mapping[str, Any]]") -> None:
    """Each operation on some lines: when, what and who, then its figures, then each of its sentences on a line."""
    from evergallery.report.standing import label_of, operation_of, shortened

    for entry in entries:
        out.print(f"{entry['time']}  {operation_of(entry)}  by {entry['who']}", soft_wrap=True)
        told = {
            label_of(name): shortened(value)
            for name, value in entry.items()
            if name not in ("time", "who", "operation", "forced") and value not in (None, [], "")
        }
        short = {
            name: value for name, value in told.items() if not isinstance(value, list) and len(str(value)) <= SHORT
        }
        if short:
            say(f"  {', '.join(f'{name}: {value}' for name, value in short.items())}")
        for name, value in told.items():
            if name not in short and not isinstance(value, list):
                say(f"  {name}: {value}")
            elif isinstance(value, list):
                say(f"  {name}:")
                for line in value:
                    say(f"    {line}")
