"""What each precision of the embedded gallery costs in recall, and saves in bytes: on vectors of a network, and clustered ones.

The network learns a part of the characters of ``glyphs``; the gallery holds images of all of them, the queries are others. True
neighbours are those of exact search in float32. Beside recall@10 stands the share of queries whose first result is of their
own class, which is what a user meets.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from common import record
from evergallery import Workspace
from evergallery.data.glyphs import generate
from evergallery.gallery import Item
from evergallery.gallery.edge import EdgeStore, shard
from evergallery.gallery.items import Precision
from evergallery.training import Settings

K, BATCH, GENERATION = 10, 1000, "a" * 64
Vectors = NDArray[np.float32]


def of_glyphs(classes: int, epochs: int, seed: int) -> tuple[Vectors, Vectors, NDArray[np.int64], NDArray[np.int64]]:
    """Vectors of stored images and of queries by a network that learned half of the classes; and the labels of both."""
    images = generate(classes=classes, train_per_class=60, test_per_class=6, size=24, seed=seed)
    stored, asked = images.of_split("train"), images.of_split("test")
    with tempfile.TemporaryDirectory() as directory:
        workspace = Workspace.create(Path(directory) / "glyphs", size=24, dim=128)
        learned = stored.of_classes(stored.classes[: classes // 2])
        part = learned.select(np.random.default_rng(seed).permutation(len(learned))[:4000])
        settings = Settings(epochs=epochs, flip=False, images_per_class=4, padding=2, batch_size=64, init_seed=seed)
        generation = workspace.learn(part, settings=settings)
        vectors, queries = (workspace.extract(generation, images, keep=False) for images in (stored, asked))
        workspace.close()
    chosen = np.random.default_rng(seed + 1).permutation(len(queries))[:BATCH]
    return vectors, queries[chosen], stored.labels, asked.labels[chosen]


def clustered(count: int, seed: int) -> tuple[Vectors, Vectors, NDArray[np.int64], NDArray[np.int64]]:
    """Unit vectors (count, 128) around one centre per fifty, queries around the same centres, and the centres of both."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(count // 50, 128))

    def around(clusters: NDArray[np.int64]) -> Vectors:
        rows = centres[clusters] + 0.7 * draw.normal(size=(len(clusters), 128))
        made: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return made

    mine, asked = draw.integers(len(centres), size=count), draw.integers(len(centres), size=BATCH)
    return around(mine), around(asked), mine, asked


def measure(
    precision: Precision, vectors: Vectors, queries: Vectors, labels: NDArray[np.int64], asked: NDArray[np.int64]
) -> dict[str, Any]:
    truth = np.argsort(-(queries @ vectors.T), axis=1, kind="stable")[:, :K]
    # Real vectors may be equal; then any of them is a true neighbour.
    least = np.take_along_axis(queries @ vectors.T, truth[:, -1:], 1)[:, 0] - 1e-6
    with (
        tempfile.TemporaryDirectory() as directory,
        EdgeStore(Path(directory) / "gallery", precision=precision) as store,
    ):
        for first in range(0, len(vectors), BATCH):
            store.put(
                [
                    Item(f"{row}", vectors[row], GENERATION, None, None, None, "2026-01-01T00:00:00+00:00")
                    for row in range(first, min(first + BATCH, len(vectors)))
                ]
            )
        store.compact()
        result: dict[str, Any] = {}
        for way, exact in (("exact", True), ("index", False)):
            store.search(queries[:10], K, exact=exact)
            start = time.perf_counter()
            found = store.search(queries, K, exact=exact)
            seconds = time.perf_counter() - start
            rows = np.array([[int(match.item.id) for match in matches] for matches in found])
            scores = np.einsum("qd,qkd->qk", queries, vectors[rows])
            given = np.array([[match.score for match in matches] for matches in found])
            result[way] = {
                "recall@10": float((scores >= least[:, None]).mean()),
                "first of the query's class": float((labels[rows[:, 0]] == asked).mean()),
                "largest error of a score": float(np.abs(given - scores).max()),
                "batch_ms_per_query": 1000 * seconds / len(queries),
            }
        index = store.indexes()[GENERATION]
        result["index"]["recall@10 as compact measured it"] = index.recall
        of_bytes = [path.stat().st_size for path in (Path(directory) / "gallery").rglob("quantized.data")]
    dimension = vectors.shape[1]
    kept = dimension * (4 if precision == "float32" else 2)
    return result | {"bytes_per_vector": {"kept": kept, "searched beside": round(sum(of_bytes) / len(vectors))}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=300, help="of glyphs")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--clustered", type=int, default=20_000, help="vectors")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Smaller galleries have no index, and so no bytes; here all of them show what they would cost.
    shard.INDEX_FROM = 1
    sets = {
        "glyphs, 128-d of a trained ResNet-20": of_glyphs(options.classes, options.epochs, options.seed),
        "clustered, 128-d": clustered(options.clustered, options.seed),
    }
    results = {
        name: {"vectors": len(made[0])} | {precision: measure(precision, *made) for precision in get_args(Precision)}
        for name, made in sets.items()
    }
    record("gallery_precision", results, options.seed)


if __name__ == "__main__":
    main()
