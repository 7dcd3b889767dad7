"""Indexing beside the bare network, the second pass beside hashing, threads beside processes, and what ONNX files are worth.

Photographs are generated: JPEGs of 500 × 375 pixels with noise, which are as dear to decode as real ones; or any folder is
taken. The bare network embeds the same images, decoded already and in memory, in the same batches with the same threads. Both
are timed in turn, so that other work on the machine hits both alike.
"""

import argparse
import hashlib
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from common import interleaved, record
from evergallery import Workspace
from evergallery.data.image_set import as_batch
from evergallery.data.images import Preprocessing, decode, pixels
from evergallery.data.sources import load
from evergallery.data.streaming import batch_size, grouped, processors
from evergallery.network import embedding
from evergallery.network.foreign import onnx_model
from evergallery.training import Settings


def photographs(folder: Path, count: int, size: tuple[int, int], suffix: str) -> Path:
    """Images with structure and noise, in folders of a hundred."""
    paths = [folder / f"{number // 100:04d}" / f"{number:06d}{suffix}" for number in range(count)]
    for parent in {path.parent for path in paths}:
        parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as processes:
        list(processes.map(partial(_photograph, size), range(count), paths, chunksize=16))
    return folder


def _photograph(size: tuple[int, int], number: int, path: Path) -> None:
    draw = np.random.default_rng(number)
    coarse = Image.fromarray(draw.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    image = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC)) + draw.normal(0, 8, (size[1], size[0], 3))
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path, quality=85)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def registered(folder: Path, backbone: str, size: int) -> Workspace:
    space = Workspace.create(folder)
    space.register(backbone, pretrained=False, size=size, interpolation="bilinear")
    return space


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def indexing(folder: Path, backbone: str, size: int, repeats: int, scratch: Path) -> dict[str, Any]:
    """Indexing into an empty gallery, the second pass, the bare network and bare hashing, in turn."""
    template = registered(scratch / "template", backbone, size)
    maker = template.promoted
    images = load(folder, maker.preprocessing, require_labels=False)
    embedder = maker.embedder()

    def bare() -> None:
        with embedding(embedder, maker.preprocessing) as embed:
            for rows in grouped(images.rows, batch_size(size)):
                embed(as_batch(images.pixels[rows]))

    def hashing() -> None:
        for path in files_of(folder):
            hashlib.sha256(path.read_bytes()).hexdigest()

    taken: dict[str, list[float]] = {"bare network": [], "index": [], "second pass": [], "reading and hashing": []}
    with embedding(embedder, maker.preprocessing) as embed:
        embed(images.batch(np.arange(min(len(images), batch_size(size)))))  # A warm-up.
    for _ in range(repeats):
        shutil.copytree(template.directory, scratch / "shop")
        with Workspace(scratch / "shop") as shop:
            shop.embed(files_of(folder)[0], shop.promoted)  # Loads the network.
            times = {
                "bare network": seconds(bare),
                "index": seconds(lambda: shop.index(folder)),
                "second pass": seconds(lambda: shop.index(folder)),
                "reading and hashing": seconds(hashing),
            }
            assert shop.gallery.count() == len(images)
        shutil.rmtree(scratch / "shop")
        for name, value in times.items():
            taken[name].append(value)
    shares = [bare / indexed for bare, indexed in zip(taken["bare network"], taken["index"], strict=True)]
    return {
        "images": len(images),
        "batch": batch_size(size),
        "images_per_second": {
            name: round(len(images) / statistics.median(values), 1) for name, values in taken.items()
        },
        "index_share_of_bare": {
            "median": round(statistics.median(shares), 3),
            "each": [round(share, 3) for share in shares],
        },
    }


def decoded(path: Path, size: int) -> int:
    return pixels(decode(path), Preprocessing(size=size)).nbytes


def threads_and_processes(folder: Path, size: int, repeats: int) -> dict[str, Any]:
    paths = files_of(folder)

    def spread(pool: Executor, chunk: int) -> None:
        list(pool.map(partial(decoded, size=size), paths, chunksize=chunk))

    workers = processors()
    with ThreadPoolExecutor(workers) as threads, ProcessPoolExecutor(workers) as processes:
        runs: dict[str, Callable[[], object]] = {
            "one thread": lambda: [decoded(path, size) for path in paths],
            "threads": lambda: spread(threads, 1),
            "processes, pixels not sent back": lambda: spread(processes, 8),
        }
        times = interleaved(runs, repeats)
    return {"workers": workers, **{name: round(len(paths) / found["median_s"], 1) for name, found in times.items()}}


def onnx_files(epochs: int, size: int, repeats: int, scratch: Path) -> dict[str, Any]:
    """Speed of ResNet-18 as it is, in ONNX and in 8 bits; and recall of a small network that has learned characters."""
    big = registered(scratch / "big", "resnet18", size)
    draw = np.random.default_rng(0)
    numbers = draw.integers(0, 256, (64, size, size, 3), dtype=np.uint8)
    np.savez(scratch / "pictures.npz", images=numbers)
    files = {"onnx float32": scratch / "float.onnx", "onnx int8": scratch / "int8.onnx"}
    big.export_model(files["onnx float32"])
    big.export_model(files["onnx int8"], int8=True, calibrate=scratch / "pictures.npz")
    prepared = big.promoted.preprocessing
    models = {"torch float32": big.promoted.embedder()}
    models |= {name: onnx_model(path, size) for name, path in files.items()}
    speed: dict[str, Any] = {}
    for batch in (1, 32):
        runs: dict[str, Callable[[], object]] = {}
        for name, model in models.items():
            with embedding(model, prepared) as embed:
                runs[name] = partial(embed, as_batch(numbers[:batch]))
        times = interleaved(runs, repeats * 5)
        speed[f"batch of {batch}"] = {name: round(batch / timing["median_s"], 1) for name, timing in times.items()}
    small = Workspace.create(scratch / "small", size=32)
    images = load("glyphs", Preprocessing(size=32), require_labels=True)
    learned, held_out = images.of_classes(images.classes[:100]), images.of_split("test")
    small.learn(learned.of_split("train"), settings=Settings(epochs=epochs, device="cpu", flip=False))
    rest = images.of_split("train").of_classes(images.classes[100:])
    made = small.export_model(scratch / "glyphs.onnx", int8=True, calibrate=rest, data=held_out)
    exact = small.export_model(scratch / "exact.onnx", data=held_out)
    assert made.recall is not None
    assert exact.recall is not None
    return {
        "resnet18_pixels": size,
        "images_per_second": speed,
        "bytes": {name: path.stat().st_size for name, path in files.items()},
        "glyphs": {
            "network": "resnet20, 32 pixels, 100 classes learned, 200 searched",
            "epochs": epochs,
            "queries": made.recall.queries,
            "probe_cosine": {"float32": round(exact.cosine, 6), "int8": round(made.cosine, 4)},
            "smallest_cosine": {
                "float32": round(exact.recall.smallest_cosine, 6),
                "int8": round(made.recall.smallest_cosine, 4),
            },
            "recall@1": {
                "generation": round(made.recall.generation, 4),
                "float32 file": round(exact.recall.file, 4),
                "int8 file": round(made.recall.file, 4),
                "int8 queries in the generation's vectors": round(made.recall.cross, 4),
            },
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=768)
    parser.add_argument("--data", type=Path, help="a folder of images in place of generated photographs")
    parser.add_argument("--epochs", type=int, default=12, help="of the network whose recall in 8 bits is measured")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=processors(), help="of the networks")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    result: dict[str, Any] = {"threads": options.threads}

    def measure(name: str, run: Callable[[Path], Any]) -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as inner:
            result[name] = run(Path(inner))
        record("extraction", result, 0)  # At once: the whole takes minutes.

    with tempfile.TemporaryDirectory() as folder_name:
        scratch = Path(folder_name)
        folder = options.data or photographs(scratch / "photographs", options.photographs, (500, 375), ".jpg")
        fewer = options.data or photographs(scratch / "fewer", options.photographs // 2, (500, 375), ".jpg")
        tiny = photographs(scratch / "tiny", 4 * options.photographs, (32, 32), ".png")
        sizes = [path.stat().st_size for path in files_of(folder)]
        result["photographs"] = {"images": len(sizes), "mean_bytes": round(statistics.mean(sizes))}
        measure("decoding_images_per_second", lambda _: threads_and_processes(fewer, 128, options.repeats))
        for what, source, backbone, size in (
            ("resnet18, 128 pixels, photographs", folder, "resnet18", 128),
            ("resnet20, 32 pixels, PNG 32 × 32", tiny, "resnet20", 32),
            ("resnet18, 224 pixels, photographs", fewer, "resnet18", 224),
        ):
            measure(what, partial(indexing, source, backbone, size, options.repeats))
        measure("onnx", partial(onnx_files, options.epochs, 128, options.repeats))


if __name__ == "__main__":
    main()
