"""Images per second of learning by CSD with a teacher, beside the plain recipe of the papers' code, and the recall of both.

The plain recipe: float32, channels first, each image through PIL in the workers of a DataLoader, and gradients through the
teacher, whose parameters the published code does not freeze. A second one lets the teacher run without. Ours is
``evergallery.training.train`` as it stands. Stretches of all are timed in turn, from the fourth step on; then they learn whole
runs, on the same images from the same first generation.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from common import record
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.data.sources import load
from evergallery.methods import CSD, Finetune, Step
from evergallery.network import Architecture, Embedder, Head, Network, extract
from evergallery.retrieval.knn import Exclusion
from evergallery.retrieval.metrics import evaluate
from evergallery.training import Lineage, Settings, TrainingData, train
from evergallery.watching import TrainingListener

BATCH = 128
PREPROCESSING = Preprocessing(size=32)
WARM_UP = 3
"""Steps that are not timed: the first ones start workers and choose algorithms."""

Tick = Callable[[int], None]
"""Hears how many steps are done."""


class Pictures(Dataset[tuple[torch.Tensor, int]]):
    """An image at a time, as the papers' code reads them."""

    def __init__(self, images: ImageSet) -> None:
        self.pixels = images.batch(np.arange(len(images))).permute(0, 2, 3, 1).numpy()
        self.labels = images.labels
        self.transform = transforms.Compose(
            [
                transforms.ToPILImage(), transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(),
                transforms.ToTensor(), transforms.Normalize(PREPROCESSING.mean, PREPROCESSING.std),
            ]
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pixels[index]), int(self.labels[index])


def plain(
    network: Network, teacher: Network, images: ImageSet, epochs: int, seed: int, tick: Tick, *, through: bool = True
) -> None:
    """Learn by the plain recipe; ``through`` says whether gradients go through the teacher."""
    torch.manual_seed(seed)
    network = network.to(memory_format=torch.contiguous_format).train()
    teacher = teacher.to(memory_format=torch.contiguous_format).eval().requires_grad_(through)
    method, settings = CSD(), Settings(epochs=epochs)
    optimizer = torch.optim.Adam(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=False
    )
    loader = DataLoader(
        Pictures(images), BATCH, shuffle=True, drop_last=True, num_workers=min(2, os.cpu_count() or 1),
        persistent_workers=True,
    )  # fmt: skip
    for epoch in range(epochs):
        for step, (inputs, labels) in enumerate(loader):
            optimizer.param_groups[0]["lr"] = settings.rate((epoch + step / len(loader)) / epochs)
            with torch.set_grad_enabled(through):
                old = teacher(inputs)
            losses = method.losses(
                Step(labels, network(inputs), old, head=network.head, state=None, old_head=teacher.head)
            )
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            tick(epoch * len(loader) + step + 1)


def ours(
    network: Network, teacher: Network, images: ImageSet, epochs: int, seed: int, tick: Tick, **changes: Any
) -> None:
    """Learn by the product's loop."""
    settings = Settings.model_validate({"epochs": epochs, "batch_size": BATCH, "data_seed": seed, **changes})
    with tempfile.TemporaryDirectory() as directory:
        train(
            network,
            CSD(),
            TrainingData(images, None, PREPROCESSING),
            settings,
            Path(directory),
            lineage=Lineage(teacher),
            watcher=TrainingListener(lambda progress: tick(progress.epoch * progress.steps + progress.step)),
        )


Recipe = Callable[[Network, Network, ImageSet, int, int, Tick], None]
PLAIN, OURS, GROWING, COMPILED = "plain", "ours", "ours, growing from 16 pixels", "ours, compiled"
RECIPES: dict[str, Recipe] = {
    PLAIN: plain,
    "plain, no gradient through the teacher": partial(plain, through=False),
    "ours in float32": partial(ours, precision="float32"),
    OURS: ours,
    GROWING: partial(ours, start_size=16),
    COMPILED: partial(ours, compile=True),
}
TIMED = (PLAIN, "plain, no gradient through the teacher", "ours in float32", OURS)
LEARNED = (PLAIN, OURS, GROWING)


def fresh(classes: int, seed: int, base: Network | None = None) -> Network:
    embedder = Embedder(Architecture(backbone="resnet32"), seed=seed)
    if base is None:
        return Network(embedder, Head(embedder.dimension, 0).grow(classes, seed))
    embedder.load_state_dict(base.embedder.state_dict())
    return Network(embedder, base.head.grow(classes, seed))


def copied(base: Network) -> Network:
    return fresh(base.head.classes, 0, base)


def stretch(recipe: Recipe, base: Network, classes: int, images: ImageSet, seed: int) -> tuple[float, float]:
    """Images per second from the fourth step on, and seconds until the third was done."""
    ticks: list[tuple[int, float]] = []
    started = time.perf_counter()
    recipe(
        fresh(classes, 1, base), copied(base), images, 1, seed, lambda done: ticks.append((done, time.perf_counter()))
    )
    warm = [(done, at) for done, at in ticks if done >= WARM_UP]
    (first, begun), (last, ended) = warm[0], warm[-1]
    return (last - first) * BATCH / (ended - begun), begun - started


def recall(network: Network, images: ImageSet, old: Network | None = None) -> float:
    queries = torch.from_numpy(extract(network.embedder, images, PREPROCESSING))
    gallery = queries if old is None else torch.from_numpy(extract(old.embedder, images, PREPROCESSING))
    labels = torch.from_numpy(images.labels)
    found = evaluate(queries, labels, gallery, labels, ks=(1,), exclusion=Exclusion(torch.arange(len(labels))))
    return round(100 * found.recall[1], 2)


def some(images: ImageSet, classes: range, each: int) -> ImageSet:
    """The first images of these classes."""
    return images.select(np.concatenate([np.flatnonzero(images.labels == label)[:each] for label in classes]))


def speeds(names: tuple[str, ...], base: Network, classes: int, images: ImageSet, repeats: int) -> dict[str, Any]:
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for repeat in range(repeats):
        for name in names:
            measured[name].append(stretch(RECIPES[name], base, classes, images, repeat))
    plainly = [speed for speed, _ in measured[PLAIN]]
    told: dict[str, Any] = {}
    for name, values in measured.items():
        rates = [speed for speed, _ in values]
        ratios = [a / b for a, b in zip(rates, plainly, strict=True)]
        told[name] = {
            "images per second": round(statistics.median(rates)),
            "times the plain recipe": round(statistics.median(ratios), 2),
            "lowest and highest ratio": [round(min(ratios), 2), round(max(ratios), 2)],
        }
    if COMPILED in names:
        lost = measured[COMPILED][0][1] - statistics.median(seconds for _, seconds in measured[OURS])
        gained = 1 / statistics.median(a for a, _ in measured[OURS]) - 1 / statistics.median(
            a for a, _ in measured[COMPILED]
        )
        told["compiling"] = {
            "seconds lost before the fourth step": round(lost, 1),
            "pays after images": round(lost / gained) if gained > 0 else None,
        }
    return told


def whole_runs(
    base: Network, classes: int, images: ImageSet, held_out: ImageSet, epochs: int, seeds: int
) -> dict[str, Any]:
    told: dict[str, dict[str, list[float]]] = {}
    for seed in range(seeds):
        for name in LEARNED:
            network = fresh(classes, seed, base)
            started = time.perf_counter()
            RECIPES[name](network, copied(base), images, epochs, seed, lambda _: None)
            figures = told.setdefault(
                name, {"seconds": [], "recall@1": [], "recall@1 of the first generation's classes in its vectors": []}
            )
            figures["seconds"].append(round(time.perf_counter() - started, 1))
            figures["recall@1"].append(recall(network, held_out))
            old = some(held_out, range(base.head.classes), 10**9)
            figures["recall@1 of the first generation's classes in its vectors"].append(recall(network, old, base))
    return dict(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="CIFAR-100 as an .npz with splits")
    parser.add_argument("--each", type=int, default=200, help="training images of each class")
    parser.add_argument("--classes", type=int, default=50, help="half of them old, half of them new")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=16, help="of a timed stretch")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="time torch.compile too, which needs a C++ compiler")
    arguments = parser.parse_args()
    everything = load(arguments.data, PREPROCESSING)
    half, classes = arguments.classes // 2, arguments.classes
    training, held_out = (everything.of_split(split) for split in ("train", "test"))
    base = fresh(half, 0)
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(epochs=arguments.epochs, batch_size=BATCH)
        train(
            base,
            Finetune(),
            TrainingData(some(training, range(half), arguments.each), None, PREPROCESSING),
            settings,
            Path(directory),
        )
    new = some(training, range(half, classes), arguments.each)
    timed = new.select(np.resize(np.arange(len(new)), arguments.steps * BATCH))
    names = (*TIMED, COMPILED) if arguments.compile else TIMED
    record(
        "training",
        {
            "network": f"resnet32, 32 x 32, batch {BATCH}, CSD with a teacher",
            "speed": speeds(names, base, classes, timed, arguments.repeats),
            "images in a whole run": arguments.epochs * len(new),
            "whole runs, by seed": whole_runs(
                base, classes, new, some(held_out, range(classes), 10**9), arguments.epochs, arguments.seeds
            ),
        },
        seed=0,
    )


if __name__ == "__main__":
    main()
