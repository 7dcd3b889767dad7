"""What each method costs: images per second, and peak memory over what the process had before it began to learn.

Every run is a process of its own, since memory that one method has freed would hide what the next one needs. All learn the same
random images from the same parent; rounds over all methods are repeated, and medians told beside fine-tuning's of the same round.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from common import record
from evergallery.benchmark.provenance import peak_memory, reset_peak_memory
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.memory import Memory, TrainingOutputs
from evergallery.methods import METHODS, Beginning
from evergallery.network import Architecture, Embedder, Head, Network, outputs_of
from evergallery.training import Lineage, Settings, TrainingData, train
from evergallery.watching import TrainingListener

OLD, ALL, BATCH = 30, 60, 128
"""Classes; a simplex in the 64 dimensions of the network has corners for 65."""
PREPROCESSING = Preprocessing(size=32)
WARM_UP = 3
PLAIN = "finetune"


def some_images(steps: int, classes: range) -> ImageSet:
    draw = np.random.default_rng(0)
    count = steps * BATCH
    pixels = draw.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    labels = np.resize(np.arange(classes.start, classes.stop), count)
    return ImageSet.from_arrays(pixels, labels, [str(number) for number in range(classes.stop)])


def one(name: str, backbone: str, steps: int) -> dict[str, float]:
    """Learn by one method in this process."""
    method = METHODS[name]()

    def a_network(classes: int, seed: int = 0) -> Network:
        embedder = Embedder(Architecture(backbone=backbone), seed=seed)
        return Network(embedder, Head(embedder.dimension, 0, method.needs.head or "unit-rows").grow(classes, seed))

    parent = a_network(OLD)
    images = some_images(steps, range(0 if method.needs.old_images else OLD, ALL))
    old = some_images(2, range(OLD))
    known = outputs_of(parent, old, PREPROCESSING)
    memory = METHODS[PLAIN]().remember("v1", Memory(), TrainingOutputs(torch.from_numpy(old.labels), known), dict)
    network = a_network(ALL, 1)
    if method.needs.parent_weights:
        network.embedder.load_state_dict(parent.embedder.state_dict())

    def another(beginning: Beginning) -> Network:
        made = a_network(ALL, 2)
        if beginning == "parent":
            made.embedder.load_state_dict(parent.embedder.state_dict())
        return made

    ticks: list[tuple[int, float]] = []
    # What is imported on the way is no method's fault.
    with tempfile.TemporaryDirectory() as directory:
        few = some_images(1, range(4)).select(np.arange(8))
        train(
            a_network(4),
            METHODS[PLAIN](),
            TrainingData(few, None, PREPROCESSING),
            Settings(epochs=1, batch_size=4),
            Path(directory),
        )
    before = _resident()
    reset_peak_memory()
    with tempfile.TemporaryDirectory() as directory:
        train(
            network,
            method,
            TrainingData(images, None, PREPROCESSING),
            Settings(epochs=1, batch_size=BATCH),
            Path(directory),
            lineage=Lineage(
                parent,
                root=a_network(OLD) if method.needs.root else None,
                inherited=method.needs.parent_weights,
                memory=memory,
                another_network=another,
            ),
            watcher=TrainingListener(lambda progress: ticks.append((progress.step, time.perf_counter()))),
        )
    peak = peak_memory()
    warm = [(step, at) for step, at in ticks if step >= WARM_UP]
    (first, begun), (last, ended) = warm[0], warm[-1]
    return {
        "images per second": (last - first) * BATCH / (ended - begun),
        "peak, MiB": peak["host"] - before,
        **({"peak on the device, MiB": peak["device"]} if "device" in peak else {}),
    }


def _resident() -> float:
    """MiB that this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="resnet32")
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one, arguments.backbone, arguments.steps)))
        return
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
    for _ in range(arguments.repeats):
        for name, found in rounds.items():
            command = [
                sys.executable, __file__, "--one", name, "--backbone", arguments.backbone, "--steps", str(arguments.steps)
            ]  # fmt: skip
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
    told: dict[str, dict[str, float]] = {}
    for name, found in rounds.items():
        told[name] = {key: round(statistics.median(figures[key] for figures in found), 1) for key in found[0]}
        for key, said in (
            ("images per second", "times the seconds of finetune"),
            ("peak, MiB", "times the memory of finetune"),
        ):
            pairs = zip((each[key] for each in rounds[PLAIN]), (each[key] for each in found), strict=True)
            ratios = [a / b if key == "images per second" else b / a for a, b in pairs]
            told[name][said] = round(statistics.median(ratios), 2)
    record("methods", {"backbone": arguments.backbone, "batch": BATCH, "size": 32, "methods": told}, seed=0)


if __name__ == "__main__":
    main()
