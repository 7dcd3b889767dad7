"""Seconds of each verb on a small workspace, now and at an earlier commit (a checkout in ``--before``), taken in turn.

Each is a process of its own, from its start to its end. ``now`` is this checkout.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import interleaved, record
from evergallery import Workspace
from evergallery.strings.environment import RUNTIME

ROOT = Path(__file__).parents[1]
IMAGES, SIDE = 200, 32
LIGHT = ("generations", "status", "doctor", "gallery list", "search --item ITEM")
"""Verbs that read cards, state and stored vectors."""
NETWORK = ("search PICTURE",)


def make(folder: Path) -> Path:
    """Two registered networks, of which the second answers in the vectors of the first."""
    draw = np.random.default_rng(0)
    (folder / "photos" / "all").mkdir(parents=True)
    for index in range(IMAGES):
        pixels = draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / "all" / f"{index}.png")
    with Workspace.create(folder / "shop", size=SIDE) as shop:
        shop.register("resnet20", size=SIDE, pretrained=False)
        shop.index(folder / "photos")
        shop.register("resnet20", size=SIDE, pretrained=False, seed=1)
        shop.promote("v2", force=True, why="to go back from")
    with Workspace(folder / "shop") as shop, chosen():
        shop.search(str(folder / "photos" / "all" / "0.png"))  # Finds the fastest runtime, once.
    return folder / "shop"


@contextmanager
def chosen() -> Iterator[None]:
    os.environ[RUNTIME] = "onnxruntime"
    try:
        yield
    finally:
        del os.environ[RUNTIME]


def run(source: Path, shop: Path, verb: str) -> None:
    """One process."""
    item = json.loads((shop / "item.json").read_text())
    picture = str(shop.parent / "photos" / "all" / "0.png")
    words = [{"ITEM": item, "PICTURE": picture}.get(word, word) for word in verb.split()]
    environment = {**os.environ, "PYTHONPATH": str(source / "src"), RUNTIME: "onnxruntime"}
    command = [sys.executable, "-m", "evergallery", *words, "-w", str(shop)]
    subprocess.run(command, check=True, capture_output=True, env=environment)


def measured(shop: Path, before: Path, repeats: int) -> dict[str, Any]:
    told = {}
    for verb in (*LIGHT, *NETWORK):
        runs: dict[str, Callable[[], object]] = {
            "before": partial(run, before, shop, verb),
            "now": partial(run, ROOT, shop, verb),
        }
        found = interleaved(runs, repeats)
        seconds = {name: round(timing["median_s"], 3) for name, timing in found.items()}
        least = {name: round(timing["min_s"], 3) for name, timing in found.items()}
        told[verb] = {
            "seconds": seconds,
            "least seconds": least,
            "times as fast": round(seconds["before"] / seconds["now"], 2),
        }
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="A checkout of the commit to compare with.")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    commit = ["git", "-C", str(arguments.before), "rev-parse", "--short=12", "HEAD"]
    earlier = subprocess.run(commit, check=True, capture_output=True, text=True).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        shop = make(Path(folder))
        with Workspace(shop) as space:
            item = next(iter(space.gallery.iterate()))[0].id
        (shop / "item.json").write_text(json.dumps(item))
        found = measured(shop, arguments.before, arguments.repeats)
    record("command_line", {"before": earlier, "images": IMAGES, "repeats": arguments.repeats, "verbs": found})


if __name__ == "__main__":
    main()
