"""All metrics of 1 000 queries in N vectors of a hundred classes, by whole rows and by merging blocks, taken in turn.

R-precision and mAP@R look at the first R results, and R is a hundredth of N. ``by blocks`` is how they were found before, which
shorter rankings still are.
"""

import argparse
import time
from typing import Any

import torch

from common import record
from evaluation import clustered
from evergallery.benchmark.provenance import peak_memory, reset_peak_memory
from evergallery.retrieval import knn
from evergallery.retrieval.metrics import RetrievalMetrics, evaluate

WIDTH, QUERIES, CLASSES = 64, 1000, 100
WHOLE_ROWS, NEVER = knn.LONG, 10**12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=10**6)
    arguments = parser.parse_args()
    told: dict[str, Any] = {}
    for count in (count for count in (10**5, 10**6) if count <= arguments.most):
        gallery, labels = clustered(count, WIDTH, CLASSES, 0)
        queries, query_labels = clustered(QUERIES, WIDTH, CLASSES, 0)
        found: dict[str, RetrievalMetrics] = {}
        seconds: dict[str, list[float]] = {"by blocks": [], "by whole rows": []}
        busy: dict[str, list[float]] = {"by blocks": [], "by whole rows": []}
        peaks: dict[str, float] = {}
        for turn in range(3 if count < 10**6 else 2):
            for name, least in (("by blocks", NEVER), ("by whole rows", WHOLE_ROWS)):
                if least == NEVER and count == 10**6 and turn:
                    continue  # A minute each.
                knn.LONG = least
                reset_peak_memory()
                before, started, computed = peak_memory()["host"], time.perf_counter(), time.process_time()
                found[name] = evaluate(queries, query_labels, gallery, labels)
                seconds[name].append(time.perf_counter() - started)
                busy[name].append(time.process_time() - computed)
                peaks[name] = round(peak_memory()["host"] - before, 1)
        values = [metrics.to_dict() for metrics in found.values()]
        told[str(count)] = {
            "seconds": {name: round(min(timings), 3) for name, timings in seconds.items()},
            "processor seconds": {name: round(min(timings), 3) for name, timings in busy.items()},
            "peak over inputs, MiB": peaks,
            "largest difference of a metric": max(abs(values[0][name] - values[1][name]) for name in values[0]),
        }
    record("metrics", {"dimensions": WIDTH, "queries": QUERIES, "classes": CLASSES, "threads": torch.get_num_threads(),
                       "vectors": told}, seed=0)  # fmt: skip


if __name__ == "__main__":
    main()
