"""Seconds of each verb on a small workspace, now and at an earlier commit (a checkout in ``--before``), taken in turn.

Each is a process of its own, from its start to its end. ``now`` is this checkout. The last search is answered by a server of a
copy of the workspace, where ``before`` does its work itself. Python has the modules compiled, as it has once a command has run.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import record
from evergallery import Workspace
from evergallery.strings.environment import RUNTIME

ROOT = Path(__file__).parents[1]
IMAGES, SIDE = 200, 32
LIGHT = ("generations", "status", "doctor", "gallery list", "search --item ITEM", "plan v2")
"""Verbs that read cards, state and stored vectors; a plan, what an earlier one has measured."""
NETWORK = "search PICTURE"
BY_A_SERVER = "search PICTURE, by a server"


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


def run(source: Path, shop: Path, verb: str) -> tuple[float, float]:
    """Seconds of one process, by the clock and of a processor."""
    item = json.loads((shop / "item.json").read_text())
    picture = str(shop.parent / "photos" / "all" / "0.png")
    words = [{"ITEM": item, "PICTURE": picture}.get(word, word) for word in verb.split()]
    command = [sys.executable, "-m", "evergallery", *words, "-w", str(shop)]
    started, computed = time.perf_counter(), of_children()
    subprocess.run(command, check=True, capture_output=True, env=environment(source))
    return time.perf_counter() - started, of_children() - computed


COMPILED = tempfile.TemporaryDirectory(prefix="compiled-")
"""Where all processes keep their compiled modules, whatever this machine says of that."""


def environment(source: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": COMPILED.name, "PYTHONPATH": str(source / "src"), RUNTIME: "onnxruntime"}


def of_children() -> float:
    """Seconds of a processor that all processes have taken which this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def served(shop: Path) -> Iterator[None]:
    """While a server of this checkout runs."""
    command = [sys.executable, "-m", "evergallery", "serve", "-w", str(shop), "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment(ROOT)
    )
    try:
        assert process.stdout is not None
        assert "Serving" in process.stdout.readline()
        yield
    finally:
        process.terminate()
        process.wait(60)


def compared(
    before: Callable[[], tuple[float, float]], now: Callable[[], tuple[float, float]], repeats: int
) -> dict[str, Any]:
    """Both in turn, after one of each that is not counted."""
    runs = {"before": before, "now": now}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, one in runs.items():
            seconds = one()
            if turn:
                taken[name].append(seconds)
    medians = {
        name: [statistics.median(part) for part in zip(*several, strict=True)] for name, several in taken.items()
    }
    return {
        "seconds": {name: round(clock, 3) for name, (clock, _) in medians.items()},
        "least seconds": {name: round(min(clock for clock, _ in several), 3) for name, several in taken.items()},
        "seconds of a processor": {name: round(computed, 3) for name, (_, computed) in medians.items()},
        "times as fast": round(medians["before"][0] / medians["now"][0], 2),
    }


def measured(shop: Path, before: Path, repeats: int) -> dict[str, Any]:
    told = {
        verb: compared(partial(run, before, shop, verb), partial(run, ROOT, shop, verb), repeats)
        for verb in (*LIGHT, NETWORK)
    }
    copy = shop.with_name("copy")
    shutil.copytree(shop, copy)
    with served(copy):
        told[BY_A_SERVER] = compared(partial(run, before, shop, NETWORK), partial(run, ROOT, copy, NETWORK), repeats)
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
