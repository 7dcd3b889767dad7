"""What indexing keeps in memory: a listing of a million entries, and images going by, into a gallery and into none.

The network is a stand-in and the images are tiny, so that what is left is what grows, if anything does.
"""

import argparse
import hashlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from common import record
from evergallery.benchmark.provenance import peak_memory, reset_peak_memory
from evergallery.data.images import Preprocessing
from evergallery.data.listing import Entry, Listing, list_folder
from evergallery.data.spool import IdRegister, Spool
from evergallery.data.streaming import grouped
from evergallery.extraction.extraction import LocalExtraction
from evergallery.gallery.edge import EdgeStore
from evergallery.gallery.items import Item, PutCounts
from evergallery.holdings.runtimes import EmbeddingRun
from evergallery.indexing.pipeline import IndexSource, index_images
from evergallery.network import Extractor
from evergallery.network.extraction import in_torch
from evergallery.watching import Watcher


class StubEmbedder(Extractor):
    """Some pixels of an image."""

    dimension = 64

    def embed(self, images: Tensor) -> Tensor:
        return F.normalize(images.flatten(1)[:, : self.dimension] + 2)


class StubGeneration:
    """As much of a generation as indexing asks for."""

    name, fingerprint, preprocessing = "v1", "ab" * 32, Preprocessing(size=16)


class NullGallery:
    """A gallery that keeps nothing."""

    def get_many(self, identifiers: Sequence[str], **_: Any) -> dict[str, Item]:
        return {}

    def put(self, items: Sequence[Item]) -> PutCounts:
        return PutCounts(len(items), 0, 0)


class Gauge(Watcher):
    """Writes down the peak so far, each time that as many images more are through."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.peaks: dict[int, float] = {}

    def counted(self, activity: str, done: int, total: int) -> None:
        if done // self.every > len(self.peaks):
            self.peaks[done] = peak_memory()["host"]


def lists(count: int) -> dict[str, Any]:
    """What a listing and the ids that have come by take of the memory and of the time."""

    def entries() -> Any:
        for number in range(count):
            yield Entry(f"/photographs/{number % 1000:04d}/{number:09d}.jpg", f"class {number % 1000}")

    with_peak: dict[str, Any] = {"entries": count}
    reset_peak_memory()
    before = peak_memory()
    start = time.perf_counter()
    spool, met = Spool(Listing(entries(), by_path=True)), IdRegister()
    with_peak["seconds_to_list"] = round(time.perf_counter() - start, 1)
    start = time.perf_counter()
    for group in grouped(spool, 256):
        met.first_times([hashlib.sha256(entry.uri.encode()).hexdigest() for entry in group])
    with_peak["seconds_to_go_through"] = round(time.perf_counter() - start, 1)
    spool.close()
    met.close()
    return with_peak | {"memory_before": before, "memory_peak": peak_memory()}


def pictures(folder: Path, count: int) -> Path:
    for number in range(count):
        path = folder / f"{number % 50:02d}" / f"{number:06d}.ppm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"P6 16 16 255\n" + np.random.default_rng(number).bytes(768))
    return folder


def growth(folder: Path, count: int, store: Any, scratch: Path) -> dict[str, Any]:
    """Peak memory while images go by, in MiB by images."""
    gauge = Gauge(count // 6)
    reset_peak_memory()
    before = peak_memory()["host"]
    embed = in_torch(StubEmbedder(), StubGeneration.preprocessing)
    index_images(
        store,
        StubGeneration(),  # type: ignore[arg-type]
        LocalExtraction(lambda _: EmbeddingRun(embed, {}), StubGeneration.preprocessing),
        IndexSource(list_folder(str(folder), False), "pictures", scratch / "skipped.csv"),
        gauge,
    )
    return {"before": before, **{str(count): peak for count, peak in gauge.peaks.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listed", type=int, default=1_000_000, help="entries of the listing")
    parser.add_argument("--images", type=int, default=48_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder = pictures(scratch / "pictures", options.images)
        nowhere = growth(folder, options.images, NullGallery(), scratch)
        with EdgeStore(scratch / "gallery") as store:
            gallery = growth(folder, options.images, store, scratch)
        result = {"peak_mib": {"into none": nowhere, "into a gallery": gallery}, "listing": lists(options.listed)}
    record("extraction_memory", result)


if __name__ == "__main__":
    main()
