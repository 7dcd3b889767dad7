"""The bare network in every runtime, and ``index`` from JPEGs with torch and with the fastest, all in turn in one process.

Photographs are those of ``extraction.py``. A network's weights are its initial ones: speed does not depend on them, and cosines
are those of the vectors that they make of noise.
"""

import argparse
import contextlib
import functools
import os
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from common import interleaved, record
from evergallery import Workspace
from evergallery.data import streaming
from evergallery.data.image_set import as_batch
from evergallery.data.images import Preprocessing, decode, read_pixels
from evergallery.data.images import decoding as decoding_of_images
from evergallery.data.images import pixels as pixels_of
from evergallery.data.streaming import processors
from evergallery.gallery.store import GalleryStore
from evergallery.holdings.embedding import embed_pixels
from evergallery.holdings.runtimes import EmbeddingRun, _processor
from evergallery.network import Extractor, embedding
from evergallery.network.extraction import in_torch
from evergallery.network.onnx_export import export_runnable
from evergallery.network.runtimes import OF_FILES, RUNTIMES, Embed, Pixels, Runtime, of_file, part_size, version_of
from evergallery.strings.environment import RUNTIME
from extraction import files_of, photographs

NETWORKS = {
    "EfficientNet-Lite0": "tf_efficientnet_lite0",
    "ResNet-50": "resnet50",
    "ViT-S/16": "vit_small_patch16_224",
}
SIDE = 224
FEWER = {"EfficientNet-Lite0": 1, "ResNet-50": 6, "ViT-S/16": 6}
"""By what the number of photographs is divided that a network indexes: the slower it is, the fewer."""


def in_bfloat16(extractor: Extractor, embed: Embed) -> Embed:
    """Torch with products in 16 bits."""

    def reduced(pixels: Pixels) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return embed(pixels)

    return reduced


def openvino_in_bfloat16(path: Path, side: int) -> Embed:
    import openvino

    core, size = openvino.Core(), part_size(side)
    model = core.read_model(path)
    model.reshape({"pixels": [size, side, side, 3]})
    settings = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda pixels: np.array(request.infer({"pixels": pixels})[0])


def bare(space: Workspace, name: str, repeats: int, scratch: Path) -> dict[str, Any]:
    """Images a second of one network in each runtime, a part at a time as the product does, and how its vectors compare."""
    maker = space.generation(name)
    embedder, side = maker.embedder(), maker.preprocessing.size
    assert isinstance(side, int)
    file = scratch / f"{name}.onnx"
    export_runnable(embedder, maker.preprocessing, file)
    pixels = np.random.default_rng(0).integers(0, 256, (part_size(side), side, side, 3), dtype=np.uint8)
    plain = maker.embedder().to(memory_format=torch.contiguous_format)

    def contiguous(images: Pixels) -> Any:
        with embedding(plain, maker.preprocessing) as run:
            return run(as_batch(images).contiguous())

    runs: dict[str, Embed] = {
        "torch, channels first": contiguous,
        "torch": in_torch(embedder, maker.preprocessing),
        "ONNX Runtime": of_file("onnxruntime", file, side),
        "OpenVINO": of_file("openvino", file, side),
        "torch, bf16": in_bfloat16(embedder, in_torch(embedder, maker.preprocessing)),
        "OpenVINO, bf16": openvino_in_bfloat16(file, side),
    }
    taken = interleaved({key: partial(run, pixels) for key, run in runs.items()}, repeats)
    expected = runs["torch"](pixels).astype(np.float64)
    return {
        key: {
            "images per second": round(len(pixels) / timing["median_s"], 1),
            "at best": round(len(pixels) / timing["min_s"], 1),
            "smallest cosine": round(float((runs[key](pixels) * expected).sum(1).min()), 6),
        }
        for key, timing in taken.items()
    }


def seconds(call: Callable[[], object]) -> tuple[float, float]:
    """By the clock, and of the processors, which other work on the machine disturbs less."""
    started, computed = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - started, time.process_time() - computed


@contextlib.contextmanager
def chosen(runtime: str) -> Any:
    os.environ[RUNTIME] = runtime
    try:
        yield
    finally:
        del os.environ[RUNTIME]


@contextlib.contextmanager
def tied() -> Any:
    """As it was before: OpenVINO ties its threads to the first processors."""
    import openvino

    right = openvino.Core.compile_model

    def compiled(self: Any, model: Any, device: str, settings: dict[str, Any]) -> Any:
        return right(self, model, device, {**settings, "ENABLE_CPU_PINNING": True})

    openvino.Core.compile_model = compiled
    try:
        yield
    finally:
        openvino.Core.compile_model = right


class PartsOfAnIndex:
    """Seconds of a processor that each part of an index takes, by the threads that do it. What a part calls is not of it."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = {}
        self._within = threading.local()

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A function whose calls are counted as a part."""

        @functools.wraps(call)
        def counted(*given: Any, **named: Any) -> Any:
            outside = getattr(self._within, "inner", 0.0)
            self._within.inner, began = 0.0, time.thread_time()
            try:
                return call(*given, **named)
            finally:
                taken = time.thread_time() - began
                self.taken[name] = self.taken.get(name, 0.0) + taken - self._within.inner
                self._within.inner = outside + taken

        return counted

    @contextlib.contextmanager
    def counted(self) -> Any:
        """Count them; what is left of a process is the handing over, and what the parts' threads do besides."""
        places = (
            ("reading and hashing", streaming, "read_picture"), ("decoding", decoding_of_images, "_read"),
            ("resizing", decoding_of_images, "pixels"), ("network", EmbeddingRun, "__call__"),
            ("asking the gallery", GalleryStore, "get_many"), ("storing", GalleryStore, "put"),
        )  # fmt: skip
        right = [getattr(owner, attribute) for _, owner, attribute in places]
        for (name, owner, attribute), call in zip(places, right, strict=True):
            setattr(owner, attribute, self.timed(name, call))
        try:
            yield
        finally:
            for (_, owner, attribute), call in zip(places, right, strict=True):
                setattr(owner, attribute, call)


def indexing(backbone: str, folder: Path, runtimes: Sequence[Runtime], repeats: int, scratch: Path) -> dict[str, Any]:
    """Indexing photographs into an empty gallery, beside the bare network on as many decoded images, in turn.

    And beside what no index can be faster than where network and decoders have the same processors: both, one after the other.
    """
    wanted, template = Preprocessing(size=SIDE), scratch / f"template of {backbone}"
    files = files_of(folder)
    with Workspace.create(template) as space:
        space.register(backbone, pretrained=False, size=SIDE, interpolation="bilinear")
        for runtime in runtimes:
            with chosen(runtime):
                space.embed(files[0], space.promoted)
    count = len(files)
    taken: dict[str, Any] = {}

    def decode_all() -> None:
        for path in files:
            read_pixels(path, wanted)

    pixels = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)
    parts: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for runtime in runtimes:
            each = taken.setdefault(runtime, {"bare": [], "decoding": [], "index": [], "index, tied": []})
            for name, way in (("index, tied", tied()), ("index", contextlib.nullcontext())):
                shutil.copytree(template, scratch / "shop")
                with chosen(runtime), way, Workspace(scratch / "shop") as shop:
                    shop.embed(files[0], shop.promoted)  # Loads the network.
                    if name == "index":
                        each["bare"].append(seconds(partial(embed_pixels, shop.holdings, pixels, shop.promoted)))
                        each["decoding"].append(seconds(decode_all))
                    of_index = PartsOfAnIndex()
                    with of_index.counted():
                        each[name].append(seconds(partial(shop.index, folder)))
                    if name == "index":
                        of_index.taken["all else"] = each[name][-1][1] - sum(of_index.taken.values())
                        parts.setdefault(runtime, []).append(of_index.taken)
                    assert shop.gallery.count() == count
                    assert shop.holdings.journal.entries()[-1]["runtime"] == runtime
                shutil.rmtree(scratch / "shop")
    return {
        "photographs": count,
        **{
            what: {runtime: ratios(each, over, under) for runtime, each in taken.items()}
            for what, over, under in (
                ("share of the bare network's speed", ("bare",), "index"),
                ("share of the speed of network and decoding in turn", ("bare", "decoding"), "index"),
                ("times as fast as tied to the first processors", ("index, tied",), "index"),
            )
        },
        "images per second": {
            runtime: {
                what: round(count / statistics.median(timing[0] for timing in times), 1) for what, times in each.items()
            }
            for runtime, each in taken.items()
        },
        "processor milliseconds an image": {
            runtime: {what: round(1000 * min(timing[1] for timing in times) / count, 2) for what, times in each.items()}
            for runtime, each in taken.items()
        },
        "parts of an index, processor milliseconds an image": {
            runtime: {
                name: round(1000 * value / count, 2)
                for name, value in min(turns, key=lambda turn: sum(turn.values())).items()
            }
            for runtime, turns in parts.items()
        },
    }


def camera(backbone: str, count: int, repeats: int, scratch: Path) -> dict[str, Any]:
    """Indexing photographs of twelve megapixels, decoded whole and at a reduced size, in turn, by OpenVINO."""
    folder = photographs(scratch / "camera", count, (4000, 3000), ".jpg")
    for name in ("whole", "reduced"):
        with Workspace.create(scratch / name) as space, chosen("openvino"):
            space.register(
                backbone, pretrained=False, size=SIDE, interpolation="bilinear", reduce_jpegs=name == "reduced"
            )
            space.embed(files_of(folder)[0], space.promoted)
    taken: dict[str, list[tuple[float, float]]] = {"whole": [], "reduced": []}
    for _ in range(repeats):
        for name, times in taken.items():
            shutil.copytree(scratch / name, scratch / "shop")
            with chosen("openvino"), Workspace(scratch / "shop") as shop:
                shop.embed(files_of(folder)[0], shop.promoted)
                times.append(seconds(partial(shop.index, folder)))
            shutil.rmtree(scratch / "shop")
    return {
        "photographs": count,
        "images per second": {
            name: round(count / statistics.median(one[0] for one in times), 1) for name, times in taken.items()
        },
        "processor milliseconds an image": {
            name: round(1000 * min(one[1] for one in times) / count, 2) for name, times in taken.items()
        },
        "times as fast": ratios(taken, ("whole",), "reduced"),
    }


def fewer(folder: Path, count: int, target: Path) -> Path:
    """A folder with the first few photographs of another."""
    for path in files_of(folder)[:count]:
        place = target / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    return target


def ratios(each: dict[str, list[tuple[float, float]]], over: tuple[str, ...], under: str) -> dict[str, Any]:
    """How much longer some parts took together than another, turn by turn; and of the processors, at best."""
    clock = [[timing[0] for timing in each[name]] for name in (*over, under)]
    turns = [sum(parts) / whole for *parts, whole in zip(*clock, strict=True)]
    least = {name: min(timing[1] for timing in each[name]) for name in (*over, under)}
    return {
        "median": round(statistics.median(turns), 3),
        "each": [round(turn, 3) for turn in turns],
        "of a processor": round(sum(least[name] for name in over) / least[under], 3),
    }


def decoding(folder: Path, repeats: int) -> dict[str, Any]:
    """Photographs a second of one thread, by Pillow and by other decoders, to the square of pixels that a network sees."""
    files = [path.read_bytes() for path in files_of(folder)[:64]]
    wanted = Preprocessing(size=SIDE)
    runs: dict[str, Callable[[], object]] = {
        "Pillow, whole": lambda: [decode(data) for data in files],
        "Pillow, whole, and resized": lambda: [pixels_of(decode(data), wanted) for data in files],
    }

    def drafted() -> None:
        import io

        for data in files:
            image = Image.open(io.BytesIO(data))
            image.draft("RGB", (SIDE, SIDE))
            image.load()

    runs["Pillow, draft"] = drafted
    with contextlib.suppress(ImportError):
        import simplejpeg

        runs["simplejpeg, whole"] = lambda: [simplejpeg.decode_jpeg(data) for data in files]
    with contextlib.suppress(ImportError):
        from torchvision.io import decode_jpeg

        runs["torchvision, whole"] = lambda: [
            decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8)) for data in files
        ]
    found = interleaved(runs, repeats)
    told: dict[str, Any] = {
        "images per second": {name: round(len(files) / timing["median_s"]) for name, timing in found.items()}
    }
    with contextlib.suppress(ImportError):
        import simplejpeg

        told["pixels of simplejpeg equal those of Pillow"] = all(
            np.array_equal(simplejpeg.decode_jpeg(data), np.asarray(decode(data))) for data in files
        )
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--index-repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=processors(), help="of the networks")
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=("torch", *OF_FILES), help="that index")
    parser.add_argument("--index-only", action="store_true", help="and nothing else")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    head: dict[str, Any] = {
        "threads": options.threads, "processor": _processor(), "pixels": SIDE, "images at once": part_size(SIDE),
        "versions": {name: version_of(name) for name in ("torch", *OF_FILES)},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name, torch.inference_mode():
        scratch = Path(name)
        folder = photographs(scratch / "photographs", options.photographs, (640, 480), ".jpg")
        if not options.index_only:
            result: dict[str, Any] = {**head, "networks": {}}
            result["decoding, one thread"] = decoding(folder, options.repeats)
            for title, backbone in NETWORKS.items():
                with Workspace.create(scratch / backbone) as space:
                    made = space.register(backbone, pretrained=False, size=SIDE)
                    result["networks"][title] = bare(space, made.name, options.repeats, scratch)
            record("runtimes", result, seed=0)
        found = {}
        for title, divisor in FEWER.items():
            some = folder if divisor == 1 else fewer(folder, options.photographs // divisor, scratch / title)
            found[title] = indexing(NETWORKS[title], some, options.runtimes, options.index_repeats, scratch)
        lite = NETWORKS["EfficientNet-Lite0"]
        large = camera(lite, options.photographs // 40, options.index_repeats, scratch)
        record("indexing", {**head, "networks": found, "photographs of 4000 × 3000": large}, seed=0)


if __name__ == "__main__":
    main()
