"""Indexing by one process beside two workers of a cluster on the same machine, and beside two of which one is killed.

On a machine whose cores one process keeps busy already, this shows what it costs to distribute, not what it gains.
Photographs are generated, as in ``extraction.py``. The three are timed in turn, each into an empty gallery, with the workers
started already; what it takes to start them is given apart.

Then a cluster of two nodes, each with a Ray of its own beside that of the head: one of them is lost with its worker in the middle
of an index. Last, what the process that asks can do at most: it indexes from workers that need no time at all.
"""

import argparse
import hashlib
import os
import shutil
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch

from common import record
from evergallery import Workspace
from evergallery.data.images import UnreadableImage
from evergallery.data.listing import Entry, Listing
from evergallery.data.sources import find
from evergallery.data.streaming import Picture, processors
from evergallery.extraction.cluster import Cluster
from evergallery.extraction.connecting import connected
from evergallery.extraction.extraction import Extraction, LocalExtraction, PictureAnswer
from evergallery.holdings.runtimes import EmbeddingRun
from evergallery.indexing.pipeline import IndexSource, index_images
from evergallery.network.extraction import in_torch
from evergallery.watching import Watcher
from extraction import photographs, registered


class WorkerKiller(Watcher):
    """Kills a worker once the first batch is stored."""

    def __init__(self, process: int) -> None:
        self.process: int | None = process

    def counted(self, activity: str, done: int, total: int) -> None:
        if self.process is not None:
            os.kill(self.process, signal.SIGKILL)
            self.process = None


class InstantExtraction:
    """An extraction that answers at once, by vectors that are not those of images."""

    def __init__(self, dimension: int) -> None:
        draw = np.random.default_rng(0)
        vectors = draw.normal(size=(4096, dimension)).astype(np.float32)
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def read(self, entries: Iterable[Entry]) -> Generator[Picture | UnreadableImage, None, None]:
        for entry in entries:
            yield Picture(entry, hashlib.sha256(entry.uri.encode()).hexdigest(), None)

    def embed(
        self, batches: Iterable[tuple[Any, Sequence[Picture]]], most: int
    ) -> Generator[tuple[Any, list[PictureAnswer]], None, None]:
        for carried, pictures in batches:
            yield carried, list(self.vectors[: len(pictures)])

    def renew(self, batches: Any, most: int, known: Any, roots: Any) -> Generator[tuple[Any, list[Any]], None, None]:
        raise AssertionError("nothing is refreshed here")


def asking(template: Workspace, folder: Path, count: int) -> dict[str, float]:
    """Images a second that one process lists, looks up and stores, new ones and known ones."""
    listing = [Entry(f"/photographs/{number % 1000:04d}/{number:09d}.jpg", "class") for number in range(count)]
    copied = folder.parent / "shop"
    shutil.copytree(template.directory, copied)
    with Workspace(copied) as shop:
        maker = shop.promoted
        extraction = InstantExtraction(maker.card.dimension)
        seconds = [
            index_images(
                shop.gallery,
                maker,
                cast(Extraction, extraction),
                IndexSource(Listing(listing, by_path=True), "photographs", copied / "skipped.csv"),
                Watcher(),
            ).seconds
            for _ in range(2)
        ]
    shutil.rmtree(copied)
    return {name: round(count / taken, 1) for name, taken in zip(("new", "known"), seconds, strict=True)}


def process_of(cluster: Cluster, ray: ModuleType) -> int:
    """Of one of the workers."""
    actor = cluster._workers[0].actor
    return int(ray.get(actor.__ray_call__.remote(lambda worker: os.getpid())))


def all_ready(cluster: Cluster) -> None:
    while not (len(cluster._workers) == cluster.size and all(worker.is_ready for worker in cluster._workers)):
        time.sleep(0.1)


def index(template: Workspace, folder: Path, images: int, extraction: Extraction, watcher: Watcher) -> float:
    """Seconds of indexing a folder into a new gallery, of which every image is in there once."""
    copied = folder.parent / "shop"
    shutil.copytree(template.directory, copied)
    try:
        with Workspace(copied) as shop:
            maker = shop.promoted
            incoming = IndexSource(
                find(folder, maker.preprocessing, require_labels=False), "photographs", copied / "skipped.csv"
            )
            done = index_images(shop.gallery, maker, extraction, incoming, watcher)
            assert (done.added, done.replaced, done.unchanged, done.skipped_count) == (images, 0, 0, 0)
            assert shop.gallery.count() == images
            return done.seconds
    finally:
        shutil.rmtree(copied)


def losing_a_node(shop: Path, folder: Path, images: int) -> dict[str, Any]:
    """Indexing on two nodes of which one is killed with all that runs on it, after its worker had some of the images."""
    # The token of a cluster on this machine alone is no other's.
    os.environ.pop("RAY_AUTH_TOKEN", None)
    os.environ["RAY_AUTH_MODE"] = "disabled"
    from ray.cluster_utils import Cluster as Nodes

    memory: dict[str, Any] = {"object_store_memory": 200 << 20}
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
    template = Workspace(shop)
    lost, _ = (nodes.add_node(num_cpus=1, **memory) for _ in range(2))
    with connected(nodes.address) as ray, Cluster(nodes.address, template.promoted, 2) as cluster:
        all_ready(cluster)
        where = {
            ray.get(handle.actor.__ray_call__.remote(lambda worker: ray.get_runtime_context().get_node_id())): handle
            for handle in cluster._workers
        }
        doomed = where[lost.node_id]
        process = int(ray.get(doomed.actor.__ray_call__.remote(lambda worker: os.getpid())))

        def lose() -> None:
            while not doomed.assignments:
                time.sleep(0.01)
            nodes.remove_node(lost, allow_graceful=False)
            os.kill(process, signal.SIGKILL)

        losing = threading.Thread(target=lose)
        losing.start()
        # It asserts that every image is in the gallery once.
        taken = index(template, folder, images, cluster, Watcher())
        losing.join()
        deaths = cluster.deaths
    nodes.shutdown()  # type: ignore[no-untyped-call]
    return {
        "nodes": 2,
        "lost with its worker": 1,
        "deaths noticed": deaths,
        "stored": images,
        "seconds": round(taken, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=int, default=1024)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--asked", type=int, default=40_000, help="images of the last part")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(processors())
    with tempfile.TemporaryDirectory() as name:
        folder = photographs(Path(name) / "photographs", options.photographs, (500, 375), ".jpg")
        template = registered(Path(name) / "template", options.backbone, options.size)
        maker = template.promoted
        embed = in_torch(maker.embedder(), maker.preprocessing)
        here = LocalExtraction(lambda _: EmbeddingRun(embed, {}), maker.preprocessing)
        start = time.perf_counter()
        with connected("local", options.workers) as ray:
            started = {"cluster": round(time.perf_counter() - start, 1)}
            start = time.perf_counter()
            with Cluster("local", maker, options.workers) as cluster:
                all_ready(cluster)
                started["workers"] = round(time.perf_counter() - start, 1)
                workers = f"{options.workers} workers"
                runs: dict[str, Callable[[], tuple[Extraction, Watcher]]] = {
                    "one process": lambda: (here, Watcher()),
                    workers: lambda: (cluster, Watcher()),
                    f"{workers}, one killed": lambda: (cluster, WorkerKiller(process_of(cluster, ray))),
                }
                taken: dict[str, list[float]] = {name: [] for name in runs}
                for _ in range(options.repeats):
                    for run, made in runs.items():
                        all_ready(cluster)
                        extraction, watcher = made()
                        taken[run].append(index(template, folder, options.photographs, extraction, watcher))
        # Ray remembers in a process how a cluster wants to be asked.
        with ProcessPoolExecutor(1, get_context("spawn")) as apart:
            nodes = apart.submit(losing_a_node, template.directory, folder, options.photographs).result()
        asked = asking(template, folder, options.asked)
    alone = taken["one process"]
    result: dict[str, Any] = {
        "images": options.photographs,
        "network": f"{options.backbone}, {options.size} pixels, JPEG 500 × 375",
        "threads_of_one_process": processors(),
        "seconds_to_start": started,
        "images_per_second": {run: round(options.photographs / statistics.median(s), 1) for run, s in taken.items()},
        "speed_beside_one_process": {
            run: {
                "median": round(statistics.median(mine / theirs for mine, theirs in zip(alone, s, strict=True)), 3),
                "each": [round(mine / theirs, 3) for mine, theirs in zip(alone, s, strict=True)],
            }
            for run, s in taken.items()
            if s is not alone
        },
        "a_node_lost": nodes,
        "asking_alone": {"images": options.asked, "images_per_second": asked},
    }
    record("cluster", result, 0)


if __name__ == "__main__":
    main()
