"""All metrics of 1 000 queries in N vectors of a hundred classes, in several ways, taken in turn, beside the bare product.

R-precision and mAP@R look at the first R results, and R is a hundredth of N. ``by blocks`` is how shorter rankings are found,
``by whole rows`` how rankings are that a guess from a sample fails for; ``by candidates`` is what the product does.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from common import record
from evaluation import clustered
from evergallery.benchmark.provenance import peak_memory, reset_peak_memory
from evergallery.retrieval import knn
from evergallery.retrieval.metrics import RetrievalMetrics, evaluate

WIDTH, QUERIES, CLASSES = 64, 1000, 100
LONG, NEVER, CANDIDATES = knn.LONG, 10**12, knn._from_candidates
Run = Callable[[], RetrievalMetrics | None]


def by_whole_rows(
    queries: Tensor, gallery: Tensor, k: int, exclusion: knn.Exclusion | None, memory_limit: int, rows: int
) -> knn.Neighbours:
    return knn._from_whole_rows(queries, gallery, k, exclusion, rows)


def product(queries: Tensor, gallery: Tensor) -> None:
    """The scores of all queries (Q, D) with the gallery (N, D), and nothing of them kept."""
    block = torch.empty(len(queries), knn.COLUMNS)
    for some in torch.split(gallery, knn.COLUMNS):
        torch.mm(queries, some.T, out=block if len(some) == knn.COLUMNS else None)


def ways(queries: Tensor, query_labels: Tensor, gallery: Tensor, labels: Tensor) -> dict[str, Run]:
    def by(least: int, long: Callable[..., knn.Neighbours]) -> RetrievalMetrics:
        # Short rankings of so many items would go among candidates, too.
        knn.LONG, knn.MANY_ITEMS, knn._from_candidates = least, NEVER, long
        return evaluate(queries, query_labels, gallery, labels)

    return {
        "by blocks": lambda: by(NEVER, CANDIDATES),
        "by whole rows": lambda: by(LONG, by_whole_rows),
        "by candidates": lambda: by(LONG, CANDIDATES),
        "the bare product": lambda: product(queries, gallery),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=10**6)
    arguments = parser.parse_args()
    told: dict[str, Any] = {}
    for count in (count for count in (10**5, 10**6) if count <= arguments.most):
        gallery, labels = clustered(count, WIDTH, CLASSES, 0)
        queries, query_labels = clustered(QUERIES, WIDTH, CLASSES, 0)
        runs = ways(queries, query_labels, gallery, labels)
        found: dict[str, RetrievalMetrics | None] = {}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        busy: dict[str, list[float]] = {name: [] for name in runs}
        peaks: dict[str, float] = {}
        for turn in range(9 if count < 10**6 else 3):
            for name, run in runs.items():
                if name == "by blocks" and count == 10**6 and turn:
                    continue  # A minute each.
                reset_peak_memory()
                before, started, computed = peak_memory()["host"], time.perf_counter(), time.process_time()
                found[name] = run()
                seconds[name].append(time.perf_counter() - started)
                busy[name].append(time.process_time() - computed)
                peaks[name] = round(peak_memory()["host"] - before, 1)
        values = [metrics.to_dict() for metrics in found.values() if metrics is not None]
        told[str(count)] = {
            "seconds": {name: round(statistics.median(timings), 3) for name, timings in seconds.items()},
            "processor seconds": {name: round(statistics.median(timings), 3) for name, timings in busy.items()},
            "peak over inputs, MiB": peaks,
            "largest difference of a metric": max(abs(a[name] - b[name]) for a in values for b in values for name in a),
        }
    record("metrics", {"dimensions": WIDTH, "queries": QUERIES, "classes": CLASSES, "threads": torch.get_num_threads(),
                       "vectors": told}, seed=0)  # fmt: skip


if __name__ == "__main__":
    main()
