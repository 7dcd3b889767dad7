"""Held-out images as sections of a report: a sentence that concludes, a plot, a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from evergallery.report.measurements import Measurements
from evergallery.report.page import COLOURS, plot
from evergallery.report.prototypes import PrototypeMap
from evergallery.report.refreshing import RefreshCurves
from evergallery.report.words import counted, direction, duration, size
from evergallery.retrieval.bootstrap import Interval
from evergallery.upgrade.check import PairCheck
from evergallery.upgrade.figures import interval_in_percent, interval_in_points

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN, PURPLE, RED = COLOURS
GROUP_COLOURS = {"old": BLUE, "new": ORANGE, "all": GREEN}
MOST_MOVED = 5


def matrix(found: Measurements) -> dict[str, Any]:
    """Every generation's queries in every older generation's vectors."""
    names = found.check.generations
    cells = {
        (query, gallery): found.recall(query, gallery) for q, query in enumerate(names) for gallery in names[: q + 1]
    }
    explained = {
        "AC": "pairs in which the newer generation finds more in the older one's vectors than that one itself did",
        "AM": "mean of all figures of the matrix",
        "BC": "the last generation in each earlier one's vectors, minus that one itself; mean, in points",
        "FC": "each generation in the vectors of the one before it, minus in its own; mean, in points",
    }
    figures = {name: value for name, value in found.check.lineage().items() if value is not None}
    return {
        **heat_map(names, cells),
        "figures": [(name, f"{100 * value:.1f}", explained[name]) for name, value in figures.items()],
        "sentence": _matrix_words(found),
    }


def heat_map(names: Sequence[str], recall: Mapping[tuple[str, str], Interval | None]) -> dict[str, Any]:
    """The cells of a matrix by recall@1 of queries in vectors; ``None`` in a cell that was not measured."""
    means = [interval.mean for interval in recall.values() if interval is not None]
    low, high = min(means), max(means)
    rows = []
    for query in names:
        cells: list[dict[str, Any] | None] = []
        for gallery in names:
            interval = recall.get((query, gallery))
            if interval is None:
                cells.append(None)
                continue
            heat = (interval.mean - low) / (high - low) if high > low else 1.0
            ends = f"{100 * interval.low:.1f}–{100 * interval.high:.1f}"
            value = f"{100 * interval.mean:.1f}"
            cells.append({"value": value, "ends": ends, "heat": f"{heat:.3f}", "self": query == gallery})
        rows.append((query, cells))
    return {"names": names, "rows": rows, "range": f"{100 * low:.1f} to {100 * high:.1f}"}


def trade_off(found: Measurements, base: str) -> dict[str, Any]:
    """Old classes against new ones, in fresh vectors and in those that are stored, of the base."""
    names = (base, *found.updates)
    rows = []
    for name in names:
        cells = [
            interval_in_percent(found.recall(name, where, group)) for group in found.groups for where in (name, base)
        ]
        pair = found.updates.get(name)
        rows.append((name, cells, pair.verdict if pair else "stored"))
    drawn = None
    if {"old", "new"} <= set(found.groups):
        drawn = plot(lambda axes: _scatter(axes, found, base), _scatter_words(found, names), size=(7.2, 4.4))
    return {
        "groups": found.groups,
        "rows": rows,
        "plot": drawn,
        "sentence": _trade_off_words(found, found.updates[found.candidate]),
    }


def generations(found: Measurements) -> dict[str, Any]:
    """recall@1 from generation to generation."""
    names = found.check.generations
    oldest = found.base or names[0]
    rows = [
        (
            name,
            [interval_in_percent(found.recall(name, name, group)) for group in found.groups],
            interval_in_percent(found.recall(name, oldest)),
        )
        for name in names
    ]
    parts = []
    for group in found.groups:
        first, last = (found.recall(name, name, group) for name in (names[0], names[-1]))
        if first and last:
            parts.append(f"{100 * first.mean:.1f} to {100 * last.mean:.1f} on {group} classes")
    sentence = (
        f"From {names[0]} to {names[-1]}, each in vectors of its own, recall@1 went from {', from '.join(parts)}."
    )
    best, value = max(
        ((name, alone) for name in names if (alone := found.recall(name, name))), key=lambda pair: pair[1].mean
    )
    sentence += f" The best alone is {best} with {interval_in_percent(value)} %."
    return {
        "groups": found.groups,
        "rows": rows,
        "base": oldest,
        "sentence": sentence,
        "plot": plot(lambda axes: _over_generations(axes, found, oldest), sentence, size=(7.2, 3.6)),
    }


def refreshing(found: Measurements, curves: RefreshCurves) -> dict[str, Any]:
    """Return what each share of a refresh gives, measured on held-out images and predicted for the gallery."""
    plan = found.plan
    shown = [place for place, share in enumerate(curves.shares) if share in (0, 0.25, 0.5, 0.75, 1)]
    rows = []
    kinds = ((curves.ranked, "calibrated"), (curves.raw, "raw cosine"))
    for kind, way in kinds:
        for order, values in kind.items():
            cells = [interval_in_percent(found.interval(values[place], curves.queries)) for place in shown]
            rows.append((order, way, cells))
    sentences = [_refresh_words(found, curves)]
    predicted = []
    if plan is not None:
        sentences.append(
            f"For the gallery the plan expects about {duration(plan.seconds)} and {size(plan.bytes)} for "
            f"{counted(sum(plan.items.values()), 'item')}."
        )
        predicted = [
            (order, [interval_in_percent(found.interval(value, plan.queries)) for value in values])
            for order, values in plan.recall.items()
        ]
        if not predicted:
            sentences.append("It predicts no recall: too few stored items have a label and an image that is found.")
    else:
        sentences.append(f"There is no plan for the gallery to set beside it. {found.no_plan}")
    return {
        "sentences": sentences,
        "rows": rows,
        "shares": [f"{100 * curves.shares[place]:.0f} %" for place in shown],
        "predicted": predicted,
        "predicted_shares": [f"{100 * share:.0f} %" for share in plan.shares] if plan else [],
        "sample": f"{plan.queries} of {plan.sample} stored items as queries" if plan else "",
        "gallery": curves.gallery,
        "queries": curves.queries,
        "calibrated": bool(curves.ranked),
        "plot": plot(lambda axes: _curves(axes, found, curves), sentences[0], size=(7.2, 4.0)),
    }


def prototypes(found: Measurements, seen: PrototypeMap) -> dict[str, Any]:
    """Return where the classes' prototypes went."""
    groups = [("old", seen.is_old), ("new", ~seen.is_old)] if seen.is_old.any() else [("all", ~seen.is_old)]
    rows, parts = [], []
    for group, member in groups:
        if not member.any():
            continue
        moved, apart, stayed = seen.moved[member].mean(), seen.apart[member].mean(), int(seen.in_place[member].sum())
        count = int(member.sum())
        rows.append((group, str(count), f"{moved:.1f}°", f"{apart:.1f}°", f"{stayed} of {count}"))
        parts.append(
            f"{group} prototypes moved by {moved:.1f}° on average, {stayed} of {count} still nearest to their own former place"
        )
    far = np.argsort(-np.where(seen.is_old | (not seen.is_old.any()), seen.moved, -1), kind="stable")[:MOST_MOVED]
    farthest = [(seen.classes[index], f"{seen.moved[index]:.1f}°") for index in far if seen.moved[index] > 0]
    sentence = (
        f"From {found.base} to {found.candidate}, {'; '.join(parts)}. Before, a class's nearest neighbour was "
        f"{seen.apart.mean():.1f}° away on average."
    )
    share = f"{100 * seen.explained:.0f} %"
    return {
        "sentence": sentence,
        "rows": rows,
        "farthest": farthest,
        "explained": share,
        "plot": plot(
            lambda axes: _map(axes, found, seen),
            f"Map of class prototypes in {found.base} and {found.candidate}. {sentence} Its axes show {share} of the variance.",
            size=(7.2, 5.4),
        ),
    }


def _matrix_words(found: Measurements) -> str:
    names = found.check.generations
    if found.base is None:
        return f"{names[0]} in vectors of its own reaches recall@1 {interval_in_percent(found.recall(names[0], names[0]))} %."
    alone, cross, own = (
        found.recall(*pair)
        for pair in ((found.base, found.base), (found.candidate, found.base), (found.candidate, found.candidate))
    )
    return compared(
        found.base, found.candidate, (alone, cross, own), found.updates[found.candidate].evidence.cross_change
    )


def compared(
    old: str, new: str, recalls: tuple[Interval | None, Interval | None, Interval | None], change: Interval
) -> str:
    """Return what the matrix says of a pair: recall@1 of the old one alone, of the cross-test, of the new one alone."""
    alone, cross, own = recalls
    return (
        f"Queries of {new} reach recall@1 {interval_in_percent(cross)} % in vectors of {old}, where {old} itself reaches "
        f"{interval_in_percent(alone)} %: {interval_in_points(change)} points, {direction(change)}. In vectors of its own "
        f"{new} reaches {interval_in_percent(own)} %."
    )


def _trade_off_words(found: Measurements, pair: PairCheck) -> str:
    base, parts = found.base or "", []
    for group in found.groups:
        before, after = (found.recall(name, base, group) for name in (base, found.candidate))
        if before and after and group != "all":
            parts.append(f"{100 * (after.mean - before.mean):+.1f} points on {group} classes")
    words = (
        f"In vectors of {found.base}, queries of {found.candidate} instead of {found.base} bring {' and '.join(parts)}."
    )
    if not parts:
        words = f"Nobody knows which classes {found.base} has learned, so that old and new ones cannot be told apart."
    forgotten = pair.evidence.forgetting
    if forgotten is not None and parts:
        words += f" In vectors of its own {found.candidate} {_lost(forgotten)} on old classes."
    return words


def _lost(forgotten: float) -> str:
    return f"loses {100 * forgotten:.1f} points" if forgotten > 0 else f"gains {-100 * forgotten:.1f} points"


def _refresh_words(found: Measurements, curves: RefreshCurves) -> str:
    values = curves.as_searched
    start, end = (found.interval(values["random"][place], curves.queries) for place in (0, -1))
    best = max(values, key=lambda order: float(np.mean(values[order])))
    lowest = min(values["random"])
    words = (
        f"Among {counted(curves.gallery, 'held-out image')}, refreshing everything takes queries of {found.candidate} from "
        f"{interval_in_percent(start)} % to {interval_in_percent(end)} %; on the way the "
        f"order “{best}” has the largest mean, {100 * np.mean(values[best]):.1f} %."
    )
    if lowest < min(values["random"][0], values["random"][-1]):
        share = curves.shares[values["random"].index(lowest)]
        words += f" A refresh in random order dips to {100 * lowest:.1f} % at {100 * share:.0f} %."
    return words


def _scatter(axes: "Axes", found: Measurements, base: str) -> None:
    for name in (base, *found.updates):
        places = []
        for where, marker, filled in ((name, "^", False), (base, "o", True)):
            old, new = found.recall(name, where, "old"), found.recall(name, where, "new")
            if old is None or new is None:
                continue
            colour = GREEN if name == base else BLUE  # In its own vectors, which are the stored ones.
            x, y = 100 * new.mean, 100 * old.mean
            axes.errorbar(
                x,
                y,
                xerr=[[x - 100 * new.low], [100 * new.high - x]],
                yerr=[[y - 100 * old.low], [100 * old.high - y]],
                fmt=marker,
                color=colour,
                markersize=8,
                linewidth=1,
                markerfacecolor=colour if filled else "none",
            )
            places.append((x, y))
        if len(places) == 2:
            axes.plot(*zip(*places, strict=True), color=BLUE, linewidth=0.8, alpha=0.6)
        # Names of self-tests above their mark and of cross-tests below, so that near ones do not cover each other.
        for number, place in enumerate(dict.fromkeys(places)):
            shift, side = ((6, 6), "left") if number == 0 else ((-6, -13), "right")
            axes.annotate(name, place, xytext=shift, textcoords="offset points", ha=side, fontsize=9)
    axes.plot([], [], "o", color=GREEN, label=f"{base} itself")
    axes.plot([], [], "^", color=BLUE, markerfacecolor="none", label="in vectors of its own (self-test)")
    axes.plot([], [], "o", color=BLUE, label=f"in vectors of {base} (cross-test)")
    axes.set_xlabel("recall@1 on new classes (%)")
    axes.set_ylabel("recall@1 on old classes (%)")
    _finish(axes)


def _scatter_words(found: Measurements, names: tuple[str, ...]) -> str:
    parts = []
    for name in names:
        for where in dict.fromkeys((name, found.base or "")):
            old, new = found.recall(name, where, "old"), found.recall(name, where, "new")
            if old and new:
                parts.append(
                    f"{name} in vectors of {where}: {100 * old.mean:.1f} on old, {100 * new.mean:.1f} on new classes"
                )
    return f"Recall@1 in percent on old against new classes. {'; '.join(parts)}."


def _over_generations(axes: "Axes", found: Measurements, base: str) -> None:
    names = found.check.generations
    markers = {"old": "s", "new": "D", "all": "o"}
    for group in found.groups:
        alone = [(name, name) for name in names]
        label = f"{group} classes, own vectors"
        _draw_line(axes, found, _Line(alone, group, label, f"{markers[group]}-", GROUP_COLOURS[group]))
    if len(names) > 1:
        across = [(name, base) for name in names]
        _draw_line(axes, found, _Line(across, "all", f"all classes, vectors of {base}", "v--", PURPLE))
    axes.set_xticks(range(len(names)), names)
    axes.set_ylabel("recall@1 (%)")
    _finish(axes)


@dataclass(frozen=True)
class _Line:
    """A line of a plot over generations.

    Attributes:
        pairs: the names of each point's queries and vectors.
        group: of classes.
        label: for the legend.
        style: its markers and strokes, as matplotlib writes them.
        colour: of both.
    """

    pairs: list[tuple[str, str]]
    group: str
    label: str
    style: str
    colour: str


def _draw_line(axes: "Axes", found: Measurements, line: _Line) -> None:
    points = [
        (place, estimate) for place, pair in enumerate(line.pairs) if (estimate := found.recall(*pair, line.group))
    ]
    if not points:
        return
    means = [100 * estimate.mean for _, estimate in points]
    ends = [
        [100 * (estimate.mean - estimate.low) for _, estimate in points],
        [100 * (estimate.high - estimate.mean) for _, estimate in points],
    ]
    axes.errorbar(
        [place for place, _ in points],
        means,
        yerr=ends,
        fmt=line.style,
        capsize=3,
        linewidth=1.5,
        markersize=5,
        color=line.colour,
        label=line.label,
    )


def _curves(axes: "Axes", found: Measurements, curves: RefreshCurves) -> None:
    plan = found.plan
    shares = [100 * share for share in curves.shares]
    colours = dict(zip(("random", "uncertain", "typical", "oldest", "popular"), COLOURS, strict=True))
    for order, values in curves.as_searched.items():
        axes.plot(
            shares,
            [100 * value for value in values],
            color=colours[order],
            label=f"{order} first" if order != "random" else "random order",
        )
    if curves.ranked:
        values = curves.raw["random"]
        axes.plot(
            shares, [100 * value for value in values], "--", color=colours["random"], label="random, uncalibrated"
        )
    ends = [found.interval(value, curves.queries) for value in curves.as_searched["random"]]
    axes.fill_between(
        shares,
        [100 * interval.low for interval in ends],
        [100 * interval.high for interval in ends],
        color=colours["random"],
        alpha=0.15,
        linewidth=0,
    )
    for order, values in (plan.recall if plan else {}).items():
        if order in colours and plan:
            axes.plot(
                [100 * share for share in plan.shares],
                [100 * value for value in values],
                "x",
                color=colours[order],
                label=f"plan: {order}",
                markersize=7,
                markeredgewidth=1.8,
            )
    axes.set_xlabel("share of the gallery refreshed (%)")
    axes.set_ylabel("recall@1 (%)")
    _finish(axes)


def _map(axes: "Axes", found: Measurements, seen: PrototypeMap) -> None:
    for group, member, marker, colour in (
        ("old", seen.is_old, "o", BLUE),
        ("new", ~seen.is_old, "^", ORANGE),
    ):
        if not member.any():
            continue
        for start, end in zip(seen.before[member], seen.after[member], strict=True):
            axes.plot([start[0], end[0]], [start[1], end[1]], color=colour, linewidth=0.7, alpha=0.5)
        label = f"{group} classes" if seen.is_old.any() else "classes"
        axes.plot(
            *seen.before[member].T,
            marker,
            color=colour,
            markerfacecolor="none",
            markersize=5,
            label=f"{label}, {found.base}",
        )
        axes.plot(*seen.after[member].T, marker, color=colour, markersize=5, label=f"{label}, {found.candidate}")
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_xticks([])
    axes.set_yticks([])
    _finish(axes)


def _finish(axes: "Axes") -> None:
    axes.grid(linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(
        ncols=3 if len(axes.get_legend_handles_labels()[1]) % 2 else 2,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.0),
        frameon=False,
        fontsize=9,
    )
