"""Result files to pictures: who keeps the gallery, who keeps the past, and what refreshing buys."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evergallery.benchmark.tables import COLUMNS, Run, by_method

INK, MUTED, GRID = "#1d2433", "#5c6575", "#d9dde5"
PALETTE = (
    "#3b6fd4", "#d4703b", "#3a9a6b", "#b0479b", "#8a7a1f", "#2b93a8", "#c44747", "#6b5bd0", "#7a8b2e", "#9a5b34",
    "#4a7a8c", "#a84a6e",
)  # fmt: skip


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
    if len(runs[0]["data"]["tasks"]) > 2:
        plots["tasks"] = _over_tasks
    settings: Any = {
        "font.size": 9, "axes.edgecolor": MUTED, "axes.labelcolor": INK, "text.color": INK, "xtick.color": MUTED,
        "ytick.color": MUTED, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6, "svg.hashsalt": "evergallery",
        "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none",
    }  # fmt: skip
    written = []
    for name, draw in plots.items():
        with mpl.rc_context(settings):
            figure, axes = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
            draw(axes, by_method(runs))
            path = directory / f"{name}.svg"
            figure.savefig(path, metadata={"Date": None})
            plt.close(figure)
            written.append(path)
    return written


def _self_against_cross(axes: Any, methods: Mapping[str, list[Run]]) -> None:
    _scatter(axes, methods, "all self", "all cross")
    low, high = axes.get_xlim()
    axes.axline((high, high), slope=1, color=GRID, zorder=0)
    before = methods.get("initial")
    if before:
        axes.axhline(_mean(before, "all self"), color=MUTED, linestyle=":", linewidth=1)
        axes.annotate("first generation alone", (low, _mean(before, "all self")), color=MUTED, fontsize=8, va="bottom")
    axes.set(
        xlabel="self-test: new queries, new vectors (recall@1, %)", ylabel="cross-test: new queries, stored vectors (%)"
    )


def _old_against_new(axes: Any, methods: Mapping[str, list[Run]]) -> None:
    _scatter(axes, methods, "new self", "old self")
    axes.set(xlabel="new classes (recall@1, %): plasticity", ylabel="old classes (%): stability")


def _scatter(axes: Any, methods: Mapping[str, list[Run]], x: str, y: str) -> None:
    places = []
    for (name, runs), colour in zip(methods.items(), PALETTE * 4, strict=False):
        points = [(_value(run, x), _value(run, y)) for run in runs]
        axes.scatter(*zip(*points, strict=True), s=10, color=colour, alpha=0.45, linewidths=0)
        mean = tuple(statistics.fmean(values) for values in zip(*points, strict=True))
        axes.scatter(*mean, s=42, color=colour, zorder=3)
        places.append((mean, name, colour))
    _label(axes, places)


def _label(axes: Any, places: Sequence[tuple[tuple[float, ...], str, str]]) -> None:
    """Names beside their points, moved down where they would lie on another."""
    low, high = axes.get_ylim()
    step = (high - low) / 26
    taken: list[tuple[float, float]] = []
    left, right = axes.get_xlim()
    for (x, y), name, colour in sorted(places, key=lambda place: -place[0][1]):
        text_y = y
        while any(abs(text_y - other_y) < step and abs(x - other_x) < (right - left) / 5 for other_x, other_y in taken):
            text_y -= step / 2
        taken.append((x, text_y))
        at_right = x < left + 0.75 * (right - left)
        axes.annotate(
            name, (x, y), (x + (right - left) * (0.015 if at_right else -0.015), text_y), color=colour, fontsize=8,
            ha="left" if at_right else "right", va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.4} if text_y != y else None,
        )  # fmt: skip


def _refresh(axes: Any, methods: Mapping[str, list[Run]]) -> None:
    for (name, runs), colour in zip(methods.items(), PALETTE * 4, strict=False):
        curves = [run["measures"]["refresh"] for run in runs if run["measures"]["refresh"]]
        if not curves or name == "initial":
            continue
        shares = [100 * share for share in curves[0]["shares"]]
        values = [
            100 * statistics.fmean(column) for column in zip(*(curve["recall@1"] for curve in curves), strict=True)
        ]
        axes.plot(shares, values, color=colour, marker="o", markersize=3, label=name)
    if "initial" in methods:
        axes.axhline(
            _mean(methods["initial"], "all self"),
            color=MUTED,
            linestyle=":",
            linewidth=1,
            label="first generation alone",
        )
    axes.set(xlabel="share of the gallery extracted again (%)", ylabel="recall@1 of new queries (%)")
    axes.legend(fontsize=7, frameon=False, ncols=2)


def _over_tasks(axes: Any, methods: Mapping[str, list[Run]]) -> None:
    for (name, runs), colour in zip(methods.items(), PALETTE * 4, strict=False):
        matrices = [run["measures"]["continual"]["pooled gallery"]["recall@1"] for run in runs]
        after = range(1, len(matrices[0]) + 1)
        means = [
            100 * statistics.fmean(statistics.fmean(matrix[t][: t + 1]) for matrix in matrices)
            for t in range(len(after))
        ]
        axes.plot(after, means, color=colour, marker="o", markersize=3, label=name)
    axes.set(xlabel="tasks learned", ylabel="recall@1 over all classes seen (%)", xticks=list(after))
    axes.legend(fontsize=7, frameon=False, ncols=2)


def _value(run: Run, column: str) -> float:
    found = next(one for one in COLUMNS if one.title == column).value(run)
    return float("nan") if found is None else 100 * found


def _mean(runs: Sequence[Run], column: str) -> float:
    return statistics.fmean(_value(run, column) for run in runs)
