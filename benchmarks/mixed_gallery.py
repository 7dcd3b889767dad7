"""A gallery of which a part was refreshed, ranked by cosine and by calibrated probability: does the mixture dip?

Reads the generations that ``evergallery benchmark glyphs`` has trained. Half of the test images of each class calibrate the
cosines of both pairs of generations and fit the adapter; the other half is searched, each image among the others. Writes the
table of docs/upgrades.md.

python benchmarks/mixed_gallery.py --work results/glyphs-standard/work
python benchmarks/mixed_gallery.py --pages      only writes the committed result into the page
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from common import DOCS, record, recorded, table, write_between
from evergallery import Workspace
from evergallery.adapters import fit_procrustes
from evergallery.benchmark.protocols import PROTOCOLS
from evergallery.losses.width import fit_width
from evergallery.retrieval.calibrating import calibrate
from evergallery.retrieval.continual import area_under_refresh_curve
from evergallery.retrieval.knn import Exclusion
from evergallery.retrieval.refresh_curve import farthest_from_class_mean_first, mixed_recall, random_order
from evergallery.watching import Watcher

PAGE, NAME = DOCS / "upgrades.md", "mixed gallery"
SHARES = tuple(step / 20 for step in range(21))
CONTENDERS = ("finetune", "finetune+procrustes", "csd", "csd+procrustes", "evergreen", "joint+procrustes")
RANKINGS = ("cosine", "probability")
ORDERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "random": lambda vectors, labels: random_order(len(vectors), seed=0),
    "uncertain": farthest_from_class_mean_first,
    "typical": lambda vectors, labels: farthest_from_class_mean_first(vectors, labels).flip(0),
}


def halved(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the half of each class that calibrates, and of the half that is searched."""
    half = np.zeros(len(labels), dtype=bool)
    draw = np.random.default_rng(0)
    for label in np.unique(labels):
        members = np.flatnonzero(labels.numpy() == label)
        half[draw.permutation(members)[: len(members) // 2]] = True
    return torch.from_numpy(np.flatnonzero(half)), torch.from_numpy(np.flatnonzero(~half))


def alone(vectors: Tensor, labels: Tensor) -> float:
    """recall@1 of one generation in its own vectors, on the half that is searched."""
    _, asked = halved(labels)
    cosines = vectors[asked] @ vectors[asked].T
    hits = labels[asked][:, None] == labels[asked][None, :]
    cosines.fill_diagonal_(-torch.inf)
    return mixed_recall(cosines, cosines, hits, order=torch.arange(len(asked)), shares=(0.0,))[0]


def curves(old: Tensor, new: Tensor, labels: Tensor, adapted: bool) -> dict[str, dict[str, list[float]]]:
    """recall@1 by order and by ranking, a value for each share that is refreshed.

    Args:
        old: (N, D) embeddings of the test images by the first generation.
        new: (N, D') by the one that queries; one of two parts has the first generation's embeddings before its own.
        labels: (N,).
        adapted: whether queries of old vectors go through a rotation fitted on the calibrating half.
    """
    known, asked = halved(labels)
    queries = fit_procrustes(new[known], old[known])(new) if adapted else normalize(fit_width(new, old.shape[1]))
    itself = Exclusion(torch.arange(len(known)))
    scales = [
        calibrate(query[known], labels[known], gallery[known], labels[known], exclusion=itself)
        for query, gallery in ((queries, old), (new, new))
    ]
    cosines = [(query[asked] @ gallery[asked].T) for query, gallery in ((queries, old), (new, new))]
    hits = labels[asked][:, None] == labels[asked][None, :]
    found: dict[str, dict[str, list[float]]] = {}
    for name, order in ORDERS.items():
        placed = order(old[asked], labels[asked])
        found[name] = {}
        for ranking in RANKINGS:
            scores = [matrix.clone() for matrix in cosines]
            if ranking == "probability":
                if None in scales:
                    continue
                scores = [
                    scale.slope * cosine + scale.intercept
                    for scale, cosine in zip(scales, cosines, strict=True)
                    if scale
                ]
            for matrix in scores:
                matrix.fill_diagonal_(-torch.inf)
            before, after = scores
            found[name][ranking] = mixed_recall(before, after, hits, order=placed, shares=SHARES)
    return found


def written(result: dict[str, Any]) -> str:
    """The table for the page, in %: both ends, and for each ranking the worst dip of a seed and the mean over all shares."""
    head = [
        "update",
        "first refreshed",
        "ends",
        "dip, by cosine",
        "dip, by probability",
        "mean, by cosine",
        "mean, by probability",
    ]
    rows = []
    for contender, orders in result["curves"].items():
        for order, rankings in orders.items():
            found = [rankings[ranking] for ranking in RANKINGS]
            recall = found[0]["recall@1"]
            dips = [f"{100 * min(one['dip']):.1f}".replace("-", "−") for one in found]
            means = [f"{100 * float(np.mean(one['area'])):.1f}" for one in found]
            rows.append([contender, order, f"{100 * recall[0]:.1f} → {100 * recall[-1]:.1f}", *dips, *means])
    return table(head, rows)


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", action="store_true", help="only write the committed result into the page")
    parser.add_argument("--work", type=Path, default=Path("results/glyphs-standard/work"))
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    if not arguments.pages:
        measure(arguments.work, arguments.seeds)
    write_between(PAGE, NAME, written(recorded("mixed_gallery")))


def measure(work: Path, seeds: int) -> None:
    """Every update and order, and the file.

    Args:
        work: of ``evergallery benchmark glyphs``.
        seeds: how many.
    """
    protocol = PROTOCOLS["glyphs"]
    result: dict[str, dict[str, dict[str, dict[str, Any]]]] = {}
    before: dict[str, float] = {}
    for contender in CONTENDERS:
        learner, _, adapter = contender.partition("+")
        by_seed, first = [], []
        for seed in range(seeds):
            workspace = Workspace(work / f"seed{seed}" / learner)
            parts = protocol.parts(None, protocol.plan("standard", seed), workspace.directory / "cache", Watcher())
            test = parts.images.of_split("test")
            old, new = (torch.from_numpy(workspace.extract(workspace.generation(name), test)) for name in ("v1", "v2"))
            first.append(alone(old, torch.from_numpy(test.labels)))
            by_seed.append(curves(old, new, torch.from_numpy(test.labels), bool(adapter)))
        before[contender] = round(float(np.mean(first)), 4)
        result[contender] = {
            order: {
                ranking: {
                    "recall@1": [
                        round(float(v), 4) for v in np.mean([curves[order][ranking] for curves in by_seed], axis=0)
                    ],
                    # How far the worst mixture lies below the worse of both ends, each seed by itself.
                    "dip": [
                        round(min(0.0, min(c) - min(c[0], c[-1])), 4)
                        for c in (curves[order][ranking] for curves in by_seed)
                    ],
                    "area": [round(area_under_refresh_curve(SHARES, curves[order][ranking]), 4) for curves in by_seed],
                }
                for ranking in RANKINGS
                if all(ranking in curves[order] for curves in by_seed)
            }
            for order in ORDERS
        }
    record("mixed_gallery", {"shares": SHARES, "first generation alone": before, "curves": result})


if __name__ == "__main__":
    main()
