"""Extraction, learning and search on a GPU, each beside what the device could do: needs one, and says so where there is none.

Networks have drawn weights and images are noise, since only time is measured; the cosines are of the fixed pictures on which
runtimes are compared. The ceilings are measured first: a copy within the device's memory, and products of large matrices.
How busy the device was is what its driver says, ten times a second: the share of the time in which anything ran on it.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from common import record
from evaluation import clustered
from evergallery import Workspace
from evergallery.data.augment import normalise
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.methods import CSD, Finetune
from evergallery.network import Architecture, Embedder, Head, Network, embedding
from evergallery.network.foreign import probe_images
from evergallery.retrieval.knn import nearest
from evergallery.retrieval.metrics import evaluate
from evergallery.training import Lineage, Settings, TrainingData, train
from evergallery.watching import TrainingListener
from extraction import photographs

NETWORKS = ("tf_efficientnet_lite0", "resnet50", "vit_base_patch16_224")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TURNS = 5
LOOK_EVERY = 0.1

Figures = dict[str, Any]


class Utilisation:
    """The share of the time in which anything ran on the device, in percent."""

    def __init__(self) -> None:
        self._looked: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while not self._over.wait(LOOK_EVERY):
            self._looked.append(torch.cuda.utilization())

    def __enter__(self) -> "Utilisation":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def percent(self) -> float | None:
        """The mean; ``None`` where nothing was seen or the driver does not tell."""
        return round(statistics.fmean(self._looked)) if self._looked else None


def seconds(call: Callable[[], object], least: float = 0.5) -> float:
    """Seconds of a call, the median of some turns of at least so many seconds together."""
    call()
    torch.cuda.synchronize()
    once = _timed(call, 1)
    count = max(1, round(least / TURNS / max(once, 1e-6)))
    return statistics.median(_timed(call, count) for _ in range(TURNS))


def _timed(call: Callable[[], object], count: int) -> float:
    started = time.perf_counter()
    for _ in range(count):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / count


@contextmanager
def tensor_cores(allowed: bool) -> Iterator[None]:
    """Whether products of float32 are of TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def ceilings(side: int) -> Figures:
    """What the device reaches at best, in TB a second and TFLOP a second."""
    some = torch.empty(side * side * 4, dtype=torch.uint8, device="cuda")
    found = {"copy, TB/s": 2 * some.numel() / seconds(some.clone) / 1e12}
    for name, kind, cores in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bf16", torch.bfloat16, True),
    ):
        left, right = (torch.randn(side, side, device="cuda", dtype=kind) for _ in range(2))
        with tensor_cores(cores):
            found[f"{name}, TFLOP/s"] = 2 * side**3 / seconds(partial(torch.mm, left, right)) / 1e12
    return {name: round(value, 2) for name, value in found.items()}


def extraction(name: str, batch: int) -> Figures:
    """Images a second of a network, as the product embeds them from memory and bare, and the smallest cosine with float32."""
    print(f"extraction by {name}", flush=True)
    network = Embedder(Architecture.of(backbone=name)).eval()
    side = 224
    probes = normalise(probe_images(side), MEAN, DEVIATION)
    with torch.inference_mode():
        exact = network.embed(probes).double()
    network = network.cuda().to(memory_format=torch.channels_last)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network.embed(probes.cuda())
    operations = counter.get_total_flops() / len(probes)
    images = torch.randint(0, 256, (batch, side, side, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    resident = normalise(images.cuda(), MEAN, DEVIATION)

    def bare(run: Callable[[Tensor], Tensor], bf16: bool) -> Callable[[Tensor], Tensor]:
        @torch.inference_mode()
        def embed(pixels: Tensor) -> Tensor:
            with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
                return run(pixels)

        return embed

    ways = {
        "float32": (bare(network.embed, False), False),
        "TF32": (bare(network.embed, False), True),
        "bf16": (bare(network.embed, True), True),
    }
    found: Figures = {"GFLOP an image": round(operations / 1e9, 2)}
    for title, (run, cores) in ways.items():
        with tensor_cores(cores), Utilisation() as busy:
            taken = seconds(partial(run, resident), 1.0)
            cosine = (run(probes.cuda()).double().cpu() * exact).sum(1).min()
        found[title] = _speed(taken, batch, operations, busy) | {"smallest cosine": round(float(cosine), 6)}
    with embedding(network, Preprocessing(size=side)) as embed, Utilisation() as busy:
        taken = seconds(lambda: embed(images), 1.0)
        found["the product, from memory"] = _speed(taken, batch, operations, busy)
    return found


def _speed(taken: float, images: int, operations: float, busy: Utilisation) -> Figures:
    return {
        "images per second": round(images / taken),
        "TFLOP/s": round(images * operations / taken / 1e12, 1),
        "busy, %": busy.percent,
    }  # fmt: skip


def indexing(folder: Path, count: int) -> Figures:
    """JPEGs of 640 × 480 from files to stored vectors."""
    files = photographs(folder / "files", count, (640, 480), ".jpg")
    with Workspace.create(folder / "shop") as space:
        space.register(NETWORKS[0], pretrained=False, size=224, interpolation="bilinear")
        space.index(photographs(folder / "few", 32, (640, 480), ".jpg"))
        with Utilisation() as busy:
            started = time.perf_counter()
            space.index(files)
            taken = time.perf_counter() - started
    return {"images": count, "images per second": round(count / taken), "busy, %": busy.percent}


def noise(classes: int, each: int, side: int) -> ImageSet:
    draw = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), each)
    return ImageSet.from_arrays(
        draw.integers(0, 256, (len(labels), side, side, 3), dtype=np.uint8),
        labels,
        [f"{n:03d}" for n in range(classes)],
    )


def learning(backbone: str, images: ImageSet, teacher: bool, **changes: Any) -> Figures:
    """Images a second of the product's loop, over the second half of an epoch."""

    def network() -> Network:
        embedder = Embedder(Architecture.of(backbone=backbone))
        return Network(embedder, Head(embedder.dimension, 0).grow(len(images.classes), 0))

    print(f"learning with {backbone}, {changes}", flush=True)
    ticks: list[tuple[int, float]] = []
    settings = Settings.model_validate({"epochs": 1, **changes})
    lineage = Lineage(network()) if teacher else None
    torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as directory, Utilisation() as busy:
        train(
            network(),
            CSD() if teacher else Finetune(),
            TrainingData(images, None, Preprocessing(size=images.size)),
            settings,
            Path(directory),
            lineage=lineage,
            watcher=TrainingListener(lambda at: ticks.append((at.step, time.perf_counter()))),
        )
    (first, begun), (last, ended) = ticks[len(ticks) // 2], ticks[-1]
    return {
        "images per second": round((last - first) * settings.batch_size / (ended - begun)),
        "ms a step": round(1000 * (ended - begun) / (last - first), 2),
        "memory, GiB": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "busy, %": busy.percent,
    }


def all_learning(small: int, large: int, side: int) -> Figures:
    cifar, photos = noise(50, small // 50, 32), noise(50, large // 50, side)
    ways: dict[str, tuple[str, ImageSet, dict[str, Any]]] = {
        "resnet32, 32 px, CSD, float32": ("resnet32", cifar, {"precision": "float32"}),
        "resnet32, 32 px, CSD, bf16": ("resnet32", cifar, {"precision": "bf16"}),
        "resnet50, CSD, float32": ("resnet50", photos, {"precision": "float32"}),
        "resnet50, CSD, bf16": ("resnet50", photos, {"precision": "bf16"}),
        "resnet50, CSD, bf16, a batch in four parts": ("resnet50", photos, {"precision": "bf16", "accumulate": 4}),
    }
    return {
        name: learning(backbone, images, True, batch_size=128, **changes)
        for name, (backbone, images, changes) in ways.items()
    }


def search(count: int, width: int, ceiling: Figures) -> Figures:
    """The nearest items on the device, beside the time that reading the gallery or multiplying takes at the ceilings."""
    gallery, labels = (some.cuda() for some in clustered(count, width, count // 100, 0))
    found: Figures = {}
    for queries, k in ((1, 10), (32, 10), (1000, 10), (1000, 100)):
        asked = gallery[:queries] + 0.01 * torch.randn(queries, width, device="cuda")
        asked = torch.nn.functional.normalize(asked)
        with Utilisation() as busy:
            taken = seconds(partial(nearest, asked, gallery, k))
        reading = 4 * count * width / (1e12 * ceiling["copy, TB/s"])
        multiplying = 2 * queries * count * width / (1e12 * ceiling["float32, TFLOP/s"])
        found[f"{queries} queries, {k} nearest"] = {
            "ms": round(1000 * taken, 2), "floor, ms": round(1000 * max(reading, multiplying), 2), "busy, %": busy.percent,
        }  # fmt: skip
    started = time.perf_counter()
    evaluate(gallery[:1000], labels[:1000], gallery, labels)
    torch.cuda.synchronize()
    found["all metrics of 1000 queries"] = {"ms": round(1000 * (time.perf_counter() - started), 1)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6000, help="JPEGs to index")
    parser.add_argument("--items", type=int, default=1_000_000, help="vectors to search in")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--parts", nargs="+", help="what to measure anew, of search, learning, index and the networks")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here, and this measures one: run it where `nvidia-smi` shows a device.")
    found: Figures = {"ceilings": ceilings(8192)}
    with tempfile.TemporaryDirectory() as name:
        parts: dict[str, Callable[[], Figures]] = {
            "search": lambda: search(options.items, 512, found["ceilings"]),
            "learning": lambda: all_learning(12_800, 1_280, 224),
            "index": lambda: indexing(Path(name), options.images),
            **{network: partial(extraction, network, options.batch) for network in NETWORKS},
        }
        for title in options.parts or parts:
            found[title] = parts[title]()
            record("gpu", found, seed=0)  # After each, so that what was measured is kept.


if __name__ == "__main__":
    main()
