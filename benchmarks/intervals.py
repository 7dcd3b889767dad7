"""How often an interval of a difference in recall@1 holds the true difference: queries drawn anew, and queries and galleries.

Embeddings are simulated as in `gate.py`. Each draw has new held-out images: as queries beside a gallery, or each other's gallery.
The true difference is the mean over all draws. Beside the interval that the gate takes, which draws queries again, stands one
that draws queries and items of the gallery again (Owen 2007, "The pigeonhole bootstrap"), shifted to the difference that was
measured, because a gallery that is drawn with replacement holds fewer distinct items. *This gallery* stays the same, so that the
truth is its own; *any such gallery* is another one in each draw.
"""

import argparse
import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from common import DOCS, record, recorded, table, write_between
from evergallery.retrieval.bootstrap import bootstrap_interval
from gate import CLASSES, MODELS, ClassGeometry, unit

PAGE = DOCS / "upgrades.md"
DEPTH, RESAMPLES = 30, 200
CASES = {
    "queries beside this gallery": (300, 1500, False),
    "queries beside any such gallery": (300, 1500, True),
    "each other's gallery, 300 images": (300, None, True),
    "each other's gallery, 1 200 images": (1200, None, True),
}
NEW = {"slightly worse": MODELS["slightly worse"], "equal": MODELS["equal"], "much better": MODELS["much better"]}
Found = tuple[NDArray[np.int64], NDArray[np.bool_]]


def ranking(vectors: NDArray[np.float32], labels: NDArray[np.int64], queries: int, itself: bool) -> Found:
    """Items (Q, K) of each query, the most like it first, and whether they are of its class; the first rows are the queries."""
    items = np.arange(len(vectors)) if itself else np.arange(queries, len(vectors))
    scores = torch.from_numpy(vectors[:queries]) @ torch.from_numpy(vectors[items]).T
    if itself:
        scores.fill_diagonal_(-torch.inf)
    order = items[scores.topk(DEPTH, 1).indices.numpy()]
    return order, labels[order] == labels[:queries, None]


def difference(old: Found, new: Found, drawn: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """(Q,) recall@1 of the new one minus that of the old one, among the items that were drawn."""
    firsts: list[NDArray[np.float64]] = []
    for order, right in (new, old):
        place = np.zeros(len(order), np.int64) if drawn is None else (drawn[order] > 0).argmax(1)
        firsts.append(right[np.arange(len(order)), place].astype(np.float64))
    change: NDArray[np.float64] = firsts[0] - firsts[1]
    return change


def both_ways(old: Found, new: Found, count: int, itself: bool, draw: np.random.Generator) -> tuple[float, float]:
    """The interval over queries and items."""
    queries, means = len(old[0]), []
    for _ in range(RESAMPLES):
        drawn = draw.multinomial(count, np.full(count, 1 / count))
        if itself:
            weights = drawn
        else:
            drawn = np.concatenate([np.zeros(queries, np.int64), drawn])
            weights = draw.multinomial(queries, np.full(queries, 1 / queries))
        means.append(float(difference(old, new, drawn) @ weights / weights.sum()))
    shift = float(difference(old, new).mean()) - float(np.mean(means))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low) + shift, float(high) + shift


def run(draws: int, seed: int) -> list[dict[str, Any]]:
    """A row for each case and model."""
    rows: list[dict[str, Any]] = []
    for case, (queries, gallery, anew) in CASES.items():
        for name, noise in NEW.items():
            draw, world = np.random.default_rng([seed, len(rows)]), ClassGeometry.draw(seed)
            kept = None if gallery is None else world.held_out(noise, "kept", gallery, draw)
            differences, intervals = [], []
            for _ in range(draws):
                labels, *vectors = world.held_out(noise, "kept", queries, draw)
                if gallery is not None:
                    more = world.held_out(noise, "kept", gallery, draw) if anew or kept is None else kept
                    labels = np.concatenate([labels, more[0]])
                    vectors = [np.concatenate(pair) for pair in zip(vectors, more[1:], strict=True)]
                old, new = (ranking(unit(rows), labels, queries, gallery is None) for rows in vectors)
                found = difference(old, new)
                differences.append(found.mean())
                interval = bootstrap_interval(torch.from_numpy(found))
                count = queries if gallery is None else gallery
                intervals.append(((interval.low, interval.high), both_ways(old, new, count, gallery is None, draw)))
            truth = float(np.mean(differences))
            covered = [np.mean([low <= truth <= high for low, high in ends]) for ends in zip(*intervals, strict=True)]
            above = [np.mean([low > truth for low, _ in ends]) for ends in zip(*intervals, strict=True)]
            width = [np.mean([high - low for low, high in ends]) for ends in zip(*intervals, strict=True)]
            rows.append(
                {
                    "case": case,
                    "model": name,
                    "classes": CLASSES,
                    "draws": draws,
                    "difference_points": round(100 * truth, 2),
                }
                | {
                    way: {
                        "coverage": round(float(covered[place]), 4),
                        "too_high": round(float(above[place]), 4),
                        "width_points": round(100 * float(width[place]), 2),
                    }
                    for place, way in enumerate(("queries", "both"))
                }
            )
            print(rows[-1], file=sys.stderr, flush=True)
    return rows


def written(result: dict[str, Any]) -> str:
    """The table of the page."""
    lines = [
        [row["case"], row["model"]]
        + [f"{100 * row[way][what]:.1f}" for what in ("coverage", "too_high") for way in ("queries", "both")]
        + [f"{row[way]['width_points']:.1f}" for way in ("queries", "both")]
        for row in result["rows"]
    ]
    head = ["held-out images", "model", "holds the truth, %", "both drawn", "lies above it, %", "both drawn"]
    return table([*head, "width, points", "both drawn"], lines)


def main() -> None:
    """Measure, record, and write the table of the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="only write the table, from the recorded result")
    arguments = parser.parse_args()
    if not arguments.table:
        record("intervals", {"rows": run(arguments.draws, arguments.seed)}, arguments.seed)
    write_between(PAGE, "intervals", written(recorded("intervals")))


if __name__ == "__main__":
    main()
