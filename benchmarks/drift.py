"""How often the alarm on drift of queries is false, and how soon it finds a drift: simulated traffic, many times.

Queries and items are unit vectors around centres of classes, some of which the gallery lacks. Each life has a reference of
usual queries and then window after window, as `serve` compares them. *Usual*: the windows are drawn like the reference. *Bursts*:
likewise, but each client asks ten times about one class; their reference comes so too. All others are drifts from usual ones: a
share of the queries is of classes that the gallery lacks, or only of its first ten classes, or all are noisier than before.
"""

import argparse
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common import DOCS, record, recorded, table, write_between
from evergallery.retrieval.query_drift import alarm_distance, dependence, directions, kolmogorov_distance
from evergallery.serving.drift import REFERENCE, WATCHED

PAGE = DOCS / "operations.md"
CLASSES, STRANGE, DIMENSIONS, ITEMS = 100, 40, 32, 1000
NOISE = 0.6
POOL = 400_000
KINDS: dict[str, str] = {
    "usual": "as the reference",
    "bursts": "as the reference, ten queries of a client in a row about one class",
    "strange 5": "5 % of classes that the gallery lacks",
    "strange 10": "10 % of classes that the gallery lacks",
    "strange 20": "20 % of classes that the gallery lacks",
    "strange 40": "40 % of classes that the gallery lacks",
    "narrow 20": "20 % of ten classes alone",
    "narrow 50": "half of ten classes alone",
    "noisier": "a fifth noisier than before",
}
Rows = NDArray[np.float64]


@dataclass(frozen=True)
class QueryModel:
    """What queries look like to the watch: (N, 1 + P) rows of a score and coordinates, by their class."""

    labels: NDArray[np.int64]
    usual: Rows
    noisy: Rows

    @classmethod
    def draw(cls, seed: int, pool: int = POOL) -> "QueryModel":
        """The world of a seed."""
        draw = np.random.default_rng(seed)
        centres = draw.normal(size=(CLASSES + STRANGE, DIMENSIONS))
        gallery = _unit(centres[draw.integers(0, CLASSES, ITEMS)] + NOISE * draw.normal(size=(ITEMS, DIMENSIONS)))
        seen_from = directions("0" * 64, DIMENSIONS)
        labels = draw.integers(0, CLASSES + STRANGE, pool)

        def rows(noise: float) -> Rows:
            found = []
            for start in range(0, pool, 20_000):
                part = labels[start : start + 20_000]
                queries = _unit(centres[part] + noise * draw.normal(size=(len(part), DIMENSIONS)))
                found.append(np.column_stack([(queries @ gallery.T).max(1), queries @ seen_from.T]))
            return np.concatenate(found).astype(np.float64)

        return cls(labels, rows(NOISE), rows(1.2 * NOISE))

    def queries(self, kind: str, count: int, draw: np.random.Generator) -> Rows:
        """Rows (count, 1 + P) of so many queries."""
        known = np.flatnonzero(self.labels < CLASSES)
        if kind == "bursts":
            classes = draw.integers(0, CLASSES, count // 10)
            bursts: Rows = self.usual[np.concatenate([draw.choice(self._of[label], 10) for label in classes])]
            return bursts
        chosen = draw.choice(known, count)
        name, _, percent = kind.partition(" ")
        if percent:
            some = self.labels >= CLASSES if name == "strange" else self.labels < 10
            drifted = draw.random(count) < int(percent) / 100
            chosen[drifted] = draw.choice(np.flatnonzero(some), int(drifted.sum()))
        drawn: Rows = (self.noisy if kind == "noisier" else self.usual)[chosen]
        return drawn

    @property
    def _of(self) -> list[NDArray[np.int64]]:
        if not hasattr(self, "_kept"):
            object.__setattr__(self, "_kept", [np.flatnonzero(self.labels == label) for label in range(CLASSES)])
        found: list[NDArray[np.int64]] = self._kept  # type: ignore[attr-defined]
        return found


def life(world: QueryModel, kind: str, windows: int, draw: np.random.Generator, size: int = REFERENCE) -> int | None:
    """The window in which the first alarm is raised; ``None`` without one."""
    reference = world.queries("bursts" if kind == "bursts" else "usual", size, draw)
    stretches = {name: dependence(reference[:, columns]) for name, columns in WATCHED.items()}
    for number in range(1, windows + 1):
        window = world.queries(kind, size // 4, draw)
        for name, columns in WATCHED.items():
            width = reference[:, columns].shape[1]
            limit = alarm_distance(size, len(window), number, samples=len(WATCHED) * width, stretch=stretches[name])
            pairs = zip(reference[:, columns].T, window[:, columns].T, strict=True)
            if max(kolmogorov_distance(before, after) for before, after in pairs) >= limit:
                return number
    return None


def run(lives: int, windows: int, seed: int, pool: int = POOL) -> list[dict[str, Any]]:
    """A row for each kind of traffic."""
    world = QueryModel.draw(seed, pool)
    rows: list[dict[str, Any]] = []
    for kind in KINDS:
        draw = np.random.default_rng([seed, len(rows)])
        found = [life(world, kind, windows, draw) for _ in range(lives)]
        alarms = [alarm for alarm in found if alarm is not None]
        rows.append(
            {
                "kind": kind,
                "lives": lives,
                "windows": windows,
                "alarms": len(alarms),
                "in_first_window": sum(alarm == 1 for alarm in alarms),
                "median_window": None
                if len(alarms) <= lives / 2
                else float(np.median([alarm or np.inf for alarm in found])),
            }
        )
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def written(result: dict[str, Any]) -> str:
    """The table of the page."""
    lines = [
        [
            KINDS[row["kind"]],
            f"{row['alarms']} of {row['lives']}",
            f"{row['in_first_window']}",
            "–" if row["median_window"] is None else f"{row['median_window']:.0f}",
        ]
        for row in result["rows"]
    ]
    head = ["queries", f"alarms in {result['rows'][0]['windows']} windows", "of them in the first", "median window"]
    return table(head, lines)


def _unit(rows: Rows) -> NDArray[np.float32]:
    found: NDArray[np.float32] = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def main() -> None:
    """Measure, record, and write the table of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=400)
    parser.add_argument("--windows", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="only write the table, from the recorded result")
    arguments = parser.parse_args()
    if not arguments.table:
        record("drift", {"rows": run(arguments.lives, arguments.windows, arguments.seed)}, arguments.seed)
    write_between(PAGE, "drift", written(recorded("drift")))


if __name__ == "__main__":
    main()
