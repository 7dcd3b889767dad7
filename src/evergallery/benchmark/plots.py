"""Result files to pictures: who keeps the gallery, who keeps the past, and what refreshing buys."""

import math
import statistics
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evergallery.benchmark.contenders import INITIAL
from evergallery.benchmark.tables import COLUMNS, Run, begins_alike, by_method, row_name
from evergallery.benchmark.updates import UPDATE_CURVES, is_long, mean_curve
from evergallery.methods import METHODS

INK, MUTED, GRID = "#1d2433", "#5c6575", "#d9dde5"
PALETTE = (
    "#3b6fd4",
    "#d4703b",
    "#3a9a6b",
    "#b0479b",
    "#8a7a1f",
    "#2b93a8",
    "#c44747",
    "#6b5bd0",
    "#7a8b2e",
    "#9a5b34",
    "#4a7a8c",
    "#a84a6e",
)


ACROSS = ("self-cross", "refresh", "updates")
"""Plots that set later generations beside the first one's vectors."""
LINE = 0.2
"""Height of a label in inches."""


def settings_of_plots() -> Any:
    """Return what all pictures of figures have in common, for matplotlib's ``rc_context``."""
    return {
        "font.size": 9,
        "axes.edgecolor": MUTED,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "axes.grid": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "svg.hashsalt": "evergallery",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "svg.fonttype": "none",
    }


def write_plots(runs: Sequence[Run], directory: Path) -> list[Path]:
    """Write what the runs allow, as SVG files, and return their paths."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plots: dict[str, Callable[[Any, Mapping[str, list[Run]]], None]] = {
        "self-cross": _self_against_cross,
        "old-new": _old_against_new,
        "refresh": _refresh,
    }
    if is_long(runs):
        plots |= {"tasks": _over_tasks, "updates": _over_updates}
    written = []
    for name, draw in plots.items():
        with mpl.rc_context(settings_of_plots()):
            methods = by_method(runs)
            if name in ACROSS:
                methods = by_method([run for run in runs if not begins_alike(run)])
            figure, axes = plt.subplots(figsize=(7.2, max(4.4, 1.2 + LINE * len(methods))), layout="constrained")
            draw(axes, methods)
            path = directory / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None})
            plt.close(figure)
            written.append(path)
    return written


def _self_against_cross(axes: Any, methods: Mapping[str, list[Run]]) -> None:
    _scatter(axes, methods, "all self", "all cross")
    low, high = axes.get_xlim()
    axes.axline((high, high), slope=1, color=GRID, zorder=0)
    before = methods.get(INITIAL)
    if before:
        axes.axhline(_mean(before, "all self"), color=MUTED, linestyle=":", linewidth=1)
        axes.annotate("first generation alone", (low, _mean(before, "all self")), color=MUTED, fontsize=8, va="bottom")
    axes.set(
        xlabel="self-test: new queries, new vectors (recall@1, %)", ylabel="cross-test: new queries, stored vectors (%)"
    )


def _old_against_new(axes: Any, methods: Mapping[str, list[Run]]) -> None:
    # An adapter leaves both self-tests as they are.
    _scatter(axes, {name: runs for name, runs in methods.items() if "+" not in name}, "new self", "old self")
    axes.set(xlabel="new classes (recall@1, %): plasticity", ylabel="old classes (%): stability")


def _scatter(axes: Any, methods: Mapping[str, list[Run]], x: str, y: str) -> None:
    places = []
    for name, runs in methods.items():
        colour = _colour(name)
        points = [(_value(run, x), _value(run, y)) for run in runs]
        if any(math.isnan(value) for point in points for value in point):
            continue  # A set whose tests are of classes that no task has knows no old and new ones.
        axes.scatter(*zip(*points, strict=True), s=10, color=colour, alpha=0.45, linewidths=0)
        mean = tuple(statistics.fmean(values) for values in zip(*points, strict=True))
        axes.scatter(*mean, s=42, color=colour, zorder=3)
        places.append((mean, row_name(name, runs), colour))
    _label(axes, places)


def _label(axes: Any, places: Sequence[tuple[tuple[float, ...], str, str]]) -> None:
    """Names in a column on the right, from top to bottom as their points lie, each with a thin line to its point."""
    if not places:
        return
    low, high = axes.get_ylim()
    axes.set(xlim=axes.get_xlim(), ylim=(low, high))
    step = (high - low) * LINE / (axes.figure.get_figheight() - 1)
    ordered = sorted(places, key=lambda place: -place[0][1])
    heights = [point[1] for point, _, _ in ordered]
    for index in range(1, len(heights)):
        heights[index] = min(heights[index], heights[index - 1] - step)
    heights[-1] = max(heights[-1], low)
    for index in range(len(heights) - 2, -1, -1):
        heights[index] = max(heights[index], heights[index + 1] + step)
    for (point, name, colour), height in zip(ordered, heights, strict=True):
        axes.annotate(
            name,
            point,
            (1.03, height),
            textcoords=axes.get_yaxis_transform(),
            color=colour,
            fontsize=8,
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.5,
                "alpha": 0.5,
                "relpos": (0, 0.5),
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def _refresh(axes: Any, methods: Mapping[str, list[Run]]) -> None:
    curves = {}
    for name, runs in methods.items():
        found = [run["measures"]["refresh"] for run in runs if run["measures"]["refresh"]]
        if found and name != INITIAL:
            shares = [100 * share for share in found[0]["shares"]]
            columns = zip(*(curve["recall@1"] for curve in found), strict=True)
            curves[name] = shares, [100 * statistics.fmean(column) for column in columns]
    _lines(axes, curves, methods)
    if INITIAL in methods:
        before = _mean(methods[INITIAL], "all self")
        axes.axhline(before, color=MUTED, linestyle=":", linewidth=1)
        axes.annotate("first generation alone", (0, before), color=MUTED, fontsize=8, va="bottom")
    axes.set(xlabel="share of the gallery extracted again (%)", ylabel="recall@1 of new queries (%)")


def _over_tasks(axes: Any, methods: Mapping[str, list[Run]]) -> None:
    curves = {}
    for name, runs in methods.items():
        matrices = [run["measures"]["continual"]["pooled gallery"]["recall@1"] for run in runs]
        if any(value is None for matrix in matrices for row, task in enumerate(matrix) for value in task[: row + 1]):
            continue  # The tests are of classes that no task has.
        after = list(range(1, len(matrices[0]) + 1))
        curves[name] = (
            after,
            [100 * statistics.fmean(statistics.fmean(matrix[t - 1][:t]) for matrix in matrices) for t in after],
        )
    _lines(axes, curves, methods)
    axes.set(
        xlabel="tasks learned",
        ylabel="recall@1 over all classes seen (%)",
        xticks=next(iter(curves.values()), ([1], ()))[0],
    )


def _over_updates(axes: Any, methods: Mapping[str, list[Run]]) -> None:
    first_vectors = UPDATE_CURVES[0]
    curves = {}
    for name, runs in methods.items():
        values = [value for value in mean_curve(runs, first_vectors) if value is not None]
        if values:
            curves[name] = range(len(values)), values
    _lines(axes, curves, methods)
    axes.set(
        xlabel="updates since the vectors were stored",
        ylabel="new queries in v1's vectors, v1's classes (recall@1, %)",
        xticks=next(iter(curves.values()), (range(1), ()))[0],
    )


def _lines(
    axes: Any, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], methods: Mapping[str, list[Run]]
) -> None:
    ends = []
    for name, (x, y) in curves.items():
        colour = _colour(name)
        axes.plot(x, y, color=colour, marker="o", markersize=3, linewidth=1.2)
        ends.append(((x[-1], y[-1]), row_name(name, methods[name]), colour))
    _label(axes, ends)


def _colour(name: str) -> str:
    """The colour of a method, the same in every plot, whatever else is in it."""
    names = [INITIAL, *METHODS]
    if name in names:
        return PALETTE[names.index(name) % len(PALETTE)]
    return PALETTE[zlib.crc32(name.encode()) % len(PALETTE)]


def _value(run: Run, column: str) -> float:
    found = next(shown for shown in COLUMNS if shown.title == column).of(run)
    return float("nan") if found is None else 100 * found


def _mean(runs: Sequence[Run], column: str) -> float:
    return statistics.fmean(_value(run, column) for run in runs)
