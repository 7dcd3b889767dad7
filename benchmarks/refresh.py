"""A refresh without images, now and at an earlier commit (a checkout in ``--before``), beside the bare engine, in turn.

The items have vectors of 1 280 dimensions that a frozen backbone's features, drawn at random, give through a neck; the refresh
maps them to those of another neck. Each turn is a process of its own on a copy of one workspace. The bare engine stores as many
items with the same payload.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import record, timed
from evergallery import Workspace

ROOT = Path(__file__).parents[1]
EACH = 100
"""Items of a class."""


def make(directory: Path, classes: int) -> Path:
    """A workspace whose items have vectors of v2, and which has v3."""
    from safetensors.torch import save_file

    from evergallery.network import build_backbone
    from evergallery.network.features import AugmentedViews
    from frozen import BACKBONE, SIDE, drawn, fill, maker_vectors, pictures

    more = max(2, classes // 30)
    many, few = pictures(0, classes, EACH, 1), pictures(classes, more, EACH, 2)
    weights, table, place = directory / "weights.safetensors", directory / "vectors.npz", directory / "shop"
    save_file(build_backbone(BACKBONE, seed=0).module.state_dict(), weights)
    with drawn(classes + more), Workspace.create(place, backbone=BACKBONE, size=SIDE, weights=weights) as shop:
        fill(shop, [many, few], AugmentedViews())
        shop.learn(many)
        vectors = maker_vectors(shop, many)
        np.savez(table, embeddings=vectors, ids=np.array([f"item {number}" for number in range(len(vectors))]))
        shop.promote("v2", force=True, why="its vectors are stored")
        shop.import_vectors(table, into="v2")
        shop.learn(few)
    shutil.rmtree(place / "cache")
    return place


def measure(place: Path, *, bare: bool) -> dict[str, float]:
    """One refresh of a copy of a workspace, or what the bare engine takes to store its items, in this process."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        copy = shutil.copytree(place, Path(name) / "shop")
        with Workspace(copy) as shop:
            if not bare:
                # Loaded before, as in a process that has learned v3 or serves.
                shop.generation("v3").embedder()
                return timed(partial(shop.refresh, "v3"))
            # The package of an earlier commit need not have what this wants.
            from frozen import TOGETHER, store_barely

            items = [item for batch in shop.gallery.iterate(batch_size=TOGETHER) for item in batch]
            return timed(partial(store_barely, items, Path(name) / "bare"))


def run(checkout: Path, place: Path, *words: str) -> dict[str, float]:
    """This file with the package of a checkout, in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(checkout / "src"), str(Path(__file__).parent)])}
    command = [sys.executable, __file__, "--measure", str(place), *words]
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(told)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of the commit to compare with")
    parser.add_argument("--classes", type=int, default=500, help=f"{EACH} items of each")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure, bare=options.bare)))
        return
    with tempfile.TemporaryDirectory() as name:
        place = make(Path(name), options.classes)
        turns = ({"before": partial(run, options.before, place)} if options.before else {}) | {
            "now": partial(run, ROOT, place),
            "the bare engine": partial(run, ROOT, place, "--bare"),
        }
        taken: dict[str, list[dict[str, float]]] = {which: [] for which in turns}
        for _ in range(options.repeats):
            for which, turn in turns.items():
                taken[which].append(turn())
    items = EACH * options.classes
    spent = {which: [one["processor seconds"] for one in several] for which, several in taken.items()}

    def times(which: str, other: str) -> float:
        return round(statistics.median(a / b for a, b in zip(spent[which], spent[other], strict=True)), 2)

    found: dict[str, Any] = {
        "items": items, "repeats": options.repeats, "threads": 1,
        "milliseconds of a processor an item": {
            which: round(1000 * statistics.median(several) / items, 3) for which, several in spent.items()
        },
        "seconds": {which: statistics.median(one["seconds"] for one in several) for which, several in taken.items()},
        "times the bare engine": {which: times(which, "the bare engine") for which in turns},
    }  # fmt: skip
    if options.before:
        found["times less of a processor"] = times("before", "now")
        commit = ["git", "-C", str(options.before), "rev-parse", "--short=12", "HEAD"]
        found["commit before"] = subprocess.run(commit, check=True, capture_output=True, text=True).stdout.strip()
    record("refresh", found, seed=0)


if __name__ == "__main__":
    main()
