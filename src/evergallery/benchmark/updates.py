"""A long life, update by update: what the first generation's vectors still give, and how compatible the lineage is."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from evergallery.benchmark.tables import Run, begins_alike, by_method, row_name
from evergallery.retrieval import continual

Value = float | None


@dataclass(frozen=True)
class UpdateCurve:
    """A figure of one run after every update: one value for each generation, oldest first."""

    title: str
    values: Callable[[Run], list[Value]]
    explained: str
    percent: bool = True

    def of(self, run: Run) -> list[Value]:
        """The values of a run, where they mean something: before the first update they always do."""
        values = self.values(run)
        return [*values[:1], *[None] * (len(values) - 1)] if begins_alike(run) else values


def _compatibility(run: Run, group: str) -> continual.Matrix:
    # What lies above the diagonal is stored as ``None`` and becomes NaN.
    return np.array(run["measures"]["compatibility"][group]["recall@1"], dtype=float)


def _first_vectors(group: str) -> Callable[[Run], list[Value]]:
    def values(run: Run) -> list[Value]:
        if group not in run["measures"]["compatibility"]:
            return [None] * len(run["data"]["tasks"])  # No test image is of a class of that group.
        return [float(value) for value in _compatibility(run, group)[:, 0]]

    return values


def _along(figure: Callable[[continual.Matrix], Value]) -> Callable[[Run], list[Value]]:
    return lambda run: continual.along_the_way(figure, _compatibility(run, "all"))


UPDATE_CURVES: tuple[UpdateCurve, ...] = (
    UpdateCurve(
        "v1's vectors, v1's classes",
        _first_vectors("old"),
        "queries of each generation in the untouched vectors of the first, on the classes that the first one knew",
    ),
    UpdateCurve("v1's vectors, all classes", _first_vectors("all"), "the same on all classes pooled"),
    UpdateCurve("AM", _along(continual.average_multimodel), "mean of the compatibility matrix so far, all classes"),
    UpdateCurve(
        "AC",
        _along(continual.average_compatibility),
        "share of cross-tests so far above the older self-test, all classes",
        percent=False,
    ),
)


def is_long(runs: Sequence[Run]) -> bool:
    """Return whether there is more than one update, so that there is a way along which to look."""
    return len(runs[0]["data"]["tasks"]) > 2


def mean_curve(runs: Sequence[Run], curve: UpdateCurve) -> list[Value]:
    """Mean over the runs of one method for each generation; in points where the curve is in percent."""
    factor = 100 if curve.percent else 1
    columns = ([value for value in column if value is not None] for column in zip(*map(curve.of, runs), strict=True))
    return [factor * statistics.fmean(column) if column else None for column in columns]


def updates_markdown(runs: Sequence[Run]) -> str:
    """One table for each curve: a row for each method, a column for each generation. Empty where there is one update."""
    if not is_long(runs):
        return ""
    methods = by_method(runs)
    generations = [f"v{number}" for number in range(1, len(runs[0]["data"]["tasks"]) + 1)]
    lines = []
    for curve in UPDATE_CURVES:
        lines += [
            f"Update by update, *{curve.title}*: {curve.explained}" + ("; recall@1 in %." if curve.percent else "."),
            "",
            "| method | " + " | ".join(generations) + " |",
            "|---" + "|---:" * len(generations) + "|",
        ]
        for name, found in methods.items():
            values = mean_curve(found, curve)
            lines.append(f"| {row_name(name, found)} | " + " | ".join(_text(value, curve) for value in values) + " |")
        lines.append("")
    return "\n".join([*lines, ""])


def _text(value: Value, curve: UpdateCurve) -> str:
    return "–" if value is None else f"{value:.{1 if curve.percent else 2}f}"
