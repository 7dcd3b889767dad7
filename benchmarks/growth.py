"""How evaluation, extraction and search grow with the number of vectors, up to a million; with a picture in docs/growth.svg.

Evaluation: 1 000 queries in N vectors of 64 dimensions, their ten nearest alone and all metrics, beside bare products and topk;
and N queries in N, up to 30 000. Extraction: N images of 8 pixels, so that a million of them can be had. Search: what
``gallery.py`` measured of single queries in the embedded gallery, from its result files. What the table and the picture show of
evaluation and extraction are seconds of a processor, in one thread, since the clock counts what else runs on the machine.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import RESULTS, record
from evaluation import bare, clustered
from evergallery.benchmark.plots import settings_of_plots
from evergallery.benchmark.provenance import peak_memory, reset_peak_memory
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.network import Architecture, Embedder, extract
from evergallery.retrieval.knn import nearest
from evergallery.retrieval.metrics import evaluate

WIDTH, QUERIES, CLASSES = 64, 1000, 100
PICTURE = Path(__file__).parents[1] / "docs" / "growth.svg"


def timed(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds of each, taken in turn: by the clock, and of a processor."""
    clock: dict[str, list[float]] = {name: [] for name in runs}
    computed: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            started, before = time.perf_counter(), time.process_time()
            run()
            clock[name].append(time.perf_counter() - started)
            computed[name].append(time.process_time() - before)
    return {
        kind: {name: round(statistics.median(values), 5) for name, values in found.items()}
        for kind, found in (("seconds", clock), ("of a processor", computed))
    }


def evaluation(counts: list[int], repeats: int) -> dict[str, Any]:
    told = {}
    for count in counts:
        gallery, labels = clustered(count, WIDTH, CLASSES, 0)
        queries, query_labels = clustered(QUERIES, WIDTH, CLASSES, 0)
        k = min(10, count)
        reset_peak_memory()
        before = peak_memory()["host"]
        seconds = timed(
            {
                "bare products and topk": lambda: bare_in(queries, gallery, k),  # noqa: B023
                "ten nearest": lambda: nearest(queries, gallery, k),  # noqa: B023
                "all metrics": lambda: evaluate(queries, query_labels, gallery, labels),  # noqa: B023
            },
            repeats if count < 10**6 else max(1, repeats // 2),
        )
        told[str(count)] = {**seconds, "peak over inputs, MiB": round(peak_memory()["host"] - before, 1)}
    return told


def bare_in(queries: torch.Tensor, gallery: torch.Tensor, k: int) -> None:
    for part in queries.split(512 if len(gallery) <= 100_000 else 64):
        (part @ gallery.T).topk(k, dim=1)


def every_one_a_query(counts: list[int], repeats: int) -> dict[str, Any]:
    told = {}
    for count in counts:
        rows, labels = clustered(count, WIDTH, CLASSES, 0)
        told[str(count)] = timed(
            {
                "bare products and topk": lambda: bare(rows, 10),  # noqa: B023
                "ten nearest": lambda: nearest(rows, rows, 10),  # noqa: B023
                "all metrics": lambda: evaluate(rows, labels, rows, labels),  # noqa: B023
            },
            repeats,
        )
    return told


def extraction(counts: list[int]) -> dict[str, Any]:
    embedder = Embedder(Architecture(backbone="resnet20"))
    pixels = np.random.default_rng(0).integers(0, 256, (max(counts), 8, 8, 3), dtype=np.uint8)
    labels = np.zeros(len(pixels), dtype=np.int64)
    told = {}
    for count in counts:
        # Without the hash of every image, which belongs to reading them.
        some = ImageSet(
            pixels[:count], np.arange(count), labels[:count], ("",), ("",) * count, ("",) * count
        )  # fmt: skip
        started, before = time.perf_counter(), time.process_time()
        extract(embedder, some, Preprocessing(size=8))
        told[str(count)] = {
            "seconds": round(time.perf_counter() - started, 4),
            "of a processor": round(time.process_time() - before, 4),
        }
    return told


def search() -> dict[str, Any]:
    """Milliseconds of one query in the embedded gallery, by the number of its items."""
    told = {}
    for name in ("gallery", "gallery_million"):
        path = RESULTS / f"{name}.json"
        for count, found in json.loads(path.read_text())["result"].items() if path.is_file() else ():
            if count.isdecimal():
                told[count] = {
                    "exact, ms": round(found["exact"]["no filter"]["single"]["ms"], 3),
                    "index, ms": round(found["index"]["no filter"]["single"]["ms"], 3),
                    "recall@10 of the index": found["index"]["no filter"]["recall@10"],
                }
    return told


def draw(told: dict[str, dict[str, Any]]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    def line(axes: Any, found: dict[str, Any], name: str, label: str, of: Callable[[Any], float]) -> None:
        counts = sorted(map(int, found))
        axes.loglog(counts, [of(found[str(count)]) for count in counts], marker="o", markersize=3, label=label)

    with mpl.rc_context(settings_of_plots()):
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10.5, 3.4), layout="constrained")
        for name in ("bare products and topk", "ten nearest", "all metrics"):
            line(left, told["1000 queries"], name, name, lambda figures: figures["of a processor"][name])  # noqa: B023
        left.set(title=f"{QUERIES} queries in N vectors", xlabel="N", ylabel="seconds of a processor")
        for name in ("ten nearest", "all metrics"):
            line(middle, told["N queries"], name, f"{name}, N in N", lambda figures: figures["of a processor"][name])  # noqa: B023
        line(
            middle, told["extraction"], "", "extraction of N images of 8 px", lambda figures: figures["of a processor"]
        )
        middle.set(title="N at once", xlabel="N", ylabel="seconds of a processor")
        line(right, told["search"], "", "exact", lambda figures: figures["exact, ms"])
        line(right, told["search"], "", "by the index", lambda figures: figures["index, ms"])
        right.set(title="One query in a gallery of N", xlabel="N", ylabel="milliseconds")
        for axes in (left, middle, right):
            axes.legend(frameon=False)
        figure.savefig(PICTURE, metadata={"Date": None})
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=10**6)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    counts = [count for count in (10**3, 10**4, 10**5, 3 * 10**5, 10**6) if count <= arguments.most]
    told: dict[str, Any] = {
        "1000 queries": evaluation(counts, arguments.repeats),
        "N queries": every_one_a_query([10**3, 3 * 10**3, 10**4, 3 * 10**4], arguments.repeats),
        "extraction": extraction(counts),
        "search": search(),
    }
    record("growth", {"dimensions": WIDTH, "queries": QUERIES, **told}, seed=0)
    draw(told)


if __name__ == "__main__":
    main()
