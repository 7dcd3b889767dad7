"""A workspace that lives long: generations are learned, checked, promoted and rolled back in a loop, with searches beside it.

A second thread searches without a pause, by picture and by vector, as the threads of the server do. In each round a generation
is learned from a folder of new classes, checked, promoted, rolled back and promoted again; as many items are added as are
deleted; in every fourth one the gallery is refreshed and the refresh committed. After each round the searches wait for a
moment, and memory, open handles, threads and the bytes of every room of the workspace are counted. What must not grow is
compared with its limit, and the exit status is 1 where something did.
"""

import argparse
import gc
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import record
from evergallery import Workspace
from evergallery.data.glyphs import generate
from evergallery.data.image_set import ImageSet
from evergallery.errors import EvergalleryError
from evergallery.training import Settings

SIZE = 16
EACH = 24
"""Images of a class, half of which are learned from and half indexed."""
GATE = "self_test = -100.0\ncross_test = -100.0\nqueries = 20\n"
"""The promotions are what is tried here, not how good the generations of a few seconds are."""
OWN_ROOMS = ("generations", "cache", "runs", "checks")
"""Where every generation has files of its own: its weights, pixels of its images and held-out vectors, logs, and evidence."""


@dataclass(frozen=True)
class SoakPlan:
    """How long and how large a soak is.

    Attributes:
        rounds: generations.
        warm_up: rounds after which nothing may grow any more; at least one refresh lies before.
        classes: that are new in each round.
        refreshed_every: rounds between two refreshes, each of which is committed.
    """

    rounds: int = 20
    warm_up: int = 8
    refreshed_every: int = 4
    classes: int = 6


LIMITS = {
    "memory_mib_a_round": 1.0,
    "handles_more": 0,
    "threads_more": 0,
    "shared_kib_a_round": 64.0,
    "own_bytes_a_round_over_before": 1.5,
    "failed_searches": 0,
}
"""What a round may add at most once warm: to memory, handles and threads of the process; to what generations share on disk,
the gallery, state and logs; how much more the files of a late generation may take than those of an early one."""


@dataclass
class Searches:
    """What the searches beside it came to."""

    done: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)


@contextmanager
def searching(shop: Workspace, pictures: Sequence[Path], turn: threading.Lock) -> Iterator[Searches]:
    """Search in a thread until the block ends; whoever holds the lock makes it wait."""
    searches, end = Searches(), threading.Event()

    def search() -> None:
        while not end.is_set():
            with turn:
                began = time.perf_counter()
                try:
                    picture = pictures[searches.done % len(pictures)]
                    # By an item too, which asks another way.
                    found = shop.search(picture, k=5)
                    if found:
                        shop.search(item=found[0].item.id, k=5)
                except EvergalleryError as error:
                    searches.failed[f"{type(error).__name__}: {error}"] += 1
                searches.done += 1
                searches.milliseconds.append(1000 * (time.perf_counter() - began))
            time.sleep(0.01)

    thread = threading.Thread(target=search)
    thread.start()
    try:
        yield searches
    finally:
        end.set()
        thread.join()


def write_photos(folder: Path, images: ImageSet, indices: Sequence[int]) -> Path:
    """The images at ``indices`` as PNG files, a folder for each class."""
    for index in indices:
        path = folder / f"class {images.labels[index]:03d}" / f"{index:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images.pixels[images.rows[index]]).save(path)
    return folder


def parts(images: ImageSet, number: int, classes: int) -> tuple[list[int], list[int]]:
    """Indices of half of the images of each class of a group, and of the other half: to learn from, and to index."""
    rows = [np.flatnonzero(images.labels == label) for label in range(number * classes, (number + 1) * classes)]
    first, second = ([int(row) for members in rows for row in members[half::2]] for half in (0, 1))
    return first, second


def bytes_by_room(directory: Path) -> dict[str, int]:
    """Bytes in blocks in use of each directory of a workspace, and of the files beside them."""
    rooms: Counter[str] = Counter()
    for path in directory.rglob("*"):
        if path.is_file():
            inside = path.relative_to(directory)
            rooms[inside.parts[0] if len(inside.parts) > 1 else "files"] += path.stat().st_blocks * 512
    return dict(rooms)


def counted(directory: Path) -> dict[str, Any]:
    """Memory, handles and threads of this process, and what the workspace takes on disk."""
    gc.collect()
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "memory_mib": round(int(lines["VmRSS"].split()[0]) / 1024, 1),
        "own_memory_mib": round(int(lines["RssAnon"].split()[0]) / 1024, 1),
        "handles": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
        "threads": int(lines["Threads"]),
        "bytes": bytes_by_room(directory),
    }


def soak(images: ImageSet, life: SoakPlan, directory: Path) -> tuple[list[dict[str, Any]], Searches]:
    """What was counted after each round but the first, and what the searches came to.

    Args:
        images: of a group of classes for each round, and of one more, never learned, that all generations are checked on.
        life: how long.
        directory: for the workspace and its photographs.
    """
    shop = Workspace.create(directory / "shop", size=images.size)
    (shop.directory / "gate.toml").write_text(GATE)
    settings = Settings.update(epochs=2, batch_size=32, flip=False, device="cpu", precision="float32", padding=1)
    learned, indexed, held = (directory / name for name in ("learned", "catalogue", "held out"))
    for half in parts(images, life.rounds, life.classes):
        write_photos(held, images, half)
    rows: list[dict[str, Any]] = []
    turn = threading.Lock()

    def one_round(number: int) -> dict[str, Any]:
        began = time.perf_counter()
        train, stored = parts(images, number, life.classes)
        shutil.rmtree(learned, ignore_errors=True)
        name = shop.learn(write_photos(learned, images, train), settings=settings).name
        if number:
            shop.check(name, held)
            shop.promote(name)
            shop.rollback()
            shop.promote(name)
        before = [item for batch in shop.gallery.identifiers() for item in batch]
        shop.index(write_photos(indexed / name, images, stored))
        # Whose photographs stay where they are: so each round has as many items as the one before.
        if number >= 2:
            with turn:  # An item that was just found is searched with.
                shop.gallery.delete(before[: len(stored)])
        refreshed = 0
        if number % life.refreshed_every == life.refreshed_every - 1:
            refreshed = shop.refresh(name).refreshed
            shop.commit()
        return {"generation": name, "seconds": round(time.perf_counter() - began, 2), "refreshed": refreshed}

    with shop:
        rows.append(one_round(0))
        pictures = sorted(indexed.rglob("*.png"))
        with searching(shop, pictures, turn) as searches:
            for number in range(1, life.rounds):
                done = one_round(number)
                with turn:
                    rows.append({**done, "searches": searches.done, **counted(shop.directory)})
        problems = shop.doctor()
        assert not problems, problems
    return rows[1:], searches


def slope(values: Sequence[float]) -> float:
    """Growth from one value to the next, the median of that between all pairs (Theil and Sen): one leap moves it little."""
    pairs = combinations(enumerate(values), 2)
    return statistics.median((later - earlier) / (j - i) for (i, earlier), (j, later) in pairs)


def growth(rows: Sequence[dict[str, Any]], life: SoakPlan, searches: Searches) -> dict[str, float]:
    """What ``LIMITS`` bounds, over the rounds after the warm-up."""
    warm = [row for row in rows if int(row["generation"][1:]) > life.warm_up]

    def more(what: str) -> int:
        # Between two refreshes the gallery gains a shard in each round.
        first, last = warm[: life.refreshed_every], warm[-life.refreshed_every :]
        made: int = max(row[what] for row in last) - max(row[what] for row in first)
        return made

    def own(row: dict[str, Any]) -> int:
        return sum(row["bytes"].get(room, 0) for room in OWN_ROOMS)

    added = [own(later) - own(earlier) for earlier, later in pairwise(rows)]
    half = len(added) // 2
    shared = [sum(row["bytes"].values()) - own(row) for row in warm]
    return {
        "memory_mib_a_round": slope([row["memory_mib"] for row in warm]),
        "handles_more": more("handles"),
        "threads_more": more("threads"),
        "shared_kib_a_round": slope(shared) / 1024,
        "own_bytes_a_round_over_before": statistics.median(added[half:]) / statistics.median(added[:half]),
        "failed_searches": sum(searches.failed.values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=SoakPlan.rounds)
    parser.add_argument("--warm-up", type=int, default=SoakPlan.warm_up)
    parser.add_argument("--directory", type=Path, help="where the workspace is made; a temporary one by default")
    parser.add_argument("--name", default="soak", help="of the result file")
    options = parser.parse_args()
    life = SoakPlan(rounds=options.rounds, warm_up=options.warm_up)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        classes = (life.rounds + 1) * life.classes
        images = generate(classes=classes, train_per_class=EACH, test_per_class=0, size=SIZE)
        rows, searches = soak(images, life, Path(directory))
    found = growth(rows, life, searches)
    broken = {name: value for name, value in found.items() if value > LIMITS[name]}
    result = {
        "life": {**asdict(life), "images_of_a_class": EACH, "pixels": SIZE},
        "minutes": round((time.perf_counter() - began) / 60, 2),
        "searches": {
            "done": searches.done,
            "failed": dict(searches.failed),
            "median_ms": round(statistics.median(searches.milliseconds), 2),
        },
        "growth": {name: {"measured": round(value, 3), "limit": LIMITS[name]} for name, value in found.items()},
        "broken": sorted(broken),
        "rounds": rows,
    }
    record(options.name, result, seed=0)
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()
