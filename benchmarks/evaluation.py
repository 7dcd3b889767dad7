"""All retrieval metrics of N queries in N items, against loops over queries; and the search against bare matmul + topk.

Two loops are timed. ``recall_loop`` is what contrastive supervised distillation's evaluation does: an N × N matrix of
distances, then for each query its second nearest positive (the nearest is itself) and the negatives strictly closer;
it gives recall@k alone. ``all_metrics_loop`` sorts each row, which every other metric needs.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common import interleaved, record
from evergallery.benchmark.provenance import peak_memory, reset_peak_memory
from evergallery.retrieval.knn import Exclusion, nearest
from evergallery.retrieval.metrics import RetrievalMetrics, evaluate

KS = (1, 5, 10)


def clustered(count: int, width: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Unit rows (count, width) around one centre for each class, and labels (count,)."""
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    rows = draw.normal(size=(classes, width))[labels] + 1.5 * draw.normal(size=(count, width))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(labels)


def recall_loop(embeddings: NDArray[np.float32], labels: NDArray[np.int64], ks: Sequence[int] = KS) -> dict[str, float]:
    distances = 1 - embeddings @ embeddings.T
    hits = dict.fromkeys(ks, 0)
    for query in range(len(labels)):
        positive = labels == labels[query]
        nearest_positive = np.sort(distances[query][positive])[1]
        closer = np.count_nonzero(distances[query][~positive] < nearest_positive)
        for k in ks:
            hits[k] += int(closer < k)
    return {f"recall@{k}": hits[k] / len(labels) for k in ks}


def all_metrics_loop(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], ks: Sequence[int] = KS
) -> dict[str, float]:
    distances = 1 - embeddings @ embeddings.T
    np.fill_diagonal(distances, np.inf)
    sums: dict[str, float] = {}
    for query in range(len(labels)):
        hits = (labels == labels[query])[np.argsort(distances[query])[:-1]]
        count = int(hits.sum())
        precision = np.cumsum(hits[:count]) / np.arange(1, count + 1)
        values = {f"recall@{k}": float(hits[:k].any()) for k in ks}
        values |= {f"precision@{k}": hits[:k].mean() for k in ks}
        values |= {
            "mAP@R": (precision * hits[:count]).sum() / count,
            "R-precision": hits[:count].mean(),
            "MRR": 1 / (int(hits.argmax()) + 1),
        }
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + value
    return {name: value / len(labels) for name, value in sums.items()}


def bare(embeddings: Tensor, k: int, rows: int = 512) -> tuple[Tensor, Tensor]:
    """Nothing but the products and topk: no checks, no exclusion, ties as they fall."""
    values = torch.empty(len(embeddings), k)
    indices = torch.empty(len(embeddings), k, dtype=torch.int64)
    for start in range(0, len(embeddings), rows):
        part = slice(start, start + rows)
        values[part], indices[part] = (embeddings[part] @ embeddings.T).topk(k, dim=1)
    return values, indices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="queries, which are the gallery too")
    parser.add_argument("--width", type=int, default=64, help="dimensions of an embedding")
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory-only", action="store_true", help="print the MiB that one evaluation adds, and end")
    options = parser.parse_args()
    embeddings, labels = clustered(options.count, options.width, options.classes, options.seed)
    itself = Exclusion(torch.arange(len(labels)))

    def ours(count: int | None = None) -> RetrievalMetrics:
        part = slice(count)
        return evaluate(
            embeddings[part], labels[part], embeddings[part], labels[part], ks=KS, exclusion=itself.of(part)
        )  # fmt: skip

    if options.memory_only:
        ours(100)
        reset_peak_memory()
        before = peak_memory()["host"]
        ours()
        print(peak_memory()["host"] - before)
        return

    rows, names = embeddings.numpy(), labels.numpy()
    found, expected = ours().to_dict(), all_metrics_loop(rows, names)
    difference = max(abs(found[name] - value) for name, value in expected.items())
    difference_recall = max(abs(found[name] - value) for name, value in recall_loop(rows, names).items())
    metrics = interleaved(
        {
            "evaluate": ours,
            "recall_loop": lambda: recall_loop(rows, names),
            "all_metrics_loop": lambda: all_metrics_loop(rows, names),
        },
        options.repeats,
    )
    search = interleaved(
        {"nearest": lambda: nearest(embeddings, embeddings, 10), "bare": lambda: bare(embeddings, 10)},
        3 * options.repeats,
    )
    arguments = [argument for argument in sys.argv[1:] if argument != "--memory-only"]
    memory = subprocess.run(
        [sys.executable, __file__, *arguments, "--memory-only"], capture_output=True, text=True, check=True
    )
    record(
        "evaluation",
        {
            "count": options.count,
            "width": options.width,
            "classes": options.classes,
            "metrics": found,
            "largest_difference_from_all_metrics_loop": difference,
            "largest_difference_from_recall_loop": difference_recall,
            "seconds": metrics,
            "times_faster_than_all_metrics_loop": metrics["all_metrics_loop"]["median_s"]
            / metrics["evaluate"]["median_s"],
            "times_faster_than_recall_loop": metrics["recall_loop"]["median_s"] / metrics["evaluate"]["median_s"],
            "search_seconds": search,
            "search_over_bare_median": search["nearest"]["median_s"] / search["bare"]["median_s"],
            "search_over_bare_minimum": search["nearest"]["min_s"] / search["bare"]["min_s"],
            "extra_peak_mib": float(memory.stdout),
        },
        options.seed,
    )


if __name__ == "__main__":
    main()
