"""Extraction, learning and search on a GPU, each beside what the device could do: needs one, and says so where there is none.

Networks have drawn weights and images are noise, since only time is measured; the cosines are of the fixed pictures on which
runtimes are compared. The ceilings are measured first: a copy within the device's memory, and products of large matrices.
How busy the device was is what its driver says, ten times a second: the share of the time in which anything ran on it.

The parts ``index``, ``features``, ``metrics``, ``adapters`` and ``compiled`` are of the product, beside the processor. Together
they take some ten minutes. ``--rehearse`` runs these five at a small size wherever it is, on the processor where torch sees no
GPU, and records nothing.
"""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from common import record
from evaluation import clustered
from evergallery import Workspace
from evergallery.adapters.selection import select_adapter
from evergallery.data.augment import normalise
from evergallery.data.image_set import ImageSet
from evergallery.data.images import Preprocessing
from evergallery.devices.choosing import FEW, device_for_products
from evergallery.devices.computing import CPU, on
from evergallery.methods import CSD, Finetune
from evergallery.network import Architecture, Embedder, Head, Network, embedding
from evergallery.network.compiled import CompiledNetwork
from evergallery.network.extraction import in_torch
from evergallery.network.features import FeatureCache
from evergallery.network.foreign import probe_images
from evergallery.network.ranks import Ranks
from evergallery.retrieval.knn import Exclusion, nearest
from evergallery.retrieval.metrics import evaluate
from evergallery.training import Lineage, Settings, TrainingData, train
from evergallery.upgrade.adapting import PASSES
from evergallery.watching import TrainingListener
from extraction import photographs

NETWORKS = ("tf_efficientnet_lite0", "resnet50", "vit_base_patch16_224")
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TURNS = 5
LOOK_EVERY = 0.1

Figures = dict[str, Any]
Made = TypeVar("Made")


class Utilisation:
    """The share of the time in which anything ran on the device, in percent."""

    def __init__(self) -> None:
        self._looked: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def _look(self) -> None:
        while torch.cuda.is_available() and not self._over.wait(LOOK_EVERY):
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


def once(call: Callable[[], Made]) -> tuple[float, Made]:
    """Seconds of one call, and what it returns."""
    started = time.perf_counter()
    made = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started, made


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
        # Enough of them to open the device.
        space.index(photographs(folder / "few", FEW, (640, 480), ".jpg"))
        with Utilisation() as busy:
            taken, _ = once(lambda: space.index(files))
        ran = {name: space.holdings.journal.entries()[-1].get(name) for name in ("runtime", "device")}
    return {"images": count, "images per second": round(count / taken), "busy, %": busy.percent, **ran}


def features(folder: Path, images: int, device: torch.device) -> Figures:
    """Features of a frozen ResNet-50 of images that lie in memory, on the device and by the processor, a tenth as many."""
    embedder = Embedder(Architecture.of(backbone=NETWORKS[1]))
    pictures = noise(10, images // 10, 224)
    found: Figures = {}
    for place, some in ((device, pictures), (CPU, pictures.select(np.arange(images // 10)))):
        # A folder for each of them, even where both are the processor.
        cache = FeatureCache(folder / f"features-{len(found)}", embedder, Preprocessing(size=224), Ranks(device=place))
        with Utilisation() as busy:
            taken, _ = once(partial(cache.plain, some))
        found["on the device" if not found else "by the processor"] = {
            "images per second": round(len(some) / taken, 1),
            "busy, %": busy.percent,
        }
    return found


def metrics(counts: Sequence[int], device: torch.device) -> Figures:
    """All metrics of images among themselves, at 512 dimensions, on the device, moved there and back, and by the processor."""
    found: Figures = {}
    on(device, evaluate, *clustered(1000, 8, 10, 0), *clustered(1000, 8, 10, 0))  # Opens it.
    for count in counts:
        rows, labels = clustered(count, 512, count // 20, 0)
        itself = Exclusion(torch.arange(count))
        there, by_device = once(partial(on, device, evaluate, rows, labels, rows, labels, exclusion=itself))
        here, by_processor = once(partial(evaluate, rows, labels, rows, labels, exclusion=itself))
        found[f"{count} images"] = {
            "multiplications": float(count) ** 2 * 512,
            "goes to": device_for_products(float(count) ** 2 * 512),
            "on the device, s": round(there, 3),
            "by the processor, s": round(here, 3),
            "largest difference of a figure": max(
                abs(by_device.values[name] - value) for name, value in by_processor.values.items()
            ),
            "other nearest item": int((by_device.nearest != by_processor.nearest).sum()),
        }
    return found


def adapters(counts: Sequence[int], width: int, device: torch.device) -> Figures:
    """The choice among all kinds of adapters between two spaces of one width, on the device and by the processor."""
    found: Figures = {}
    for count in counts:
        source, labels = clustered(count, width, count // 20, 0)
        turned = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(0))).Q
        target = torch.nn.functional.normalize(source @ turned + 0.02 * clustered(count, width, count // 20, 1)[0])
        there, by_device = once(partial(on, device, select_adapter, source, target, labels))
        here, by_processor = once(partial(select_adapter, source, target, labels))
        found[f"{count} pairs"] = {
            "multiplications": float(PASSES * count * width**2),
            "on the device, s": round(there, 2),
            "by the processor, s": round(here, 2),
            "chosen": [by_device.name, by_processor.name],
            "ranks": [
                [round(trial.worse.reciprocal_rank, 5) for trial in made.trials] for made in (by_device, by_processor)
            ],
        }
    return found


def compiled(names: Sequence[str], batch: int, side: int, device: torch.device) -> Figures:
    """Images a second of a network from memory, as torch runs it and as torch compiles it, and the seconds that this takes."""
    found: Figures = {}
    preprocessing = Preprocessing(size=side)
    pixels = np.random.default_rng(0).integers(0, 256, (4 * batch, side, side, 3), dtype=np.uint8)
    for name in names:
        network = Embedder(Architecture.of(backbone=name)).eval().to(device).to(memory_format=torch.channels_last)
        plain, program = in_torch(network, preprocessing), CompiledNetwork(network, preprocessing, batch)
        plain(pixels)
        to_begin, made = once(partial(program, pixels[:batch]))
        with Utilisation() as busy:
            taken = min(once(partial(program, pixels))[0] for _ in range(TURNS))
        found[name] = {
            "seconds to begin": round(to_begin, 1),
            "torch, images per second": round(len(pixels) / min(once(partial(plain, pixels))[0] for _ in range(TURNS))),
            "compiled, images per second": round(len(pixels) / taken),
            "busy, %": busy.percent,
            "smallest cosine": round(float((made * plain(pixels[:batch])).sum(1).min()), 6),
        }
    return found


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


def of_the_product(
    folder: Path, device: torch.device, images: int, among: Sequence[int], pairs: Sequence[int], networks: Sequence[str]
) -> dict[str, Callable[[], Figures]]:
    """The parts in which the product decides what goes to the device.

    Args:
        folder: for what they write.
        device: beside the processor.
        images: to index, and to make features of.
        among: images whose metrics are computed.
        pairs: that adapters are chosen with.
        networks: that are compiled.
    """
    return {
        "index": lambda: indexing(folder, images),
        "features": lambda: features(folder, images, device),
        "metrics": lambda: metrics(among, device),
        "adapters": lambda: adapters(pairs, 512 if max(pairs) > 1000 else 64, device),
        "compiled": lambda: compiled(networks, min(256, images // 8), 224, device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6000, help="JPEGs to index")
    parser.add_argument("--items", type=int, default=1_000_000, help="vectors to search in")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument(
        "--parts", nargs="+", help="what to measure anew, by the names of the parts and of the networks"
    )
    parser.add_argument("--into", default="gpu", help="the name of the result file")
    parser.add_argument(
        "--rehearse", action="store_true", help="the parts of the product at a small size, wherever it is"
    )
    options = parser.parse_args()
    if options.rehearse:
        with tempfile.TemporaryDirectory() as name:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
            for title, part in of_the_product(Path(name), device, 120, (200, 400), (200,), ("resnet18",)).items():
                print(title, json.dumps(part(), indent=2), flush=True)
        return
    if not torch.cuda.is_available():
        raise SystemExit("torch sees no GPU here, and this measures one: run it where `nvidia-smi` shows a device.")
    found: Figures = {"ceilings": ceilings(8192)}
    with tempfile.TemporaryDirectory() as name:
        parts: dict[str, Callable[[], Figures]] = {
            "search": lambda: search(options.items, 512, found["ceilings"]),
            "learning": lambda: all_learning(12_800, 1_280, 224),
            **of_the_product(
                Path(name),
                torch.device("cuda"),
                options.images,
                (5_000, 10_000, 20_000, 50_000),
                (5_000, 20_000),
                NETWORKS,
            ),
            **{network: partial(extraction, network, options.batch) for network in NETWORKS},
        }
        for title in options.parts or parts:
            found[title] = parts[title]()
            record(options.into, found, seed=0)  # After each, so that what was measured is kept.


if __name__ == "__main__":
    main()
