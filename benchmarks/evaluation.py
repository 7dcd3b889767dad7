"""All retrieval metrics of 10 000 × 10 000 × 64, beside loops over queries in NumPy.

Two loops: recall@1 alone as CSD's published evaluation computes it (no ranking, two comparisons for each query), and the
same metrics as ours, a ranking for each query. Also exact top-10 beside a bare blocked matmul and topk, and how much
memory the metrics need beyond the embeddings.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from common import interleaved, record
from evergallery.retrieval.knn import Exclusion, nearest
from evergallery.retrieval.metrics import RetrievalMetrics, evaluate

CLASSES = 100


def problem(count: int, dimension: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clustered unit embeddings and their labels."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % CLASSES
    centres = torch.randn(CLASSES, dimension, generator=draw)
    embeddings = centres[labels] + 2.0 * torch.randn(count, dimension, generator=draw)
    return torch.nn.functional.normalize(embeddings), labels


def ours(embeddings: torch.Tensor, labels: torch.Tensor) -> RetrievalMetrics:
    return evaluate(embeddings, labels, embeddings, labels, exclusion=Exclusion(torch.arange(len(labels))))


def loop_over_queries(embeddings: torch.Tensor, labels: torch.Tensor) -> float:
    """Recall@1 in the manner of CSD's code: the whole distance matrix, then NumPy for each query in turn."""
    features, names = embeddings.numpy(), labels.numpy()
    distances = 1 - features @ features.T
    correct = 0
    for index in range(len(features)):
        positives = distances[index][names == names[index]]
        negatives = distances[index][names != names[index]]
        threshold = np.sort(positives)[1]  # The smallest is the query itself.
        correct += np.sum(negatives < threshold) < 1
    return correct / len(features)


def all_metrics_by_a_loop(embeddings: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """What ``evaluate`` gives, one query at a time: its row of the distance matrix ranked, then each definition."""
    features, names = embeddings.numpy(), labels.numpy()
    distances = 1 - features @ features.T
    sums: dict[str, float] = {}
    for index in range(len(features)):
        ranking = np.argsort(distances[index], kind="stable")
        hits = names[ranking[ranking != index]] == names[index]
        relevant = int(hits.sum())
        precision = np.cumsum(hits[:relevant]) / np.arange(1, relevant + 1)
        values = {"mAP@R": (precision * hits[:relevant]).sum() / relevant, "R-precision": hits[:relevant].mean()}
        values["MRR"] = 1 / (np.argmax(hits) + 1)
        for k in (1, 5, 10):
            values |= {f"recall@{k}": hits[:k].any(), f"precision@{k}": hits[:k].mean()}
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    return {name: value / len(features) for name, value in sums.items()}


def bare(embeddings: torch.Tensor, block: int = 1024) -> list[torch.Tensor]:
    return [
        (embeddings[start : start + block] @ embeddings.T).topk(10).indices
        for start in range(0, len(embeddings), block)
    ]


def peak_memory_mib() -> float:
    """Peak resident memory of this process so far."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def measure_memory(count: int, dimension: int) -> None:
    embeddings, labels = problem(count, dimension)
    ours(embeddings[:200], labels[:200])  # Libraries and thread pools are not the metrics' memory.
    before = peak_memory_mib()
    ours(embeddings, labels)
    print(peak_memory_mib() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="print the extra peak memory in MiB and stop")
    arguments = parser.parse_args()
    if arguments.memory:
        measure_memory(arguments.count, arguments.dimension)
        return
    embeddings, labels = problem(arguments.count, arguments.dimension)
    found, expected = ours(embeddings, labels), all_metrics_by_a_loop(embeddings, labels)
    assert abs(found.recall[1] - loop_over_queries(embeddings, labels)) < 1e-3
    assert all(abs(found.to_dict()[name] - value) < 1e-3 for name, value in expected.items() if name != "MRR")
    metrics = interleaved(
        {
            "all metrics": lambda: ours(embeddings, labels),
            "the same metrics by a loop over queries": lambda: all_metrics_by_a_loop(embeddings, labels),
            "recall@1 alone by the loop of CSD's code": lambda: loop_over_queries(embeddings, labels),
        },
        arguments.repeats,
    )
    search = interleaved(
        {
            "nearest, top 10": lambda: nearest(embeddings, embeddings, 10),
            "bare blocked matmul + topk": lambda: bare(embeddings),
        },
        arguments.repeats,
    )
    child = [
        sys.executable,
        __file__,
        "--memory",
        "--count",
        str(arguments.count),
        "--dimension",
        str(arguments.dimension),
    ]
    memory = float(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
    all_metrics, loop, csd = (value["median_s"] for value in metrics.values())
    ratio = search["nearest, top 10"]["median_s"] / search["bare blocked matmul + topk"]["median_s"]
    record(
        "evaluation",
        {
            "problem": f"{arguments.count} × {arguments.count} × {arguments.dimension}, {CLASSES} classes, leave one out",
            "seconds": {**metrics, **search},
            "times_faster_than_the_loop_of_the_same_metrics": round(loop / all_metrics, 1),
            "times_faster_than_csds_loop_for_recall@1_alone": round(csd / all_metrics, 1),
            "extra_peak_memory_mib": round(memory, 1),
            "nearest_over_bare": round(ratio, 2),
            "targets": {
                "times_faster_than_the_loop_of_the_same_metrics": 10,
                "extra_peak_memory_mib": 300,
                "nearest_over_bare": 1.3,
            },
            "reached": loop / all_metrics >= 10 and memory < 300 and ratio <= 1.3,
        },
        seed=0,
    )


if __name__ == "__main__":
    main()
